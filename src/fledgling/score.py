"""Scoring a contender: one score a row of the split, and the metrics over all of them."""

import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from fledgling import artefacts, strict_json
from fledgling.artefacts import Cost, Metrics, Rate, SliceRate
from fledgling.data import formats
from fledgling.data.invalid import Unusable
from fledgling.errors import DataError
from fledgling.files import json_line, publish, read_jsonl, sha256_file
from fledgling.progress import progress
from fledgling.records import Example, Prediction, read_predictions
from fledgling.sealing import verify_predictions
from fledgling.tracks.kinds import Kind, Scored
from fledgling.tracks.registry import kind

LEVEL = 0.95  # of every interval
MISSING = Prediction(id="", outcome="error")
_SHOWN_SIZE = 1 << 16  # characters of a reply up to which its parsed form is kept in the row file
_SLICES = 100  # values of one dimension that are listed, the largest; the others are summed up
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


def read_split(path: FilePath, track_kind: str) -> Iterator[tuple[int, Example]]:
    """Yield (line number, example) of a prepared split, or of rows in any other format that `prepare` reads.

    Raises:
        DataError: a row is of no known format, or has no id.
    """
    for number, row in read_jsonl(path):
        if "group" in row and "answer" in row and "messages" in row and row.keys() <= _EXAMPLE_KEYS:
            yield number, Example(**row)
            continue
        try:
            parsed = formats.parse(row, track_kind)
        except Unusable as error:
            raise DataError(f"{path}:{number}: {error}") from None
        if parsed.id is None:
            raise DataError(f"{path}:{number}: key 'id' is missing; predictions are found by it")
        yield (
            number,
            Example(
                id=str(parsed.id),
                group=parsed.record or str(parsed.id),
                messages=parsed.messages,
                answer=parsed.answer,
                tools=parsed.tools,
                schema=parsed.schema,
                allowed=parsed.allowed,
                category=parsed.category,
            ),
        )


def row_of(example: Example, prediction: Prediction, outcome: str, scored: Scored, track: Kind) -> dict[str, Any]:
    """One line of the row file (results/metrics/{track}/{contender}.jsonl).

    `parsed` is None where a plain JSON reader could not hold it: a reply of over 65,536 characters, or numbers that
    no float has.
    """
    shown = len(prediction.raw or "") <= _SHOWN_SIZE and strict_json.is_plain(scored.parsed)
    return {
        "id": example.id,
        "group": example.group,
        "outcome": outcome,
        "scores": scored.scores,
        "lenient": scored.lenient,
        "reason": scored.reason,
        "parsed": scored.parsed if shown else None,
        "slice": track.slices(example),
        "usage": prediction.usage or {},
        "latency_s": prediction.latency_s,
        "model": prediction.model,
        "fingerprint": prediction.fingerprint,
    }


class Tally:
    """What the rows of one contender add up to; grows by a few numbers a row."""

    def __init__(self, track: Kind) -> None:
        self.track = track
        self.n = 0
        self.sums = dict.fromkeys(track.metrics, 0.0)
        self.lenient = dict.fromkeys(track.metrics, 0.0)
        self.fractions = {name: array("d") for name in track.metrics if name in track.means}
        self.latencies = array("d")
        self.counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("outcomes", "reasons", "models", "fingerprints")
        }
        self.slices: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
        self.tokens = {"prompt": 0, "completion": 0, "rows_without_usage": 0}

    def add(self, row: dict[str, Any]) -> None:
        """Count one line of the row file."""
        self.n += 1
        scores = row["scores"]
        for name, value in scores.items():
            self.sums[name] += value
        for name, value in row["lenient"].items():
            self.lenient[name] += value
        for name, values in self.fractions.items():
            values.append(scores[name])
        for counter, key in (("outcomes", "outcome"), ("reasons", "reason"), ("models", "model")):
            if row[key] is not None:
                self.counts[counter][row[key]] += 1
        if row["fingerprint"] is not None:
            self.counts["fingerprints"][row["fingerprint"]] += 1
        for dimension, value in row["slice"].items():
            cell = self.slices[dimension][value]
            cell[0] += 1
            cell[1] += scores[self.track.core] == 1
        if row["latency_s"] is not None:
            self.latencies.append(row["latency_s"])
        prompt, completion = (row["usage"].get(f"{name}_tokens") for name in ("prompt", "completion"))
        if isinstance(prompt, int) and isinstance(completion, int):
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
            "metrics": {name: self._metric(name) for name in self.track.metrics},
            "lenient": {name: {"value": total / self.n} for name, total in self.lenient.items()},
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

        if name in self.fractions:
            k, method = None, "bootstrap"
            low, high = mean_interval(self.fractions[name], level=LEVEL)
        else:
            k, method = round(self.sums[name]), "wilson"
            low, high = wilson(k, self.n, level=LEVEL)
        value = self.sums[name] / self.n
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


def _slices(cells: dict[str, list[int]]) -> dict[str, SliceRate]:
    from fledgling.stats import wilson

    largest = sorted(cells.items(), key=lambda item: (-item[1][0], item[0]))
    rest = largest[_SLICES:]
    named = sorted(largest[:_SLICES])
    if rest:
        named.append(("(others)", [sum(cell[0] for _, cell in rest), sum(cell[1] for _, cell in rest)]))
    return {
        value: {"n": n, "value": k / n, "low": wilson(k, n, level=LEVEL)[0], "high": wilson(k, n, level=LEVEL)[1]}
        for value, (n, k) in named
    }
