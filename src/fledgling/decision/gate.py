"""The gate: is a contender as good as the teacher, row by row, within the margin? (docs/decision.md)"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fledgling import stats
from fledgling.decision.scored import Scored
from fledgling.errors import ConfigError, DataError
from fledgling.stats import Gap

Finding = Literal["as_good", "worse", "unclear", "invalid"]
# Right by form alone: an answer that needs no model is legitimately as good, so no floor is held against these.
FORM = frozenset({"json_valid_rate", "schema_valid_rate", "valid_call_rate"})
DECISIONS: dict[str, str] = {
    "as_good": "swap",
    "worse": "fine_tune",
    "unclear": "inconclusive",
    "invalid": "invalid",
}
LABELS = {
    "json_valid_rate": "valid JSON",
    "schema_valid_rate": "answers that fit the schema",
    "exact_match_rate": "exact answers",
    "field_precision": "field precision",
    "field_recall": "field recall",
    "field_f1": "field F1",
    "valid_call_rate": "valid calls",
    "name_match_rate": "right tool names",
    "args_exact_rate": "exact arguments",
    "args_precision": "argument precision",
    "args_recall": "argument recall",
    "args_f1": "argument F1",
    "ast_match_rate": "right tool calls",
    "abstain_rate": "abstentions",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What a track is held to; see `decision` in config/README.md for margin, alpha, power and min_coverage."""

    track: str
    title: str
    kind: str
    core: tuple[str, ...]
    margin: float
    alpha: float
    power: float
    min_coverage: float
    resamples: int
    seed: int
    policy: str
    allow_mixed_models: bool
    simulated: bool

    @classmethod
    def of(cls, track: str, settings: dict[str, Any]) -> "Rule":
        """The rule in a script's settings: {"decision", "seed", "track", "simulated", "allow_mixed_models"}.

        Raises:
            ConfigError: a key is missing, or the core metrics ask for form only.
        """
        try:
            decision, block = settings["decision"], settings["track"]
            rule = cls(
                track=track,
                title=block.get("title", track),
                kind=block["kind"],
                core=tuple(decision["core"][block["kind"]]),
                margin=block.get("margin", decision["margin"]),
                alpha=decision["alpha"],
                power=decision["power"],
                min_coverage=decision["min_coverage"],
                resamples=decision["resamples"],
                seed=settings["seed"],
                policy=block["finetune"],
                allow_mixed_models=settings.get("allow_mixed_models", False),
                simulated=settings.get("simulated", False),
            )
        except KeyError as error:
            raise ConfigError(f"--settings: key {error} is missing") from None
        if not rule.floored:
            raise ConfigError(
                f"decision.core.{rule.kind}: {', '.join(rule.core)} ask for form only, which answers that "
                "need no model have too; add a metric that asks for the right content"
            )
        return rule

    @property
    def floored(self) -> tuple[str, ...]:
        """The core metrics on which floors have to be beaten."""
        return tuple(metric for metric in self.core if metric not in FORM)

    @property
    def confidence(self) -> str:
        """How sure a one-sided bound is, for sentences."""
        return f"{100 * (1 - self.alpha):g} % confidence"

    def header(self) -> dict[str, Any]:
        """The part of the rule that both files repeat."""
        return {
            "track": self.track,
            "kind": self.kind,
            "title": self.title,
            "simulated": self.simulated,
            "policy": self.policy,
            "margin": self.margin,
            "alpha": self.alpha,
            "power": self.power,
            "min_coverage": self.min_coverage,
            "core": list(self.core),
        }


def compare(
    rule: Rule, teacher: Scored, slm: Scored, floors: Sequence[Scored], *, problems: Sequence[str] = ()
) -> dict[str, Any]:
    """The gate's file (results/compare/{track}.json): what the slm is worth, and whether to train.

    `problems` are reasons, found by `foreign`, why nothing here can be trusted.

    Raises:
        DataError: a core metric is missing from some row.
    """
    body = comparison(rule, teacher, slm, floors, problems=problems)
    decision = DECISIONS[body["finding"]]
    fine_tune = rule.policy == "always" or (rule.policy == "auto" and decision == "fine_tune")
    return {
        "format": "fledgling/compare/1",
        "decision": decision,
        "fine_tune": int(fine_tune),
        "statement": simulated(rule, _statement(rule, body, fine_tune)),
        **rule.header(),
        **body,
    }


