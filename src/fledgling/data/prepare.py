"""A track's sources made into its three splits, with a datasheet that says what happened to every row."""

import functools
import itertools
import json
import logging
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import IO

import numpy as np

from fledgling import strict_json
from fledgling.data import datasheet, formats, leaks, schemas, split, validate
from fledgling.data.invalid import Unusable
from fledgling.data.redact import Redactor
from fledgling.data.sources import Part, open_source, tell_apart
from fledgling.data.table import NOWHERE, Table, hash64, repeats
from fledgling.data.text_files import Raw
from fledgling.data.traces import logs
from fledgling.data.traces.chat import ended_well
from fledgling.data.traces.record import Record, moment
from fledgling.data.traces.traffic import Traffic
from fledgling.data.traces.wanted import Wanted
from fledgling.errors import ConfigError, DataError
from fledgling.files import Object, canonical, publish
from fledgling.progress import progress
from fledgling.records import Example

PAIRS = 20  # how many a message lists, of pairs and of rows
MANY_REJECTED = 0.1  # share of a source's rows from which a warning says so
log = logging.getLogger(__name__)
NEAR_DUPLICATE = 0.8
SPLIT_KEY = "fledgling"
Outputs = Mapping[str, str | PathLike[str]]


def prepare(track: Object, seed: int, *, name: str, outputs: Outputs) -> Object:
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
        work.refuse_models()
        work.drop_tool_errors()
        work.join_traffic()
        work.drop_repeated()
        work.refuse_wrong()
        work.apply_limits()
        found = work.cut_links()
        work.refuse_empty()
        work.join_copies(found.within)
        work.write(outputs)
        made = work.datasheet(found.links, outputs)
    log.log(logging.WARNING if work.rejects_many() else logging.INFO, made["summary"])
    return made


@dataclass(slots=True)
class _Source:
    """One entry of `sources`, and what became of its rows."""

    settings: Object
    parts: list[Part]
    wanted: Wanted
    redactor: Redactor
    counts: datasheet.Counts = field(default_factory=datasheet.Counts)
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def fixed(self) -> str | None:
        """The split that the configuration puts the whole source into."""
        return "test" if self.settings.get("evaluate_only") else self.settings.get("split")

    @property
    def strict(self) -> bool:
        """Whether one bad row stops everything; in a log bad rows are nothing out of the ordinary."""
        usual = "reject" if self.format == formats.TRACES else "error"
        return bool(self.settings.get("on_invalid", usual) == "error")

    @property
    def format(self) -> str:
        """The format of its rows, auto where each is looked at."""
        return str(self.settings.get("format", "auto"))

    def rows(self, part: Part) -> Iterator[Raw]:
        """The rows of one of its files, calls of logs as records."""
        if self.format not in ("auto", formats.TRACES):
            return part.rows()
        return logs.calls(part.rows(), named=self.format == formats.TRACES, turns=self.settings.get("turns"))


class _Wrong:
    """Rows that stop everything: how many of a kind, and the first ones."""

    def __init__(self) -> None:
        self.codes: Counter[str] = Counter()
        self.first: list[str] = []

    def add(self, code: str, message: str) -> None:
        self.codes[code] += 1
        if len(self.first) < PAIRS:
            self.first.append(message)

    def message(self, track: str) -> str:
        """All of it, as an error says it."""
        count = self.codes.total()
        if count == 1:
            return f"{self.first[0]}; or set on_invalid: reject for this source"
        more = [f"  and {count - PAIRS:,} more"] if count > PAIRS else []
        lines = "\n".join([*(f"  {line}" for line in self.first), *more])
        return (
            f"tracks.{track}: {count:,} rows cannot be used ({_listed(self.codes)}):\n{lines}\n"
            "correct them, or set on_invalid: reject for their source, which leaves them out and counts them"
        )


