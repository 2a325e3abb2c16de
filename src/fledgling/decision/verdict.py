"""The verdict on a track: which contender to deploy, and what that answer would survive."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from fledgling import stats
from fledgling.decision import gate
from fledgling.decision.gate import Rule, label, percent, points, simulated, span
from fledgling.decision.scored import UNANSWERED, Scored
from fledgling.files import digest
from fledgling.strict_json import equal

FILTERED = UNANSWERED | {"content_filter"}  # rows whose score says more about the service than about the model


@dataclass(frozen=True, slots=True)
class Rows:
    """All that was scored on one test split. `slm` and `tuned` are the candidates, cheapest first."""

    teacher: Scored
    candidates: tuple[Scored, ...]
    floors: tuple[Scored, ...]
    repeats: tuple[Scored, ...] = ()

    def __iter__(self) -> Iterator[Scored]:
        return chain(self.first_runs(), self.repeats)

    def first_runs(self) -> Iterator[Scored]:
        """All but the repeats: one a name."""
        return chain((self.teacher,), self.candidates, self.floors)

    def of(self, contenders: Mapping[str, Scored]) -> "Rows":
        """The same with the teacher and the candidates replaced by those given."""
        return Rows(contenders[self.teacher.name], tuple(contenders[one.name] for one in self.candidates), self.floors)


def inputs_digest(rule: Rule, rows: Rows) -> str:
    """Names what a verdict is made from: the rule and all scores, but no time or token that was measured."""
    return digest(
        [
            rule.header(),
            [
                [one.name, one.ids, one.outcomes, {metric: values.tolist() for metric, values in one.scores.items()}]
                for one in _without_nan(rows)
            ],
        ]
    )


def _without_nan(rows: Rows) -> list[Scored]:
    return [
        one.with_scores({metric: np.nan_to_num(values, nan=-1.0) for metric, values in one.scores.items()})
        for one in rows
    ]


def verdict(
    rule: Rule, rows: Rows, datasheet: dict[str, Any], *, problems: Sequence[str] = (), looks: int | None = None
) -> dict[str, Any]:
    """The file results/verdict/{track}.json: what to deploy, why, and how far that answer carries.

    `problems` are reasons, found by `gate.foreign`, why nothing here can be trusted; `looks` is the number of this
    verdict on these test rows, None where nobody counts.

    Raises:
        DataError: a core metric is missing from some row.
    """
    comparisons = {
        one.name: gate.comparison(rule, rows.teacher, one, rows.floors, problems=problems) for one in rows.candidates
    }
    sound = all(body["metrics"] for body in comparisons.values())
    if sound:  # the same ids everywhere, so that they can be put in one order
        candidates, floors = (
            tuple(gate.aligned(rows.teacher, one) for one in part) for part in (rows.candidates, rows.floors)
        )
        rows = Rows(rows.teacher, candidates, floors, rows.repeats)
    regression = _regression(rule, rows.candidates) if sound else None
    noise = _noise(rule, rows) if sound else {}
    deploy, reasons = _deploy(comparisons, regression, noise)
    decisive = _decisive(deploy, comparisons)
    body = {
        "format": "fledgling/verdict/1",
        "deploy": deploy,
        "statement": simulated(rule, _statement(rule, deploy, comparisons, regression, reasons)),
        "reasons": reasons,
        **rule.header(),
        "n": decisive["n"],
        "rows_needed": decisive["rows_needed"] if deploy == "inconclusive" else None,
        "rows_missing": decisive["rows_missing"] if deploy == "inconclusive" else None,
        "comparisons": comparisons,
        "regression": regression,
        "noise": noise,
        "sensitivity": None,
        "slices": {},
        "agreement": None,
        "suspected_label_errors": [],
        "if_labels_are_wrong": None,
        "caveats": [],
        "looks": None
        if looks is None
        else {"number": looks, "false_swap_at_most": round(min(1.0, looks * rule.alpha), 6)},
        "test_sha256": datasheet.get("splits", {}).get("test", {}).get("sha256"),
    }
    if sound:
        suspects = _suspects(rule, rows)
        body["sensitivity"] = _sensitivity(rule, rows, deploy)
        body["slices"] = _slices(rule, rows)
        body["agreement"] = _agreement(rows.teacher, rule.core[0])
        body["suspected_label_errors"] = suspects
        body["if_labels_are_wrong"] = _forgiven(rule, rows, suspects, deploy)
        body["caveats"] = _caveats(rule, body)
    return body


def _decisive(deploy: str, comparisons: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The comparison that the verdict rests on: the deployed contender's, else the last candidate's."""
    return comparisons.get(deploy, list(comparisons.values())[-1])


