"""How far up the ladder contenders are built: val says where it stops, test may ask for one more (docs/decision.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from fledgling.artefacts import Climb, Comparison, Metrics, Rung, Span, Step, Trial, TriedOnVal
from fledgling.decision.choice import closest
from fledgling.decision.comparison import judgeable
from fledgling.decision.rule import Rule
from fledgling.decision.trial import LITTLE, furthest


def nominee(trials: Mapping[str, Trial], built: Sequence[str]) -> str:
    """The contender at which val let building stop: the first that promises, or whose numbers cannot be trusted.

    `built` are the contenders that are there, cheapest first; without such a one it is the last of them.
    """
    return next((name for name in built if name in trials and not trials[name]["goes_on"]), built[-1])


def following(rule: Rule, name: str) -> str | None:
    """The contender that comes after one in the ladder, as far as the track's policy lets any be built."""
    names = [one for one, trained in rule.configured if not trained or rule.policy != "never"]
    place = names.index(name) + 1 if name in names else len(names)
    return names[place] if place < len(names) else None


def may_go_further(rule: Rule, name: str) -> bool:
    """Whether the gate may ask for one more contender above this nominee: where no training lies below it."""
    before = [one for one, _ in takewhile(lambda pair: not pair[1], rule.configured)]
    alone = rule.policy == "always" or rule.first_look is not None  # looks are for those whose answers are there
    return not alone and name in before and following(rule, name) is not None


def held(rule: Rule, trials: Mapping[str, Trial], built: Sequence[str]) -> Rule:
    """The rule with its nominee, and whether one more may follow."""
    if rule.policy == "always":
        return replace(rule, nominee=rule.configured[-1][0] if rule.configured else built[-1], further=False)
    name = nominee(trials, built)
    over = tuple(one for one, trial in trials.items() if trial["metrics"] and trial["rows_needed"] is None)
    return replace(rule, nominee=name, further=bool(trials) and may_go_further(rule, name), passed_over=over)


def before_training(rule: Rule, trials: Mapping[str, Trial], judged: Sequence[str]) -> Rule:
    """The same for the gate; where val stopped at none of those that it judges, the nominee is still to come."""
    name = nominee(trials, judged)
    if name in trials and trials[name]["goes_on"]:
        return replace(rule, nominee=following(rule, name) or name, further=False)
    return held(rule, trials, judged)


def after_the_gate(rule: Rule, trials: Mapping[str, Trial], comparisons: Mapping[str, Comparison]) -> str | None:
    """The contender that is built after those that the gate judged; None where building ends with them."""
    judged = list(comparisons)
    if rule.policy == "always":
        return next((name for name, trained in rule.configured if trained), None)
    if not trials:  # val was not asked: one contender is all there is, or somebody judges by hand
        return following(rule, judged[-1]) if comparisons[closest(comparisons)]["finding"] == "worse" else None
    last = trials.get(nominee(trials, judged))
    if last is None or last["goes_on"]:
        return following(rule, judged[-1])
    body = comparisons[last["contender"]]
    confirmed = body["finding"] == "as_good" or not last["promising"]
    return following(rule, last["contender"]) if judgeable(rule, body) and not confirmed and rule.further else None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a ladder beside its rows: all configured contenders, and what each costs.

    `trials`, `metrics` and `prices` (of an hour of the machine that answers; None is unknown) are by contender.
    """

    ladder: Sequence[Rung]
    trials: Mapping[str, Trial]
    metrics: Mapping[str, Metrics]
    prices: Mapping[str, float | None]
    currency: str | None


def described(rule: Rule, known: Known, comparisons: Mapping[str, Comparison]) -> Climb:
    """The verdict's part: every contender with its gap on val and on test, its cost, and why building stopped."""
    ladder, trials, metrics = known.ladder, known.trials, known.metrics
    built = list(comparisons)
    first = rule.nominee or built[-1]
    place = built.index(first) if first in built else len(built) - 1
    further = built[place + 1] if rule.further and place + 1 < len(built) else None
    rungs: dict[str, Step] = {}
    for rung in ladder:
        name = rung["name"]
        cost = per_1000(metrics[name], known.prices.get(name)) if name in metrics else None
        rungs[name] = {
            "label": rung["label"],
            "built": name in comparisons,
            "val": _val(trials[name]) if name in trials else None,
            "test": _test(rule, comparisons[name]) if name in comparisons else None,
            "cost_per_1000": None if cost is None else round(cost, 6),
            "currency": None if cost is None else known.currency,
            "why": _why(rule, rung, built, first, further, comparisons),
        }
    return {"nominee": first, "further": further, "stopped": _stopped(rule, trials, first, further), "rungs": rungs}


def per_1000(metrics: Metrics, price: float | None) -> float | None:
    """What 1,000 answers cost on a machine that is never idle and costs `price` an hour; None is unknown."""
    latency = (metrics["latency_s"] or {}).get("mean")
    return None if price is None or not latency else 1_000 * price * latency / 3_600


def _val(trial: Trial) -> TriedOnVal | None:
    if not trial["metrics"]:
        return None
    metric = furthest({name: entry["gap"] for name, entry in trial["metrics"].items()})
    return {
        "metric": metric,
        "gap": trial["metrics"][metric]["gap"],
        "rows": trial["rows"],
        "promising": trial["promising"],
        "rows_needed": trial["rows_needed"],
        "reason": trial["reason"],
    }


def _test(rule: Rule, body: Comparison) -> Span | None:
    entry = body["metrics"].get(rule.core[0])
    return None if entry is None else {"gap": entry["gap"], "low": entry["low"], "high": entry["high"]}


def _why(
    rule: Rule,
    rung: Rung,
    built: Sequence[str],
    first: str,
    further: str | None,
    comparisons: Mapping[str, Comparison],
) -> str:
    name = rung["name"]
    if name not in built:
        off = rule.policy == "never" and rung["adapter"] is not None
        return (
            "not built: training is switched off (finetune: never)"
            if off
            else f"not built: {rule.called(built[-1])} comes before it"
        )
    finding = {
        "as_good": "passed on test",
        "worse": "below the margin on test",
        "unclear": "not shown on test",
        "invalid": "cannot be judged",
    }[comparisons[name]["finding"]]
    how = (
        ", the last that was built before test was opened"
        if name == first
        else f", built because test did not confirm {rule.called(first)}"
        if name == further
        else ""
    )
    return f"{finding}{how}"


def _stopped(rule: Rule, trials: Mapping[str, Trial], first: str, further: str | None) -> str:
    if rule.policy == "always":
        return "every contender was built, as finetune is always"
    trial = trials.get(first)
    if trial is None:
        one = len(rule.configured) < 2
        return (
            f"{rule.called(first)} is the only contender that may be built"
            if one
            else "no contender was asked val before the test rows were opened"
        )
    little = "" if trial["rows"] >= LITTLE else f"; val has {trial['rows']} rows, and fewer than {LITTLE} tell little"
    if trial["promising"]:
        said = f"building stopped at {rule.called(first)}, which promised to pass: {trial['reason']}"
    elif trial["goes_on"]:
        said = f"no contender promised to pass on val, so all were built; of {rule.called(first)}: {trial['reason']}"
    else:
        said = f"building stopped at {rule.called(first)}, as val cannot tell: {trial['reason']}"
    return f"{said}{little}" + (
        f"; test did not confirm it, so {rule.called(further)} was built too" if further else ""
    )
