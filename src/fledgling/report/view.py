"""What the page says, as plain values: every number rounded, every sentence chosen, nothing drawn as HTML."""

from markupsafe import Markup

from fledgling.report import rows, text, words
from fledgling.report.load import TEACHER, Inputs
from fledgling.report.sections import answer, ladder, money, origins, scores, steps, trust
from fledgling.report.sections.answer import View

GOLD = {
    None: "the answer that the row's author calls right",
    "reply": "the answer that was logged when the teacher was asked in production; scores are agreement with it",
    "feedback": "an answer that was logged in production and that feedback approved; scores are agreement with it",
}


def page(inputs: Inputs) -> View:
    """Everything that the template shows, by section; pictures are SVG text, the rest is text to be escaped."""
    verdict = inputs.verdict
    right = "as logged" if verdict.get("gold") else "right"
    paired = verdict["sensitivity"] is not None  # else the verdict found the rows to be of different tests
    table = rows.table(inputs) if paired else None
    return {
        "track": text.clean(inputs.track, 200),
        "title": text.clean(verdict["title"] or inputs.track, 200),
        "kind": {"toolcall": "tool calls", "structured": "structured records"}[verdict["kind"]],
        "simulated": verdict["simulated"],
        "metric": words.metric(verdict["core"][0]),
        "right": right,
        "much": len(inputs.ladder) > 3 or len(verdict["slices"]) > 3 or len(verdict["caveats"]) > 8,
        "answer": answer.headline(inputs),
        "steps": steps.steps(inputs),
        "sure": answer.sure(inputs),
        "month": money.month(inputs),
        "weakest": answer.weakest(inputs),
        "caveats": answer.caveats(inputs),
        "gaps": answer.gaps(inputs),
        "side": money.side(inputs),
        "words": _words(inputs),
        "gap_table": answer.table(inputs),
        "ladder": ladder.ladder(inputs),
        "metrics": scores.metrics(inputs),
        "floors": scores.floors(inputs),
        "outcomes": scores.outcomes(inputs),
        "slices": scores.slices(inputs),
        "cost": money.picture(inputs),
        "latency": money.latency(inputs),
        "economy": money.facts(inputs),
        "rows_table": table,
        "rows_json": Markup(table.json()) if table else "",
        "first": rows.first(table, right) if table else [],
        "trust": trust.trust(inputs),
        "data": origins.data(inputs),
        "training": origins.training(inputs),
        "provenance": origins.provenance(inputs),
    }


def _words(inputs: Inputs) -> list[tuple[str, str]]:
    """The words of this page, each defined once."""
    verdict = inputs.verdict
    margin = text.size(verdict["margin"])
    core = inputs.verdict["core"]
    found = [(TEACHER, "the hosted model that answers today")]
    for rung in inputs.ladder:
        what = f"the checkpoint {answer.checkpoint(inputs, rung['model'])}"
        what += (
            f", trained on this track's rows (adapter {text.clean(rung['adapter'], 60)})"
            if rung["adapter"]
            else ", not trained"
        )
        found.append((answer.label(inputs, rung["name"]), f"a contender: {what}"))
    found += [
        ("contender", "a local model that might take the track over"),
        ("gold", GOLD[verdict.get("gold")]),
        (
            "points worse",
            f"share of answers that are {'as logged' if verdict.get('gold') else 'right'}, teacher minus contender, over "
            "the same rows; 5 points worse is 5 of these fewer in 100",
        ),
        ("margin", f"the gap from which a contender counts as too bad: {margin} points; only less than that is good"),
        (
            "interval",
            f"where the true gap lies: it is beyond each end with a chance of {text.percent(inputs.verdict['alpha'], 0)} at most",
        ),
        ("p", "the chance of a result this good from a contender that is worse by the whole margin"),
        ("proven", "the interval shows it; of slices: still so after correction for looking at many of them"),
        ("slice", "the rows of one kind"),
        ("train, val, test", "what contenders learn from, what chooses among them, and what the verdict rests on"),
        (
            "without a model",
            "what repeating the question, an empty or the most frequent answer scores; less than that proves nothing",
        ),
    ]
    found += [(words.label(metric), words.MEANINGS.get(metric, "")) for metric in core]
    return [(word, what) for word, what in found if what]