def foreign(
    contenders: Iterable[Scored], datasheet: Mapping[str, Any], metrics: Mapping[str, Mapping[str, Any]] | None = None
) -> list[str]:
    """Reasons why rows are not those of the test split that the datasheet describes.

    `metrics` holds the metrics files that belong to the rows, by contender, as far as there are any.
    """
    test = datasheet.get("splits", {}).get("test", {})
    found = []
    for one in contenders:
        if len(one.ids) != test.get("rows", len(one.ids)):
            found.append(f"{one.name} was scored on {len(one.ids)} rows, but the test split has {test['rows']}")
        entry = (metrics or {}).get(one.name, {})
        if entry.get("n", len(one.ids)) != len(one.ids):
            found.append(f"the metrics of {one.name} count {entry['n']} rows, but {len(one.ids)} are listed")
        if "sha256" in test and entry.get("data_sha256", test["sha256"]) != test["sha256"]:
            found.append(
                f"{one.name} was scored on other test data ({entry['data_sha256'][:12]}) than the datasheet "
                f"describes ({test['sha256'][:12]})"
            )
    return found


def comparison(
    rule: Rule,
    teacher: Scored,
    contender: Scored,
    floors: Sequence[Scored],
    *,
    problems: Sequence[str] = (),
    core_only: bool = False,
) -> dict[str, Any]:
    """Everything that is known about one contender against the teacher; `finding` is the answer.

    as_good: non-inferior on every core metric, better than every floor, enough rows answered by both.
    worse: the gap on some core metric is above the margin. unclear: neither. invalid: the numbers cannot
    be trusted, whatever they are; `problems` are such reasons that the caller has found already.

    Raises:
        DataError: a core metric is missing from some row.
    """
    body: dict[str, Any] = {
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
    reasons = [*problems, *(reason for other in others for reason in _unpaired(teacher, other))]
    if reasons:
        return body | {"reasons": reasons}
    contender, floors = aligned(teacher, contender), [aligned(teacher, floor) for floor in floors]
    _require(rule.core, [teacher, contender, *floors])

    answered = {
        "teacher": int(teacher.answered.sum()),
        "contender": int(contender.answered.sum()),
        "both": int((teacher.answered & contender.answered).sum()),
    }
    n, coverage = body["n"], answered["both"] / body["n"]
    gaps = {
        metric: gap(rule, teacher, contender, metric)
        for metric in (rule.core if core_only else dict.fromkeys([*rule.core, *teacher.scores]))
        if metric in contender.scores
    }
    against = {
        one.name: {floor.name: {m: gap(rule, one, floor, m) for m in rule.floored} for floor in floors}
        for one in (teacher, contender)
    }
    passed = {metric: stats.non_inferior(gaps[metric], rule.margin, alpha=rule.alpha) for metric in rule.core}
    needed = {metric: _rows_needed(rule, value) for metric, value in gaps.items()}
    body |= {
        "groups": gaps[rule.core[0]].groups,
        "answered": answered,
        "coverage": _round(coverage),
        "metrics": {
            metric: _metric(rule, teacher, contender, metric, value, needed[metric]) for metric, value in gaps.items()
        },
        "floors": _floors(rule, contender, floors, against[contender.name]),
        "teacher_floors": _floors(rule, teacher, floors, against[teacher.name]),
    }

    invalid = [*_mixed(rule, teacher), *_mixed(rule, contender), *_teacher_below(rule, floors, against[teacher.name])]
    if answered["teacher"] < rule.min_coverage * n:
        invalid.insert(
            0,
            f"the teacher answered {answered['teacher']} of {n} rows, "
            f"less than the {percent(rule.min_coverage)} that are required",
        )
    if invalid:
        return body | {"reasons": invalid}

    if answered["both"] < rule.min_coverage * n:
        return body | {
            "finding": "unclear",
            "reasons": [
                f"both answered only {answered['both']} of {n} rows; {percent(rule.min_coverage)} are required, "
                f"so the rows that {contender.name} left without an answer have to be run again"
            ],
        }
    above = [metric for metric in rule.core if gaps[metric].gap > rule.margin]
    if above:
        return body | {"finding": "worse", "reasons": [_above(rule, contender, m, gaps[m]) for m in above]}
    low = [
        (floor, metric)
        for floor, by in against[contender.name].items()
        for metric in rule.floored
        if not stats.better(by[metric], alpha=rule.alpha)
    ]
    if all(passed.values()) and not low:
        return body | {
            "finding": "as_good",
            "reasons": [_within(rule, contender, m, gaps[m]) for m in rule.core],
            "rows_needed": max(_known(needed[m] for m in rule.core)),
            "rows_missing": 0,
        }
    failed = [metric for metric in rule.core if not passed[metric]]
    wanted = [
        *(needed[metric] for metric in failed),
        *(_rows_to_beat(rule, against[contender.name][floor][metric]) for floor, metric in low),
    ]
    known = _known(wanted)
    total = max(*known, n + 1) if len(known) == len(wanted) else None
    return body | {
        "finding": "unclear",
        "reasons": [
            *(_open(rule, contender, metric, gaps[metric]) for metric in failed),
            *(f"{contender.name} is not shown to beat {floor} on {label(metric)}" for floor, metric in low),
        ],
        "rows_needed": total,
        "rows_missing": None if total is None else total - n,
    }


def gap(rule: Rule, first: Scored, second: Scored, metric: str) -> Gap:
    """The paired gap of two aligned contenders, over the rows on which both have this score."""
    left, right = first.scores[metric], second.scores[metric]
    keep = ~(np.isnan(left) | np.isnan(right))
    groups = [group for group, kept in zip(first.groups, keep, strict=True) if kept]
    return stats.paired_gap(left[keep], right[keep], groups, alpha=rule.alpha, resamples=rule.resamples, seed=rule.seed)


def aligned(first: Scored, second: Scored) -> Scored:
    """The second contender's rows in the order of the first's; both hold the same ids."""
    if first.ids == second.ids:
        return second
    place = {name: index for index, name in enumerate(second.ids)}
    return second.take([place[name] for name in first.ids])


def _unpaired(teacher: Scored, other: Scored) -> list[str]:
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
    changed = [
        name
        for name, *pair in zip(teacher.ids, teacher.groups, other.groups, teacher.slices, other.slices, strict=True)
        if pair[0] != pair[1] or pair[2] != pair[3]
    ]
    if changed:
        return [
            f"{len(changed)} rows of {teacher.name} and {other.name} share an id but not the example "
            f"(for example {changed[0]!r}): the files stem from different test sets"
        ]
    return []


def _require(metrics: Sequence[str], contenders: Sequence[Scored]) -> None:
    for one in contenders:
        for metric in metrics:
            if metric not in one.scores:
                known = ", ".join(one.scores)
                raise DataError(f"the rows of {one.name} have no score {metric!r}, a core metric; they have: {known}")
            if (missing := int(np.isnan(one.scores[metric]).sum())) > 0:
                raise DataError(
                    f"{missing} rows of {one.name} have no score {metric!r}; a core metric counts every row"
                )


def _mixed(rule: Rule, one: Scored) -> list[str]:
    if rule.allow_mixed_models:
        return []
    return [
        f"the answers of {one.name} come from {len(found)} {what} ({', '.join(sorted(found))}): "
        "ask again with one, or set teacher.allow_mixed_models"
        for what, found in (("models", one.models), ("model versions", one.fingerprints))
        if len(found) > 1
    ]


def _teacher_below(rule: Rule, floors: Sequence[Scored], against: dict[str, dict[str, Gap]]) -> list[str]:
    return [
        f"the teacher does not beat {floor.name}, which needs no model, on {label(metric)}: "
        f"{percent(float(floor.scores[metric].mean()) + against[floor.name][metric].gap)} against "
        f"{percent(float(floor.scores[metric].mean()))}"
        for floor in floors
        for metric in rule.floored
        if against[floor.name][metric].gap <= 0
    ]


def _metric(
    rule: Rule, teacher: Scored, contender: Scored, metric: str, value: Gap, needed: int | None
) -> dict[str, Any]:
    keep = ~(np.isnan(teacher.scores[metric]) | np.isnan(contender.scores[metric]))
    tango = value.method == "tango"
    return {
        "core": metric in rule.core,
        "n": value.n,
        "teacher": _round(float(teacher.scores[metric][keep].mean())),
        "contender": _round(float(contender.scores[metric][keep].mean())),
        **span(value),
        "non_inferior": stats.non_inferior(value, rule.margin, alpha=rule.alpha),
        "worse_shown": value.low > rule.margin,
        "method": value.method,
        "counts": value.counts,
        "discordance": _round(value.discordance),
        "design_effect": _round(value.design_effect),
        "mcnemar_p": p_value(stats.mcnemar_p(value.teacher_only, value.contender_only)) if tango else None,
        "inferiority_p": p_value(stats.inferiority_p(value.teacher_only, value.contender_only, value.n, rule.margin))
        if tango
        else None,
        "rows_needed": needed,
        "rows_needed_if_equal": _inflated(
            stats.rows_needed(value.discordance, rule.margin, alpha=rule.alpha, power=rule.power, method=value.method),
            value,
        ),
    }


def span(value: Gap) -> dict[str, float]:
    """Gap and bounds, rounded for a file."""
    return {"gap": _round(value.gap), "low": _round(value.low), "high": _round(value.high)}


def p_value(p: float) -> float:
    """A p-value with four significant digits, however small."""
    return float(f"{p:.4g}")


def _floors(
    rule: Rule, one: Scored, floors: Sequence[Scored], against: dict[str, dict[str, Gap]]
) -> dict[str, dict[str, Any]]:
    return {
        floor.name: {
            metric: {
                "floor": _round(float(floor.scores[metric].mean())),
                "contender": _round(float(one.scores[metric].mean())),
                **span(against[floor.name][metric]),
                "beaten": stats.better(against[floor.name][metric], alpha=rule.alpha),
            }
            for metric in rule.floored
        }
        for floor in floors
    }


def _rows_needed(rule: Rule, value: Gap) -> int | None:
    """Rows at which a contender with the gap seen (none, where it is ahead) passes; None where none suffice."""
    seen = max(value.gap, 0.0)
    if seen >= rule.margin:
        return None
    return _inflated(
        stats.rows_needed(
            value.discordance, rule.margin, alpha=rule.alpha, power=rule.power, gap=seen, method=value.method
        ),
        value,
    )


def _rows_to_beat(rule: Rule, value: Gap) -> int | None:
    if value.gap <= 0:
        return None
    return _inflated(stats.rows_to_separate(value.discordance, value.gap, alpha=rule.alpha, power=rule.power), value)


def _inflated(rows: int, value: Gap) -> int:
    return math.ceil(rows * value.design_effect - 1e-9)


def _known(values: Iterable[int | None]) -> list[int]:
    return [value for value in values if value is not None]


def _tally(values: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items()))


