"""A track's sources made into its three splits, with a datasheet that says what happened to every row."""

import functools
import json
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np

from fledgling import strict_json
from fledgling.data import datasheet, formats, leaks, schemas, split, validate
from fledgling.data.invalid import Unusable
from fledgling.data.sources import Part, open_source
from fledgling.data.table import NOWHERE, Table, hash64, repeats
from fledgling.errors import ConfigError, DataError
from fledgling.files import canonical, publish
from fledgling.progress import progress
from fledgling.records import Example

PAIRS = 20  # how many a message lists
NEAR_DUPLICATE = 0.8
SPLIT_KEY = "fledgling"
Outputs = Mapping[str, str | PathLike[str]]


def prepare(track: dict[str, Any], seed: int, *, name: str, outputs: Outputs) -> dict[str, Any]:
    """Write the splits of a track and return its datasheet.

    `track` is the track's block of the configuration, `seed` that of generated rows, `outputs` one
    path for each of train, val and test. Rows keep the order of the sources, and a split is written
    when all of them can be. Streams: texts wait in a nameless file beside the outputs.

    Raises:
        DataError: a row, a source or a split cannot be used, or splits are linked; names file, line,
            key and remedy.
    """
    folder = Path(outputs["train"]).parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as spool:
        work = _Work(track, seed, name, spool)
        work.read()
        work.drop_repeated()
        work.apply_limits()
        links = work.cut_links()
        work.refuse_empty()
        work.write(outputs)
        return work.datasheet(links, outputs)


@dataclass(slots=True)
class _Source:
    """One entry of `sources`, and what became of its rows."""

    settings: dict[str, Any]
    parts: list[Part]
    counts: datasheet.Counts = field(default_factory=datasheet.Counts)

    @property
    def fixed(self) -> str | None:
        """The split that the configuration puts the whole source into."""
        return "test" if self.settings.get("evaluate_only") else self.settings.get("split")

    @property
    def strict(self) -> bool:
        """Whether one bad row stops everything."""
        return bool(self.settings.get("on_invalid", "error") == "error")


