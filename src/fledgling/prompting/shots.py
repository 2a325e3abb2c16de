"""Answered rows of train that are put before every row, so that the model sees what is wanted."""

from collections.abc import Iterable

from fledgling.errors import DataError
from fledgling.files import digest
from fledgling.prompting.template import compact
from fledgling.records import Example


def choose(rows: Iterable[Example], k: int, number: int = 0) -> list[Example]:
    """The `number`-th set of `k` shots: the same for the same rows, whatever their order, one a group.

    Rows come in the order of a hash of set and id. Those whose answer is of a kind that is not there yet (other
    tools, no call, another schema) go first.

    Raises:
        DataError: there are not so many groups with a gold answer.
    """
    drawn = sorted((row for row in rows if row.answer is not None), key=lambda row: digest([number, row.id]))
    first: list[Example] = []
    rest: list[Example] = []
    groups: set[str] = set()
    kinds: set[str] = set()
    for row in drawn:
        if row.group in groups:
            continue
        groups.add(row.group)
        kind = _kind(row)
        (rest if kind in kinds else first).append(row)
        kinds.add(kind)
    if len(groups) < k:
        raise DataError(f"shots: {k} are asked for and train has {len(groups)} groups with an answer; lower shots.k")
    return [*first, *rest][:k]


def _kind(row: Example) -> str:
    if row.schema is None and isinstance(row.answer, list):
        return compact(sorted({call["name"] for call in row.answer}))
    return digest(row.schema)
