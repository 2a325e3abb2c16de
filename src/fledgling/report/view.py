"""What the page says, as plain values: every number rounded, every sentence chosen, nothing drawn as HTML."""

from typing import Any

from fledgling.report import text, words
from fledgling.report.load import Inputs
from fledgling.report.sections import answer, disagreements, origins, scores, trust

STAMP = "simulated"


def page(inputs: Inputs) -> dict[str, Any]:
    """Everything that the template shows, by section; pictures are SVG text, the rest is text to be escaped."""
    stamp = STAMP if inputs.verdict["simulated"] else ""
    return {
        "track": text.clean(inputs.track, 200),
        "title": text.clean(str(inputs.verdict.get("title") or inputs.track), 200),
        "kind": {"toolcall": "tool calls", "structured": "structured records"}[inputs.verdict["kind"]],
        "simulated": bool(stamp),
        "contenders": [{"name": name, "label": words.contender(name)} for name in inputs.contenders],
        "verdict": answer.verdict(inputs),
        "gaps": answer.gaps(inputs, stamp),
        "cards": [answer.side(inputs, name) for name in inputs.contenders],
        "economy": answer.break_even(inputs),
        "metrics": scores.metrics(inputs, stamp),
        "floors": scores.floors(inputs),
        "readings": scores.readings(inputs, stamp),
        "outcomes": scores.outcomes(inputs),
        "slices": scores.slices(inputs),
        "disagreements": disagreements.disagreements(inputs),
        "trust": trust.trust(inputs),
        "data": origins.data(inputs),
        "training": origins.training(inputs, stamp),
        "provenance": origins.provenance(inputs),
    }
