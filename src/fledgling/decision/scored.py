"""Scored rows: what one contender got on each example (results/metrics/{track}/{contender}.jsonl)."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledgling import stats
from fledgling.errors import DataError
from fledgling.files import Object, read_jsonl

Floats = NDArray[np.float64]
UNANSWERED = frozenset({"error", "missing"})  # nothing came back; every other outcome is an answer


@dataclass(frozen=True, slots=True)
class Scored:
    """One contender's rows in columns, in the order of the split.

    `scores` holds an array a metric, NaN where a row has no such score; `parsed` what was understood of the
    answer, for rows that are not fully right.
    """

    name: str
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    outcomes: tuple[str, ...]
    slices: tuple[Object, ...]
    scores: dict[str, Floats]
    parsed: Object
    models: Counter[str]
    fingerprints: Counter[str]
    weights: Floats | None = None
    """Requests that each row stands for; None where each stands for itself."""

    @property
    def weight(self) -> Floats:
        """The same with 1 where nothing is said."""
        return np.ones(len(self.ids)) if self.weights is None else self.weights

    @property
    def requests(self) -> int:
        """How many requests all rows stand for."""
        return self.count(np.ones(len(self.ids), dtype=bool))

    def count(self, where: NDArray[np.bool_]) -> int:
        """How many requests these rows stand for."""
        return round(float(self.weight[where].sum()))

    def mean(self, metric: str, where: NDArray[np.bool_] | None = None) -> float:
        """A score's mean over requests, of all rows or of those chosen."""
        keep = slice(None) if where is None else where
        return stats.mean(self.scores[metric][keep], None if self.weights is None else self.weights[keep])

    @property
    def answered(self) -> NDArray[np.bool_]:
        """For each row, whether anything came back at all."""
        return np.array([outcome not in UNANSWERED for outcome in self.outcomes], dtype=bool)

    def with_scores(self, scores: dict[str, Floats]) -> "Scored":
        """The same rows under other scores."""
        return replace(self, scores=scores)

    def take(self, keep: list[int]) -> "Scored":
        """The rows at these positions, in this order."""
        return replace(
            self,
            ids=tuple(self.ids[i] for i in keep),
            groups=tuple(self.groups[i] for i in keep),
            outcomes=tuple(self.outcomes[i] for i in keep),
            slices=tuple(self.slices[i] for i in keep),
            scores={metric: values[keep] for metric, values in self.scores.items()},
            weights=None if self.weights is None else self.weights[keep],
        )


def read_rows(path: str | PathLike[str], name: str | None = None) -> Scored:
    """Read one contender's scored rows; it is called as the file is (without ending), or by `name`.

    Raises:
        DataError: no rows, a duplicate id, a key missing, a score outside [0, 1], or a weight that is no number above 0;
            names file, line and key.
    """
    seen: dict[str, int] = {}
    groups, outcomes, slices, scores, weights = [], [], [], [], []
    parsed: Object = {}
    models: Counter[str] = Counter()
    fingerprints: Counter[str] = Counter()
    for number, row in read_jsonl(path):
        for key in ("id", "outcome", "scores"):
            if key not in row:
                raise DataError(f"{path}:{number}: key {key!r} is missing; make the rows with scripts/score.py --rows")
        if row["id"] in seen:
            raise DataError(f"{path}:{number}: id {row['id']!r} is already on line {seen[row['id']]}")
        for metric, value in row["scores"].items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise DataError(f"{path}:{number}: scores.{metric} is {value!r}, not a number from 0 to 1")
        weight = row.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise DataError(
                f"{path}:{number}: weight is {weight!r}; it is how many requests the row stands for, a number above 0"
            )
        seen[row["id"]] = number
        weights.append(float(weight))
        group = row.get("group")  # 0 and "" are groups like any other
        groups.append(str(row["id"] if group is None else group))
        outcomes.append(row["outcome"])
        slices.append(row.get("slice") or {})
        scores.append(row["scores"])
        if row.get("parsed") is not None and any(value < 1 for value in row["scores"].values()):
            parsed[row["id"]] = row["parsed"]
        if row.get("model") is not None:
            models[row["model"]] += 1
        if row.get("fingerprint") is not None:
            fingerprints[row["fingerprint"]] += 1
    if not seen:
        raise DataError(f"{path}: no rows; the split is empty")
    metrics = sorted({metric for row in scores for metric in row})
    return Scored(
        name=name or Path(path).stem,
        ids=tuple(seen),
        groups=tuple(groups),
        outcomes=tuple(outcomes),
        slices=tuple(slices),
        scores={metric: np.array([row.get(metric, np.nan) for row in scores], dtype=float) for metric in metrics},
        parsed=parsed,
        models=models,
        fingerprints=fingerprints,
        weights=None if all(weight == 1 for weight in weights) else np.array(weights),
    )