class _Work:
    """One run of `prepare`: the rows' texts in the spool, everything else in the table."""

    def __init__(self, track: dict[str, Any], seed: int, name: str, spool: IO[bytes]):
        self.track, self.name, self.spool, self.size = track, name, spool, 0
        self.split_key: str = track.get("split_key", SPLIT_KEY)
        self.threshold: float | None = track.get("leaks", {}).get("near_duplicate", NEAR_DUPLICATE)
        self.table = Table()
        self.sources: list[_Source] = []
        self.parts: list[tuple[_Source, Part]] = []  # numbered as in the table
        self.categories: dict[str, int] = {}
        self.schemas: dict[str, int] = {}
        for index, settings in enumerate(track["sources"]):
            key = f"tracks.{name}.sources[{index}]"
            source = _Source(settings, open_source(settings, seed=seed, key=key))
            if source.fixed is None and not track.get("splits"):
                raise ConfigError(f"tracks.{name}.splits: this key is missing; {key} has no `split` of its own")
            self.sources.append(source)
            self.parts += [(source, part) for part in source.parts]

    def read(self) -> None:
        """Every usable row into the spool and the table."""
        for number, (source, part) in enumerate(self.parts):
            for line, raw in progress(part.rows(), desc=f"{self.name}: {part.label}"):
                source.counts.read += 1
                try:
                    self._add(raw, source, number, line)
                except Unusable as problem:
                    message = f"{part.place(line)}: {problem}"
                    if source.strict:
                        raise DataError(f"{message}; or set on_invalid: reject for this source") from None
                    source.counts.reject(problem.code, message)

    def _add(self, raw: Any, source: _Source, number: int, line: int) -> None:
        part = self.parts[number][1]
        if isinstance(raw, Unusable):
            raise raw
        row = formats.parse(raw, self.track["kind"], source.settings.get("format", "auto"))
        row = replace(row, schema=schemas.self_contained(row.schema, part.folder))
        if warning := validate.check(row, self.track["kind"]):
            source.counts.warn(f"{part.place(line)}: {warning}")
        try:
            prompt, answer = canonical([row.messages, row.tools, row.schema]), canonical([row.answer, row.allowed])
        except ValueError as error:
            raise Unusable("number", f"a number that no float holds ({error}); write it as text") from None
        identity = _identity(row, part, prompt + answer)
        group = row.record or split.record(row.source, identity, answer) or _opening_group(row, source)
        example = Example(
            id=identity,
            group=group,
            messages=row.messages,
            answer=row.answer,
            tools=row.tools,
            schema=row.schema,
            allowed=row.allowed,
            category=row.category,
        )
        self._enter(example, source, prompt, answer, part=number, number=line, named=row.id is not None)
        source.counts.note(row.format, row.source, row.ignored)

    def _enter(self, example: Example, source: _Source, prompt: str, answer: str, **place: int) -> None:
        chosen = source.fixed or split.choose(split.position(self.split_key, example.group), self.track["splits"])
        text = leaks.request(example.messages)
        normalised = leaks.normalise(text)
        judged = self.threshold is not None and leaks.word_count(normalised) >= leaks.MIN_WORDS
        line = strict_json.dumps(example.to_json()).encode() + b"\n"
        self.table.append(
            **place,
            split=split.SPLITS.index(chosen),
            fixed=source.fixed is not None,
            offset=self.size,
            length=len(text),
            calls=len(example.answer) if isinstance(example.answer, list) else 1,
            category=self.categories.setdefault(example.category or "none", len(self.categories)),
            schema=self.schemas.setdefault(_title(example.schema), len(self.schemas)),
            order=split.position(f"{self.split_key} limit", example.group),
            id=hash64(example.id),
            group=hash64(example.group),
            prompt=hash64(prompt),
            content=hash64(prompt + answer),
            text=hash64(text),
            normalised=hash64(normalised),
            sense=leaks.sense(normalised, example.answer) if judged else 0,
        )
        self.spool.write(line)
        self.size += len(line)

    def drop_repeated(self) -> None:
        """Refuse ids that occur twice; of rows with the same content in one split, keep the first.

        A benchmark (evaluate_only) keeps its copies: its rows are what its published figures are over.
        """
        splits, named = self.table["split"], self.table["named"]
        for row, first in repeats(self.table["id"]):
            if not (named[row] or named[first]):
                continue  # named by their content: copies, counted below
            source = self._source(row)
            message = f"{self._place(row)}: id {self._row(row)['id']!r} was used before, at {self._place(first)}"
            if source.strict:
                raise DataError(f"{message}; ids are unique in a track: rename or remove one of the rows")
            source.counts.reject("duplicate_id", message)
            splits[row] = NOWHERE
        benchmarks = [number for number, (source, _) in enumerate(self.parts) if source.settings.get("evaluate_only")]
        kept = np.flatnonzero((splits != NOWHERE) & ~np.isin(self.table["part"], benchmarks))
        content = self.table["content"][kept] ^ (splits[kept].astype(np.uint64) << np.uint64(62))
        for row, _ in repeats(content):
            self._source(kept[row]).counts.duplicates += 1
            splits[kept[row]] = NOWHERE

    def apply_limits(self) -> None:
        """Of a source with a limit, keep the rows whose groups come first by hash."""
        splits, parts = self.table["split"], self.table["part"]
        for source in self.sources:
            if "limit" in source.settings:
                own = [number for number, (owner, _) in enumerate(self.parts) if owner is source]
                rows = np.flatnonzero(np.isin(parts, own) & (splits != NOWHERE))
                ranked = rows[np.lexsort((self.table["id"][rows], self.table["order"][rows]))]
                left = ranked[source.settings["limit"] :]
                source.counts.beyond_limit = len(left)
                splits[left] = NOWHERE

    def cut_links(self) -> list[leaks.Link]:
        """Find the links between splits, refuse or cut them, and return them.

        Without `leaks.action`, a link is refused where the configuration itself chose the split of
        one of its rows, and cut where a hash chose both.
        """
        splits, fixed = self.table["split"], self.table["fixed"]
        links = leaks.find(self.table, self.threshold, functools.lru_cache(maxsize=10_000)(self._normalised))
        action = self.track.get("leaks", {}).get("action")
        refused = [
            link for link in links if action == "refuse" or (action is None and (fixed[link.row] or fixed[link.later]))
        ]
        if refused:
            raise DataError(self._refusal(refused))
        splits[[link.row for link in links]] = NOWHERE
        return links

    def _refusal(self, links: list[leaks.Link]) -> str:
        lines = [f"  {self._pair(link)}" for link in links[:PAIRS]]
        if len(links) > PAIRS:
            lines.append(f"  and {len(links) - PAIRS} more")
        pairs = "\n".join(lines)
        return (
            f"tracks.{self.name}: {len(links)} rows have a copy in a later split, so the test would measure memory:\n"
            f"{pairs}\nremove them, or set tracks.{self.name}.leaks.action: drop to leave out the ones that are"
            " trained on"
        )

    def refuse_empty(self) -> None:
        """Refuse a test split without rows; that training needs train and val is said where training starts."""
        splits = self.table["split"]
        if not np.any(splits == split.SPLITS.index("test")):
            raise DataError(
                f"tracks.{self.name}: the test split is empty. Sources without `split` are divided by"
                f" tracks.{self.name}.splits, by group: key 'group' of a row, else its first user message."
                f" {len(splits)} rows were read, in {len(np.unique(self.table['group']))} groups"
            )

    def write(self, outputs: Outputs) -> None:
        """The three splits, all of them or none."""
        self.spool.seek(0)
        with ExitStack() as stack:
            streams = [stack.enter_context(publish(outputs[name], "wb")) for name in split.SPLITS]
            for line, chosen in zip(self.spool, self.table["split"], strict=True):
                if chosen != NOWHERE:
                    streams[chosen].write(line)

    def datasheet(self, links: list[leaks.Link], outputs: Outputs) -> dict[str, Any]:
        """The datasheet of what was written."""
        return {
            "format": "fledgling/datasheet/1",
            "track": self.name,
            "kind": self.track["kind"],
            "generated": all("embedded" in source.settings for source in self.sources),
            "split_key": self.split_key,
            "sources": [datasheet.source(source.settings, source.parts, source.counts) for source in self.sources],
            **datasheet.splits(self.table, outputs, self.track["kind"], list(self.categories), list(self.schemas)),
            "leaks": {
                **datasheet.links(links, self.table, self.threshold),
                "pairs": [self._pair(link) for link in links[:PAIRS]],
            },
        }

    def _source(self, row: int) -> _Source:
        return self.parts[self.table["part"][row]][0]

    def _place(self, row: int) -> str:
        return self.parts[self.table["part"][row]][1].place(int(self.table["number"][row]))

    def _pair(self, link: leaks.Link) -> str:
        sides = ((link.split, link.row), (link.later_split, link.later))
        named = [f"{split.SPLITS[side]} {self._place(row)} (id {self._row(row)['id']!r})" for side, row in sides]
        return f"{link.kind}: {named[0]} and {named[1]}"

    def _row(self, row: int) -> dict[str, Any]:
        self.spool.seek(int(self.table["offset"][row]))
        return json.loads(self.spool.readline())

    def _normalised(self, row: int) -> str:
        return leaks.normalise(leaks.request(self._row(row)["messages"]))


def _identity(row: formats.Parsed, part: Part, content: str) -> str:
    """The row's own id; a number is a place in a file, so the file is part of it; else the row's content."""
    if isinstance(row.id, str):
        return row.id
    return f"{part.stem}-{hash64(content):016x}" if row.id is None else f"{part.stem}-{row.id}"


def _opening_group(row: formats.Parsed, source: _Source) -> str:
    """The group of a row that names no source record.

    Two dialogues may open alike: where a hash splits they go together; where the configuration
    splits, the split is part of the group, and what is linked is found by the copies in it.
    """
    return f"{source.fixed or 'text'}-{hash64(leaks.normalise(split.opening(row.messages))):016x}"


def _title(schema: Any) -> str:
    title = schema.get("title") if isinstance(schema, dict) else None
    return title if isinstance(title, str) else "none" if schema is None else "untitled"
