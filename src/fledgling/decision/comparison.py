"""One contender against the teacher, row by row: as good within the margin, worse, unclear, or not to be trusted."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from fledgling import stats
from fledgling.artefacts import AgainstFloor, Answered, Comparison, GapOnMetric
from fledgling.decision.pairing import aligned, gap, p_value, require, rounded, span, unpaired
from fledgling.decision.rule import Rule
from fledgling.decision.scored import Scored
from fledgling.decision.words import above, percent, undecided, within
from fledgling.stats import Gap
from fledgling.tracks.words import label

Finding = Literal["as_good", "worse", "unclear", "invalid"]


def compare(
    rule: Rule,
    teacher: Scored,
    contender: Scored,
    floors: Sequence[Scored],
    *,
    problems: Sequence[str] = (),
    core_only: bool = False,
) -> Comparison:
    """Everything that is known about one contender against the teacher; `finding` is the answer.

    as_good: non-inferior on every core metric, better than every floor, enough rows answered by both.
    worse: the gap on some core metric is above the margin. unclear: neither. invalid: the numbers cannot
    be trusted, whatever they are; `problems` are such reasons that the caller has found already.

    Raises:
        DataError: a core metric is missing from some row.
    """
    body: Comparison = {
        "contender": contender.name,
        "finding": "invalid",
        "reasons": [],
        "n": len(teacher.ids),
        "rows_needed": None,
        "rows_missing": None,
        "answered": None,
        "coverage": None,
        "outcomes": {one.name: _tally(one.outcomes) for one in (teacher, contender)},
        "models": {one.name: dict(sorted(one.models.items())) for one in (teacher, contender)},
        "fingerprints": {one.name: dict(sorted(one.fingerprints.items())) for one in (teacher, contender)},
        "metrics": {},
        "floors": {},
        "teacher_floors": {},
    }
    others = [contender, *floors]
    reasons = [*problems, *(reason for other in others for reason in unpaired(teacher, other))]
    if reasons:
        return _settle(body, "invalid", reasons)
    contender, floors = aligned(teacher, contender), [aligned(teacher, floor) for floor in floors]
    require(rule.core, [teacher, contender, *floors])

    answered: Answered = {
        "teacher": teacher.count(teacher.answered),
        "contender": contender.count(contender.answered),
        "both": teacher.count(teacher.answered & contender.answered),
    }
    gaps = {
        metric: gap(rule, teacher, contender, metric)
        for metric in (rule.core if core_only else dict.fromkeys([*rule.core, *teacher.scores]))
        if metric in contender.scores
    }
    against = {
        one.name: {floor.name: {m: gap(rule, one, floor, m) for m in rule.floored} for floor in floors}
        for one in (teacher, contender)
    }
    needed = {metric: _rows_needed(rule, value, teacher) for metric, value in gaps.items()}
    if teacher.weights is not None:
        body["requests"] = teacher.requests
    body["groups"] = gaps[rule.core[0]].groups
    body["answered"] = answered
    body["coverage"] = rounded(answered["both"] / teacher.requests)
    body["metrics"] = {
        metric: _metric(rule, teacher, contender, metric, value, needed[metric]) for metric, value in gaps.items()
    }
    body["floors"] = _floors(rule, contender, floors, against[contender.name])
    body["teacher_floors"] = _floors(rule, teacher, floors, against[teacher.name])
    invalid = [*mixed(rule, teacher), *mixed(rule, contender), *_teacher_below(rule, floors, against[teacher.name])]
    return _judged(rule, body, answered, invalid, teacher, contender.name, gaps, against[contender.name], needed)


def _judged(
    rule: Rule,
    body: Comparison,
    answered: Answered,
    invalid: list[str],
    teacher: Scored,
    name: str,
    gaps: Mapping[str, Gap],
    against: Mapping[str, Mapping[str, Gap]],
    needed: Mapping[str, int | None],
) -> Comparison:
    """The body with its finding; `against` holds the gaps to the floors, `invalid` why nothing can be trusted."""
    n, requests = body["n"], teacher.requests
    rows = "rows" if teacher.weights is None else "requests"
    if answered["teacher"] < rule.min_coverage * requests:
        short = (
            f"the teacher answered {answered['teacher']} of {requests} {rows}, "
            f"less than the {percent(rule.min_coverage)} that are required"
        )
        invalid = [short, *invalid]
    if invalid:
        return _settle(body, "invalid", invalid)
    if answered["both"] < rule.min_coverage * requests:
        again = (
            f"both answered only {answered['both']} of {requests} {rows}; {percent(rule.min_coverage)} are required, "
            f"so the rows that {rule.called(name)} left without an answer have to be run again"
        )
        return _settle(body, "unclear", [again])
    if over := [metric for metric in rule.core if gaps[metric].gap > rule.margin]:
        return _settle(body, "worse", [above(rule, name, metric, gaps[metric]) for metric in over])
    failed = [m for m in rule.core if not stats.non_inferior(gaps[m], rule.margin, alpha=rule.alpha)]
    low = [
        (floor, metric)
        for floor, by in against.items()
        for metric in rule.floored
        if not stats.better(by[metric], alpha=rule.alpha)
    ]
    if not failed and not low:
        body["rows_needed"], body["rows_missing"] = max(_known(needed[m] for m in rule.core)), 0
        return _settle(body, "as_good", [within(rule, name, metric, gaps[metric]) for metric in rule.core])
    wanted = [
        *(needed[metric] for metric in failed),
        *(_rows_to_beat(rule, against[floor][metric], teacher) for floor, metric in low),
    ]
    known = _known(wanted)
    if len(known) == len(wanted):
        total = max(*known, n + 1)
        body["rows_needed"], body["rows_missing"] = total, total - n
    reasons = [undecided(rule, name, metric, gaps[metric]) for metric in failed]
    reasons += [
        f"{rule.called(name)} is not shown to beat {rule.called(floor)} on {label(metric)}" for floor, metric in low
    ]
    return _settle(body, "unclear", reasons)


def judgeable(rule: Rule, body: Comparison) -> bool:
    """Whether a comparison can say yes or no: its numbers can be trusted, and enough rows were answered by both."""
    coverage = body["coverage"]
    return body["finding"] != "invalid" and coverage is not None and coverage >= rule.min_coverage


def _settle(body: Comparison, finding: Finding, reasons: list[str]) -> Comparison:
    body["finding"], body["reasons"] = finding, reasons
    return body


def mixed(rule: Rule, one: Scored) -> list[str]:
    """Why answers of several models or model versions cannot be trusted, where the rule forbids them."""
    if rule.allow_mixed_models:
        return []
    return [
        f"the answers of {rule.called(one.name)} come from {len(found)} {what} ({', '.join(sorted(found))}): "
        "ask again with one, or set teacher.allow_mixed_models"
        for what, found in (("models", one.models), ("model versions", one.fingerprints))
        if len(found) > 1
    ]


def _teacher_below(rule: Rule, floors: Sequence[Scored], against: dict[str, dict[str, Gap]]) -> list[str]:
    return [
        f"the teacher has {percent(floor.mean(metric) + against[floor.name][metric].gap)} {label(metric)}, no better than "
        f"{rule.called(floor.name)} ({percent(floor.mean(metric))}), which needs no model: check the endpoint and the labels"
        for floor in floors
        for metric in rule.floored
        if against[floor.name][metric].gap <= 0
    ]


def _metric(rule: Rule, teacher: Scored, contender: Scored, metric: str, value: Gap, needed: int | None) -> GapOnMetric:
    keep = ~(np.isnan(teacher.scores[metric]) | np.isnan(contender.scores[metric]))
    tango = value.method == "tango"
    return {
        "core": metric in rule.core,
        "n": value.n,
        "teacher": rounded(teacher.mean(metric, keep)),
        "contender": rounded(contender.mean(metric, keep)),
        **span(value),
        "non_inferior": stats.non_inferior(value, rule.margin, alpha=rule.alpha),
        "worse_shown": value.low > rule.margin,
        "method": value.method,
        "counts": value.counts,
        "discordance": rounded(value.discordance),
        "design_effect": rounded(value.design_effect),
        "mcnemar_p": p_value(stats.mcnemar_p(value.teacher_only, value.contender_only)) if tango else None,
        "inferiority_p": p_value(stats.inferiority_p(value.teacher_only, value.contender_only, value.n, rule.margin))
        if tango
        else None,
        "rows_needed": needed,
        "rows_needed_if_equal": _inflated(
            stats.rows_needed(value.discordance, rule.margin, alpha=rule.alpha, power=rule.power, method=value.method),
            value,
            teacher,
        ),
    }


def _floors(
    rule: Rule, one: Scored, floors: Sequence[Scored], against: dict[str, dict[str, Gap]]
) -> dict[str, dict[str, AgainstFloor]]:
    return {
        floor.name: {
            metric: {
                "floor": rounded(floor.mean(metric)),
                "contender": rounded(one.mean(metric)),
                **span(against[floor.name][metric]),
                "beaten": stats.better(against[floor.name][metric], alpha=rule.alpha),
            }
            for metric in rule.floored
        }
        for floor in floors
    }


def _rows_needed(rule: Rule, value: Gap, teacher: Scored) -> int | None:
    """Rows at which a contender with the gap seen (none, where it is ahead) passes; None where none suffice."""
    seen = max(value.gap, 0.0)
    if seen >= rule.margin:
        return None
    return _inflated(
        stats.rows_needed(
            value.discordance, rule.margin, alpha=rule.alpha, power=rule.power, gap=seen, method=value.method
        ),
        value,
        teacher,
    )


def _rows_to_beat(rule: Rule, value: Gap, teacher: Scored) -> int | None:
    if value.gap <= 0:
        return None
    rows = stats.rows_to_separate(value.discordance, value.gap, alpha=rule.alpha, power=rule.power)
    return _inflated(rows, value, teacher)


def _inflated(requests: int, value: Gap, teacher: Scored) -> int:
    """Rows of the split, as heavy and as much in groups as those that there are, for so many independent requests."""
    share = 1.0 if teacher.weights is None else len(teacher.ids) / float(teacher.weight.sum())
    return math.ceil(requests * value.design_effect * share - 1e-9)


def _known(values: Iterable[int | None]) -> list[int]:
    return [value for value in values if value is not None]


def _tally(values: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items()))