class _Work:
    """One run of `prepare`: the rows' texts in the spool, everything else in the table."""

    def __init__(self, track: Object, seed: int, name: str, spool: IO[bytes]):
        self.track, self.name, self.spool, self.size = track, name, spool, 0
        self.split_key: str = track.get("split_key", SPLIT_KEY)
        self.threshold: float | None = track.get("leaks", {}).get("near_duplicate", NEAR_DUPLICATE)
        self.table = Table()
        self.sources: list[_Source] = []
        self.parts: list[tuple[_Source, Part]] = []  # numbered as in the table
        self.categories: dict[str, int] = {}
        self.schemas: dict[str, int] = {}
        self.offered = False  # whether some row has tools
        self.regrouped: dict[int, int] = {}  # row: the row that it copies, and whose group it got
        self.named_after: dict[int, int] = {}  # row: the row in whose group it is, as the spool has it
        self.test_from = moment((track.get("splits") or {}).get("test_from"), f"tracks.{name}.splits.test_from")
        opened = [
            open_source(settings, seed=seed, key=f"tracks.{name}.sources[{index}]")
            for index, settings in enumerate(track["sources"])
        ]
        parts = iter(tell_apart([part for listed in opened for part in listed]))
        for index, settings in enumerate(track["sources"]):
            key = f"tracks.{name}.sources[{index}]"
            redactor = Redactor(settings.get("redact", []), track["kind"])
            source = _Source(settings, [next(parts) for _ in opened[index]], Wanted.of(settings, key), redactor)
            if source.fixed is None and not track.get("splits"):
                raise ConfigError(f"tracks.{name}.splits: this key is missing; {key} has no `split` of its own")
            self.sources.append(source)
            self.parts += [(source, part) for part in source.parts]
        self.wrong = _Wrong()

    def read(self) -> None:
        """Every usable row into the spool and the table."""
        for number, (source, part) in enumerate(self.parts):
            for line, raw in progress(source.rows(part), desc=f"{self.name}: {part.label}"):
                source.counts.read += 1
                try:
                    self._add(raw, source, number, line)
                except Unusable as problem:
                    self._refuse(source, problem.code, f"{part.place(line)}: {problem}")

    def _refuse(self, source: _Source, code: str, message: str) -> None:
        """Count a row that cannot be used; where that stops everything, after all rows were read."""
        message = source.redactor.text(message)
        source.counts.reject(code, message)
        if source.strict:
            self.wrong.add(code, message)

    def refuse_wrong(self) -> None:
        """Stop where a row of a source cannot be used that is not to be rejected, with the first ones of all."""
        if self.wrong.codes:
            raise DataError(self.wrong.message(self.name))

    def _add(self, raw: object, source: _Source, number: int, line: int) -> None:
        part = self.parts[number][1]
        if isinstance(raw, Unusable):
            raise raw
        record = raw if isinstance(raw, Record) else None
        if why := _unwanted(raw, source):
            source.counts.outside[why] += 1
            return
        kind: str = self.track["kind"]
        row = formats.parse(raw, kind, source.format)
        row = source.redactor.row(replace(row, schema=schemas.self_contained(row.schema, part.folder)))
        checked = validate.check(row, kind)
        row = checked.row
        if checked.warning:
            source.counts.warn(source.redactor.text(f"{part.place(line)}: {checked.warning}"))
        try:
            prompt, answer = canonical([row.messages, row.tools, row.schema]), canonical([row.answer, row.allowed])
        except ValueError as error:
            raise Unusable("number", f"a number that no float holds ({error}); write it as text") from None
        identity = _identity(row, part, prompt + answer) if record is None else f"log-{hash64(prompt + answer):016x}"
        group = row.record
        if record is not None and record.record is not None and (source.fixed or self.test_from is not None):
            group = f"trace-{hash64(record.record):016x}"
        if group is None:
            group = split.record(row.source, identity, answer) or _opening_group(row, source)
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
        place = {"part": number, "number": line, "named": row.id is not None}
        self._enter(example, source, prompt, answer, record, weight=row.weight, **place)
        if record is not None:
            source.traffic.note(len(self.table) - 1, record, row.messages)
        source.counts.note(row.format, row.source, row.ignored)
        source.counts.nulls += checked.nulls
        self.offered = self.offered or bool(row.tools)
        source.counts.any_call += row.answer is None
        source.counts.without += (row.tools if kind == "toolcall" else row.schema) is None

    def _enter(
        self,
        example: Example,
        source: _Source,
        prompt: str,
        answer: str,
        record: Record | None,
        weight: float,
        **place: int,
    ) -> None:
        time = math.nan if record is None or record.time is None else record.time
        chosen = source.fixed or self._split(example.group, time)
        text = leaks.request(example.messages)
        normalised = leaks.normalise(text)
        judged = self.threshold is not None and leaks.word_count(normalised) >= leaks.MIN_WORDS
        try:
            line = strict_json.dumps(example.to_json()).encode() + b"\n"
        except ValueError as error:
            raise Unusable("too_deep", f"the row cannot be written ({error})") from None
        self.table.append(
            **place,
            weight=weight,
            time=time,
            logged=record is not None,
            trace=0 if record is None or record.record is None else hash64(record.record),
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

    def _split(self, group: str, time: float) -> str:
        """The split of a row that the configuration puts nowhere: by its time where that decides, else by its group."""
        at, shares = split.position(self.split_key, group), self.track["splits"]
        if self.test_from is None:
            return split.choose(at, shares)
        if math.isnan(time):
            raise Unusable("no_time", "splits.test_from decides by time, and nothing says when this row came about")
        return "test" if time >= self.test_from else split.choose(at, split.before_test(shares))

    def refuse_models(self) -> None:
        """Refuse a log with replies of several models, unless the source says which it means.

        Raises:
            DataError: names them.
        """
        for index, source in enumerate(self.sources):
            models = source.traffic.models
            if len(models) > 1 and "model" not in source.settings.get("where", {}):
                raise DataError(
                    f"tracks.{self.name}.sources[{index}]: the log holds replies of {len(models)} models"
                    f" ({source.traffic.models_in_words()}); say whose count with where: {{model: …}}, a glob;"
                    " '*' takes all"
                )

    def drop_tool_errors(self) -> None:
        """Leave out calls that a tool answered with an error, or their whole trajectories, where a source says so."""
        splits, groups, traces = self.table["split"], self.table["group"], self.table["trace"]
        for source in self.sources:
            erred = np.array(sorted(source.traffic.erred()), dtype=np.int64)
            policy = source.settings.get("tool_errors", "keep")
            if policy == "keep" or not len(erred):
                continue
            left = erred
            if policy == "trajectory":
                own = np.array(source.traffic.rows, dtype=np.int64)
                belongs = np.where(traces != 0, traces, groups)
                left = own[np.isin(belongs[own], belongs[erred])]
            splits[left] = NOWHERE
            source.counts.outside["tool_errors"] += len(left)

    def join_traffic(self) -> None:
        """Give calls of one session or trace, and calls that ask the same, one group and the split of their first.

        So repeated requests stay together and newer rows move none, unless a new one connects two groups. Where time
        splits, the groups stay, and what reaches into the test is left out of training as a link.
        """
        table = self.table
        splits, groups, times = table["split"], table["group"], table["time"]
        rows = np.flatnonzero((table["logged"] == 1) & (table["fixed"] == 0) & (splits != NOWHERE))
        if self.test_from is not None or not len(rows):
            return
        rows = rows[np.argsort(np.nan_to_num(times[rows], nan=math.inf), kind="stable")]
        joined = leaks.Joined(len(rows))
        for column in (table["trace"], table["normalised"], groups):
            known = np.flatnonzero(column[rows] != 0)
            for one, other in repeats(column[rows[known]]):
                joined.join(int(known[one]), int(known[other]))
        for at, row in enumerate(rows.tolist()):
            leader = int(rows[joined.find(at)])
            if groups[row] != groups[leader]:
                self.named_after[row] = leader
        for row, leader in self.named_after.items():
            groups[row], splits[row] = groups[leader], splits[leader]

    def drop_repeated(self) -> None:
        """Refuse ids that occur twice; of rows with the same content in one split, the first stands for all of them.

        It has the weight of all. A benchmark (evaluate_only) keeps its copies: its rows are what its published figures are over.
        """
        splits, named = self.table["split"], self.table["named"]
        for row, first in repeats(self.table["id"]):
            if not (named[row] or named[first]):
                continue  # named by their content: copies, counted below
            self._refuse(
                self._source(row),
                "duplicate_id",
                f"{self._place(row)}: id {self._row(row)['id']!r} was used before, at {self._place(first)};"
                " ids are unique in a track: rename or remove one of the rows",
            )
            splits[row] = NOWHERE
        benchmarks = [number for number, (source, _) in enumerate(self.parts) if source.settings.get("evaluate_only")]
        kept = np.flatnonzero((splits != NOWHERE) & ~np.isin(self.table["part"], benchmarks))
        content = self.table["content"][kept] ^ (splits[kept].astype(np.uint64) << np.uint64(62))
        weights = self.table["weight"]
        for row, first in repeats(content):
            copy, original = int(kept[row]), int(kept[first])
            self._source(copy).counts.copy(f"{self._place(copy)} is a copy of {self._place(original)}")
            weights[original] += weights[copy]
            splits[copy] = NOWHERE

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

    def cut_links(self) -> leaks.Found:
        """Find the links, refuse or cut those between splits, and return all of them.

        Without `leaks.action`, a link is refused where the configuration itself chose the split of
        one of its rows, and cut where a hash chose both.
        """
        splits, fixed = self.table["split"], self.table["fixed"]
        found = leaks.find(self.table, self.threshold, functools.lru_cache(maxsize=10_000)(self._normalised))
        links = found.links
        action = self.track.get("leaks", {}).get("action")
        refused = [
            link for link in links if action == "refuse" or (action is None and (fixed[link.row] or fixed[link.later]))
        ]
        if refused:
            raise DataError(self._refusal(refused))
        splits[[link.row for link in links]] = NOWHERE
        return found

    def join_copies(self, near: list[tuple[int, int]]) -> None:
        """Give rows of one split that say the same, or nearly, one group: that of the first of them.

        Twenty wordings of a question are no twenty independent rows, whatever their groups were called.
        """
        splits, groups = self.table["split"], self.table["group"]
        joined = leaks.Joined(len(splits))
        for index in range(len(split.SPLITS)):
            rows = np.flatnonzero(splits == index)
            for column in (groups, self.table["normalised"]):
                for row, first in repeats(column[rows]):
                    joined.join(int(rows[row]), int(rows[first]))
        for row, first in near:
            if splits[row] != NOWHERE and splits[first] != NOWHERE:
                joined.join(row, first)
        for row in np.flatnonzero(splits != NOWHERE).tolist():
            leader = joined.find(row)
            if groups[row] != groups[leader]:
                self.regrouped[row] = leader
        for row, leader in self.regrouped.items():
            groups[row] = groups[leader]
        self.named_after |= {row: self.named_after.get(leader, leader) for row, leader in self.regrouped.items()}

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
            raise DataError(f"tracks.{self.name}: the test split is empty. {self._why_empty()}")
        if self._wants_val() and not np.any(splits == split.SPLITS.index("val")):
            more = "splits.val" if self.test_from is None else "splits.val, a later splits.test_from"
            log.warning(
                "tracks.%s: the val split is empty; what says how far contenders are built will find no rows, nor will "
                "training. %s. Give more rows, a larger tracks.%s.%s, or a source with split: val",
                *(self.name, self._why_empty(), self.name, more),
            )
        if self.track["kind"] == "toolcall" and not self.offered and not np.any(self.table["calls"]):
            log.warning(
                "tracks.%s: no row has tools and none calls one, so saying anything is right; set kind: structured, or give"
                " the rows their tools",
                self.name,
            )

    def _wants_val(self) -> bool:
        """Whether the configuration puts rows into val: a source of its own, or a share of those that are divided."""
        shares = self.track.get("splits") or {}
        return any(
            source.fixed == "val" or (source.fixed is None and shares.get("val", 0) > 0) for source in self.sources
        )

    def _why_empty(self) -> str:
        read = sum(source.counts.read for source in self.sources)
        rejected = sum((source.counts.rejected for source in self.sources), Counter[str]())
        if read and rejected.total() == read:
            first = next(
                iter(next(source.counts.messages for source in self.sources if source.counts.messages).values())
            )
            return (
                f"All {read:,} rows that were read were rejected ({_listed(rejected)}). The first: {first[0]}. Correct"
                " the rows, or the `format` of their source"
            )
        return (
            f"Sources without `split` are divided by tracks.{self.name}.splits, by group: key 'group' of a row, else its"
            f" first user message. {read:,} rows were read"
            + (f", {rejected.total():,} of them rejected ({_listed(rejected)})" if rejected else "")
            + f"; the others are in {len(np.unique(self.table['group']))} groups"
        )

    def rejects_many(self) -> bool:
        """Whether a source lost more rows than a person would expect."""
        return any(source.counts.rejected.total() > MANY_REJECTED * source.counts.read for source in self.sources)

    def write(self, outputs: Outputs) -> None:
        """The three splits, all of them or none."""
        groups = {leader: self._row(leader)["group"] for leader in set(self.named_after.values())}
        self.spool.seek(0)
        with ExitStack() as stack:
            streams = [stack.enter_context(publish(outputs[name], "wb")) for name in split.SPLITS]
            rows = zip(self.spool, self.table["split"], self.table["weight"], strict=True)
            for row, (line, chosen, weight) in enumerate(rows):
                if chosen == NOWHERE:
                    continue
                group = self.named_after.get(row)
                streams[chosen].write(_completed(line, weight, None if group is None else groups[group]))

    def datasheet(self, links: list[leaks.Link], outputs: Outputs) -> Object:
        """The datasheet of what was written."""
        listed = [datasheet.source(source.settings, source.parts, source.counts) for source in self.sources]
        described = datasheet.splits(
            self.table, outputs, self.track["kind"], list(self.categories), list(self.schemas), list(self.regrouped)
        )
        return {
            "format": "fledgling/datasheet/1",
            "track": self.name,
            "summary": datasheet.summary(self.name, [source.counts for source in self.sources], described["splits"]),
            "kind": self.track["kind"],
            "generated": all("embedded" in source.settings for source in self.sources),
            "split_key": self.split_key,
            "sources": listed,
            "unwinnable": datasheet.unwinnable([source.counts for source in self.sources]),
            **described,
            "conflicts": self._conflicts(),
            **self._traced(),
            "leaks": {
                **datasheet.links(links, self.table, self.threshold),
                "pairs": [self._pair(link) for link in links[:PAIRS]],
            },
        }

    def _traced(self) -> Object:
        """What is known of the logged calls among the rows; nothing where there are none."""
        sources = [source for source in self.sources if source.traffic.rows]
        if not sources:
            return {}
        golds = {source.settings.get("gold", "reply") for source in sources}
        counted = [source.traffic for source in sources]
        return {
            "traces": {
                "gold": "feedback" if golds == {"feedback"} else "reply",
                **datasheet.logged(self.table, counted),
                "test_from": (self.track.get("splits") or {}).get("test_from"),
                "redacted": sum(source.redactor.changed for source in sources),
            }
        }

    def _conflicts(self) -> list[str]:
        """The first rows whose prompt occurs before them with another answer."""
        kept = np.flatnonzero(self.table["split"] != NOWHERE)
        content = self.table["content"]
        pairs = ((int(kept[row]), int(kept[first])) for row, first in repeats(self.table["prompt"][kept]))
        others = ((row, first) for row, first in pairs if content[row] != content[first])
        return [
            f"{self._place(row)} asks what {self._place(first)} asks, with another answer"
            for row, first in itertools.islice(others, datasheet.EXAMPLES)
        ]

    def _source(self, row: int) -> _Source:
        return self.parts[self.table["part"][row]][0]

    def _place(self, row: int) -> str:
        return self.parts[self.table["part"][row]][1].place(int(self.table["number"][row]))

    def _pair(self, link: leaks.Link) -> str:
        sides = ((link.split, link.row), (link.later_split, link.later))
        named = [f"{split.SPLITS[side]} {self._place(row)} (id {self._row(row)['id']!r})" for side, row in sides]
        return f"{link.kind}: {named[0]} and {named[1]}"

    def _row(self, row: int) -> Object:
        self.spool.seek(int(self.table["offset"][row]))
        return json.loads(self.spool.readline())

    def _normalised(self, row: int) -> str:
        return leaks.normalise(leaks.request(self._row(row)["messages"]))


def _completed(line: bytes, weight: float, group: str | None) -> bytes:
    """A row of the spool as it is written: with its weight, and with the group of the rows that it copies."""
    if group is not None:
        row = strict_json.parse(line.decode())
        line = strict_json.dumps({**row, "group": group}).encode() + b"\n" if isinstance(row, dict) else line
    if weight == 1:
        return line
    number = int(weight) if weight == int(weight) else float(weight)
    return line[:-2] + f',"weight":{json.dumps(number)}}}\n'.encode()


def _unwanted(raw: object, source: _Source) -> str | None:
    """Why a row of a log is not taken, though nothing is wrong with it; None where it is."""
    if isinstance(raw, logs.NoCall):
        return "no call of a model"
    if not isinstance(raw, Record):
        return None
    if why := source.wanted.refusal(raw):
        return why
    return None if source.traffic.is_new(raw, ended_well=ended_well(raw)) else "exported twice"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{code} {count:,}" for code, count in counts.most_common())


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


def _title(schema: object) -> str:
    title = schema.get("title") if isinstance(schema, dict) else None
    return title if isinstance(title, str) else "none" if schema is None else "untitled"
