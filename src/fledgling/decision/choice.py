"""Which contender to deploy: the cheapest that passes and has not lost anything against the one it comes after."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from fledgling import stats
from fledgling.artefacts import Comparison, Noise, Regression, RegressionOnMetric, Rung
from fledgling.decision.pairing import gap, rounded, span
from fledgling.decision.rule import Rule
from fledgling.decision.scored import Scored
from fledgling.decision.words import points
from fledgling.tracks.words import label

TEACHER, INCONCLUSIVE = "teacher", "inconclusive"
_NEARNESS = ("as_good", "unclear", "worse", "invalid")


@dataclass(frozen=True, slots=True)
class Rows:
    """All that was scored on one test split; `contenders` in the order of the ladder, cheapest first."""

    teacher: Scored
    contenders: tuple[Scored, ...]
    floors: tuple[Scored, ...]
    repeats: tuple[Scored, ...] = ()

    def __iter__(self) -> Iterator[Scored]:
        return chain(self.first_runs(), self.repeats)

    def first_runs(self) -> Iterator[Scored]:
        """All but the repeats: one a name."""
        return chain((self.teacher,), self.contenders, self.floors)

    def of(self, changed: Mapping[str, Scored]) -> "Rows":
        """The same with the teacher and the contenders replaced by those given."""
        return Rows(changed[self.teacher.name], tuple(changed[one.name] for one in self.contenders), self.floors)


def closest(comparisons: Mapping[str, Comparison]) -> str:
    """The cheapest contender that is as good as the teacher, else the one that comes closest.

    An undecided one is closer than one that is worse, and of these the one with the smaller gap; of equals the last.
    """
    passing = [name for name, body in comparisons.items() if body["finding"] == "as_good"]
    if passing:
        return passing[0]

    def distance(name: str) -> tuple[int, float]:
        body = comparisons[name]
        gaps = [entry["gap"] for entry in body["metrics"].values() if entry["core"]]
        return _NEARNESS.index(body["finding"]), max(gaps, default=0.0)

    return min(reversed(list(comparisons)), key=distance)


def decisive(deploy: str, comparisons: Mapping[str, Comparison]) -> str:
    """The contender whose comparison a verdict rests on: the deployed one, else the closest."""
    return deploy if deploy in comparisons else closest(comparisons)


def choose(
    comparisons: Mapping[str, Comparison], regressions: Mapping[str, Regression], noise: Mapping[str, Noise]
) -> tuple[str, list[str]]:
    """What to deploy, with the reasons: the first contender that passes; the teacher where all are shown to fail.

    A contender that passes but is worse, or may be, than the one it comes after is passed over.
    """
    refused = [one["reason"] for one in noise.values() if one["refused"]]
    invalid = [reason for body in comparisons.values() if body["finding"] == "invalid" for reason in body["reasons"]]
    if invalid or refused:
        return INCONCLUSIVE, list(dict.fromkeys([*invalid, *refused]))
    blocked: list[Regression] = []
    for name, body in comparisons.items():
        if body["finding"] != "as_good":
            continue
        if name in regressions and regressions[name]["status"] != "none":
            blocked.append(regressions[name])
            continue
        return name, body["reasons"]
    if blocked:
        unclear = [one for one in blocked if one["status"] == "unclear"]
        return (INCONCLUSIVE if unclear else TEACHER), (unclear or blocked)[0]["reasons"]
    body = comparisons[closest(comparisons)]
    return (TEACHER if body["finding"] == "worse" else INCONCLUSIVE), body["reasons"]


def regress(rule: Rule, ladder: Sequence[Rung], contenders: Sequence[Scored]) -> dict[str, Regression]:
    """For each contender that comes after another: whether it lost anything against that one, on any core metric.

    status worse: shown to be below it on some core metric. unclear: a loss of the margin is not ruled out. none:
    neither, which is what deploying needs.
    """
    by = {one.name: one for one in contenders}
    names = {rung["name"]: rung["label"] for rung in ladder}
    return {
        rung["name"]: _regression(rule, by[rung["after"]], by[rung["name"]], names)
        for rung in ladder
        if rung["after"] in by and rung["name"] in by
    }


def _regression(rule: Rule, before: Scored, after: Scored, names: Mapping[str, str]) -> Regression:
    metrics: dict[str, RegressionOnMetric] = {}
    worse, unclear = [], []
    for metric in rule.core:
        found = gap(rule, before, after, metric)
        lost = stats.better(found, alpha=rule.alpha)
        held = stats.non_inferior(found, rule.margin, alpha=rule.alpha)
        metrics[metric] = {
            "before": rounded(before.mean(metric)),
            "after": rounded(after.mean(metric)),
            **span(found),
            "method": found.method,
            "counts": found.counts,
            "worse": lost,
            "non_inferior": held,
        }
        if lost:
            worse.append(
                f"{names[after.name]} is {points(found.gap)} worse than {names[before.name]} on {label(metric)}"
            )
        elif not held:
            unclear.append(
                f"a loss of up to {points(found.high, rule.margin)} against {names[before.name]} is possible "
                f"on {label(metric)}"
            )
    return {
        "after": before.name,
        "status": "worse" if worse else "unclear" if unclear else "none",
        "reasons": worse or unclear,
        "metrics": metrics,
    }
