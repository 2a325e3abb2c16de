"""Rows side by side, as text."""

from collections.abc import Mapping
from typing import Any

from fledgling.report import side_by_side as rows
from fledgling.report import text, words
from fledgling.report.load import Inputs

MESSAGES = 8  # messages of a prompt that are shown, last first to be kept
FIELDS = 40  # fields of a row that are shown
SHORT = 8  # rows with at most so many fields are shown whole, longer ones where they differ from gold
SUSPECTS = 6  # suspected label errors that are shown


def disagreements(inputs: Inputs) -> dict[str, Any]:
    """The rows where contenders part; none where the verdict found the files to be of different tests."""
    metric = inputs.verdict["core"][0]
    if inputs.verdict["sensitivity"] is None:  # the verdict found the rows to be of different tests
        return {"metric": words.metric(metric), "paired": False, "groups": []}
    paths = {name: inputs.rows[name] for name in inputs.contenders}
    selections = rows.select(paths, metric, rows.kinds(inputs.verdict))
    suspects = _suspects(inputs)
    chosen = [*(identity for selection in selections for identity in selection.ids), *suspects["ids"]]
    collected = rows.collect(inputs, inputs.verdict["kind"], chosen)
    seen: set[str] = set()
    groups = []
    for selection in [
        *selections,
        rows.Selection("suspects", suspects["heading"], suspects["note"], suspects["total"], suspects["ids"]),
    ]:
        fresh = [identity for identity in selection.ids if identity not in seen]
        groups.append(
            {
                "key": selection.key,
                "heading": selection.heading,
                "note": selection.note,
                "total": text.count(selection.total),
                "shown": len(selection.ids),
                "again": [text.clean(identity, 80) for identity in selection.ids if identity in seen],
                "rows": [_row(inputs, collected[identity], metric) for identity in fresh],
            }
        )
        seen.update(selection.ids)
    return {"metric": words.metric(metric), "paired": True, "groups": groups}


def _suspects(inputs: Inputs) -> dict[str, Any]:
    ids = [entry["id"] for entry in inputs.verdict["suspected_label_errors"]]
    return {
        "heading": "Suspected label errors",
        "note": "Teacher and a small model give the same answer, and gold another: look at gold first.",
        "total": len(ids),
        "ids": tuple(ids[:SUSPECTS]),
    }


def _row(inputs: Inputs, row: rows.Row, metric: str) -> dict[str, Any]:
    parted = [line for line in row.lines if not line.agreed]
    shown = row.lines if len(row.lines) <= SHORT else parted
    return {
        "id": text.clean(row.id, 120),
        "prompt": [_message(message) for message in row.example["messages"][-MESSAGES:]],
        "earlier": max(0, len(row.example["messages"]) - MESSAGES),
        "tools": [
            text.clean(str(tool.get("function", tool).get("name")), 80)
            for tool in (row.example.get("tools") or [])[:40]
        ],
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
        "lines": [_line(inputs, line) for line in shown[:FIELDS]],
        "agreed": len(row.lines) - len(shown),
        "more": max(0, len(shown) - FIELDS),
        "raw": [
            {
                "label": words.contender(name),
                "text": _raw(row.answers[name]),
                "outcome": row.answers[name].get("outcome"),
            }
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
    mark, says = {
        "same": ("=", "same as gold"),
        "different": ("≠", "differs from gold"),
        "missing": ("∅", "missing"),
        "extra": ("+", "not in gold"),
        "absent": ("", "absent, as in gold"),
    }[cell.state]
    shown = text.value(cell.value) if cell.state in ("same", "different", "extra") else ""
    return {"state": cell.state, "value": shown, "mark": mark, "says": says}