def _deploy(
    comparisons: Mapping[str, dict[str, Any]], regression: dict[str, Any] | None, noise: Mapping[str, dict[str, Any]]
) -> tuple[str, list[str]]:
    """What to deploy, with the reasons: the first candidate that passes; the teacher where all are shown to fail."""
    refused = [one["reason"] for one in noise.values() if one["refused"]]
    invalid = [reason for body in comparisons.values() if body["finding"] == "invalid" for reason in body["reasons"]]
    if invalid or refused:
        return "inconclusive", list(dict.fromkeys([*invalid, *refused]))
    for name, body in comparisons.items():
        if body["finding"] != "as_good":
            continue
        if name == "tuned" and regression is not None and regression["status"] != "none":
            return ("teacher" if regression["status"] == "worse" else "inconclusive"), regression["reasons"]
        return name, body["reasons"]
    last = list(comparisons.values())[-1]
    return ("teacher" if last["finding"] == "worse" else "inconclusive"), last["reasons"]


def _regression(rule: Rule, candidates: Sequence[Scored]) -> dict[str, Any] | None:
    """Whether tuning cost anything: slm − tuned on every core metric; None where nothing was tuned.

    status worse: shown to be below the slm on some core metric. unclear: a loss of the margin is not ruled
    out. none: neither, which is what deploying needs.
    """
    by = {one.name: one for one in candidates}
    if "slm" not in by or "tuned" not in by:
        return None
    metrics, worse, unclear = {}, [], []
    for metric in rule.core:
        gap = gate.gap(rule, by["slm"], by["tuned"], metric)
        lost = stats.better(gap, alpha=rule.alpha)
        held = stats.non_inferior(gap, rule.margin, alpha=rule.alpha)
        metrics[metric] = {
            "slm": round(float(by["slm"].scores[metric].mean()), 6),
            "tuned": round(float(by["tuned"].scores[metric].mean()), 6),
            **span(gap),
            "method": gap.method,
            "counts": gap.counts,
            "worse": lost,
            "non_inferior": held,
        }
        if lost:
            worse.append(f"the tuned model is {points(gap.gap)} worse than the untrained slm on {label(metric)}")
        elif not held:
            unclear.append(
                f"a loss of up to {points(gap.high, rule.margin)} against the untrained slm is possible "
                f"on {label(metric)}"
            )
    return {
        "status": "worse" if worse else "unclear" if unclear else "none",
        "reasons": worse or unclear,
        "metrics": metrics,
    }


def _noise(rule: Rule, rows: Rows) -> dict[str, dict[str, Any]]:
    """Per contender that was run twice: how many rows changed their score, and by how much on average."""
    found = {}
    by = {one.name: one for one in (rows.teacher, *rows.candidates)}
    for second in rows.repeats:
        first = by[second.name]
        if set(first.ids) != set(second.ids):
            found[second.name] = {
                "n": 0,
                "metrics": {},
                "refused": True,
                "reason": f"the second run of {second.name} is over other rows than the first",
            }
            continue
        second = gate.aligned(first, second)
        metrics: dict[str, dict[str, Any]] = {}
        for metric in rule.core:
            change = np.abs(first.scores[metric] - second.scores[metric])
            flips = int((change > 0).sum())
            low, high = stats.wilson(flips, len(change))
            metrics[metric] = {
                "flips": flips,
                "share": round(flips / len(change), 6),
                "low": round(low, 6),
                "high": round(high, 6),
                "mean_change": round(float(change.mean()), 6),
            }
        worst = max(rule.core, key=lambda metric: metrics[metric]["mean_change"])
        mean = metrics[worst]["mean_change"]
        refused = mean > rule.margin
        found[second.name] = {
            "n": len(first.ids),
            "metrics": metrics,
            "refused": refused,
            "reason": f"run twice on the same rows, {second.name} differs from itself by {points(mean, rule.margin)} "
            f"on {label(worst)}, {'more than' if refused else 'within'} the {points(rule.margin)} allowed",
        }
    return found


