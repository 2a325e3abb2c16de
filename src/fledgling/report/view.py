"""What the page says, as plain values: every number rounded, every sentence chosen, nothing drawn as HTML."""

from collections.abc import Mapping, Sequence
from typing import Any

from fledgling.report import plots, rows, text, words
from fledgling.report.cost import economy
from fledgling.report.load import Inputs

HEADLINES = {
    "slm": ("Move it", "The small model as it comes is as good as the teacher."),
    "tuned": ("Move it, fine-tuned", "The fine-tuned small model is as good as the teacher."),
    "teacher": ("Keep the teacher", "No small model was shown to be as good as the teacher."),
    "inconclusive": ("Not decided", "The rows do not suffice to say."),
}
STAMP = "simulated"
MESSAGES = 8  # messages of a prompt that are shown, last first to be kept
FIELDS = 60  # fields of a row that are shown
SLICES = 24  # slices of one dimension that are shown, largest first


def page(inputs: Inputs) -> dict[str, Any]:
    """Everything that the template shows, by section; pictures are SVG text, the rest is text to be escaped."""
    stamp = STAMP if inputs.verdict["simulated"] else ""
    return {
        "track": inputs.track,
        "title": text.clean(str(inputs.verdict.get("title") or inputs.track), 200),
        "kind": {"toolcall": "tool calls", "structured": "structured records"}[inputs.verdict["kind"]],
        "simulated": bool(stamp),
        "contenders": [{"name": name, "label": words.contender(name)} for name in inputs.contenders],
        "verdict": _verdict(inputs),
        "gaps": _gaps(inputs, stamp),
        "cards": [_card(inputs, name) for name in inputs.contenders],
        "economy": _economy(inputs),
        "metrics": _metrics(inputs, stamp),
        "floors": _floors(inputs),
        "readings": _readings(inputs, stamp),
        "outcomes": _outcomes(inputs),
        "slices": _slices(inputs),
        "disagreements": _disagreements(inputs),
        "training": _training(inputs, stamp),
        "provenance": _provenance(inputs),
    }


def _verdict(inputs: Inputs) -> dict[str, Any]:
    verdict, compare = inputs.verdict, inputs.compare
    headline, gist = HEADLINES[verdict["deploy"]]
    return {
        "deploy": verdict["deploy"],
        "headline": headline,
        "gist": gist,
        "statement": text.clean(verdict["statement"], 1_000),
        "reasons": [text.clean(reason, 600) for reason in verdict["reasons"]],
        "gate": compare["decision"].replace("_", " "),
        "gate_reasons": [text.clean(reason, 600) for reason in compare["reasons"]],
        "rows": text.count(verdict["n"]),
        "rows_needed": text.count(verdict.get("rows_needed")),
        "rows_missing": text.count(verdict["rows_missing"]) if verdict.get("rows_missing") else None,
        "margin": text.points(compare["margin"]).lstrip("+"),
        "alpha": text.percent(compare["alpha"]),
        "power": text.percent(compare["power"], 0),
        "coverage": text.percent(compare["coverage"]),
    }


def _comparisons(inputs: Inputs) -> dict[str, Mapping[str, Any]]:
    return {name: inputs.verdict["comparisons"][name] for name in ("slm", "tuned") if name in inputs.verdict["comparisons"]}


def _gaps(inputs: Inputs, stamp: str) -> dict[str, Any]:
    margin = inputs.compare["margin"]
    groups, lines = [], []
    for name, comparison in _comparisons(inputs).items():
        shown = []
        for metric, entry in comparison["metrics"].items():
            lines.append(_gap_line(name, metric, entry))
            if entry["core"]:
                says = "holds" if entry["non_inferior"] else "above" if entry["gap"] > margin else "open"
                note = {"holds": "as good", "above": "worse", "open": "not shown"}[says]
                shown.append(
                    plots.Interval(
                        words.metric(metric), *(100 * entry[bound] for bound in ("gap", "low", "high")),
                        note=f"up to {text.points(entry['high'])}: {note}", good=entry["non_inferior"],
                    )
                )  # fmt: skip
        groups.append(plots.Group(words.contender(name), shown))
    said = "; ".join(
        f"{line['contender']} {line['metric']}: gap {line['gap']}, interval {line['low']} to {line['high']}, {line['says']}"
        for line in lines
        if line["core"]
    )
    return {
        "plot": plots.gaps(
            groups, 100 * margin, key="gaps", title="Gap of every core metric against the margin",
            desc=f"The margin is {text.points(margin).lstrip('+')} points. {said}.", stamp=stamp,
        ),
        "lines": lines,
    }  # fmt: skip


