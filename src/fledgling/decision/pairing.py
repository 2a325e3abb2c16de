"""Whether rows of two contenders can be compared, and their gap on one metric where they can."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fledgling import stats
from fledgling.artefacts import Bought, Datasheet, Metrics, Span
from fledgling.decision.rule import Rule
from fledgling.decision.scored import Scored
from fledgling.errors import DataError
from fledgling.stats import Gap


def foreign(
    contenders: Iterable[Scored],
    datasheet: Datasheet,
    metrics: Mapping[str, Metrics],
    split: str = "test",
    bought: Bought | None = None,
) -> list[str]:
    """Reasons why rows are not those of the split that the datasheet describes.

    `metrics` holds the metrics files that belong to the rows, by contender, as far as there are any; `bought` says which
    rows of the split were asked, where it was not all of them.
    """
    test = datasheet["splits"][split]
    found = []
    rows = test["rows"] if bought is None else bought["rows"]
    if bought is not None and bought["of"] != test["rows"]:
        found.append(f"the looks were planned for {bought['of']} rows, but the {split} split has {test['rows']}")
    for one in contenders:
        if len(one.ids) != rows:
            there = f"the {split} split has {rows}" if bought is None else f"{rows} were bought"
            found.append(f"{one.name} was scored on {len(one.ids)} rows, but {there}")
        entry = metrics.get(one.name)
        if entry is None:
            continue
        if entry["n"] != len(one.ids):
            found.append(f"the metrics of {one.name} count {entry['n']} rows, but {len(one.ids)} are listed")
        if entry["data_sha256"] != test["sha256"]:
            found.append(
                f"{one.name} was scored on other {split} data ({entry['data_sha256'][:12]}) than the datasheet "
                f"describes ({test['sha256'][:12]})"
            )
    return found


def gap(rule: Rule, first: Scored, second: Scored, metric: str) -> Gap:
    """The paired gap of two aligned contenders, over the rows on which both have this score."""
    left, right = first.scores[metric], second.scores[metric]
    keep = ~(np.isnan(left) | np.isnan(right))
    groups = [group for group, kept in zip(first.groups, keep, strict=True) if kept]
    return stats.paired_gap(
        left[keep],
        right[keep],
        groups,
        alpha=rule.alpha,
        resamples=rule.resamples,
        seed=rule.seed,
        weights=None if first.weights is None else first.weights[keep],
    )


def aligned(first: Scored, second: Scored) -> Scored:
    """The second contender's rows in the order of the first's; both hold the same ids."""
    if first.ids == second.ids:
        return second
    place = {name: index for index, name in enumerate(second.ids)}
    return second.take([place[name] for name in first.ids])


def unpaired(teacher: Scored, other: Scored) -> list[str]:
    """Why the rows of two contenders cannot be compared: other ids, or other examples under the same ids."""
    left, right = set(teacher.ids), set(other.ids)
    if left != right:
        shared = len(left & right)
        kept = (
            f"{teacher.name} has {len(left)} rows and {other.name} has {len(right)}"
            if len(left) != len(right)
            else f"both have {len(left)} rows"
        )
        what = (
            "these are different test sets"
            if not shared
            else "the denominators differ"
            if len(left) != len(right)
            else "these are not the same test rows"
        )
        example = sorted(left ^ right)[0]
        return [
            f"{kept}, of which {shared} are the same: {what} (for example {example!r} is in one only), "
            "and rates over different rows cannot be compared"
        ]
    other = aligned(teacher, other)
    same = zip(teacher.groups, other.groups, teacher.slices, other.slices, strict=True)
    changed = [
        name
        for name, pair, ours, theirs in zip(teacher.ids, same, teacher.weight, other.weight, strict=True)
        if pair[0] != pair[1] or pair[2] != pair[3] or ours != theirs
    ]
    if changed:
        return [
            f"{len(changed)} rows of {teacher.name} and {other.name} share an id but not the example "
            f"(for example {changed[0]!r}): the files stem from different test sets"
        ]
    return []


def require(metrics: Sequence[str], contenders: Sequence[Scored]) -> None:
    """Refuse contenders some of whose rows lack one of the metrics (DataError)."""
    for one in contenders:
        for metric in metrics:
            if metric not in one.scores:
                known = ", ".join(one.scores)
                raise DataError(f"the rows of {one.name} have no score {metric!r}, a core metric; they have: {known}")
            if (missing := int(np.isnan(one.scores[metric]).sum())) > 0:
                raise DataError(
                    f"{missing} rows of {one.name} have no score {metric!r}; a core metric counts every row"
                )


def span(value: Gap) -> Span:
    """Gap and bounds, rounded for a file."""
    return {"gap": rounded(value.gap), "low": rounded(value.low), "high": rounded(value.high)}


def p_value(p: float) -> float:
    """A p-value with four significant digits, however small."""
    return float(f"{p:.4g}")


def rounded(value: float) -> float:
    """A number with six decimals and no negative zero, for a file."""
    return round(value, 6) + 0.0