def _answer(rule: Rule, rows: Rows) -> tuple[str, dict[str, Any]]:
    """What would be deployed on these rows, and each candidate's gaps on the core metrics."""
    comparisons = {
        one.name: gate.comparison(rule, rows.teacher, one, rows.floors, core_only=True) for one in rows.candidates
    }
    deploy, _ = _deploy(comparisons, _regression(rule, rows.candidates), {})
    gaps = {
        name: {
            "finding": body["finding"],
            "metrics": {
                metric: {key: body["metrics"][metric][key] for key in ("teacher", "contender", "gap", "low", "high")}
                for metric in rule.core
            },
        }
        for name, body in comparisons.items()
    }
    return deploy, gaps


def _sensitivity(rule: Rule, rows: Rows, deploy: str) -> dict[str, Any]:
    """The verdict under other treatments of the rows that were filtered or failed for somebody."""
    contenders = (rows.teacher, *rows.candidates)
    lost = {one.name: np.array([outcome in FILTERED for outcome in one.outcomes], dtype=bool) for one in contenders}
    anyone = np.logical_or.reduce(list(lost.values()))
    result: dict[str, Any] = {
        "rows": {**{name: int(where.sum()) for name, where in lost.items()}, "any": int(anyone.sum())},
        "scenarios": {},
        "changes": False,
    }
    if not anyone.any():
        return result
    nobody = np.zeros_like(anyone)
    scenarios: dict[str, tuple[str, Rows]] = {
        "all_right": (
            "every filtered or failed answer counts as right",
            rows.of({one.name: _marked(one, lost[one.name], 1.0) for one in contenders}),
        ),
        "all_wrong": (
            "a row that was filtered or failed for anyone counts as wrong for all",
            rows.of({one.name: _marked(one, anyone, 0.0) for one in contenders}),
        ),
        "teacher_right": (
            "the teacher's filtered or failed answers count as right, nobody else's do",
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
                tuple(one.take(keep) for one in rows.candidates),
                tuple(one.take(keep) for one in rows.floors),
            ),
        )
    for name, (meaning, changed) in scenarios.items():
        answer, gaps = _answer(rule, changed)
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


def _slices(rule: Rule, rows: Rows) -> dict[str, dict[str, Any]]:
    """Per slice the first core metric of all contenders; p-values are Holm's over all slices of a contender."""
    metric = rule.core[0]
    places: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(rows.teacher.slices):
        for dimension, value in row.items():
            if value is not None:
                places.setdefault((dimension, str(value)), []).append(index)
    sizes: dict[str, int] = {}
    for dimension, _ in places:
        sizes[dimension] = sizes.get(dimension, 0) + 1
    shown = sorted(key for key in places if sizes[key[0]] > 1)
    parts = {key: {one.name: one.take(places[key]) for one in (rows.teacher, *rows.candidates)} for key in shown}
    result: dict[str, dict[str, Any]] = {}
    for key in shown:
        teacher = parts[key][rows.teacher.name]
        result.setdefault(key[0], {})[key[1]] = {"n": len(places[key]), "teacher": _agreement(teacher, metric)}
    for one in rows.candidates:
        raw = []
        for key in shown:
            teacher, contender = parts[key][rows.teacher.name], parts[key][one.name]
            gap = gate.gap(rule, teacher, contender, metric)
            raw.append(
                stats.sign_flip_p(
                    teacher.scores[metric] - contender.scores[metric],
                    teacher.groups,
                    resamples=rule.resamples,
                    seed=rule.seed,
                )
            )
            result[key[0]][key[1]][one.name] = {"value": round(float(contender.scores[metric].mean()), 6), **span(gap)}
        for key, p, adjusted in zip(shown, raw, stats.holm(raw), strict=True):
            result[key[0]][key[1]][one.name] |= {
                "p": gate.p_value(p),
                "p_holm": gate.p_value(adjusted),
                "differs": adjusted <= rule.alpha,
            }
    return result


def _agreement(one: Scored, metric: str) -> dict[str, Any]:
    """How often one contender agrees with gold, with a two-sided 95 % interval."""
    values = one.scores[metric]
    if np.isin(values, (0.0, 1.0)).all():
        low, high = stats.wilson(int(values.sum()), len(values))
    else:
        low, high = stats.mean_interval(values)
    return {"value": round(float(values.mean()), 6), "low": round(low, 6), "high": round(high, 6)}


