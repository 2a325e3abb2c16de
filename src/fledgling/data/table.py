"""What is remembered of a row while a track is prepared: places and digests, no text."""

from array import array
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np

Column = Any  # a one-dimensional numpy array
NOWHERE = 255  # the split of a row that goes into none

_COLUMNS = {
    "part": "I",
    "number": "Q",  # which file, and which line or row of it
    "split": "B",  # 0 train, 1 val, 2 test, NOWHERE
    "fixed": "B",  # whether the configuration chose the split, not the hash
    "named": "B",  # whether the row brought its id; else it is named by its content
    "offset": "Q",  # where the row's text begins in the spool
    "length": "Q",
    "calls": "I",
    "category": "I",
    "schema": "I",
    "weight": "d",  # requests that the row stands for
    "time": "d",  # when a logged call was made, in seconds of UTC; not a number where nothing says
    "logged": "B",  # whether the row is a logged call
    "trace": "Q",  # what a logged call belongs to, 0 where its log does not say
    "order": "d",  # where the row's group lies when a limit chooses
    "id": "Q",
    "group": "Q",
    "prompt": "Q",
    "content": "Q",
    "text": "Q",
    "normalised": "Q",
    "sense": "Q",
}


class Table:
    """One entry a row, in input order, about 160 bytes each: a million rows fit where their text would not.

    Digests have 64 bits: among a million rows two differ yet share one once in thirty million tables.
    """

    def __init__(self) -> None:
        self._columns = {name: array(code) for name, code in _COLUMNS.items()}

    def append(self, **entry: float) -> None:
        """Add one row; every column is given."""
        for name, column in self._columns.items():
            column.append(entry[name])  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._columns["part"])

    def __getitem__(self, name: str) -> Column:
        """A column as a numpy array that shares its memory; while one is held, no row can be added."""
        column = self._columns[name]
        return np.frombuffer(column, dtype=column.typecode) if column else np.empty(0, column.typecode)


def hash64(text: str) -> int:
    """The digest of a text that the table holds."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def repeats(keys: Column) -> Iterator[tuple[int, int]]:
    """(row, first row with its key) of every row whose key occurred before, in order."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    firsts = first[inverse]
    for row in np.flatnonzero(firsts != np.arange(len(keys))):
        yield int(row), int(firsts[row])
