"""What a verdict would survive: a second run, other treatments of failed rows, wrong labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fledgling import stats
from fledgling.artefacts import (
    Flips,
    GapOnMetric,
    IfWrong,
    Json,
    Noise,
    Numbers,
    Otherwise,
    Rung,
    Sensitivity,
    Suspect,
)
from fledgling.decision.choice import Rows, choose, regress
from fledgling.decision.pairing import aligned
from fledgling.decision.rule import Rule
from fledgling.decision.scored import UNANSWERED, Scored
from fledgling.decision.tested import against_teacher
from fledgling.decision.words import points
from fledgling.strict_json import equal
from fledgling.tracks.words import label

FILTERED = UNANSWERED | {"content_filter"}  # rows whose score says more about the service than about the model


def noise(rule: Rule, rows: Rows) -> dict[str, Noise]:
    """Per contender that was run twice: how many rows changed their score, and by how much on average."""
    found: dict[str, Noise] = {}
    by = {one.name: one for one in (rows.teacher, *rows.contenders)}
    for second in rows.repeats:
        first = by[second.name]
        if set(first.ids) != set(second.ids):
            found[second.name] = {
                "n": 0,
                "metrics": {},
                "refused": True,
                "reason": f"the second run of {rule.called(second.name)} is over other rows than the first",
            }
            continue
        second = aligned(first, second)
        metrics: dict[str, Flips] = {}
        for metric in rule.core:
            change = np.abs(first.scores[metric] - second.scores[metric])
            flipped = stats.interval(
                change > 0, first.groups, resamples=rule.resamples, seed=rule.seed, weights=first.weights
            )
            metrics[metric] = {
                "flips": int((change > 0).sum()),
                "share": round(flipped.value, 6),
                "low": round(flipped.low, 6),
                "high": round(flipped.high, 6),
                "mean_change": round(stats.mean(change, first.weights), 6),
            }
        worst = max(rule.core, key=lambda metric: metrics[metric]["mean_change"])
        mean = metrics[worst]["mean_change"]
        refused = mean > rule.margin
        found[second.name] = {
            "n": len(first.ids),
            "metrics": metrics,
            "refused": refused,
            "reason": f"run twice on the same rows, {rule.called(second.name)} differs from itself by {points(mean, rule.margin)} "
            f"on {label(worst)}, {'more than' if refused else 'within'} the {points(rule.margin)} allowed",
        }
    return found


def sensitivity(rule: Rule, ladder: Sequence[Rung], rows: Rows, deploy: str) -> Sensitivity:
    """The verdict under other treatments of the rows that were filtered or failed for somebody."""
    contenders = (rows.teacher, *rows.contenders)
    lost = {one.name: np.array([outcome in FILTERED for outcome in one.outcomes], dtype=bool) for one in contenders}
    anyone = np.logical_or.reduce(list(lost.values()))
    result: Sensitivity = {
        "rows": {**{name: int(where.sum()) for name, where in lost.items()}, "any": int(anyone.sum())},
        "scenarios": {},
        "changes": False,
    }
    if not anyone.any():
        return result
    nobody = np.zeros_like(anyone)
    scenarios: dict[str, tuple[str, Rows]] = {
        "all_right": (
            f"every filtered or failed answer counts as {rule.match}",
            rows.of({one.name: _marked(one, lost[one.name], 1.0) for one in contenders}),
        ),
        "all_wrong": (
            "a row that was filtered or failed for anyone counts as wrong for all",
            rows.of({one.name: _marked(one, anyone, 0.0) for one in contenders}),
        ),
        "teacher_right": (
            f"the teacher's filtered or failed answers count as {rule.match}, nobody else's do",
            rows.of(
                {one.name: _marked(one, lost[one.name] if one is rows.teacher else nobody, 1.0) for one in contenders}
            ),
        ),
    }
    keep = np.flatnonzero(~anyone).tolist()
    if len(keep) > 1:
        scenarios["left_out"] = (
            "rows that were filtered or failed for anyone are left out for all",
            Rows(
                rows.teacher.take(keep),
                tuple(one.take(keep) for one in rows.contenders),
                tuple(one.take(keep) for one in rows.floors),
            ),
        )
    for name, (meaning, changed) in scenarios.items():
        answer, gaps = _answer(rule, ladder, changed)
        result["scenarios"][name] = {
            "meaning": meaning,
            "deploy": answer,
            "changes": answer != deploy,
            "comparisons": gaps,
        }
    result["changes"] = any(scenario["changes"] for scenario in result["scenarios"].values())
    return result


def _marked(one: Scored, where: Any, score: float) -> Scored:
    return one.with_scores({metric: np.where(where, score, values) for metric, values in one.scores.items()})


def suspects(rule: Rule, rows: Rows) -> list[Suspect]:
    """Rows on which a contender gave the teacher's answer and gold calls both wrong."""
    metric = rule.core[0]
    found: list[Suspect] = []
    for index, name in enumerate(rows.teacher.ids):
        if name not in rows.teacher.parsed or rows.teacher.scores[metric][index] >= 1:
            continue
        same = [
            one.name
            for one in rows.contenders
            if name in one.parsed
            and one.scores[metric][index] < 1
            and _same_answer(rows.teacher.parsed[name], one.parsed[name])
        ]
        if same:
            found.append({"id": name, "contenders": same})
    return found


def _same_answer(one: Json, other: Json) -> bool:
    """Equality of two parsed answers; lists of calls in any order."""
    if not (isinstance(one, list) and isinstance(other, list)):
        return equal(one, other)
    left = list(other)
    for item in one:
        place = next((index for index, candidate in enumerate(left) if equal(item, candidate)), None)
        if place is None:
            return False
        del left[place]
    return not left


def if_labels_are_wrong(
    rule: Rule, ladder: Sequence[Rung], rows: Rows, suspected: Sequence[Suspect], deploy: str
) -> IfWrong | None:
    """The verdict if every suspected label were wrong: those answers count as right for all who gave them."""
    if not suspected:
        return None
    given = {
        one.name: {row["id"] for row in suspected if one is rows.teacher or one.name in row["contenders"]}
        for one in (rows.teacher, *rows.contenders)
    }
    changed = rows.of(
        {
            one.name: _marked(one, np.array([name in given[one.name] for name in one.ids]), 1.0)
            for one in (rows.teacher, *rows.contenders)
        }
    )
    answer, gaps = _answer(rule, ladder, changed)
    return {"rows": len(suspected), "deploy": answer, "changes": answer != deploy, "comparisons": gaps}


def _answer(rule: Rule, ladder: Sequence[Rung], rows: Rows) -> tuple[str, dict[str, Otherwise]]:
    """What would be deployed on these rows, and each contender's gaps on the core metrics."""
    comparisons = against_teacher(rule, rows.teacher, rows.contenders, rows.floors, core_only=True).comparisons
    deploy, _ = choose(comparisons, regress(rule.alone, ladder, rows.contenders), {})
    gaps: dict[str, Otherwise] = {
        name: {
            "finding": body["finding"],
            "metrics": {metric: _numbers(body["metrics"][metric]) for metric in rule.core},
        }
        for name, body in comparisons.items()
    }
    return deploy, gaps


def _numbers(entry: GapOnMetric) -> Numbers:
    return {
        "teacher": entry["teacher"],
        "contender": entry["contender"],
        "gap": entry["gap"],
        "low": entry["low"],
        "high": entry["high"],
    }
