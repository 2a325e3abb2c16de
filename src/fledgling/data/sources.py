"""Where rows come from: files, datasets on the Hub, the generator of the embedded tracks."""

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from fledgling.data import bfcl_files, columns, text_files
from fledgling.data.hub import HubFile, HubSource, files
from fledgling.errors import DataError
from fledgling.files import Object, digest, sha256_file

Raw = text_files.Raw
_LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_SUFFIXES = (*_LINES, ".csv", ".json", ".json.gz", ".parquet")


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a source, or what the generator makes.

    `label` is its name in messages, `digest` identifies its content, `stem` names rows that bring no id of their own,
    and `rows()` streams (number, row or Unusable). `folder` is where a relative `$ref` in a row points to, None where
    rows do not come from a file beside which others may lie. `by_line`: the number of a row is that of its line.
    """

    label: str
    digest: str
    stem: str
    rows: Callable[[], Iterator[Raw]]
    folder: Path | None = None
    by_line: bool = False

    def place(self, number: int) -> str:
        """A row of this part as messages name it: file:line, or the row's number from 1."""
        return f"{self.label}:{number}" if self.by_line else f"{self.label}: row {number}"


def open_source(source: Object, *, seed: int, key: str) -> list[Part]:
    """The parts of one entry of `sources`, in a fixed order; `key` names the entry in messages.

    Raises:
        DataError: no file matches, or a file has a suffix that is not read.
        Unavailable: the Hub cannot be reached.
    """
    if "path" in source:
        names = sorted(glob.glob(source["path"], recursive=True))
        names = [name for name in names if not bfcl_files.is_answers(Path(name))]
        if not names:
            raise DataError(f"{source['path']}: no such file; correct {key}.path (relative to {Path.cwd()})")
        return [_file(name, key) for name in names]
    if "hub" in source:
        hub = cast(HubSource, source["hub"])
        found = files(hub, key)
        return [_hub(file, hub, alone=len(found) == 1) for file in found]
    return [_embedded(source, seed)]


def tell_apart(parts: list[Part]) -> list[Part]:
    """The same parts, with stems that differ: of files of one name, as much of their folders as it takes."""
    stems = [part.stem for part in parts]
    steps = [Path(part.label.replace(":", "/")).parent.parts[::-1] for part in parts]
    for depth in range(max(map(len, steps), default=0)):
        again = {stem for stem in stems if stems.count(stem) > 1}
        if not again:
            break
        stems = [
            f"{steps[at][depth]}-{stem}" if stem in again and depth < len(steps[at]) else stem
            for at, stem in enumerate(stems)
        ]
    return [replace(part, stem=stem) for part, stem in zip(parts, stems, strict=True)]


def _file(name: str, key: str) -> Part:
    path = Path(name)
    if not name.endswith(_SUFFIXES):
        raise DataError(f"{name}: not {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}; convert it or correct {key}.path")
    try:
        content = sha256_file(name)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}); correct {key}.path") from None
    stem = os.path.basename(name).partition(".")[0]
    return Part(name, content, stem, _rows_of(path), path.parent, _by_line(path))


def _rows_of(path: Path, reader: str = "json", field: str | None = None) -> Callable[[], Iterator[Raw]]:
    name = str(path)
    if reader == "parquet" or name.endswith(".parquet"):
        return lambda: columns.parquet_rows(path)
    if reader == "csv" or name.endswith(".csv"):
        return lambda: columns.csv_rows(path)
    if _by_line(path, field):
        return lambda: bfcl_files.joined(text_files.json_lines(name), path)
    return lambda: bfcl_files.joined(text_files.json_document(name, field), path)


def _by_line(path: Path, field: str | None = None) -> bool:
    """Whether a file has a row a line; of .json.gz, which holds JSON as well as JSON Lines, its beginning says so."""
    name = str(path)
    if name.endswith(".json.gz"):
        return field is None and text_files.holds_lines(name)
    return name.endswith((*_LINES, ".csv"))


def _hub(file: HubFile, hub: HubSource, *, alone: bool) -> Part:
    config = f"{hub['config']}-" if "config" in hub else ""
    stem = f"{hub['repo_id'].rpartition('/')[2]}-{config}{hub['split']}" + (
        "" if alone else f"-{Path(file.name).name.partition('.')[0]}"
    )
    label = f"{hub['repo_id']}@{hub['revision'][:12]}/{file.name}"
    content = digest([hub, file.name, sha256_file(file.path)])
    rows = _rows_of(file.path, file.reader, file.field)
    return Part(label, content, stem, rows, by_line=_by_line(file.path, file.field))


def _embedded(source: Object, seed: int) -> Part:
    kind, count, house = source["embedded"], source["rows"], source.get("house", 0.8)

    def rows() -> Iterator[Raw]:
        from fledgling.embedded import world

        yield from enumerate(world.generate(kind, count, seed, house), 1)

    made = {"embedded": kind, "rows": count, "house": house, "seed": seed}
    return Part(f"embedded {kind}", digest(made), f"embedded-{kind}", rows)
