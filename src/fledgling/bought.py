"""Which rows of a split are bought first: whole groups, in an order that a hash gives them (docs/decision.md, Looks).

The record of what was bought stands in the seal of the teacher's predictions; who scores or judges takes the same rows.
"""

import hashlib
import os
from collections.abc import Hashable, Sequence

from fledgling import artefacts
from fledgling.artefacts import Bought, Predictions
from fledgling.errors import DataError
from fledgling.records import read_examples


def order(groups: Sequence[Hashable], key: str) -> list[int]:
    """Places of the rows in the order in which they are bought: whole groups, by a hash of key and group.

    The first rows are then a random sample of the groups, and adding a group moves no other past its neighbours.
    """
    ranks = {group: hashlib.sha256(f"{key}\0{group}".encode()).digest() for group in set(groups)}
    return sorted(range(len(groups)), key=lambda place: (ranks[groups[place]], str(groups[place]), place))


def ordered(data: str | os.PathLike[str], key: str) -> list[tuple[str, str]]:
    """(id, group) of every row of a split, in the order in which they are bought."""
    rows = [(example.id, example.group) for example in read_examples(data)]
    return [rows[place] for place in order([group for _, group in rows], key)]


def ids(data: str | os.PathLike[str], record: Bought) -> frozenset[str]:
    """The ids of the rows of a split that were bought.

    Raises:
        DataError: the record is about another number of rows than the split has.
    """
    rows = ordered(data, record["key"])
    if len(rows) != record["of"]:
        raise DataError(f"{data}: has {len(rows)} rows, and the looks were planned for {record['of']}; ask again")
    return frozenset(name for name, _ in rows[: record["rows"]])


def record_of(seal: str | os.PathLike[str]) -> Bought:
    """What the seal of the teacher's predictions says about its looks.

    Raises:
        DataError: the seal is damaged, or says nothing about looks.
    """
    record = artefacts.read(Predictions, seal).get("bought")
    if record is None:
        raise DataError(
            f"{seal}: says nothing about looks, and teacher.looks is on; ask again: delete it and run the graph"
        )
    return record
