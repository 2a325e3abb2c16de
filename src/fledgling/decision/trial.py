"""What val says of one contender (results/ladder/{track}/{contender}.json): whether a dearer one has to be built.

It decides what is built and never what passes, so nothing that a verdict promises rests on it.
"""

from collections.abc import Sequence
from dataclasses import replace

from fledgling.artefacts import Comparison, MadeFrom, OnVal, Trial
from fledgling.decision import sequential
from fledgling.decision.comparison import compare, judgeable
from fledgling.decision.family import NOMINEE
from fledgling.decision.power import needed_in_words
from fledgling.decision.rule import Rule
from fledgling.decision.scored import Scored
from fledgling.decision.words import percent, points
from fledgling.tracks.words import label

LITTLE = 100  # rows of val below which it tells little


def level(rule: Rule, *, trained: bool, test_rows: int) -> float:
    """The level at which test will hold a nominee: 0.8 alpha where one above it may follow in a sequence, else alpha.

    Where the teacher's rows are bought in looks none may follow, and it is that of the last look.
    """
    if rule.first_look is not None:
        return sequential.plan(test_rows, alpha=rule.alpha, first=rule.first_look).levels[-1]
    return NOMINEE * rule.alpha if rule.family == "sequence" and not trained else rule.alpha


def judge(
    rule: Rule,
    teacher: Scored,
    contender: Scored,
    *,
    trained: bool,
    test_rows: int,
    problems: Sequence[str] = (),
    key: str = "",
    made_from: MadeFrom,
) -> Trial:
    """The file of one contender: it promises to pass where the test rows suffice at val's gap and discordance.

    A contender that is ahead on val counts as level with the teacher. Numbers that cannot be trusted, and rows that were
    left without an answer, end the building: the next contender would not cure them. `problems` are reasons, found by
    `pairing.foreign`, why nothing here can be trusted.

    Raises:
        DataError: a core metric is missing from some row.
    """
    held = replace(rule, alpha=level(rule, trained=trained, test_rows=test_rows))
    body = compare(held, teacher, contender, (), problems=problems, core_only=True)
    entries = {metric: body["metrics"][metric] for metric in rule.core if metric in body["metrics"]}
    wanted = {metric: entry["rows_needed"] for metric, entry in entries.items()}
    sound = judgeable(rule, body)
    known = [rows for rows in wanted.values() if rows is not None]
    needed = max(known) if entries and len(known) == len(wanted) else None
    promising = sound and needed is not None and needed <= test_rows
    metrics: dict[str, OnVal] = {
        metric: {
            "teacher": entry["teacher"],
            "contender": entry["contender"],
            "gap": entry["gap"],
            "discordance": entry["discordance"],
            "rows_needed": entry["rows_needed"],
        }
        for metric, entry in entries.items()
    }
    return {
        "format": "fledgling/ladder/1",
        "made_from": made_from,
        "key": key,
        "track": rule.track,
        "contender": contender.name,
        "promising": promising,
        "goes_on": sound and not promising,
        "reason": _reason(rule, body, needed, test_rows) if sound else body["reasons"][0],
        "rows": len(teacher.ids),
        "test_rows": test_rows,
        "level": round(held.alpha, 6),
        "rows_needed": needed,
        "metrics": metrics,
    }


def _reason(rule: Rule, body: Comparison, needed: int | None, test_rows: int) -> str:
    rows = {name: body["metrics"][name]["rows_needed"] for name in rule.core}
    gaps = {name: body["metrics"][name]["gap"] for name in rule.core}
    metric = furthest(gaps if needed is None else {name: float(of or 0) for name, of in rows.items()})
    entry = body["metrics"][metric]
    where = (
        f"{points(abs(entry['gap']))} {'below' if entry['gap'] > 0 else 'above'} the teacher"
        if entry["gap"]
        else "level with the teacher"
    )
    on_val = f"on {body['n']} rows of val it is {where} on {label(metric)}"
    if needed is None:
        return f"{on_val}, and {points(rule.margin)} are allowed"
    return (
        f"{on_val}, differing on {percent(entry['discordance'])} of the rows: {needed_in_words(needed)} would show it, "
        f"and there are {test_rows:,}"
    )


def furthest(values: dict[str, float]) -> str:
    """The metric with the largest value, the first of equals."""
    return max(values, key=lambda name: values[name])
