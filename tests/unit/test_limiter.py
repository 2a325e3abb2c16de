"""The limiter, against a clock that the test turns."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledgling.teacher.limiter import CATCH_UP_S, Pace, Pause, Window, backoff_s


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_longer_pause_stays() -> None:
    clock = Clock()
    pause = Pause(clock)
    assert pause.wait_s() == 0
    pause.begin(10)
    pause.begin(2)
    clock.now += 3
    assert pause.wait_s() == pytest.approx(7)
    clock.now += 30
    assert pause.wait_s() == 0


def test_f45_the_wall_clock_plays_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    pause, pace = Pause(), Pace(60)
    pause.begin(10)
    pace.take()
    for jump in (86_400, -86_400, 10**9):
        monkeypatch.setattr(time, "time", lambda jump=jump: 1.7e9 + jump)
        assert 9 < pause.wait_s() <= 10
        assert 0 <= pace.take() < 5


@given(per_minute=st.integers(1, 10_000), late=st.lists(st.floats(0, 0.2), min_size=5, max_size=200))
def test_a_pace_is_kept_and_never_exceeded_by_more_than_the_catch_up(per_minute: int, late: list[float]) -> None:
    """Every call waits as told and is then late by some time of its own."""
    clock = Clock()
    pace = Pace(per_minute, clock)
    start = clock.now
    for count, delay in enumerate(late):
        clock.now += pace.take() + delay
        assert count <= (clock.now - start + CATCH_UP_S) * per_minute / 60 + 1e-6


def test_a_pace_reaches_its_rate() -> None:
    clock = Clock()
    pace = Pace(600, clock)
    for _ in range(601):
        clock.now += pace.take() + 0.01
    assert clock.now - 1000 == pytest.approx(60, abs=0.2)


def test_no_limit_is_no_wait() -> None:
    assert Pace(None).take(1e9) == 0


def test_a_wrong_guess_is_corrected() -> None:
    clock = Clock()
    pace = Pace(60, clock)
    pace.take(10)
    pace.correct(-5)
    assert pace.take() == pytest.approx(5)


def test_a_window_halves_once_a_burst_and_grows_by_one_a_round() -> None:
    clock = Clock()
    window = Window(16, clock)
    sent = clock.now
    clock.now += 1
    for _ in range(16):
        window.refused(sent)
    assert window.limit == 8
    clock.now += 1
    window.refused(clock.now)
    assert window.limit == 4
    for _ in range(4):
        window.succeeded()
    assert 4.8 < window.limit <= 5
    for _ in range(10_000):
        window.succeeded()
    assert window.limit == 16


def test_a_window_never_closes() -> None:
    clock = Clock()
    window = Window(1, clock)
    window.refused(clock.now)
    assert window.limit == 1


def test_a_window_lets_no_more_in_than_its_limit_and_forgets_nobody() -> None:
    async def main() -> tuple[int, int]:
        window, inside, most, done = Window(4), 0, 0, 0

        async def call(number: int) -> None:
            nonlocal inside, most, done
            async with window:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.001)
                inside -= 1
                done += 1
            if number == 10:
                window.refused(window.clock())
            window.succeeded()

        tasks = [asyncio.create_task(call(number)) for number in range(60)]
        await asyncio.sleep(0.002)
        for task in tasks[20:30]:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        return most, done

    assert asyncio.run(main()) == (4, 50)


@given(attempt=st.integers(0, 2000))
def test_jitter_is_full_and_capped(attempt: int) -> None:
    waits = [backoff_s(attempt, 0.5, 30) for _ in range(50)]
    assert all(0 <= wait <= min(30, 0.5 * 2 ** min(attempt, 20)) for wait in waits)
    assert min(waits) < 0.5 * max(waits)
