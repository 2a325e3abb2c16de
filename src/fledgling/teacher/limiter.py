"""How fast calls may be sent: one pause for all, a pace per minute, and a window that adapts to refusals.

Each keeps its numbers on a board, so that all processes which ask one provider keep one limit.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable

from fledgling.teacher.board import CUT, NEXT_REQUEST, PAUSED_UNTIL, WINDOW, Board

CATCH_UP_S = 0.2  # how far a late event loop may catch up on the pace
SEAT_POLL_S = 0.01  # how often a free seat is looked for where other processes hold them all


class Pause:
    """One pause for every caller: the provider said when to come back. Never longer than `most_s`."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, board: Board | None = None, most_s: float = 1e9
    ) -> None:
        self._clock = clock
        self._board = board or Board()
        self._most_s = most_s

    def begin(self, seconds: float) -> None:
        """Let nobody pass for so many seconds; a longer pause that runs already stays."""
        if seconds > 0:
            until = self._clock() + min(seconds, self._most_s)
            with self._board.change():
                self._board[PAUSED_UNTIL] = max(self._board[PAUSED_UNTIL], until)

    def wait_s(self) -> float:
        """Seconds until it ends; 0 when there is none."""
        return min(self._most_s, max(0.0, self._board[PAUSED_UNTIL] - self._clock()))


class Pace:
    """An even spacing that keeps to so many units a minute; None is no limit. `cell` is its number on the board."""

    def __init__(
        self,
        per_minute: float | None,
        clock: Callable[[], float] = time.monotonic,
        board: Board | None = None,
        cell: int = NEXT_REQUEST,
    ) -> None:
        self._unit_s = 60 / per_minute if per_minute else 0.0
        self._clock = clock
        self._board = board or Board()
        self._cell = cell
        with self._board.change():  # nobody catches up on the time before the start
            self._board[cell] = max(self._board[cell], clock())

    def take(self, units: float = 1) -> float:
        """Reserve units; returns the seconds to wait before using them."""
        if not self._unit_s:
            return 0.0
        now = self._clock()
        with self._board.change():
            slot = max(self._board[self._cell], now - CATCH_UP_S)
            self._board[self._cell] = slot + units * self._unit_s
        return max(0.0, slot - now)

    def correct(self, units: float) -> None:
        """Add (or give back, if negative) units that an estimate got wrong."""
        if self._unit_s:
            with self._board.change():
                self._board[self._cell] += units * self._unit_s


class Window:
    """Calls in flight: grows by one a round of successes, halves at a refusal (AIMD).

    Calls of all processes take seats on one board; `sleep` is how long they wait for one, and may end the wait by
    an exception.
    """

    def __init__(
        self,
        most: int,
        clock: Callable[[], float] = time.monotonic,
        board: Board | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.clock = clock
        self._board = board or Board()
        self._most = most
        self._sleep = sleep
        self._held = 0
        self._seats: list[int] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        if self._board.alone:  # what processes that are gone met is no reason to be slow
            with self._board.change():
                self._board[WINDOW], self._board[CUT] = float(most), -1.0

    @property
    def limit(self) -> float:
        """How many calls may be in flight now."""
        return max(1.0, min(self._most, self._board[WINDOW] or self._most))

    @property
    def in_flight(self) -> int:
        """Calls of this process that are in flight."""
        return self._held

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
        try:
            while (seat := self._board.sit(int(self.limit))) is None:
                await self._sleep(SEAT_POLL_S)
        except BaseException:
            self._leave()
            raise
        self._seats.append(seat)

    async def __aexit__(self, *exception: object) -> None:
        self._board.stand(self._seats.pop())
        self._leave()

    def succeeded(self) -> None:
        """A call went through."""
        limit = self.limit
        if limit < self._most:
            with self._board.change():
                self._board[WINDOW] = min(self._most, limit + 1 / limit)
            self._wake()

    def refused(self, sent: float) -> None:
        """A call sent at this time was too much; refusals of one burst count once."""
        with self._board.change():
            if sent > self._board[CUT]:
                self._board[WINDOW] = max(1.0, self.limit / 2)
                self._board[CUT] = self.clock()

    def _leave(self) -> None:
        self._held -= 1
        self._wake()

    def _wake(self) -> None:
        for _ in range(min(len(self._waiting), max(0, int(self.limit) - self._held))):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)


def backoff_s(attempt: int, base_s: float, cap_s: float = 30.0) -> float:
    """Full jitter (Brooker 2015): uniform between 0 and base · 2^attempt, capped. `attempt` counts from 0."""
    return random.uniform(0, min(cap_s, base_s * 2 ** min(attempt, 30)))
