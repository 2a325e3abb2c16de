"""How fast calls may be sent: one gate for all, a pace per minute, and a window that adapts to refusals."""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable

CATCH_UP_S = 0.2  # how far a late event loop may catch up on the pace


class Gate:
    """One pause for every caller: the provider said when to come back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0

    def close(self, seconds: float) -> None:
        """Let nobody pass for so many seconds; a longer pause that runs already stays."""
        self._until = max(self._until, self._clock() + seconds)

    def wait_s(self) -> float:
        """Seconds until the gate opens; 0 when it is open."""
        return max(0.0, self._until - self._clock())


class Pace:
    """An even spacing that keeps to so many units a minute; None is no limit."""

    def __init__(self, per_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._unit_s = 60 / per_minute if per_minute else 0.0
        self._clock = clock
        self._next = clock()

    def take(self, units: float = 1) -> float:
        """Reserve units; returns the seconds to wait before using them."""
        now = self._clock()
        slot = max(self._next, now - CATCH_UP_S)
        self._next = slot + units * self._unit_s
        return max(0.0, slot - now)

    def correct(self, units: float) -> None:
        """Add (or give back, if negative) units that an estimate got wrong."""
        self._next += units * self._unit_s


class Window:
    """Calls in flight: grows by one a round of successes, halves at a refusal (AIMD)."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = float(most)
        self.clock = clock
        self._cut = -math.inf
        self._most = most
        self._held = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        while self._held >= int(self.limit):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:
                    self._wake()
                raise
        self._held += 1

    async def __aexit__(self, *exception: object) -> None:
        self._held -= 1
        self._wake()

    def succeeded(self) -> None:
        """A call went through."""
        self.limit = min(self._most, self.limit + 1 / self.limit)
        self._wake()

    def refused(self, sent: float) -> None:
        """A call sent at this time was too much; refusals of one burst count once."""
        if sent > self._cut:
            self.limit = max(1.0, self.limit / 2)
            self._cut = self.clock()

    def _wake(self) -> None:
        for _ in range(min(len(self._waiting), max(0, int(self.limit) - self._held))):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)


def backoff_s(attempt: int, base_s: float, cap_s: float = 30.0) -> float:
    """Full jitter (Brooker 2015): uniform between 0 and base · 2^attempt, capped. `attempt` counts from 0."""
    return random.uniform(0, min(cap_s, base_s * 2 ** min(attempt, 30)))
