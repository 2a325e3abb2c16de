"""Scoring a contender: one score a row of the split, and the metrics over all of them."""

import logging
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import mul
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from fledgling import artefacts, strict_json
from fledgling.artefacts import Cost, Datasheet, Metrics, Rate, SliceRate
from fledgling.bought import ids, record_of
from fledgling.data.invalid import Unusable
from fledgling.errors import DataError, UsageError
from fledgling.files import Object, json_line, publish, read_jsonl, read_lines, sha256_file
from fledgling.progress import progress
from fledgling.records import Example, Prediction, read_predictions, strict_row
from fledgling.sealing import verify_predictions, verify_rows
from fledgling.tracks.kinds import Kind, Scored
from fledgling.tracks.registry import kind

if TYPE_CHECKING:
    from fledgling.stats import Interval

LEVEL = 0.95  # of every interval
MISSING = Prediction(id="", outcome="error")
_SHOWN_SIZE = 1 << 16  # characters of a reply up to which its parsed form is kept in the row file
_SLICES = 100  # values of one dimension that are listed, the largest; the others are summed up
_MOST_TOKENS = 10**12  # of one reply that are believed
_EXAMPLE_KEYS = frozenset(Example.__dataclass_fields__)
_TYPES: dict[str, tuple[type, ...]] = {
    "id": (str, int, type(None)),  # a whole number, as in the rows, is the text of its digits
    "raw": (str, type(None)),
    "tool_calls": (list, type(None)),
    "usage": (dict, type(None)),
    "latency_s": (int, float, type(None)),
    "model": (str, type(None)),
    "fingerprint": (str, type(None)),
}

FilePath = str | PathLike[str]
log = logging.getLogger(__name__)


def score(
    data: FilePath,
    predictions: FilePath,
    track_kind: str,
    out: FilePath,
    rows: FilePath | None = None,
    prices: Object | None = None,
    bought: FilePath | None = None,
) -> Metrics:
    """Score a predictions file against a split; returns the metrics, which are also written to `out`.

    `bought` is the seal of the teacher's predictions where its rows were bought in looks: only these rows count then.
    `rows` gets one line a row of the split, in its order. `prices` is {"input_per_million",
    "output_per_million", "currency"}. A row without a prediction is one that is not right (outcome `missing`).
    Both files are streamed; predictions in another order than the split wait in memory for their turn.

    Raises:
        DataError: a file that is missing, a line that cannot be read, an id that occurs twice, a prediction of a row that
            is not there, or predictions that their seal does not vouch for.
    """
    for path in (data, predictions):
        if not os.path.isfile(path):
            raise DataError(f"{path}: no such file")
    verify_rows(data)
    verify_predictions(predictions, data)
    files = [data, predictions] if bought is None else [data, predictions, bought]
    only = None if bought is None else ids(data, record_of(bought))
    before = artefacts.digests(*files)
    _check_prices(prices)
    track = kind(track_kind)
    tally = Tally(track)
    scored = _scored_rows(data, predictions, track, tally, only)
    if rows is None:
        for _ in scored:
            pass
    else:
        with publish(rows) as stream:
            for row in scored:
                stream.write(json_line(row) + "\n")
    made_from = artefacts.digests(*files)
    if made_from != before:
        raise DataError(f"{data} or {predictions} changed while it was scored; score again")
    metrics = tally.metrics(prices)
    metrics["made_from"] = made_from
    metrics["data_sha256"] = made_from[os.fspath(data)]
    metrics["predictions_sha256"] = made_from[os.fspath(predictions)]
    metrics["rows_sha256"] = None if rows is None else sha256_file(rows)
    artefacts.write(Metrics, out, metrics)
    return metrics


def _check_prices(prices: Object | None) -> None:
    """Refuse prices that are none.

    Raises:
        UsageError: names the key.
    """
    if prices is not None and not isinstance(prices, dict):
        raise UsageError("prices: expected an object with input_per_million, output_per_million and currency")
    for name in ("input_per_million", "output_per_million"):
        price = (prices or {}).get(name)
        if price is not None and (
            isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < 1e9
        ):
            raise UsageError(f"prices.{name}: expected a price, found {price!r}")


