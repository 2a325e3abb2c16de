"""The gate (results/compare/{track}.json): can what needs no training take over, and are adapters worth training?"""

from collections.abc import Mapping, Sequence
from typing import Literal

from fledgling.artefacts import Comparison, Gate, MadeFrom, Rung
from fledgling.decision.choice import closest
from fledgling.decision.pairing import rounded
from fledgling.decision.power import Power, power, sentence
from fledgling.decision.rule import Rule
from fledgling.decision.scored import Scored
from fledgling.decision.tested import against_teacher
from fledgling.decision.words import at, bound_in_words, open_in_words, points, scores_in_words, simulated

Decision = Literal["swap", "fine_tune", "inconclusive", "invalid"]
DECISIONS: Mapping[str, Decision] = {
    "as_good": "swap",
    "worse": "fine_tune",
    "unclear": "inconclusive",
    "invalid": "invalid",
}


def judge(
    rule: Rule,
    ladder: Sequence[Rung],
    teacher: Scored,
    contenders: Sequence[Scored],
    floors: Sequence[Scored],
    *,
    problems: Sequence[str] = (),
    made_from: MadeFrom,
) -> Gate:
    """The gate's file: what each contender of the ladder is worth, and whether to train.

    It rests on the cheapest contender that is as good as the teacher, or else on the one that comes closest.
    `problems` are reasons, found by `pairing.foreign`, why nothing here can be trusted.

    Raises:
        DataError: a core metric is missing from some row.
    """
    comparisons = against_teacher(rule, teacher, contenders, floors, problems=problems).comparisons
    decisive = closest(comparisons)
    body = comparisons[decisive]
    decision = DECISIONS[body["finding"]]
    fine_tune = rule.policy == "always" or (rule.policy == "auto" and decision == "fine_tune")
    names = {rung["name"]: rung["label"] for rung in ladder}
    able = power(
        teacher.groups, margin=rule.margin, alpha=rule.alpha, power=rule.power, weights=teacher.weight.tolist()
    )
    return {
        "format": "fledgling/compare/2",
        "made_from": made_from,
        "decision": decision,
        "fine_tune": 1 if fine_tune else 0,
        "statement": simulated(rule, _statement(rule, body, names[decisive], fine_tune, able)),
        **rule.header(),
        "ladder": list(ladder),
        "decisive": decisive,
        "split_power": {
            "rows": able.rows,
            "counts_as": able.counts_as,
            "chances": {f"{share:g}": rounded(value) for share, value in able.chances.items()},
            "safe_rows": able.safe_rows,
            "low": able.low,
            "sentence": sentence(able),
        },
        "comparisons": comparisons,
    }


def _statement(rule: Rule, body: Comparison, name: str, fine_tune: bool, able: Power) -> str:
    title, n = rule.title, body["n"]
    if body["finding"] == "invalid":
        return f"No answer for {title}: {body['reasons'][0]}."
    if body["finding"] == "as_good":
        metric = rule.core[0]
        entry = body["metrics"][metric]
        return (
            f"{_capital(name)} can take over {title}: on {n} test rows it has {scores_in_words(rule, body, metric)}, "
            f"{bound_in_words(at(rule, body), entry)}."
        )
    if body["finding"] == "worse":
        metric = max(rule.core, key=lambda one: body["metrics"][one]["gap"])
        entry = body["metrics"][metric]
        after = "fine-tuning comes next" if fine_tune else "and fine-tuning is switched off"
        return (
            f"Not good enough for {title} yet: on {n} test rows {name} has "
            f"{scores_in_words(rule, body, metric)}, {points(entry['gap'], rule.margin)} less where {points(rule.margin)} "
            f"are allowed{'; ' if fine_tune else ', '}{after}."
            + (f" But: {sentence(able)}" if fine_tune and able.low else "")
        )
    return f"It is not known yet whether {name} can take over {title}: {open_in_words(rule, body)}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
