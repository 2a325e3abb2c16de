"""Cards: no two commands share one, whoever dies first."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fledgling import gpus

# Appends "start/end card" lines with a clock; holds the cards for a moment.
JOB = """
import os, sys, time
def say(what):
    with open(sys.argv[1], "a") as stream:
        for card in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
            stream.write(f"{what} {card} {time.monotonic()}\\n")
say("start"); time.sleep(float(sys.argv[2])); say("end")
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    return clean | {gpus.LOCKS: str(tmp_path / "locks"), gpus.CARDS: "4"}


def start(environment: dict[str, str], wanted: int, *command: str) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "fledgling.gpus", str(wanted), *command]
    return subprocess.Popen(line, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until(condition: object, timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_no_two_jobs_share_a_card(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = [start(environment, wanted, sys.executable, "-c", JOB, str(log), "0.3") for wanted in (2, 3, 1, 2, 4, 1)]
    for job in jobs:
        _, said = job.communicate(timeout=60)
        assert job.returncode == 0, said
    busy: set[str] = set()
    events = sorted((line.split() for line in log.read_text().splitlines()), key=lambda event: float(event[2]))
    assert len(events) == 2 * (2 + 3 + 1 + 2 + 4 + 1)
    for what, card, _ in events:
        if what == "start":
            assert card not in busy
            busy.add(card)
        else:
            busy.remove(card)


def test_a_job_that_waits_says_for_whom(environment: dict[str, str], tmp_path: Path) -> None:
    first = start(environment, 3, "sleep", "30")
    until(lambda: list((tmp_path / "locks").glob("card-2.lock")))
    second = start(environment, 2, "echo", "done")
    time.sleep(1)
    first.kill()
    out, said = second.communicate(timeout=20)
    assert out == "done\n"
    assert f"pid {first.pid} (sleep 30)" in said
    assert "waiting for 1 of 2 cards" in said
    first.communicate()


def test_killed_holder_frees_and_living_child_keeps(environment: dict[str, str], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    # A holder whose child inherits the descriptors, as those of a shell do.
    holder = start(environment, 4, "sh", "-c", f"sleep 30 & echo $! > {mark}; wait")
    until(lambda: mark.exists() and mark.read_text().strip())
    child = int(mark.read_text())
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    waiting = start(environment, 1, "echo", "done")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=1.5)
    os.kill(child, signal.SIGKILL)
    assert waiting.communicate(timeout=20)[0] == "done\n"


def test_a_restriction_that_is_there_is_respected(environment: dict[str, str]) -> None:
    job = start(environment | {"CUDA_VISIBLE_DEVICES": "1,3"}, 2, "sh", "-c", "echo $CUDA_VISIBLE_DEVICES {cards}")
    assert job.communicate(timeout=20)[0] == "1,3 2\n"


def test_two_names_of_one_card_are_one_lock(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpus.CARDS, "4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    by_number = gpus.cards()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "card-2")
    assert [card.identity for card in gpus.cards()] == [card.identity for card in by_number] == ["card-2"]


def test_more_than_there_are_goes_on_with_those(environment: dict[str, str]) -> None:
    job = start(environment | {gpus.CARDS: "2"}, 4, "sh", "-c", "echo $CUDA_VISIBLE_DEVICES {cards}")
    out, said = job.communicate(timeout=20)
    assert out == "0,1 2\n"
    assert "4 cards are asked for and 2 are here" in said


def test_none_claims_and_shows_none(environment: dict[str, str], tmp_path: Path) -> None:
    job = start(environment, 0, "sh", "-c", "echo [$CUDA_VISIBLE_DEVICES] {cards}; exit 7")
    assert job.communicate(timeout=20)[0] == "[] 0\n"
    assert job.returncode == 7
    assert not (tmp_path / "locks").exists()


def test_no_card_at_all_is_refused(environment: dict[str, str]) -> None:
    job = start(environment | {"CUDA_VISIBLE_DEVICES": ""}, 1, "true")
    assert "set gpus to 0" in job.communicate(timeout=20)[1]
    assert job.returncode == 3


def test_signals_reach_the_command(environment: dict[str, str], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"trap 'echo stopped; exit 9' TERM; touch {mark}; while :; do sleep 0.05; done"
    job = start(environment, 1, "bash", "-c", script)
    until(mark.exists)
    job.terminate()
    assert job.communicate(timeout=20)[0] == "stopped\n"
    assert job.returncode == 9