def read_split(path: FilePath, track_kind: str) -> Iterator[tuple[int, Example]]:
    """Yield (line number, example) of a prepared split, or of rows in any other format that `prepare` reads.

    Raises:
        DataError: a row is of no known format or of another kind of track, has no id, or its schema or tools cannot be
            used.
    """
    vouched = _vouched_kind(path)
    if vouched not in (None, track_kind):
        raise UsageError(f"{path}: these are rows of a {vouched} track; use --track-kind {vouched}")
    for number, text in read_lines(path):
        row = strict_row(path, number, text)
        if vouched:
            yield number, Example(**row)
            continue
        try:
            yield number, _example(row, track_kind, Path(path).parent, f"{path}:{number}")
        except Unusable as error:
            raise DataError(f"{path}:{number}: {error}") from None


def _vouched_kind(path: FilePath) -> str | None:
    """The kind of track that `prepare` wrote this very file for, every row checked, as the datasheet beside it says;
    None where nothing vouches for it."""
    sheet = Path(path).parent / "datasheet.json"
    if not sheet.is_file():
        return None
    try:
        described = artefacts.read(Datasheet, sheet)
    except DataError:
        return None
    digests = {split["sha256"] for split in described["splits"].values()}
    return described["kind"] if sha256_file(path) in digests else None


def _example(row: Object, track_kind: str, folder: Path, place: str) -> Example:
    from fledgling.data import formats, schemas, validate  # slow to import, and not needed for rows of the graph

    if track_kind == "structured" and row.get("tools") is not None:
        raise Unusable("kind", "key 'tools': the row is about tool calls; use --track-kind toolcall")
    parsed = formats.parse(row, track_kind, "example" if _is_prepared(row) else "auto")
    if parsed.id is None:
        raise Unusable("id", "key 'id' is missing; predictions are found by it")
    parsed = replace(parsed, schema=schemas.self_contained(parsed.schema, folder))
    try:
        parsed = validate.check(parsed, track_kind).row
    except Unusable as error:
        if error.code not in validate.UNWINNABLE:
            raise
        log.warning("%s: %s", place, error)  # scored as it stands: nobody gets it right
    return Example(
        id=str(parsed.id),
        group=str(parsed.id) if parsed.record is None else parsed.record,
        messages=parsed.messages,
        answer=parsed.answer,
        tools=parsed.tools,
        schema=parsed.schema,
        allowed=parsed.allowed,
        category=parsed.category,
        weight=parsed.weight,
    )


def _is_prepared(row: Object) -> bool:
    return {"group", "answer", "messages"} <= row.keys() <= _EXAMPLE_KEYS


def row_of(example: Example, prediction: Prediction, outcome: str, scored: Scored, track: Kind) -> Object:
    """One line of the row file (results/metrics/{track}/{contender}.jsonl).

    `parsed` is None where a plain JSON reader could not hold it: a reply of over 65,536 characters, or numbers that
    no float has.
    """
    parsed = scored.parsed if len(prediction.raw or "") <= _SHOWN_SIZE else None
    if parsed is not None and (not strict_json.is_plain(parsed) or _is_long(parsed)):
        parsed = None
    return {
        "id": example.id,
        "group": example.group,
        "outcome": outcome,
        "scores": scored.scores,
        "lenient": scored.lenient,
        "reason": scored.reason,
        "parsed": parsed,
        "slice": track.slices(example),
        "usage": {name: count for name, count in (prediction.usage or {}).items() if _is_count(count)},
        "latency_s": prediction.latency_s,
        "model": _printable(prediction.model),
        "fingerprint": _printable(prediction.fingerprint),
        "weight": example.weight,
    }


def _printable(name: str | None) -> str | None:
    """A provider's name of itself, half characters in it written out."""
    return None if name is None else name.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_long(value: object) -> bool:
    """Whether a parsed reply would take more room than a reply that is shown; calls have no text of their own."""
    left, stack = _SHOWN_SIZE, [value]
    while stack and left >= 0:
        node = stack.pop()
        left -= len(node) if isinstance(node, (str, dict, list)) else 1
        if isinstance(node, (dict, list)):
            stack.extend(node.values() if isinstance(node, dict) else node)
    return left < 0


