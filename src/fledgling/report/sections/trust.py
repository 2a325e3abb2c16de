"""How far the verdict carries: other readings of doubtful rows, regression, rows needed, looks."""

from collections.abc import Mapping
from typing import Any

from fledgling.report import text, words
from fledgling.report.load import Inputs


def trust(inputs: Inputs) -> dict[str, Any]:
    """What would change the verdict, and what it rests on."""
    verdict = inputs.verdict
    sensitivity, forgiven, looks = (verdict[key] for key in ("sensitivity", "if_labels_are_wrong", "looks"))
    scenarios = [
        {"meaning": text.clean(scenario["meaning"], 200), **_answer(scenario)}
        for scenario in (sensitivity or {"scenarios": {}})["scenarios"].values()
    ]
    if forgiven:
        scenarios.append(
            {
                "meaning": f"gold is wrong on every suspected label error (rows: {text.count(forgiven['rows'])})",
                **_answer(forgiven),
            }
        )
    return {
        "lost": [(words.contender(name), text.count(rows)) for name, rows in sensitivity["rows"].items()]
        if sensitivity
        else [],
        "scenarios": scenarios,
        "agreement": text.rate(verdict["agreement"]) if verdict["agreement"] else None,
        "suspects": text.count(len(verdict["suspected_label_errors"])),
        "looks": looks
        and {"number": text.count(looks["number"]), "at_most": text.percent(looks["false_swap_at_most"], 0)},
        "regressions": [_regression(name, regression) for name, regression in verdict["regressions"].items()],
        "noise": [text.clean(entry["reason"], 400) for entry in verdict["noise"].values()],
        "needed": [
            {
                "contender": words.contender(name),
                "metric": words.metric(metric),
                "n": text.count(entry["n"]),
                "seen": text.count(entry["rows_needed"]) if entry["rows_needed"] is not None else "no number suffices",
                "equal": text.count(entry["rows_needed_if_equal"]),
                "discordance": text.percent(entry["discordance"]),
                "effect": f"{entry['design_effect']:.2f}",
            }
            for name, comparison in verdict["comparisons"].items()
            for metric, entry in comparison["metrics"].items()
            if entry["core"]
        ],
        "power": text.percent(verdict["power"], 0),
    }


def _regression(name: str, regression: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "before": words.contender(regression["after"]),
        "after": words.contender(name),
        "status": {
            "none": "Fine-tuning cost nothing",
            "worse": "Fine-tuning made something worse",
            "unclear": "Fine-tuning may have cost something",
        }[regression["status"]],
        "lines": [
            {
                "metric": words.metric(metric),
                "before": text.percent(entry["before"]),
                "after": text.percent(entry["after"]),
                "gap": text.points(entry["gap"]),
                "interval": f"{text.points(entry['low'])} to {text.points(entry['high'])}",
                "fine": entry["non_inferior"] and not entry["worse"],
            }
            for metric, entry in regression["metrics"].items()
        ],
    }


def _answer(scenario: Mapping[str, Any]) -> dict[str, Any]:
    return {"deploy": scenario["deploy"], "changes": scenario["changes"]}
