"""The first screen: the verdict, the gaps against the margin, quality beside cost and time."""

from collections.abc import Mapping
from typing import Any

from fledgling.report import plots, text, words
from fledgling.report.cost import economy
from fledgling.report.load import Inputs

HEADLINES = {
    "teacher": "Keep the teacher",
    "inconclusive": "Undecided: keep the teacher for now",
    "invalid": "No verdict: the numbers cannot be trusted",
}


def verdict(inputs: Inputs) -> dict[str, Any]:
    """The sentence, the reasons, the terms of the decision."""
    verdict, compare = inputs.verdict, inputs.compare
    invalid = any(body["finding"] == "invalid" for body in verdict["comparisons"].values())
    basis = decisive(inputs)
    return {
        "deploy": verdict["deploy"],
        "headline": HEADLINES["invalid"] if invalid else _headline(verdict),
        "statement": text.prose(verdict["statement"]),
        "reasons": [text.prose(reason) for reason in verdict["reasons"]],
        "gate": compare["decision"].replace("_", "-"),
        "gate_statement": text.prose(compare["statement"]),
        "rows": text.count(verdict["n"]),
        "rows_missing": text.count(verdict["rows_missing"]) if verdict["rows_missing"] else None,
        "margin": _size(verdict["margin"]),
        "alpha": text.percent(verdict["alpha"], 0),
        "coverage": text.percent(basis["coverage"]),
        "decisive": words.contender(basis["contender"]),
    }


def _headline(verdict: Mapping[str, Any]) -> str:
    label = next((rung["label"] for rung in verdict["ladder"] if rung["name"] == verdict["deploy"]), None)
    return f"Move to {label}" if label else HEADLINES[verdict["deploy"]]


def _size(gap: float) -> str:
    """A gap without its sign."""
    return f"{100 * gap:g}"


def decisive(inputs: Inputs) -> Mapping[str, Any]:
    """The comparison that the verdict rests on."""
    comparisons = inputs.verdict["comparisons"]
    found: Mapping[str, Any] = comparisons[inputs.verdict["decisive"]]
    return found


def gaps(inputs: Inputs, stamp: str) -> dict[str, Any]:
    """Gaps of every metric of every candidate, the core ones drawn against the margin."""
    margin = inputs.verdict["margin"]
    drawn: list[plots.Group] = []
    groups: list[dict[str, Any]] = []
    for name, comparison in inputs.verdict["comparisons"].items():
        lines = [_gap_line(metric, entry, margin) for metric, entry in comparison["metrics"].items()]
        if lines:
            core = [line for line in lines if line["core"]]
            other = [line for line in lines if not line["core"]]
            groups.append({"contender": words.contender(name), "core": core, "other": other})
            entries = [(metric, entry) for metric, entry in comparison["metrics"].items() if entry["core"]]
            drawn.append(plots.Group(words.contender(name), [_gap_drawn(*pair, margin) for pair in entries]))
    said = "; ".join(
        f"{group['contender']}, {line['metric']}: gap {line['gap']}, interval {line['low']} to {line['high']}, {line['says']}"
        for group in groups
        for line in group["core"]
    )
    plot = (
        plots.gaps(
            drawn,
            100 * margin,
            key="gaps",
            title="Gap of every core metric against the margin",
            desc=f"The margin is {_size(margin)} points. {said}.",
            stamp=stamp,
        )
        if drawn
        else ""
    )
    return {"plot": plot, "groups": groups, "more": any(group["other"] for group in groups)}


def _gap_drawn(metric: str, entry: Mapping[str, Any], margin: float) -> plots.Interval:
    gap, low, high = (100 * entry[bound] for bound in ("gap", "low", "high"))
    note = f"{text.points(entry['high'])} at most: {_says(entry, margin)}"
    return plots.Interval(words.metric(metric), gap, low, high, note=note, good=entry["non_inferior"])


def _says(entry: Mapping[str, Any], margin: float) -> str:
    """What one gap shows: worse only where the measured gap itself is above the margin."""
    return "as good" if entry["non_inferior"] else "worse" if entry["gap"] > margin else "not shown"


def _gap_line(metric: str, entry: Mapping[str, Any], margin: float) -> dict[str, Any]:
    counts = entry["counts"]
    return {
        "metric": words.metric(metric),
        "core": entry["core"],
        "teacher": text.percent(entry["teacher"]),
        "value": text.percent(entry["contender"]),
        "gap": text.points(entry["gap"]),
        "low": text.points(entry["low"]),
        "high": text.points(entry["high"]),
        "holds": entry["non_inferior"],
        "says": _says(entry, margin),
        "teacher_only": text.count(counts["teacher_only"]),
        "contender_only": text.count(counts["contender_only"]),
        "p": text.p_value(entry["mcnemar_p"]),
        "method": words.plain(entry["method"]),
    }


def side(inputs: Inputs, name: str) -> dict[str, Any]:
    """One contender: its first core metric, what a request costs, how long a row takes."""
    document = inputs.metrics[name]
    latency, tokens = document["latency_s"] or {}, document["tokens"]
    price = inputs.settings.get("slm", {}).get("price_per_hour")
    economics = economy(inputs.metrics["teacher"], document, price)
    core = inputs.verdict["core"][0]
    entry = document["metrics"][core]
    return {
        "name": name,
        "label": words.contender(name),
        "what": words.described(name),
        "metric": words.metric(core),
        "value": text.percent(entry["value"]),
        "interval": f"{text.percent(entry['low'])} to {text.percent(entry['high'])}",
        "cost": text.money(economics.teacher if name == "teacher" else economics.contender, economics.currency),
        "cost_known": (economics.teacher if name == "teacher" else economics.contender) is not None,
        "estimated": bool(document["cost"].get("estimated")) and name == "teacher",
        "p50": text.seconds(latency.get("p50")),
        "p95": text.seconds(latency.get("p95")),
        "prompt_tokens": text.count(_each(tokens["prompt"], document["n"])),
        "completion_tokens": text.count(_each(tokens["completion"], document["n"])),
        "without_usage": text.count(tokens["rows_without_usage"]) if tokens["rows_without_usage"] else None,
    }


def _each(total: float | None, rows: int) -> float | None:
    return None if total is None or not rows else total / rows


def break_even(inputs: Inputs) -> dict[str, Any]:
    """Costs of teacher and last candidate, and the volume from which they part."""
    price = inputs.settings.get("slm", {}).get("price_per_hour")
    name = inputs.verdict["decisive"]
    result = economy(inputs.metrics["teacher"], inputs.metrics[name], price)
    return {
        "contender": words.contender(name),
        "priced": price is not None,
        "price": text.money(price, result.currency),
        "currency": result.currency,
        "teacher": text.money(result.teacher, result.currency),
        "own": text.money(result.contender, result.currency),
        "teacher_known": result.teacher is not None,
        "break_even": text.count(result.break_even) if result.break_even is not None else None,
        "capacity": text.count(result.capacity) if result.capacity is not None else None,
        "per_unit": text.count(result.per_unit) if result.per_unit is not None else None,
        "reachable": result.break_even is not None
        and result.capacity is not None
        and result.break_even <= result.capacity,
    }