def _is_count(value: object) -> bool:
    """Whether a number of tokens is one: providers have sent texts, nulls and numbers of 400 digits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS


class Tally:
    """What the rows of one contender add up to; grows by a few numbers a row."""

    def __init__(self, track: Kind) -> None:
        self.track = track
        self.n = 0
        self.values = {name: array("d") for name in track.metrics}
        self.lenient = {name: array("d") for name in track.metrics}
        self.weights = array("d")
        self.groups = array("q")
        self.known: dict[str, int] = {}
        self.latencies = array("d")
        self.counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("outcomes", "reasons", "models", "fingerprints")
        }
        self.slices: dict[str, dict[str, array[int]]] = defaultdict(lambda: defaultdict(lambda: array("q")))
        self.tokens = {"prompt": 0, "completion": 0, "rows_without_usage": 0}

    def add(self, row: Object) -> None:
        """Count one row of the row file."""
        for dimension, value in row["slice"].items():
            self.slices[dimension][value].append(self.n)
        self.n += 1
        self.weights.append(row.get("weight", 1))
        self.groups.append(self.known.setdefault(row["group"], len(self.known)))
        for kept, read in ((self.values, row["scores"]), (self.lenient, row["lenient"])):
            for name, values in kept.items():
                values.append(read[name])
        for counter, key in (("outcomes", "outcome"), ("reasons", "reason"), ("models", "model")):
            if row[key] is not None:
                self.counts[counter][row[key]] += 1
        if row["fingerprint"] is not None:
            self.counts["fingerprints"][row["fingerprint"]] += 1
        if row["latency_s"] is not None:
            self.latencies.append(row["latency_s"])
        prompt, completion = (row["usage"].get(f"{name}_tokens") for name in ("prompt", "completion"))
        if prompt is not None and completion is not None:
            self.tokens["prompt"] += prompt
            self.tokens["completion"] += completion
        else:
            self.tokens["rows_without_usage"] += 1

    def metrics(self, prices: Object | None = None) -> Metrics:
        """The metrics document (results/metrics/{track}/{contender}.json), digests aside."""
        return {
            "format": "fledgling/metrics/1",
            "made_from": {},
            "kind": self.track.name,
            "n": self.n,
            "weight": sum(self.weights),
            "metrics": {name: self._rate(name) for name in self.track.metrics},
            "lenient": {name: {"value": self._mean(values)} for name, values in self.lenient.items()},
            "outcomes": _sorted(self.counts["outcomes"]),
            "reasons": _sorted(self.counts["reasons"]),
            "slices": {dimension: self._slices(cells) for dimension, cells in self.slices.items()},
            "tokens": self.tokens,
            "cost": self._cost(prices),
            "latency_s": self._latency(),
            "models": _sorted(self.counts["models"]),
            "fingerprints": _sorted(self.counts["fingerprints"]),
            "data_sha256": "",
            "predictions_sha256": "",
            "rows_sha256": None,
        }

    def _mean(self, values: Sequence[float]) -> float:
        return sum(map(mul, values, self.weights)) / sum(self.weights)

    def _rate(self, name: str) -> Rate:
        """One metric over all requests, with the interval that the rows' groups and weights leave."""
        fractions = name in self.track.means
        found = self._interval(self.values[name], range(self.n), fractions=fractions)
        return {
            "value": self._mean(self.values[name]),
            "n": self.n,
            "k": None if fractions else sum(value == 1 for value in self.values[name]),
            "low": found.low,
            "high": found.high,
            "level": LEVEL,
            "method": found.method,
        }

    def _interval(self, values: Sequence[float], places: Sequence[int], *, fractions: bool = False) -> "Interval":
        """As surely as the verdict would say it; fractions by the bootstrap, even where all of them are 0 or 1.

        Rows that all stand for as many requests are rows alone: what matters is how weights differ.
        """
        from fledgling import stats  # numpy is slow to import

        groups, weights = [self.groups[place] for place in places], [self.weights[place] for place in places]
        said = weights if len(set(weights)) > 1 else None
        found = stats.interval(values, groups, level=LEVEL, weights=said)
        if not fractions or found.method == "bootstrap":
            return found
        low, high = stats.mean_interval(values, groups, level=LEVEL, weights=said)
        return replace(found, low=low, high=high, method="bootstrap")

    def _slices(self, cells: Mapping[str, Sequence[int]]) -> dict[str, SliceRate]:
        """Shares of right rows by value of one dimension, the largest by name, the others summed up."""
        largest = sorted(cells.items(), key=lambda item: (-len(item[1]), item[0]))
        named = sorted(largest[:_SLICES])
        if rest := largest[_SLICES:]:
            named.append(("(others)", [place for _, places in rest for place in places]))
        right = self.values[self.track.core]
        rates: dict[str, SliceRate] = {}
        for value, places in named:
            found = self._interval([float(right[place] == 1) for place in places], places)
            rates[value] = {"n": len(places), "value": found.value, "low": found.low, "high": found.high}
        return rates

    def _cost(self, prices: Object | None) -> Cost:
        """Tokens times prices; rows without usage count as the average of the others, and no usage at all is unknown."""
        prices = prices or {}
        known = self.n - self.tokens["rows_without_usage"]
        per_prompt, per_completion = prices.get("input_per_million"), prices.get("output_per_million")
        if per_prompt is None or per_completion is None or not known:
            return {"amount": None, "currency": prices.get("currency"), "estimated": False}
        paid = (self.tokens["prompt"] * per_prompt + self.tokens["completion"] * per_completion) / 1e6
        return {"amount": paid * self.n / known, "currency": prices.get("currency"), "estimated": known < self.n}

    def _latency(self) -> dict[str, float] | None:
        if not self.latencies:
            return None
        import numpy as np

        p50, p95 = np.quantile(self.latencies, [0.5, 0.95], method="inverted_cdf").tolist()
        return {"mean": sum(self.latencies) / len(self.latencies), "p50": p50, "p95": p95}