def _round(value: float) -> float:
    return round(value, 6) + 0.0  # no negative zero


def label(metric: str) -> str:
    """A metric in words."""
    return LABELS.get(metric, metric)


def percent(value: float) -> str:
    """A share as people write it."""
    return f"{100 * value:.1f} %".replace(".0 %", " %")


def points(value: float, beside: float | None = None) -> str:
    """A difference of scores in points of 100; with as many digits as tell it from `beside`."""
    digits = 1
    while (
        beside is not None
        and value != beside
        and digits < 6
        and f"{100 * value:.{digits}f}" == f"{100 * beside:.{digits}f}"
    ):
        digits += 1
    text = f"{abs(100 * value):.{digits}f}".rstrip("0").removesuffix(".")
    return f"{text} point" if text == "1" else f"{text} points"


def simulated(rule: Rule, sentence: str) -> str:
    """The sentence, marked where the teacher or the data is simulated."""
    return f"Simulated: {sentence[0].lower()}{sentence[1:]}" if rule.simulated else sentence


def scores_in_words(rule: Rule, body: dict[str, Any], metric: str) -> str:
    """Both scores on one metric, as a clause."""
    entry = body["metrics"][metric]
    return f"{percent(entry['contender'])} {label(metric)} against the teacher's {percent(entry['teacher'])}"


