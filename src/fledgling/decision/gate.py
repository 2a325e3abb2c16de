"""The gate (results/compare/{track}.json): can what needs no training take over, and is the ladder climbed further?"""

from collections.abc import Mapping, Sequence
from typing import Literal

from fledgling.artefacts import Comparison, Gate, MadeFrom, Rung, Trial
from fledgling.decision import climb
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
    trials: Mapping[str, Trial] | None = None,
    problems: Sequence[str] = (),
    key: str = "",
    made_from: MadeFrom,
) -> Gate:
    """The gate's file: what each contender of the ladder is worth, and which one is built next, if any.

    It rests on the cheapest contender that is as good as the teacher, or else on the one that comes closest. `trials` is
    what val said of them: it alone decides how far is built, but that test may ask for one more above a nominee that it
    does not confirm. `problems` are reasons, found by `pairing.foreign`, why nothing here can be trusted.

    Raises:
        DataError: a core metric is missing from some row.
    """
    trials = trials or {}
    rule = climb.before_training(rule.naming(ladder), trials, [one.name for one in contenders])
    comparisons = against_teacher(rule, teacher, contenders, floors, problems=problems).comparisons
    decisive = closest(comparisons)
    body = comparisons[decisive]
    decision = DECISIONS[body["finding"]]
    following = climb.after_the_gate(rule, trials, comparisons)
    fine_tune = following is not None and dict(rule.configured)[following]
    able = power(
        teacher.groups, margin=rule.margin, alpha=rule.alpha, power=rule.power, weights=teacher.weight.tolist()
    )
    return {
        "format": "fledgling/compare/2",
        "made_from": made_from,
        "decision": decision,
        "fine_tune": 1 if fine_tune else 0,
        "statement": simulated(rule, _statement(rule, body, rule.called(decisive), following, fine_tune, able)),
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
        "next": following,
        "key": key,
        "comparisons": comparisons,
    }


def _statement(rule: Rule, body: Comparison, name: str, following: str | None, fine_tune: bool, able: Power) -> str:
    title, n = rule.title, body["n"]
    after = "fine-tuning comes next" if fine_tune else f"{rule.called(following)} comes next" if following else ""
    short = fine_tune and able.low and rule.looks is None  # a look is short because that was enough
    weak = f". But: {sentence(able).removesuffix('.')}" if short else ""
    if body["finding"] == "invalid":
        return f"No answer for {title}: {body['reasons'][0]}."
    if body["finding"] == "as_good":
        metric = rule.core[0]
        entry = body["metrics"][metric]
        passed = (
            f"{_capital(name)} can take over {title}: on {n} test rows it has {scores_in_words(rule, body, metric)}, "
            f"{bound_in_words(at(rule, body), entry)}"
        )
        return f"{passed}; val did not promise it, so {after} and the verdict judges all." if after else f"{passed}."
    if body["finding"] == "worse":
        metric = max(rule.core, key=lambda one: body["metrics"][one]["gap"])
        entry = body["metrics"][metric]
        off = ", and fine-tuning is switched off" if rule.policy == "never" else ""
        return (
            f"Not good enough for {title} yet: on {n} test rows {name} has "
            f"{scores_in_words(rule, body, metric)}, {points(entry['gap'], rule.margin)} less where {points(rule.margin)} "
            f"are allowed{f'; {after}' if after else off}{weak}."
        )
    end = f"; {after}{weak}" if after else ""
    return f"It is not known yet whether {name} can take over {title}: {open_in_words(rule, body)}{end}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
