"""The rows worth reading: where contenders part, chosen so that anybody who chooses again gets the same ones."""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from fledgling.errors import DataError
from fledgling.files import read_jsonl
from fledgling.report import diff
from fledgling.report.load import Inputs


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of one kind of disagreement: how many there are, and the ids of those shown, in split order."""

    key: str
    heading: str
    note: str
    total: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row side by side; `scores` holds each contender's row of results/metrics, `answers` its prediction."""

    id: str
    example: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, Any]]
    answers: Mapping[str, Mapping[str, Any]]
    lines: tuple[diff.Line, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of disagreement: rows whose scores `asks` picks, `limit` of them shown."""

    key: str
    heading: str
    note: str
    limit: int
    asks: Callable[[Mapping[str, float]], bool]


def kinds(verdict: Mapping[str, Any]) -> list[Kind]:
    """The kinds of disagreement of teacher and the decisive contender, and of each with the one it comes after."""
    other = verdict["decisive"]
    found = [
        Kind(
            "teacher-only",
            f"The teacher is right, {other} is not",
            "What would get worse if the track moved.",
            8,
            lambda at: at["teacher"] > at[other],
        ),
        Kind(
            "contender-only",
            f"{other[0].upper()}{other[1:]} is right, the teacher is not",
            "What would get better.",
            6,
            lambda at: at[other] > at["teacher"],
        ),
    ]
    for rung in verdict["ladder"]:
        if rung["after"]:
            found += _changed(rung["name"], rung["after"])
    return found


def _changed(name: str, before: str) -> list[Kind]:
    return [
        Kind(
            f"repaired-{name}",
            f"Repaired by {name}",
            f"{name} is right, {before} was not.",
            4,
            lambda at: at[name] > at[before],
        ),
        Kind(
            f"broken-{name}",
            f"Broken by {name}",
            f"{before} was right, {name} is not.",
            4,
            lambda at: at[before] > at[name],
        ),
    ]


def select(rows: Mapping[str, Path], metric: str, wanted: Iterable[Kind]) -> list[Selection]:
    """Count the rows of each kind and choose those to show, by the smallest sha256 of their ids.

    Streams the files side by side; memory holds what is shown.

    Raises:
        DataError: the files do not hold the same rows in the same order, or lack the metric.
    """
    wanted = list(wanted)
    totals = dict.fromkeys((kind.key for kind in wanted), 0)
    heaps: dict[str, list[tuple[int, int, str]]] = {kind.key: [] for kind in wanted}
    for place, (identity, scores) in enumerate(_side_by_side(rows, metric)):
        rank = -int.from_bytes(hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()[:8])
        for kind in wanted:
            if kind.asks(scores):
                totals[kind.key] += 1
                heap = heaps[kind.key]
                (heapq.heappush if len(heap) < kind.limit else heapq.heappushpop)(heap, (rank, -place, identity))
    return [
        Selection(
            kind.key,
            kind.heading,
            kind.note,
            totals[kind.key],
            tuple(identity for _, _, identity in sorted(heaps[kind.key], key=lambda entry: -entry[1])),
        )
        for kind in wanted
    ]


def _side_by_side(rows: Mapping[str, Path], metric: str) -> Iterable[tuple[str, dict[str, float]]]:
    streams = {name: read_jsonl(path) for name, path in rows.items()}
    for entries in zip_longest(*streams.values()):
        if None in entries:
            short = [str(rows[name]) for name, entry in zip(streams, entries, strict=True) if entry is None]
            raise DataError(f"{', '.join(short)}: fewer rows than the other contenders; score the predictions again")
        number, first = entries[0]
        scores = {}
        for name, (_, row) in zip(streams, entries, strict=True):
            if row["id"] != first["id"]:
                raise DataError(f"{rows[name]}:{number}: row {row['id']!r} stands where others have {first['id']!r}")
            if metric not in row["scores"]:
                raise DataError(f"{rows[name]}:{number}: no score {metric!r}; score the predictions again")
            scores[name] = row["scores"][metric]
        yield first["id"], scores


def collect(inputs: Inputs, kind: str, ids: Iterable[str]) -> dict[str, Row]:
    """The chosen rows with prompt, gold, every contender's answer and its difference from gold."""
    wanted = frozenset(ids)
    examples = _pick(inputs.data, wanted)
    scores = {name: _pick(inputs.rows[name], wanted) for name in inputs.contenders}
    answers = {name: _pick(inputs.predictions[name], wanted) for name in inputs.contenders}
    found = {}
    for identity, example in examples.items():
        mine = {name: scores[name][identity] for name in inputs.contenders}
        read = {name: row["parsed"] for name, row in mine.items() if row.get("parsed") is not None}
        found[identity] = Row(
            identity,
            example,
            mine,
            {name: answers[name].get(identity, {}) for name in inputs.contenders},
            tuple(_difference(kind, example, read)),
        )
    return found


def _difference(kind: str, example: Mapping[str, Any], read: Mapping[str, Any]) -> list[diff.Line]:
    if kind == "toolcall":
        return diff.toolcall(example["answer"] or [], read, example.get("allowed"))
    return diff.structured(example["answer"], read)


def _pick(path: Path, ids: frozenset[str]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for _, row in read_jsonl(path) if row["id"] in ids}