def bound_in_words(rule: Rule, entry: dict[str, Any]) -> str:
    """How large the gap may be, as a clause."""
    if entry["high"] <= 0:
        least = points(entry["high"])
        return (
            f"better by {least} or more with {rule.confidence}"
            if least != "0 points"
            else f"no worse with {rule.confidence}"
        )
    return f"at most {points(entry['high'], rule.margin)} worse with {rule.confidence}, inside the {points(rule.margin)} allowed"


def _statement(rule: Rule, body: dict[str, Any], fine_tune: bool) -> str:
    title, name, n = rule.title, body["contender"], body["n"]
    if body["finding"] == "invalid":
        return f"No answer for {title}: {body['reasons'][0]}."
    if body["finding"] == "as_good":
        metric = rule.core[0]
        entry = body["metrics"][metric]
        return (
            f"The {name} can take over {title}: on {n} test rows it has {scores_in_words(rule, body, metric)}, "
            f"{bound_in_words(rule, entry)}."
        )
    if body["finding"] == "worse":
        metric = max(rule.core, key=lambda name: body["metrics"][name]["gap"])
        entry = body["metrics"][metric]
        after = "fine-tuning comes next" if fine_tune else "and fine-tuning is switched off"
        return (
            f"The {name} is not good enough for {title} yet: on {n} test rows it has "
            f"{scores_in_words(rule, body, metric)}, {points(entry['gap'], rule.margin)} less where {points(rule.margin)} "
            f"are allowed{'; ' if fine_tune else ', '}{after}."
        )
    return f"It is not known yet whether the {name} can take over {title}: {open_in_words(rule, body)}."


