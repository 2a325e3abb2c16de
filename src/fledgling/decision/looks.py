"""How often a test split was used for a verdict: an append-only ledger outside the results."""

import json
import os
from os import PathLike
from pathlib import Path

from fledgling.errors import DataError
from fledgling.files import json_line
from fledgling.locks import lock


def look(ledger: str | PathLike[str], *, test: str, inputs: str) -> int:
    """The number of this verdict among all on the same test rows, from 1; a new one is written down.

    `test` is the digest of the test split, `inputs` that of all the verdict is made from. The same inputs keep
    their number for good, so that making a verdict again counts nothing and gives the same bytes.

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
                if entry["test"] == test and entry["inputs"] not in known:
                    known.append(entry["inputs"])
            except (ValueError, KeyError, TypeError):
                raise DataError(
                    f"{path}:{number}: not a line of the ledger; restore the file or remove the line"
                ) from None
        if inputs not in known:
            known.append(inputs)
            if torn:
                stream.truncate(len(text) - len(torn))
            stream.write((json_line({"test": test, "inputs": inputs}) + "\n").encode())
            stream.flush()
            os.fsync(stream.fileno())
    return known.index(inputs) + 1