def _gap_line(name: str, metric: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    counts = entry.get("counts") or {}
    return {
        "contender": words.contender(name),
        "metric": words.metric(metric),
        "core": entry["core"],
        "teacher": text.percent(entry["teacher"]),
        "value": text.percent(entry["contender"]),
        "gap": text.points(entry["gap"]),
        "low": text.points(entry["low"]),
        "high": text.points(entry["high"]),
        "holds": entry["non_inferior"],
        "says": "as good" if entry["non_inferior"] else "not shown as good",
        "teacher_only": text.count(counts.get("teacher_only")),
        "contender_only": text.count(counts.get("contender_only")),
        "p": text.p_value(entry.get("mcnemar_p")),
        "rows_needed": text.count(entry.get("rows_needed")),
        "method": words.plain(entry["method"]),
    }


def _card(inputs: Inputs, name: str) -> dict[str, Any]:
    document = inputs.metrics[name]
    latency, tokens = document["latency_s"] or {}, document["tokens"]
    price = inputs.settings.get("slm", {}).get("price_per_hour")
    economics = economy(inputs.metrics["teacher"], document, price)
    core = inputs.compare["core"][0]
    entry = document["metrics"][core]
    return {
        "name": name,
        "label": words.contender(name),
        "what": words.CONTENDERS[name][1],
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


def _economy(inputs: Inputs) -> dict[str, Any]:
    price = inputs.settings.get("slm", {}).get("price_per_hour")
    name = inputs.contenders[-1]
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
        "reachable": result.break_even is not None and result.capacity is not None and result.break_even <= result.capacity,
    }


def _metrics(inputs: Inputs, stamp: str) -> dict[str, Any]:
    names = [*inputs.contenders, *inputs.floors]
    core = inputs.compare["core"]
    known = list(dict.fromkeys([*core, *(metric for name in names for metric in inputs.metrics[name]["metrics"])]))
    table = []
    for metric in known:
        cells = [_rate(inputs.metrics[name]["metrics"].get(metric)) for name in names]
        table.append(
            {"name": metric, "label": words.metric(metric), "what": words.METRICS.get(metric, ("", ""))[1],
             "core": metric in core, "cells": cells}
        )  # fmt: skip
    groups = [
        plots.Group(
            words.metric(metric),
            [_interval(name, inputs.metrics[name]["metrics"][metric]) for name in names if metric in inputs.metrics[name]["metrics"]],
        )
        for metric in core
    ]
    desc = "; ".join(
        f"{line['label']}: " + ", ".join(f"{words.contender(name)} {cell['value']}" for name, cell in zip(names, line["cells"], strict=True))
        for line in table
        if line["core"]
    )  # fmt: skip
    return {
        "names": [words.contender(name) for name in names],
        "table": table,
        "plot": plots.metrics(
            groups, key="metrics", title="Core metrics of all contenders and floors", desc=f"{desc}.", stamp=stamp
        ),
    }


def _rate(entry: Mapping[str, Any] | None) -> dict[str, str]:
    if entry is None or entry["value"] is None:
        return {"value": text.ABSENT, "interval": "", "k": ""}
    return {
        "value": text.percent(entry["value"]),
        "interval": f"{text.percent(entry['low'])} – {text.percent(entry['high'])}",
        "k": "" if entry.get("k") is None else f"{text.count(entry['k'])} of {text.count(entry['n'])}",
    }


def _interval(name: str, entry: Mapping[str, Any]) -> plots.Interval:
    value, low, high = (None if entry[key] is None else 100 * entry[key] for key in ("value", "low", "high"))
    return plots.Interval(words.contender(name), value, low, high, note=text.percent(entry["value"]), mark=name)


def _floors(inputs: Inputs) -> list[dict[str, Any]]:
    name, comparison = list(_comparisons(inputs).items())[-1]
    return [
        {
            "contender": words.contender(name),
            "floor": words.contender(f"floor-{floor}"),
            "metric": words.metric(metric),
            "value": text.percent(entry["floor"]),
            "other": text.percent(entry["contender"]),
            "beaten": entry["beaten"],
        }
        for floor, metrics in comparison["floors"].items()
        for metric, entry in metrics.items()
    ]


def _readings(inputs: Inputs, stamp: str) -> dict[str, Any]:
    table, groups = [], []
    for metric in inputs.compare["core"]:
        shown = []
        for name in inputs.contenders:
            strict = inputs.metrics[name]["metrics"][metric]["value"]
            lenient = inputs.metrics[name]["lenient"].get(metric, {}).get("value")
            if strict is None or lenient is None:
                continue
            table.append(
                {
                    "contender": words.contender(name), "metric": words.metric(metric), "strict": text.percent(strict),
                    "lenient": text.percent(lenient), "format": text.points(lenient - strict),
                }
            )  # fmt: skip
            shown.append(
                plots.Interval(
                    words.contender(name), 100 * strict, None, 100 * lenient,
                    note=text.points(lenient - strict), mark=name,
                )
            )  # fmt: skip
        if shown:
            groups.append(plots.Group(words.metric(metric), shown))
    desc = "; ".join(f"{row['contender']} {row['metric']}: strict {row['strict']}, lenient {row['lenient']}" for row in table)
    plot = plots.readings(groups, key="readings", title="Strict and lenient readings", desc=f"{desc}.", stamp=stamp)
    return {"table": table, "plot": plot if groups else ""}


def _outcomes(inputs: Inputs) -> dict[str, Any]:
    codes = [code for code in words.OUTCOMES if any(inputs.metrics[name]["outcomes"].get(code) for name in inputs.contenders)]
    reasons = dict.fromkeys(code for name in inputs.contenders for code in inputs.metrics[name]["reasons"])
    totals = {code: sum(inputs.metrics[name]["reasons"].get(code, 0) for name in inputs.contenders) for code in reasons}
    return {
        "outcomes": [
            {"label": words.OUTCOMES[code], "cells": _shares(inputs, "outcomes", code)} for code in codes
        ],
        "reasons": [
            {"label": words.plain(code), "cells": _shares(inputs, "reasons", code)}
            for code in sorted(reasons, key=lambda code: (-totals[code], code))
        ],
    }  # fmt: skip


def _shares(inputs: Inputs, key: str, code: str) -> list[dict[str, str]]:
    cells = []
    for name in inputs.contenders:
        document = inputs.metrics[name]
        number = document[key].get(code, 0)
        cells.append({"count": text.count(number), "share": text.percent(number / document["n"]) if document["n"] else ""})
    return cells


def _slices(inputs: Inputs) -> list[dict[str, Any]]:
    found = []
    dimensions = dict.fromkeys(name for contender in inputs.contenders for name in inputs.metrics[contender]["slices"])
    for dimension in dimensions:
        tables = [inputs.metrics[name]["slices"].get(dimension, {}) for name in inputs.contenders]
        values = dict.fromkeys(value for table in tables for value in table)
        if len(values) < 2:
            continue
        size = {value: max(table[value]["n"] for table in tables if value in table) for value in values}
        shown = sorted(values, key=lambda value: (-size[value], value))
        found.append(
            {
                "label": words.DIMENSIONS.get(dimension, words.plain(dimension)),
                "lines": [
                    {
                        "value": text.clean(str(value), 80),
                        "n": text.count(size[value]),
                        "cells": [_rate(table.get(value)) for table in tables],
                    }
                    for value in shown[:SLICES]
                ],
                "more": max(0, len(shown) - SLICES),
            }
        )
    return found


def _disagreements(inputs: Inputs) -> dict[str, Any]:
    metric = inputs.compare["core"][0]
    paths = {name: inputs.rows[name] for name in inputs.contenders}
    selections = rows.select(paths, metric, rows.kinds(inputs.contenders))
    suspects = _suspects(inputs)
    chosen = [*(identity for selection in selections for identity in selection.ids), *suspects["ids"]]
    collected = rows.collect(inputs, inputs.verdict["kind"], chosen)
    seen: set[str] = set()
    groups = []
    for selection in [*selections, rows.Selection("suspects", suspects["heading"], suspects["note"], suspects["total"], suspects["ids"])]:
        fresh = [identity for identity in selection.ids if identity not in seen]
        groups.append(
            {
                "key": selection.key, "heading": selection.heading, "note": selection.note,
                "total": text.count(selection.total), "shown": len(selection.ids),
                "again": [text.clean(identity, 80) for identity in selection.ids if identity in seen],
                "rows": [_row(inputs, collected[identity], metric) for identity in fresh],
            }
        )  # fmt: skip
        seen.update(selection.ids)
    return {"metric": words.metric(metric), "groups": groups}


def _suspects(inputs: Inputs) -> dict[str, Any]:
    ids = [entry if isinstance(entry, str) else entry["id"] for entry in inputs.verdict.get("suspected_label_errors", [])]
    return {
        "heading": "Suspected label errors",
        "note": "Teacher and small model give the same answer, and gold another: look at gold first.",
        "total": len(ids),
        "ids": tuple(ids[:6]),
    }


def _row(inputs: Inputs, row: rows.Row, metric: str) -> dict[str, Any]:
    return {
        "id": text.clean(row.id, 120),
        "prompt": [_message(message) for message in row.example["messages"][-MESSAGES:]],
        "earlier": max(0, len(row.example["messages"]) - MESSAGES),
        "tools": [text.clean(str(tool.get("function", tool).get("name")), 80) for tool in (row.example.get("tools") or [])[:40]],
        "scores": [
            {
                "label": words.contender(name),
                "value": text.percent(row.scores[name]["scores"][metric], 0),
                "right": row.scores[name]["scores"][metric] == 1,
                "reason": words.plain(row.scores[name]["reason"] or ""),
                "read": row.scores[name].get("parsed") is not None,
            }
            for name in inputs.contenders
        ],
        "lines": [_line(inputs, line) for line in row.lines[:FIELDS]],
        "more": max(0, len(row.lines) - FIELDS),
        "raw": [
            {"label": words.contender(name), "text": _raw(row.answers[name]), "outcome": row.answers[name].get("outcome")}
            for name in inputs.contenders
        ],
    }


def _message(message: Mapping[str, Any]) -> dict[str, str]:
    content = message.get("content")
    shown = text.plain("" if content is None else content, 2_000)
    calls = message.get("tool_calls")
    return {
        "role": text.clean(str(message.get("role")), 40),
        "content": "\n".join(filter(None, [shown, text.plain(calls, 1_000) if calls else ""])),
    }


def _raw(answer: Mapping[str, Any]) -> str:
    calls = answer.get("tool_calls")
    parts = [text.clean(answer.get("raw") or "", 1_500), text.plain(calls, 1_500) if calls else ""]
    return "\n".join(filter(None, parts))


def _line(inputs: Inputs, line: Any) -> dict[str, Any]:
    gold = " or ".join(text.value(item) for item in line.gold[:6]) or "—"
    return {
        "path": text.clean(line.path or "(whole answer)", 120),
        "gold": f"{gold}, or left out" if line.optional else gold,
        "agreed": line.agreed,
        "cells": [_cell(line.cells.get(name)) for name in inputs.contenders],
    }


def _cell(cell: Any) -> dict[str, str]:
    if cell is None:
        return {"state": "unread", "value": "", "mark": "", "says": "no readable reply"}
    mark, says = {"same": ("=", "same as gold"), "different": ("≠", "differs from gold"), "missing": ("∅", "missing"),
                  "extra": ("+", "not in gold"), "absent": ("", "absent, as in gold")}[cell.state]  # fmt: skip
    shown = text.value(cell.value) if cell.state in ("same", "different", "extra") else ""
    return {"state": cell.state, "value": shown, "mark": mark, "says": says}


def _training(inputs: Inputs, stamp: str) -> dict[str, Any] | None:
    document = inputs.training
    if document is None:
        return None
    history = document.get("history", [])
    train = [(float(entry["step"]), float(entry["loss"])) for entry in history if entry.get("loss") is not None]
    held_out = [(float(entry["step"]), float(entry["eval_loss"])) for entry in history if entry.get("eval_loss") is not None]
    facts = [
        (key.replace("_", " "), text.value(value, 120).strip('"'))
        for key, value in document.items()
        if key not in ("history", "format") and not isinstance(value, dict | list) and value is not None
    ]
    ends = f"Training loss falls from {train[0][1]:.3f} to {train[-1][1]:.3f} in {train[-1][0]:.0f} steps." if train else ""
    plot = plots.curve(train, held_out, key="curve", title="Loss over training steps", desc=ends, stamp=stamp) if train else ""
    return {"plot": plot, "facts": facts, "ends": ends}


def _provenance(inputs: Inputs) -> dict[str, Any]:
    return {
        "contenders": [
            {
                "label": words.contender(name),
                "models": _counted(inputs.metrics[name]["models"]),
                "fingerprints": _counted(inputs.metrics[name]["fingerprints"]),
                "predictions": inputs.metrics[name].get("predictions_sha256") or text.ABSENT,
            }
            for name in [*inputs.contenders, *inputs.floors]
        ],
        "data": inputs.metrics["teacher"].get("data_sha256") or text.ABSENT,
        "settings": text.plain(inputs.settings, 20_000),
        "datasheet": _sheet(inputs.datasheet),
    }


def _counted(counts: Mapping[str, int]) -> list[str]:
    return [f"{text.clean(str(name), 80)} × {text.count(number)}" for name, number in counts.items()]


def _sheet(datasheet: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key.replace("_", " "), text.plain(value, 1_500)) for key, value in datasheet.items()]
