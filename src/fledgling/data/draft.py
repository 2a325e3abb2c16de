"""A track drafted from rows: what they are, how they can be split, which limits fit them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fledgling.artefacts import JsonObject
from fledgling.data import formats
from fledgling.data.invalid import Unusable
from fledgling.data.sources import open_source
from fledgling.errors import DataError
from fledgling.files import canonical
from fledgling.records import KINDS
from fledgling.tokens import text_tokens

SPLITS = {"train": 0.6, "val": 0.15, "test": 0.25}
WITHOUT_VAL = {"train": 0.9, "val": 0.1, "test": 0.0}  # where a file holds the test rows and none those of val
# Names of files that say which split they are; a longer one is looked for first.
NAMES = {
    "validation": "val",
    "train": "train",
    "test": "test",
    "valid": "val",
    "val": "val",
    "dev": "val",
    "eval": "test",
}
ANSWER_TOKENS = (32, 4096)  # bounds of max_new_tokens in a draft


@dataclass(slots=True)
class Seen:
    """What was seen of rows, read as one kind of track."""

    usable: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    with_tools: int = 0
    with_schema: int = 0
    answer_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """A track's block, and what it is based on."""

    name: str
    block: JsonObject
    rows: int
    seen: Seen


def draft(paths: Sequence[str], *, name: str, kind: str | None = None) -> Draft:
    """Look at every row of the files (paths or globs) and draft a track from them.

    The kind is the one that more rows can be read as; where both can, rows with tools are tool calls. Files whose names
    say a split go there whole if there are both train and test, else all rows are split by group.

    Raises:
        DataError: no row can be used; says what was found instead. A file is missing.
    """
    read = 0
    seen = {each: Seen() for each in ([kind] if kind else KINDS)}
    for path in paths:
        for part in open_source({"path": path}, seed=0, key=path):
            for number, raw in part.rows():
                read += 1
                for each, found in seen.items():
                    _look(raw, each, found, part.place(number))
    chosen = kind or _kind(seen)
    found = seen[chosen]
    if not found.usable:
        why = "\n".join(f"  {count} rows: {found.first[code]}" for code, count in found.bad.most_common(5))
        raise DataError(f"{', '.join(paths)}: none of the {read} rows can be used:\n{why or '  there are none'}")
    splits = {path: _split_of(path) for path in paths}
    whole = {"train", "test"} <= set(splits.values())
    sources: list[JsonObject] = []
    for path in paths:
        source: JsonObject = {"path": path}
        if whole and splits[path] and (splits[path] != "train" or "val" in splits.values()):
            source["split"] = splits[path]
        if found.bad:
            source["on_invalid"] = "reject"
        sources.append(source)
    block: JsonObject = {"kind": chosen, "sources": list(sources)}
    if any("split" not in source for source in sources):
        block["splits"] = dict(WITHOUT_VAL if whole else SPLITS)
    block["max_new_tokens"] = _limit(found.answer_tokens)
    return Draft(name, block, read, found)


def _kind(seen: Mapping[str, Seen]) -> str:
    calls, objects = seen["toolcall"], seen["structured"]
    if calls.usable == objects.usable:
        return "toolcall" if calls.with_tools else "structured"
    return "toolcall" if calls.usable > objects.usable else "structured"


def _look(raw: object, kind: str, found: Seen, place: str) -> None:
    try:
        if isinstance(raw, Unusable):
            raise raw
        row = formats.parse(raw, kind)
        text = canonical(row.answer)
    except (Unusable, ValueError) as problem:
        code = problem.code if isinstance(problem, Unusable) else "number"
        found.bad[code] += 1
        found.first.setdefault(code, f"{place}: {problem}")
        return
    found.usable += 1
    found.formats[row.format] += 1
    found.with_tools += bool(row.tools)
    found.with_schema += row.schema is not None
    found.answer_tokens = max(found.answer_tokens, text_tokens(text))


def _limit(tokens: int) -> int:
    """Twice the longest answer, to the next multiple of 32: tokenizers differ, and a cut answer is a wrong one."""
    low, high = ANSWER_TOKENS
    return min(high, max(low, 32 * math.ceil(2 * tokens / 32)))


def _split_of(path: str) -> str | None:
    stem = Path(path).name.lower()
    return next((split for word, split in sorted(NAMES.items(), key=lambda item: -len(item[0])) if word in stem), None)


def track_name(path: str) -> str:
    """A track's name from a file's: its stem in small letters, without what says a split."""
    stem = Path(path).name.partition(".")[0].lower()
    for word in sorted(NAMES, key=len, reverse=True):
        stem = stem.removesuffix(word).rstrip("_-. ")
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in stem).strip("-")
    return name or "mine"
