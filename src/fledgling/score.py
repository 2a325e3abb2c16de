"""Scoring a contender: one score a row of the split, and the metrics over all of them."""

import functools
import logging
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from fledgling import artefacts, strict_json
from fledgling.artefacts import Cost, Datasheet, Metrics, Rate, SliceRate
from fledgling.data.invalid import Unusable
from fledgling.errors import DataError, UsageError
from fledgling.files import json_line, publish, read_jsonl, read_lines, sha256_file
from fledgling.progress import progress
from fledgling.records import Example, Prediction, read_predictions, strict_row
from fledgling.sealing import verify_predictions
from fledgling.tracks.kinds import Kind, Scored
from fledgling.tracks.registry import kind

LEVEL = 0.95  # of every interval
MISSING = Prediction(id="", outcome="error")
_SHOWN_SIZE = 1 << 16  # characters of a reply up to which its parsed form is kept in the row file
_SLICES = 100  # values of one dimension that are listed, the largest; the others are summed up
_MOST_TOKENS = 10**12  # of one reply that are believed
_EXAMPLE_KEYS = frozenset(Example.__dataclass_fields__)
_TYPES: dict[str, tuple[type, ...]] = {
    "id": (str,),
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
    prices: dict[str, Any] | None = None,
) -> Metrics:
    """Score a predictions file against a split; returns the metrics, which are also written to `out`.

    `rows` gets one line a row of the split, in its order. `prices` is {"input_per_million",
    "output_per_million", "currency"}. A row without a prediction is one that is not right (outcome `missing`).
    Both files are streamed; predictions in another order than the split wait in memory for their turn.

    Raises:
        DataError: a line that cannot be read, an id that occurs twice, a prediction of a row that is not there, or
            predictions that their seal does not vouch for.
    """
    verify_predictions(predictions, data)
    _check_prices(prices)
    track = kind(track_kind)
    tally = Tally(track)
    scored = _scored_rows(data, predictions, track, tally)
    if rows is None:
        for _ in scored:
            pass
    else:
        with publish(rows) as stream:
            for row in scored:
                stream.write(json_line(row) + "\n")
    made_from = artefacts.digests(data, predictions)
    metrics = tally.metrics(prices)
    metrics["made_from"] = made_from
    metrics["data_sha256"] = made_from[os.fspath(data)]
    metrics["predictions_sha256"] = made_from[os.fspath(predictions)]
    metrics["rows_sha256"] = None if rows is None else sha256_file(rows)
    artefacts.write(Metrics, out, metrics)
    return metrics


def _check_prices(prices: dict[str, Any] | None) -> None:
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


def _example(row: dict[str, Any], track_kind: str, folder: Path, place: str) -> Example:
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


def _is_prepared(row: dict[str, Any]) -> bool:
    return {"group", "answer", "messages"} <= row.keys() <= _EXAMPLE_KEYS


def row_of(example: Example, prediction: Prediction, outcome: str, scored: Scored, track: Kind) -> dict[str, Any]:
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


@dataclass(slots=True)
class Cell:
    """What rows of one slice add up to."""

    n: int = 0
    weight: float = 0.0
    squares: float = 0.0  # of the weights
    right: float = 0.0  # weight of the rows that are right

    def add(self, weight: float, right: bool) -> None:
        """Count a row."""
        self.n += 1
        self.weight += weight
        self.squares += weight * weight
        self.right += weight * right

    def plus(self, other: "Cell") -> "Cell":
        """Both together."""
        return Cell(
            self.n + other.n,
            self.weight + other.weight,
            self.squares + other.squares,
            self.right + other.right,
        )

    @property
    def size(self) -> float:
        """How many equal rows are worth as much as these with their weights (Kish 1965): n where all are 1."""
        return self.weight * self.weight / self.squares


