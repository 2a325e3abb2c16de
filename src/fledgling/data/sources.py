"""Where rows come from: files, datasets on the Hub, the generator of the embedded tracks."""

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledgling import strict_json
from fledgling.data.invalid import Unusable
from fledgling.errors import ConfigError, DataError, Unavailable
from fledgling.files import digest, read_lines, sha256_file

# A row as parsed, or why its text could not be parsed.
Raw = tuple[int, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """One file or data set of a source.

    `label` is its name in messages, `digest` identifies its content, `stem` names rows that bring no
    id of their own, and `rows()` streams (number, row or Unusable). `folder` is where a relative
    `$ref` in a row points to, None where rows do not come from a file.
    """

    label: str
    digest: str
    stem: str
    rows: Callable[[], Iterator[Raw]]
    folder: Path | None = None

    def place(self, number: int) -> str:
        """A row of this part as messages name it: file:line, or the row's number from 1."""
        return (
            f"{self.label}:{number}" if self.label.endswith((".jsonl", ".jsonl.gz")) else f"{self.label}: row {number}"
        )


def open_source(source: dict[str, Any], *, seed: int, key: str) -> list[Part]:
    """The parts of one entry of `sources`, in a fixed order; `key` names the entry in messages.

    Raises:
        DataError: no file matches, or a file has a suffix that is not read.
    """
    if "path" in source:
        names = sorted(glob.glob(source["path"], recursive=True))
        if not names:
            raise DataError(f"{source['path']}: no such file; correct {key}.path (relative to {Path.cwd()})")
        return [_file(name, key) for name in names]
    if "hub" in source:
        return [_hub(source["hub"], key)]
    return [_embedded(source, seed)]


def parse(text: str) -> Any:
    """The value of one JSON text, as `strict_json.loads` gives it, without its cap on the length.

    Raises:
        ValueError: not JSON.
    """
    value, end = strict_json.scan(text, strict_json.skip_space(text, 0))
    if strict_json.skip_space(text, end) != len(text):
        raise ValueError(f"text after the JSON value, at character {end}")
    return value


def _file(name: str, key: str) -> Part:
    if name.endswith((".jsonl", ".jsonl.gz")):
        rows = _json_lines
    elif name.endswith(".json"):
        rows = _json_list
    else:
        raise DataError(f"{name}: not .jsonl, .jsonl.gz or .json; convert it or correct {key}.path")
    try:
        content = sha256_file(name)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}); correct {key}.path") from None
    stem = os.path.basename(name).partition(".")[0]
    return Part(name, content, stem, lambda: rows(name), Path(name).parent)


def _json_lines(name: str) -> Iterator[Raw]:
    try:
        for number, text in read_lines(name):
            try:
                yield number, parse(text)
            except ValueError as error:
                yield number, Unusable("not_json", f"not JSON ({error}); one JSON object a line is read")
    except (EOFError, OSError) as error:  # a damaged .gz too
        raise DataError(f"{name}: cannot be read to its end ({error}); replace the file") from None


def _json_list(name: str) -> Iterator[Raw]:
    text = "\n".join(line for _, line in read_lines(name))
    try:
        rows = parse(text)
    except ValueError as error:
        raise DataError(f"{name}: not JSON ({error})") from None
    if not isinstance(rows, list):
        raise DataError(f"{name}: expected a JSON list of rows, found {type(rows).__name__}")
    yield from enumerate(rows, 1)


def _hub(hub: dict[str, Any], key: str) -> Part:
    if "revision" not in hub:
        raise ConfigError(f"{key}.hub.revision: this key is missing: a branch moves, name a commit")
    label = f"{hub['repo_id']}@{hub['revision'][:12]}/{hub['split']}"

    def rows() -> Iterator[Raw]:
        import datasets

        try:
            table = datasets.load_dataset(
                hub["repo_id"], hub.get("config"), split=hub["split"], revision=hub["revision"]
            )
        except (datasets.exceptions.DatasetNotFoundError, ValueError) as error:
            raise DataError(f"{key}.hub: {label} cannot be loaded: {error}") from None
        except OSError as error:
            raise Unavailable(f"{key}.hub: {label} cannot be fetched: {error}") from None
        for number, row in enumerate(table, 1):
            yield number, _without_nulls(row)

    return Part(label, digest(hub), hub["repo_id"].rpartition("/")[2], rows)


def _without_nulls(value: Any) -> Any:
    """A table gives every row all keys that any row has, null where a row had none."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _embedded(source: dict[str, Any], seed: int) -> Part:
    kind, count, house = source["embedded"], source["rows"], source.get("house", 0.8)

    def rows() -> Iterator[Raw]:
        from fledgling.embedded import world

        yield from enumerate(world.generate(kind, count, seed, house), 1)

    made = {"embedded": kind, "rows": count, "house": house, "seed": seed}
    return Part(f"embedded {kind}", digest(made), f"embedded-{kind}", rows)