def _scored_rows(
    data: FilePath, predictions: FilePath, track: Kind, tally: Tally, only: Collection[str] | None
) -> Iterator[Object]:
    """The lines of the row file; of the split's rows only those named, where some are."""
    lines = _lines(predictions)
    replies = read_predictions(predictions)
    waiting: dict[str, Prediction] = {}
    seen = 0  # in place of the line of a prediction that was scored; lines are counted from 1
    for number, example in progress(read_split(data, track.name), desc=f"score {Path(predictions).stem}"):
        line = lines.get(example.id)
        lines[example.id] = seen
        if line == seen:
            raise DataError(f"{data}:{number}: the id {example.id!r} occurs twice; every row needs its own")
        if only is not None and example.id not in only:
            continue
        if line is None:
            row = row_of(example, MISSING, "missing", track.nothing("missing"), track)
        else:
            while example.id not in waiting:
                reply = next(replies)
                if only is None or reply.id in only:
                    waiting[reply.id] = reply
            prediction = waiting.pop(example.id)
            row = row_of(example, prediction, prediction.outcome, track.score(example, prediction), track)
        tally.add(row)
        yield row
    if tally.n == 0:
        raise DataError(f"{data}: no rows to score")
    for identity, line in lines.items():
        if line != seen:
            raise DataError(
                f"{predictions}:{line}: the id {identity!r} is not in {data}; predict the rows of this split"
            )


def _lines(predictions: FilePath) -> dict[str, int]:
    """{id: line} of a predictions file; the types of every line are checked."""
    lines: dict[str, int] = {}
    for number, row in read_jsonl(predictions):
        for key, types in _TYPES.items():
            if key in row and not isinstance(row[key], types):
                wanted = " or ".join(kind.__name__ for kind in types if kind is not type(None))
                raise DataError(
                    f"{predictions}:{number}: key {key!r}: expected {wanted}, found {type(row[key]).__name__}"
                )
        latency = row.get("latency_s")
        if latency is not None and (isinstance(latency, bool) or not 0 <= latency < _MOST_TOKENS):
            raise DataError(f"{predictions}:{number}: key 'latency_s': expected seconds, found {latency!r}")
        if (identity := row.get("id")) is None or isinstance(identity, bool):
            raise DataError(f"{predictions}:{number}: key 'id' is missing or no id")
        identity = str(identity)
        if identity in lines:
            raise DataError(
                f"{predictions}:{number}: the id {identity!r} occurs twice, first on line {lines[identity]}"
            )
        lines[identity] = number
    return lines


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
