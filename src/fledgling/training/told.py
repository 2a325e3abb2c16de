"""Told to end: a time limit or a preemption is near, and a training saves the step it is at before it ends."""

import signal
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


class Told:
    """Whether TERM has come. It ends this process when `obey` is called; a second one does so at once.

    Only where the process handles TERM at all: where several train together, one that waits for another in a collective
    could not answer, so there TERM ends each of them and the last sealed checkpoint is what is left.
    """

    def __init__(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        self._end: Handler | None = before if callable(before) else None
        self._told = False

    def __enter__(self) -> "Told":
        if self._end:
            signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._end:
            signal.signal(signal.SIGTERM, self._end)

    def __bool__(self) -> bool:
        return self._told

    def obey(self) -> None:
        """End this process, if it was told to."""
        if self._told and self._end:
            self._end(signal.SIGTERM, None)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self._told and self._end:
            self._end(signum, frame)
        self._told = True