def _caveats(rule: Rule, body: dict[str, Any]) -> list[str]:
    """What a reader of the verdict should know beside it, a sentence each."""
    said = []
    for scenario in body["sensitivity"]["scenarios"].values():
        if scenario["changes"]:
            said.append(
                f"the answer rests on {body['sensitivity']['rows']['any']} filtered or failed rows: where "
                f"{scenario['meaning']}, it is {scenario['deploy']!r}"
            )
    wrong = body["if_labels_are_wrong"]
    if wrong and wrong["changes"]:
        said.append(f"if the {wrong['rows']} suspected labels are wrong, the answer is {wrong['deploy']!r}")
    for dimension, values in body["slices"].items():
        for value, entry in values.items():
            part = entry.get(body["deploy"])
            if body["deploy"] in body["comparisons"] and part["differs"] and part["gap"] > 0:
                said.append(
                    f"on the {entry['n']} rows with {dimension} {value!r} {body['deploy']} is "
                    f"{points(part['gap'])} below the teacher on {label(rule.core[0])} "
                    f"(Holm's p = {part['p_holm']:.2g})"
                )
    if body["looks"] and body["looks"]["number"] > 1:
        said.append(
            f"this is verdict number {body['looks']['number']} on these test rows: the chance that any of them "
            f"swaps wrongly is up to {percent(body['looks']['false_swap_at_most'])}"
        )
    return said


def _suspects(rule: Rule, rows: Rows) -> list[dict[str, Any]]:
    """Rows on which a candidate gave the teacher's answer and gold calls both wrong."""
    metric = rule.core[0]
    found = []
    for index, name in enumerate(rows.teacher.ids):
        if name not in rows.teacher.parsed or rows.teacher.scores[metric][index] >= 1:
            continue
        same = [
            one.name
            for one in rows.candidates
            if name in one.parsed
            and one.scores[metric][index] < 1
            and _same_answer(rows.teacher.parsed[name], one.parsed[name])
        ]
        if same:
            found.append({"id": name, "with": same})
    return found


def _same_answer(one: Any, other: Any) -> bool:
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


def _forgiven(rule: Rule, rows: Rows, suspects: Sequence[dict[str, Any]], deploy: str) -> dict[str, Any] | None:
    """The verdict if every suspected label were wrong: those answers count as right for all who gave them."""
    if not suspects:
        return None
    given = {
        one.name: {row["id"] for row in suspects if one is rows.teacher or one.name in row["with"]}
        for one in (rows.teacher, *rows.candidates)
    }
    changed = rows.of(
        {
            one.name: _marked(one, np.array([name in given[one.name] for name in one.ids]), 1.0)
            for one in (rows.teacher, *rows.candidates)
        }
    )
    answer, gaps = _answer(rule, changed)
    return {"rows": len(suspects), "deploy": answer, "changes": answer != deploy, "comparisons": gaps}


def _statement(
    rule: Rule,
    deploy: str,
    comparisons: Mapping[str, dict[str, Any]],
    regression: dict[str, Any] | None,
    reasons: Sequence[str],
) -> str:
    title = rule.title
    body = _decisive(deploy, comparisons)
    name = {"slm": "the slm as it is", "tuned": "the tuned model"}.get(body["contender"], body["contender"])
    if any(one["finding"] == "invalid" for one in comparisons.values()):
        return f"No verdict on {title}: {reasons[0]}."
    if deploy in comparisons:
        metric = rule.core[0]
        return (
            f"Deploy {name} for {title}: on {body['n']:,} test rows it has "
            f"{gate.scores_in_words(rule, body, metric)}, "
            f"{gate.bound_in_words(rule, body['metrics'][metric])}."
        )
    if body["finding"] == "worse" and deploy == "teacher":
        metric = max(rule.core, key=lambda one: body["metrics"][one]["gap"])
        return (
            f"Keep the teacher for {title}: on {body['n']:,} test rows {name} has "
            f"{gate.scores_in_words(rule, body, metric)}, {points(body['metrics'][metric]['gap'], rule.margin)} less "
            f"where {points(rule.margin)} are allowed."
        )
    if deploy == "teacher":
        return f"Keep the teacher for {title}: {reasons[0]}."
    if list(reasons) == body["reasons"]:
        return f"Keep the teacher for {title} for now, undecided: {gate.open_in_words(rule, body)}."
    return f"Keep the teacher for {title} for now, undecided: {reasons[0]}."
