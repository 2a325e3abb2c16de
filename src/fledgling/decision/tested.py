"""All contenders of a track against the teacher, held to the error rate that `decision.family` promises."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fledgling import stats
from fledgling.artefacts import Comparison, Family
from fledgling.decision.comparison import compare, judgeable
from fledgling.decision.family import Evidence, Settled, evidence, promise, settle
from fledgling.decision.pairing import aligned, p_value
from fledgling.decision.rule import Rule
from fledgling.decision.scored import Scored
from fledgling.tracks.words import label


@dataclass(frozen=True, slots=True)
class Tested:
    """Comparisons by name, cheapest first; `settled` is None where each stands alone or nothing can be compared."""

    comparisons: dict[str, Comparison]
    settled: Settled | None


def against_teacher(
    rule: Rule,
    teacher: Scored,
    contenders: Sequence[Scored],
    floors: Sequence[Scored],
    *,
    problems: Sequence[str] = (),
    core_only: bool = False,
) -> Tested:
    """Every contender's comparison, at the level at which it is tested.

    A contender that would pass alone, but whose turn it was not, is `unclear`, with the reason.

    Raises:
        DataError: a core metric is missing from some row.
    """
    alone = rule.alone
    found = {
        one.name: compare(alone, teacher, one, floors, problems=problems, core_only=core_only) for one in contenders
    }
    if rule.looks is not None:
        for body in found.values():
            body["level"] = round(alone.alpha, 6)
    if rule.family == "each" or not all(body["metrics"] for body in found.values()):
        return Tested(found, None)
    if rule.nominee not in (None, *found):  # it is not built yet: each says what it is worth, and none takes its turn
        return Tested(found, None)
    shown = {one.name: _evidence(rule, found[one.name], teacher, one, floors) for one in contenders}
    order, nominee = turns(rule, list(found))
    settled = settle(
        rule.family,
        [shown.get(name, Evidence(name, None, label=rule.called(name))) for name in order],
        alpha=rule.alpha,
        nominee=nominee,
        further=rule.further,
        passed_over=rule.passed_over,
        at=rule.level,
    )
    for one in contenders:
        held = settled.of(one.name)
        if held.tested:
            at = replace(alone, alpha=held.level)
            found[one.name] = compare(at, teacher, one, floors, core_only=core_only)
            found[one.name]["level"] = round(held.level, 6)
        body = found[one.name]
        body["p"] = p_value(held.p or 0.0)
        if body["finding"] == "as_good" and not held.passed:
            body["finding"], body["reasons"] = "unclear", [held.why]
            body["rows_needed"] = body["rows_missing"] = None
    return Tested(found, settled)


def turns(rule: Rule, judged: Sequence[str]) -> tuple[list[str], str]:
    """The order of all contenders, cheapest first, and the one from which a sequence goes down."""
    known = [name for name, _ in rule.configured]
    return [*known, *(name for name in judged if name not in known)], rule.nominee or judged[-1]


def _evidence(rule: Rule, body: Comparison, teacher: Scored, contender: Scored, floors: Sequence[Scored]) -> Evidence:
    one = aligned(teacher, contender)
    metrics = {}
    for metric in rule.core:
        metrics[label(metric)] = stats.non_inferiority_p(
            teacher.scores[metric],
            one.scores[metric],
            teacher.groups,
            margin=rule.margin,
            resamples=rule.resamples,
            seed=rule.seed,
            weights=teacher.weights,
        )
    beaten = {
        rule.called(floor.name): {
            label(metric): stats.superiority_p(
                one.scores[metric],
                aligned(teacher, floor).scores[metric],
                teacher.groups,
                resamples=rule.resamples,
                seed=rule.seed,
                weights=teacher.weights,
            )
            for metric in rule.floored
        }
        for floor in floors
    }
    found = evidence(contender.name, metrics, beaten, sound=judgeable(rule, body))
    return replace(found, label=rule.called(contender.name))


def described(rule: Rule, settled: Settled) -> Family:
    """The family's part of a verdict's file."""
    return {
        "name": settled.family,
        "promise": promise(settled.family, rule.alpha, len(settled.rungs)),
        "nominee": settled.nominee,
        "stopped": settled.stopped,
        "rungs": {
            rung.name: {
                "p": None if rung.p is None else p_value(rung.p),
                "level": round(rung.level, 6) if rung.tested else None,
                "passed": rung.passed,
                "why": rung.why,
            }
            for rung in settled.rungs
        },
    }