def open_in_words(rule: Rule, body: dict[str, Any]) -> str:
    """Why nothing is shown either way, with the rows that would settle it, as a clause."""
    missing = body["rows_missing"]
    more = (
        f"; about {body['rows_needed']:,} test rows would settle it, {missing:,} more than there are" if missing else ""
    )
    return f"{body['reasons'][0]}{more}"


def _within(rule: Rule, contender: Scored, metric: str, value: Gap) -> str:
    return f"{contender.name} is {bound_in_words(rule, span(value))} ({label(metric)})"


def _above(rule: Rule, contender: Scored, metric: str, value: Gap) -> str:
    how = (
        f", and at least {points(value.low, rule.margin)} with {rule.confidence}"
        if value.low > rule.margin
        else ", though the rows do not rule out a gap inside the margin"
    )
    return (
        f"{contender.name} is {points(value.gap, rule.margin)} below the teacher on {label(metric)}, more than the "
        f"{points(rule.margin)} allowed{how}"
    )


def _open(rule: Rule, contender: Scored, metric: str, value: Gap) -> str:
    if value.high < rule.margin:
        return f"the bound for {label(metric)} rests on too few discordant rows for the exact test to agree"
    where = (
        f"{points(value.gap)} {'below' if value.gap > 0 else 'above'} the teacher"
        if value.gap
        else "level with the teacher"
    )
    return (
        f"on {value.n} test rows the {contender.name} is {where} on {label(metric)}, but up to {points(value.high, rule.margin)} "
        f"below is possible and only {points(rule.margin)} are allowed"
    )
