"""SIGINT and SIGTERM: the first asks the run to end, the second ends the process."""

import asyncio
import os
import signal
from collections.abc import Callable

SAME_SIGNAL_S = 0.5  # a terminal and a driver may both pass on one Ctrl-C


class Signals:
    """While the block runs, the first signal calls back with its number."""

    def __init__(self, callback: Callable[[int], None]) -> None:
        self._callback = callback
        self._first: float | None = None

    def __enter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in self._before:
            self._loop.add_signal_handler(number, self._on, number)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            self._loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def _on(self, number: int) -> None:
        now = self._loop.time()
        if self._first is None:
            self._first = now
            self._callback(number)
        elif now - self._first > SAME_SIGNAL_S:
            os._exit(128 + number)
