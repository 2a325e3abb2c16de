"""The rows of one stage: read from their file again whenever they are needed, with one byte of state each."""

import os
from collections.abc import Callable, Collection, Iterator
from enum import IntEnum
from itertools import chain, islice, repeat

from fledgling.records import Example, read_examples
from fledgling.teacher.requests import Request


class State(IntEnum):
    """What is known of a row in this run."""

    LEFT = 0  # to be asked
    ANSWERED = 1  # the journal has its reply
    TOO_LONG = 2  # never asked
    FAILED = 3  # to be asked by the next run


class Rows:
    """The rows of a split in data order, and what is known of each; neither rows nor keys stay in memory.

    `call` makes the request of a row, `state` says what is known of it at the start; `only` are the ids of those that are
    asked, all where it is None.

    Raises:
        DataError: as read_examples.
    """

    def __init__(
        self,
        data: str | os.PathLike[str],
        call: Callable[[Example], Request],
        state: Callable[[Request], State],
        only: Collection[str] | None = None,
    ) -> None:
        self._data = data
        self._call = call
        self._only = only
        self._states = bytearray(state(call(example)) for example in self._examples())

    def _examples(self) -> Iterator[Example]:
        only = self._only
        return (example for example in read_examples(self._data) if only is None or example.id in only)

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[tuple[Example, Request, State]]:
        """All rows; one that was added to the file since is LEFT."""
        for example, state in zip(self._examples(), chain(self._states, repeat(State.LEFT)), strict=False):
            yield example, self._call(example), State(state)

    def count(self, state: State) -> int:
        """How many rows are in a state."""
        return self._states.count(state)

    def left(self) -> Iterator[tuple[int, Request]]:
        """Number and request of the rows that are LEFT when their turn comes."""
        end = self._states.rfind(State.LEFT) + 1
        for number, example in enumerate(islice(self._examples(), end)):
            if self._states[number] == State.LEFT:
                yield number, self._call(example)

    def note(self, number: int, state: State) -> None:
        """Set what is known of a row; numbers count from 0."""
        self._states[number] = state