class Tally:
    """What the rows of one contender add up to; grows by a few numbers a row."""

    def __init__(self, track: Kind) -> None:
        self.track = track
        self.n = 0
        self.all = Cell()
        self.full = dict.fromkeys(track.metrics, 0)
        self.sums = dict.fromkeys(track.metrics, 0.0)
        self.lenient = dict.fromkeys(track.metrics, 0.0)
        self.fractions = {name: array("d") for name in track.metrics if name in track.means}
        self.latencies = array("d")
        self.counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("outcomes", "reasons", "models", "fingerprints")
        }
        self.slices: dict[str, dict[str, Cell]] = defaultdict(lambda: defaultdict(Cell))
        self.tokens = {"prompt": 0, "completion": 0, "rows_without_usage": 0}

    def add(self, row: dict[str, Any]) -> None:
        """Count one line of the row file."""
        self.n += 1
        scores, weight = row["scores"], row["weight"]
        self.all.add(weight, scores[self.track.core] == 1)
        for name, value in scores.items():
            self.sums[name] += weight * value
            self.full[name] += value == 1
        for name, value in row["lenient"].items():
            self.lenient[name] += weight * value
        for name, values in self.fractions.items():
            values.append(scores[name])
        for counter, key in (("outcomes", "outcome"), ("reasons", "reason"), ("models", "model")):
            if row[key] is not None:
                self.counts[counter][row[key]] += 1
        if row["fingerprint"] is not None:
            self.counts["fingerprints"][row["fingerprint"]] += 1
        for dimension, value in row["slice"].items():
            self.slices[dimension][value].add(weight, scores[self.track.core] == 1)
        if row["latency_s"] is not None:
            self.latencies.append(row["latency_s"])
        prompt, completion = (row["usage"].get(f"{name}_tokens") for name in ("prompt", "completion"))
        if prompt is not None and completion is not None:
            self.tokens["prompt"] += prompt
            self.tokens["completion"] += completion
        else:
            self.tokens["rows_without_usage"] += 1

    def metrics(self, prices: dict[str, Any] | None = None) -> Metrics:
        """The metrics document (results/metrics/{track}/{contender}.json); its digests are empty."""
        return {
            "format": "fledgling/metrics/1",
            "made_from": {},
            "kind": self.track.name,
            "n": self.n,
            "weight": self.all.weight,
            "metrics": {name: self._metric(name) for name in self.track.metrics},
            "lenient": {name: {"value": total / self.all.weight} for name, total in self.lenient.items()},
            "outcomes": _sorted(self.counts["outcomes"]),
            "reasons": _sorted(self.counts["reasons"]),
            "slices": {dimension: _slices(cells) for dimension, cells in self.slices.items()},
            "tokens": self.tokens,
            "cost": self._cost(prices),
            "latency_s": self._latency(),
            "models": _sorted(self.counts["models"]),
            "fingerprints": _sorted(self.counts["fingerprints"]),
            "data_sha256": "",
            "predictions_sha256": "",
            "rows_sha256": None,
        }

    def _metric(self, name: str) -> Rate:
        from fledgling.stats import mean_interval, wilson

        value = min(1.0, self.sums[name] / self.all.weight)
        k = None if name in self.fractions else self.full[name]
        if name in self.fractions and self.all.weight == self.n:
            method = "bootstrap"
            low, high = mean_interval(self.fractions[name], level=LEVEL)
        else:  # of a mean too where rows have weights: a score in [0, 1] varies less than a right or wrong
            method, size = "wilson", self.all.size
            low, high = wilson(value * size, size, level=LEVEL)
        return {"value": value, "n": self.n, "k": k, "low": low, "high": high, "level": LEVEL, "method": method}

    def _cost(self, prices: dict[str, Any] | None) -> Cost:
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


def _scored_rows(data: FilePath, predictions: FilePath, track: Kind, tally: Tally) -> Iterator[dict[str, Any]]:
    lines = _lines(predictions)
    replies = read_predictions(predictions)
    waiting: dict[str, Prediction] = {}
    seen = 0  # in place of the line of a prediction that was scored; lines are counted from 1
    for number, example in progress(read_split(data, track.name), desc=f"score {Path(predictions).stem}"):
        line = lines.get(example.id)
        lines[example.id] = seen
        if line == seen:
            raise DataError(f"{data}:{number}: the id {example.id!r} occurs twice; every row needs its own")
        if line is None:
            row = row_of(example, MISSING, "missing", track.nothing("missing"), track)
        else:
            while example.id not in waiting:
                reply = next(replies)
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
                raise DataError(f"{predictions}:{number}: key {key!r}: found {type(row[key]).__name__}")
        latency = row.get("latency_s")
        if latency is not None and (isinstance(latency, bool) or not 0 <= latency < _MOST_TOKENS):
            raise DataError(f"{predictions}:{number}: key 'latency_s': expected seconds, found {latency!r}")
        if (identity := row.get("id")) is None:
            raise DataError(f"{predictions}:{number}: key 'id' is missing")
        if identity in lines:
            raise DataError(
                f"{predictions}:{number}: the id {identity!r} occurs twice, first on line {lines[identity]}"
            )
        lines[identity] = number
    return lines


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _slices(cells: dict[str, Cell]) -> dict[str, SliceRate]:
    largest = sorted(cells.items(), key=lambda item: (-item[1].n, item[0]))
    rest = [cell for _, cell in largest[_SLICES:]]
    named = sorted(largest[:_SLICES], key=lambda item: item[0])
    if rest:
        named.append(("(others)", functools.reduce(Cell.plus, rest)))
    return {value: _slice(cell) for value, cell in named}


def _slice(cell: Cell) -> SliceRate:
    from fledgling.stats import wilson

    value = min(1.0, cell.right / cell.weight)
    low, high = wilson(value * cell.size, cell.size, level=LEVEL)
    return {"n": cell.n, "value": value, "low": low, "high": high}
