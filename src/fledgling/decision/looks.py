"""How often a test split was used for a verdict: an append-only ledger outside the results."""

import heapq
import json
import os
from collections.abc import Iterable, Sequence
from hashlib import sha256
from os import PathLike
from pathlib import Path

from fledgling.errors import DataError
from fledgling.files import json_line
from fledgling.locks import lock

SAMPLE = 64  # rows by which a split is known again after rows were added to it


def sample(ids: Iterable[str]) -> list[str]:
    """What stands for the rows of a split: the smallest of the digests of their ids."""
    return heapq.nsmallest(SAMPLE, (sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16] for name in ids))


def look(ledger: str | PathLike[str], *, test: str, inputs: str, sample: Sequence[str] | None = None) -> int:
    """The number of this verdict among all on the same test rows, from 1; a new one is written down.

    `test` is the digest of the test split, `inputs` that of all the verdict is made from. The same inputs keep
    their number for good, so that making a verdict again counts nothing and gives the same bytes.

    `sample` stands for the rows of the split where the teacher's were bought in looks. Alpha is spent on these then, so
    that a verdict counts as one on the same rows although rows were added to the split since.

    Raises:
        DataError: a line of the ledger is damaged; names file and line.
        ConfigError: the file system has no locks.
    """
    path = Path(ledger)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as stream:
        lock(stream.fileno(), path, "set `journal` to a folder on another disk", wait=True)
        stream.seek(0)
        known: list[str] = []
        text = stream.read()
        lines = text.split(b"\n")
        torn = lines.pop()  # a line counts once its line feed is written
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                same = entry["test"] == test or (sample is not None and _grown(entry.get("sample"), sample))
                if same and entry["inputs"] not in known:
                    known.append(entry["inputs"])
            except (ValueError, KeyError, TypeError):
                raise DataError(
                    f"{path}:{number}: not a line of the ledger; restore the file or remove the line"
                ) from None
        if inputs not in known:
            known.append(inputs)
            if torn:
                stream.truncate(len(text) - len(torn))
            entry = {"test": test, "inputs": inputs} | ({} if sample is None else {"sample": list(sample)})
            stream.write((json_line(entry) + "\n").encode())
            stream.flush()
            os.fsync(stream.fileno())
    return known.index(inputs) + 1


def _grown(known: object, now: Sequence[str]) -> bool:
    """Whether rows hold all rows of an earlier split: of those that stood for it, all that are small enough are here."""
    small = [digest for digest in known if digest <= now[-1]] if isinstance(known, list) and now else []
    return bool(small) and set(small) <= set(now)
