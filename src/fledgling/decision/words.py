"""Numbers and findings in plain sentences: the one place that formats them."""

from dataclasses import replace

from fledgling.artefacts import Comparison, Span
from fledgling.decision.pairing import span
from fledgling.decision.power import REALISTIC, needed_in_words
from fledgling.decision.rule import Rule
from fledgling.stats import Gap
from fledgling.tracks.words import label


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
    """The sentence, marked where the teacher or the data is simulated; of logged answers it says what was measured."""
    if rule.gold is not None:
        approved = " that feedback approved" if rule.gold == "feedback" else ""
        sentence = f"{sentence} What is measured is agreement with the logged answers{approved}."
    return f"Simulated: {sentence[0].lower()}{sentence[1:]}" if rule.simulated else sentence


def at(rule: Rule, body: Comparison) -> Rule:
    """The rule at the level at which a contender was tested."""
    return replace(rule, alpha=body["level"]) if "level" in body else rule


def scores_in_words(rule: Rule, body: Comparison, metric: str) -> str:
    """Both scores on one metric, as a clause."""
    entry = body["metrics"][metric]
    if rule.gold is not None:
        return (
            f"{percent(entry['contender'])} agreement with the logged answers ({label(metric)}), where the teacher, asked "
            f"again, has {percent(entry['teacher'])}"
        )
    return f"{percent(entry['contender'])} {label(metric)} against the teacher's {percent(entry['teacher'])}"


def bound_in_words(rule: Rule, entry: Span) -> str:
    """How large the gap may be, as a clause."""
    if entry["high"] <= 0:
        least = points(entry["high"])
        return (
            f"better by {least} or more with {rule.confidence}"
            if least != "0 points"
            else f"no worse with {rule.confidence}"
        )
    return f"at most {points(entry['high'], rule.margin)} worse with {rule.confidence}, inside the {points(rule.margin)} allowed"


def open_in_words(rule: Rule, body: Comparison) -> str:
    """Why nothing is shown either way, with the rows that would settle it, as a clause."""
    missing, needed = body["rows_missing"], body["rows_needed"]
    more = ""
    if missing and needed:
        more = f"; {needed_in_words(needed)} would settle it"
        more += f", {missing:,} more than there are" if needed <= REALISTIC else ""
    return f"{body['reasons'][0]}{more}"


def within(rule: Rule, name: str, metric: str, value: Gap) -> str:
    """That a contender is as good, as a reason."""
    return f"{rule.called(name)} is {bound_in_words(rule, span(value))} ({label(metric)})"


def above(rule: Rule, name: str, metric: str, value: Gap) -> str:
    """That a gap is above the margin, as a reason."""
    how = (
        f", and at least {points(value.low, rule.margin)} with {rule.confidence}"
        if value.low > rule.margin
        else ", though the rows do not rule out a gap inside the margin"
    )
    return (
        f"{rule.called(name)} is {points(value.gap, rule.margin)} below the teacher on {label(metric)}, more than the "
        f"{points(rule.margin)} allowed{how}"
    )


def undecided(rule: Rule, name: str, metric: str, value: Gap) -> str:
    """That a gap is not shown to be inside the margin, as a reason."""
    if value.high < rule.margin:
        return (
            f"on {label(metric)} {rule.called(name)} and the teacher differ on only "
            f"{value.teacher_only + value.contender_only:,} of {value.n:,} rows, too few to be sure: the exact test does not "
            "confirm what the interval shows"
        )
    where = (
        f"{points(value.gap)} {'below' if value.gap > 0 else 'above'} the teacher"
        if value.gap
        else "level with the teacher"
    )
    return (
        f"on {value.n} test rows {rule.called(name)} is {where} on {label(metric)}, but up to {points(value.high, rule.margin)} "
        f"below is possible and only {points(rule.margin)} are allowed"
    )
