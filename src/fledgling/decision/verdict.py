"""The verdict on a track (results/verdict/{track}.json): what to deploy, and what that answer would survive."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from fledgling.artefacts import Bought, Comparison, Datasheet, Looks, MadeFrom, Predictions, Rung, Verdict
from fledgling.decision import buying, climb, sequential
from fledgling.decision.choice import INCONCLUSIVE, TEACHER, Rows, choose, decisive, regress
from fledgling.decision.climb import Known
from fledgling.decision.family import risk
from fledgling.decision.logged import of_logs
from fledgling.decision.pairing import aligned
from fledgling.decision.robustness import if_labels_are_wrong, noise, sensitivity, suspects
from fledgling.decision.rule import Rule
from fledgling.decision.scored import Scored
from fledgling.decision.slices import agreement, slices
from fledgling.decision.tested import against_teacher, described
from fledgling.decision.words import at, bound_in_words, open_in_words, percent, points, scores_in_words, simulated
from fledgling.files import digest
from fledgling.tracks.words import label


class _Bought(TypedDict, total=False):
    bought: Bought


def inputs_digest(rule: Rule, rows: Rows) -> str:
    """Names what a verdict is made from: the rule and all scores, but no time or token that was measured."""
    return digest(
        [
            rule.header(),
            [
                [one.name, one.ids, one.outcomes, {metric: values.tolist() for metric, values in one.scores.items()}]
                + ([] if one.weights is None else [one.weights.tolist()])
                for one in _without_nan(rows)
            ],
        ]
    )


def _without_nan(rows: Rows) -> list[Scored]:
    return [
        one.with_scores({metric: np.nan_to_num(values, nan=-1.0) for metric, values in one.scores.items()})
        for one in rows
    ]


def decide(
    rule: Rule,
    ladder: Sequence[Rung],
    rows: Rows,
    datasheet: Datasheet,
    *,
    answers: Mapping[str, Predictions] | None = None,
    known: Known | None = None,
    problems: Sequence[str] = (),
    looks: int | None = None,
    bought: Bought | None = None,
    made_from: MadeFrom,
) -> Verdict:
    """The verdict's file: what to deploy, why, and how far that answer carries.

    `ladder` lists the contenders in `rows`, cheapest first; `answers` what is known of how they (and the teacher)
    answered. The rule names its nominee (`climb.held`); `known` is what is known of the ladder beside. `problems` are reasons, found by `pairing.foreign`, why nothing here can be trusted; `looks` is the number
    of this verdict on these test rows, None where nobody counts; `bought` how the teacher's rows were bought in looks,
    which the rule is at the last of (`buying.held`).

    Raises:
        DataError: a core metric is missing from some row.
    """
    rule = rule.naming(ladder)
    tested = against_teacher(rule, rows.teacher, rows.contenders, rows.floors, problems=problems)
    comparisons = tested.comparisons
    sound = all(body["metrics"] for body in comparisons.values())
    if sound:  # the same ids everywhere, so that they can be put in one order
        contenders, floors = (
            tuple(aligned(rows.teacher, one) for one in part) for part in (rows.contenders, rows.floors)
        )
        rows = Rows(rows.teacher, contenders, floors, rows.repeats)
    regressions = regress(rule.alone, ladder, rows.contenders) if sound else {}
    differing = noise(rule, rows) if sound else {}
    deploy, reasons = choose(comparisons, regressions, differing)
    rests_on = decisive(deploy, comparisons)
    body, open_ = comparisons[rests_on], deploy == INCONCLUSIVE
    spent = [] if bought is None else [buying.in_words(bought)]
    part: _Bought = {} if bought is None else {"bought": bought}
    result: Verdict = {
        "format": "fledgling/verdict/2",
        "made_from": made_from,
        "deploy": deploy,
        "statement": simulated(rule, " ".join([_statement(rule, deploy, comparisons, reasons), *spent])),
        "reasons": reasons,
        **rule.header(),
        "ladder": list(ladder),
        "decisive": rests_on,
        "n": body["n"],
        "rows_needed": body["rows_needed"] if open_ else None,
        "rows_missing": body["rows_missing"] if open_ else None,
        "comparisons": comparisons,
        "regressions": regressions,
        "noise": differing,
        "sensitivity": None,
        "slices": {},
        "agreement": None,
        "suspected_label_errors": [],
        "if_labels_are_wrong": None,
        "caveats": [],
        "looks": None if looks is None else _looks(rule, len(rows.contenders), looks),
        "test_sha256": datasheet["splits"]["test"]["sha256"],
        "family": None if tested.settled is None else described(rule, tested.settled),
        "climb": None if known is None else climb.described(rule, known, comparisons),
        **part,
    }
    if sound:
        suspected = suspects(rule, rows)
        result["sensitivity"] = sensitivity(rule, ladder, rows, deploy)
        result["slices"] = slices(rule.alone, rows)
        result["agreement"] = agreement(rows.teacher, rule.core[0])
        result["suspected_label_errors"] = suspected
        result["if_labels_are_wrong"] = if_labels_are_wrong(rule, ladder, rows, suspected, deploy)
        result["caveats"] = [*of_logs(datasheet, answers or {}), *_caveats(rule, result, answers or {})]
    return result


def _looks(rule: Rule, contenders: int, number: int) -> Looks:
    return {"number": number, "false_swap_at_most": round(risk(rule.family, rule.alpha, contenders, number), 6)}


def _caveats(rule: Rule, verdict: Verdict, answers: Mapping[str, Predictions]) -> list[str]:
    """What a reader of the verdict should know beside it, a sentence each."""
    said = []
    deploy, tested = verdict["deploy"], verdict["sensitivity"]
    judged = all(body["finding"] != "invalid" for body in verdict["comparisons"].values())
    for scenario in tested["scenarios"].values() if tested and judged else ():
        if tested and scenario["changes"]:
            said.append(
                f"the answer rests on {tested['rows']['any']} filtered or failed rows: where "
                f"{scenario['meaning']}, the answer is: {_answer(rule, scenario['deploy'])}"
            )
    wrong = verdict["if_labels_are_wrong"]
    if judged and wrong and wrong["changes"]:
        said.append(
            f"if the labels of the {wrong['rows']} rows that look mislabelled are wrong, the answer is: "
            f"{_answer(rule, wrong['deploy'])}"
        )
    for dimension, values in verdict["slices"].items():
        for value, entry in values.items():
            part = entry["contenders"].get(deploy)
            if part and part["differs"] and part["gap"] > 0:
                said.append(
                    f"on the {entry['n']} rows with {dimension} {value!r} {rule.called(deploy)} is "
                    f"{points(part['gap'])} below the teacher on {label(rule.core[0])} "
                    f"(p {part['p_holm']:.2g} after correction for many slices)"
                )
    for name, sealed in answers.items():
        for limit in sealed["limits"]:
            said.append(
                f"{limit['rows']} of {sealed['rows']} rows of {rule.called(name)} were decided by {limit['key']} "
                f"({limit['value']:,}): {limit['what']}"
            )
        if sealed["given_up"]:
            said.append(
                f"{sealed['given_up']} of {sealed['rows']} rows of {rule.called(name)} were given up without an answer"
            )
    number = verdict["looks"]["number"] if verdict["looks"] else 1
    if number > 1 and rule.looks is not None and rule.bought == rule.looks.rows:
        end = sequential.after_the_end(rule.looks, number)
        said.append(f"{end[0].lower()}{end[1:].removesuffix('.')}")
    elif verdict["looks"] and number > 1:
        said.append(
            f"this is verdict number {verdict['looks']['number']} on these test rows: the chance that any of them "
            f"swaps wrongly is up to {percent(verdict['looks']['false_swap_at_most'])}"
        )
    return said


def _answer(rule: Rule, deploy: str) -> str:
    """What a verdict tells people to do."""
    if deploy == TEACHER:
        return "keep the teacher"
    return "undecided" if deploy == INCONCLUSIVE else f"move to {rule.called(deploy)}"


def _statement(rule: Rule, deploy: str, comparisons: Mapping[str, Comparison], reasons: Sequence[str]) -> str:
    title, rests_on = rule.title, decisive(deploy, comparisons)
    body = comparisons[rests_on]
    name = rule.called(rests_on)
    if any(one["finding"] == "invalid" for one in comparisons.values()):
        return f"No verdict on {title}: {reasons[0]}."
    if deploy in comparisons:
        metric = rule.core[0]
        return (
            f"Deploy {name} for {title}: on {body['n']:,} test rows it has "
            f"{scores_in_words(rule, body, metric)}, "
            f"{bound_in_words(at(rule, body), body['metrics'][metric])}."
        )
    if body["finding"] == "worse" and deploy == TEACHER:
        metric = max(rule.core, key=lambda one: body["metrics"][one]["gap"])
        return (
            f"Keep the teacher for {title}: on {body['n']:,} test rows {name} has "
            f"{scores_in_words(rule, body, metric)}, {points(body['metrics'][metric]['gap'], rule.margin)} less "
            f"where {points(rule.margin)} are allowed."
        )
    if deploy == TEACHER:
        return f"Keep the teacher for {title}: {reasons[0]}."
    if list(reasons) == body["reasons"]:
        return f"Keep the teacher for {title} for now, undecided: {open_in_words(rule, body)}."
    return f"Keep the teacher for {title} for now, undecided: {reasons[0]}."
