"""How far the verdict carries: other readings of doubtful rows, regression, rows needed, second runs."""

from fledgling.artefacts import IfWrong, Scenario
from fledgling.report import text, words
from fledgling.report.load import Inputs
from fledgling.report.sections.answer import View, case, chance, label

NAMED = 10  # rows that look mislabelled and are named


def trust(inputs: Inputs) -> View:
    """What would change the verdict, and what it rests on."""
    verdict = inputs.verdict
    power = inputs.gate.get("split_power")
    sensitivity, forgiven = verdict["sensitivity"], verdict["if_labels_are_wrong"]
    void = case(inputs).kind == "invalid"
    scenarios = [
        {"meaning": text.capital(text.prose(scenario["meaning"])), **_answer(inputs, scenario)}
        for scenario in (sensitivity["scenarios"] if sensitivity else {}).values()
    ]
    if forgiven:
        rows = forgiven["rows"]
        which = "the row that looks" if rows == 1 else f"all {text.count(rows)} rows that look"
        meaning = f"The labels of {which} mislabelled are wrong"
        scenarios.append({"meaning": meaning, **_answer(inputs, forgiven)})
    lost = [
        (name, rows) for name, rows in (sensitivity["rows"] if sensitivity else {}).items() if name != "any" and rows
    ]
    return {
        "chance": chance(inputs),
        "void": void,
        "power_sentence": text.sentence(text.prose(power["sentence"])) if power else "",
        "family": None if void else _family(inputs),
        "scenarios": scenarios,
        "lost": ", ".join(f"{label(inputs, name)} {text.count(rows)}" for name, rows in lost),
        "any": text.count(sensitivity["rows"]["any"]) if sensitivity else "",
        "agreement": text.rate({**verdict["agreement"]}) if verdict["agreement"] else None,
        "suspects": len(verdict["suspected_label_errors"]),
        "suspect_ids": [text.clean(one["id"], 120) for one in verdict["suspected_label_errors"][:NAMED]],
        "regressions": _regressions(inputs),
        "noise": [text.sentence(text.prose(entry["reason"])) for entry in verdict["noise"].values()],
        "needed": _needed(inputs),
        "power": text.percent(verdict["power"], 0),
    }


def _family(inputs: Inputs) -> View | None:
    """How one error rate was shared over all contenders; None where each stands alone."""
    found = inputs.verdict.get("family")
    if not found:
        return None
    return {
        "promise": text.prose(found["promise"]),
        "stopped": text.prose(found["stopped"]),
        "rungs": [
            {
                "contender": text.capital(label(inputs, name)),
                "p": text.p_value(held["p"]),
                "level": "not tested" if held["level"] is None else f"{100 * held['level']:.3g}{text.NBSP}%",
                "passed": "yes" if held["passed"] else f"no: {text.prose(held['why'])}",
            }
            for name, held in found["rungs"].items()
        ],
    }


def _answer(inputs: Inputs, scenario: Scenario | IfWrong) -> View:
    deploy = scenario["deploy"]
    if case(inputs).kind == "invalid":
        return {"deploy": "not judged", "changes": False}
    return {
        "deploy": "undecided" if deploy == "inconclusive" else label(inputs, deploy),
        "changes": scenario["changes"],
    }


def _regressions(inputs: Inputs) -> list[View]:
    """Each contender against the one that it comes after."""
    found: list[View] = []
    for name, body in inputs.verdict["regressions"].items():
        heads = {
            "none": f"{text.capital(label(inputs, name))}: training made nothing worse",
            "worse": f"{text.capital(label(inputs, name))}: training made something worse",
            "unclear": f"{text.capital(label(inputs, name))}: whether training made anything worse is open",
        }
        found.append(
            {
                "heading": heads[body["status"]],
                "tone": "bad" if body["status"] == "worse" else "",
                "reasons": [text.sentence(text.prose(reason)) for reason in body["reasons"]],
                "lines": [
                    {
                        "metric": words.metric(metric),
                        "before": text.percent(entry["before"]),
                        "after": text.percent(entry["after"]),
                        "gap": text.gap(entry["gap"]),
                        "span": text.span(entry["low"], entry["high"]),
                        "says": "worse"
                        if entry["worse"]
                        else "not worse"
                        if entry["non_inferior"]
                        else "a loss is not ruled out",
                        "bad": entry["worse"] or not entry["non_inferior"],
                    }
                    for metric, entry in body["metrics"].items()
                ],
            }
        )
    return found


def _needed(inputs: Inputs) -> View:
    lines = []
    grouped = False
    for rung in inputs.ladder:
        for metric, entry in inputs.verdict["comparisons"][rung["name"]]["metrics"].items():
            if not entry["core"]:
                continue
            grouped |= entry["design_effect"] > 1.005
            lines.append(
                {
                    "contender": text.capital(label(inputs, rung["name"])),
                    "metric": words.metric(metric),
                    "n": text.count(entry["n"]),
                    "seen": "more rows will not help: it is worse"
                    if entry["rows_needed"] is None
                    else "as if equally good: it is no worse here"
                    if entry["gap"] <= 0
                    else text.count(entry["rows_needed"]),
                    "equal": text.count(entry["rows_needed_if_equal"]),
                    "differ": text.percent(entry["discordance"])
                    + (" (mean square)" if entry["mcnemar_p"] is None else ""),
                    "effect": f"× {entry['design_effect']:.2f}",
                }
            )
    return {"lines": lines, "grouped": grouped}
