"""How far up the ladder contenders were built: every rung on val and on test, what it costs, and why building stopped."""

from fledgling.artefacts import Step
from fledgling.report import text, words
from fledgling.report.load import Inputs
from fledgling.report.sections.answer import View


def ladder(inputs: Inputs) -> View | None:
    """The rungs, cheapest first; None where one contender is all there is, or nothing says how it was built."""
    climb = inputs.verdict.get("climb")
    if climb is None or len(climb["rungs"]) < 2:
        return None
    steps = climb["rungs"].values()
    return {
        "stopped": text.sentence(text.prose(climb["stopped"])),
        "asked": any(step["val"] for step in steps),
        "priced": any(step["cost_per_1000"] is not None for step in steps),
        "rungs": [
            {
                "label": text.capital(text.clean(step["label"], 200)),
                "val": _on_val(step),
                "test": text.gap(step["test"]["gap"]) if step["test"] else text.ABSENT,
                "cost": text.money(step["cost_per_1000"], step["currency"]),
                "why": text.capital(text.prose(step["why"])),
                "deploy": name == inputs.verdict["deploy"],
            }
            for name, step in climb["rungs"].items()
        ],
    }


def _on_val(step: Step) -> str:
    val = step["val"]
    if val is None:
        return "not asked"
    said = "promises to pass" if val["promising"] else "does not promise to pass"
    return f"{text.gap(val['gap'])} ({words.label(val['metric'])}, {text.count(val['rows'])} rows): {said}"
