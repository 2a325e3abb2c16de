"""Whether the teacher's rows that are bought so far settle the verdict, or the next look is bought (docs/decision.md).

The gate at a look is the gate at the end, at a level of the look's own. What it says of a contender holds for the rows of
that look alone: one that passed before and no longer does is open again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from fledgling.artefacts import AtLook, Bought, Rung
from fledgling.decision import sequential
from fledgling.decision.choice import Rows, regress
from fledgling.decision.comparison import mixed
from fledgling.decision.family import percent
from fledgling.decision.looks import sample
from fledgling.decision.pairing import aligned, gap, unpaired
from fledgling.decision.rule import Rule
from fledgling.decision.scored import Scored
from fledgling.decision.sequential import Decision, Plan, State
from fledgling.decision.tested import against_teacher, turns
from fledgling.errors import DataError

KEY = "the teacher's looks"


def key(track: str) -> str:
    """The key of the hash that orders the groups of a track: no setting, so that nobody looks for a lucky order."""
    return f"{KEY}: {track}"


def look(rule: Rule, ladder: Sequence[Rung], rows: Rows, planned: Plan) -> tuple[AtLook, Decision]:
    """What a look at these rows comes to: the state of each contender, and whether more rows are bought.

    `rows` holds the same rows of everybody; the rule names its nominee. It ends at once where more rows would cure
    nothing: rows that cannot be paired, or answers of several models in one baseline.

    Raises:
        ValueError: no look is planned at so many rows.
        DataError: a core metric is missing from some row.
    """
    count = len(rows.teacher.ids)
    here = rule.at_look(planned, count)
    said: AtLook = {"rows": count, "level": round(here.level(rule.alpha), 6), "states": {}, "reason": ""}
    broken = [reason for one in (*rows.contenders, *rows.floors) for reason in unpaired(rows.teacher, one)]
    broken += [reason for one in (rows.teacher, *rows.contenders) for reason in mixed(rule, one)]
    if broken:
        said["states"] = {one.name: "open" for one in rows.contenders}
        said["reason"] = f"more rows would not help: {broken[0]}"
        return said, Decision(count, True, None, None, said["reason"])
    states = _states(here, ladder, rows)
    decided = sequential.decide_at(planned, count, [(rule.called(name), state) for name, state in states.items()])
    said["states"], said["reason"] = states, decided.reason
    return said, decided


def _states(rule: Rule, ladder: Sequence[Rung], rows: Rows) -> dict[str, State]:
    """By contender, cheapest first: whether it could be deployed now, or is given up."""
    teacher = rows.teacher
    contenders = tuple(aligned(teacher, one) for one in rows.contenders)
    tested = against_teacher(rule, teacher, contenders, rows.floors, core_only=True).comparisons
    lost = {name: entry["status"] for name, entry in regress(rule.alone, ladder, contenders).items()}
    states: dict[str, State] = {}
    for one in contenders:
        passed = tested[one.name]["finding"] == "as_good"
        far = tested[one.name]["finding"] != "invalid" and _far(rule, teacher, one)
        if passed and lost.get(one.name, "none") == "none":
            states[one.name] = "passed"
        else:
            states[one.name] = "futile" if far or (passed and lost[one.name] == "worse") else "open"
    return _without_a_turn(rule, states) if rule.family == "sequence" else states


def _far(rule: Rule, teacher: Scored, one: Scored) -> bool:
    assert rule.looks is not None
    gaps = [gap(rule.alone, teacher, one, metric) for metric in rule.core]
    return sequential.futile(rule.looks, rule.bought, gaps, rule.margin)


def _without_a_turn(rule: Rule, states: Mapping[str, State]) -> dict[str, State]:
    """The same where tests go down from the nominee: nothing below one that is given up gets its turn."""
    _, nominee = turns(rule, list(states))
    changed = dict(states)
    ended = False
    for name in reversed(list(states)):
        if (name in rule.passed_over and name != nominee) or ended:
            changed[name] = "futile"
        ended = ended or (changed[name] == "futile" and name not in rule.passed_over)
    return changed


def record(rule: Rule, planned: Plan, ids: Iterable[str], looks: Sequence[AtLook]) -> Bought:
    """What the seal of the teacher's predictions says about looks that ended, at a split with these ids."""
    last = looks[-1]
    return {
        "key": key(rule.track),
        "sample": sample(ids),
        "of": planned.rows,
        "rows": last["rows"],
        "alpha": rule.alpha,
        "planned": list(planned.looks),
        "looks": list(looks),
        "level": last["level"],
        "stopped": last["reason"],
    }


def in_words(bought: Bought) -> str:
    """How many rows were bought, in how many looks, at which level, and why no more, in a sentence."""
    rows = f"{bought['rows']:,} of {bought['of']:,} test rows"
    looks = "1 look" if len(bought["looks"]) == 1 else f"{len(bought['looks'])} looks"
    level = f"tested at {percent(bought['level'])}, the part of {percent(bought['alpha'])} that this look has"
    return f"The teacher was asked {rows}, in {looks} ({level}): {bought['stopped']}."


def held(rule: Rule, bought: Bought, where: str) -> Rule:
    """The rule at the look at which buying ended.

    Raises:
        DataError: the looks were planned under another alpha, or the record contradicts itself.
    """
    if rule.first_look is None:
        raise DataError(f"{where}: the teacher's rows were bought in looks, and teacher.looks is off; ask again")
    planned = sequential.planned_at(bought["planned"], alpha=rule.alpha)
    if bought["rows"] not in planned.looks or planned.rows != bought["of"] or bought["alpha"] != rule.alpha:
        raise DataError(f"{where}: the looks are not those that were planned; ask again")
    return rule.at_look(planned, bought["rows"])


def require(rule: Rule, ladder: Sequence[Rung], rows: Rows, bought: Bought, where: str) -> None:
    """Hold the record against the rows: the last look is made again and has to end as it says.

    Any rule may end buying, for the levels of all looks together spend alpha; what has to be right is that buying
    ended at a look that was planned, and what it came to there.

    Raises:
        DataError: it does not.
    """
    assert rule.looks is not None
    said, decided = look(replace(rule, looks=None, bought=0), ladder, rows, rule.looks)
    last = bought["looks"][-1]
    if not decided.stop or (said["states"], said["level"]) != (last["states"], last["level"]):
        raise DataError(
            f"{where}: says that buying ended as {bought['stopped']!r}, and its rows say {said['reason']!r}; "
            "something was changed by hand; delete the file and ask again"
        )
