"""What everybody scored: metrics, floors, readings, outcomes, slices."""

from collections.abc import Mapping

from fledgling.artefacts import Rate, SliceGap
from fledgling.report import plots, text, words
from fledgling.report.load import FLOOR, TEACHER, Inputs
from fledgling.report.sections.answer import View, case, label

PRINTED = 6  # of these on paper
SLICES = 24  # slices of one kind that are shown, largest gaps first


def metrics(inputs: Inputs) -> View:
    """All metrics of everybody and of the floors; the core ones drawn."""
    names = [*inputs.answerers, *inputs.floors]
    core = inputs.verdict["core"]
    known = dict.fromkeys([*core, *(metric for name in names for metric in inputs.metrics[name]["metrics"])])
    axis = plots.Axis(0.0, 100.0, (0.0, 25.0, 50.0, 75.0, 100.0))
    return {
        "names": [text.capital(label(inputs, name)) for name in names],
        "table": [
            {
                "name": metric,
                "label": words.metric(metric),
                "what": words.MEANINGS.get(metric, ""),
                "core": metric in core,
                "cells": [text.rate(inputs.metrics[name]["metrics"].get(metric)) for name in names],
            }
            for metric in known
        ],
        "groups": [
            {
                "name": words.metric(metric),
                "lanes": [
                    _lane(inputs, name, axis, inputs.metrics[name]["metrics"][metric])
                    for name in [*inputs.answerers, *_best(inputs, metric)]
                    if metric in inputs.metrics[name]["metrics"]
                ],
            }
            for metric in core
        ],
        "scale": plots.scale(axis, ["0 %", "25", "50", "75", "100 %"]),
        "readings": _readings(inputs),
    }


def _lane(inputs: Inputs, name: str, axis: plots.Axis, rate: Rate) -> View:
    floor = name.startswith(FLOOR)
    mark: plots.Mark = "floor" if floor else "base" if name == TEACHER else "open"
    if name == inputs.verdict["deploy"] and not floor and name != TEACHER and case(inputs).kind != "invalid":
        mark = "good"
    low, high = (None, None) if floor else (100 * rate["low"], 100 * rate["high"])
    return {
        "name": ("best without a model: " if floor else "") + label(inputs, name),
        "note": text.percent(rate["value"]),
        "mark": "floor" if floor else "",
        "bar": plots.lane(axis, plots.Point(100 * rate["value"], low, high, mark)),
    }


def _best(inputs: Inputs, metric: str) -> list[str]:
    """The floor that scores highest on a metric, in a list; [] without floors."""
    known = [name for name in inputs.floors if metric in inputs.metrics[name]["metrics"]]
    return [max(known, key=lambda name: inputs.metrics[name]["metrics"][metric]["value"])] if known else []


def _readings(inputs: Inputs) -> list[View]:
    """Core metrics that a lenient reading would raise; those that it leaves alone are left out."""
    found: list[View] = []
    for metric in inputs.verdict["core"]:
        for name in inputs.answerers:
            strict = inputs.metrics[name]["metrics"][metric]["value"]
            lenient = inputs.metrics[name]["lenient"].get(metric, {}).get("value", strict)
            if f"{lenient - strict:.4f}" != f"{0:.4f}":
                found.append(
                    {
                        "contender": text.capital(label(inputs, name)),
                        "metric": words.metric(metric),
                        "strict": text.percent(strict),
                        "lenient": text.percent(lenient),
                        "format": f"{text.size(lenient - strict)} points",
                    }
                )
    return found


def outcomes(inputs: Inputs) -> View:
    """How rows ended where not all were answered, and why rows are not right."""
    names = inputs.answerers
    codes = [code for code in words.OUTCOMES if any(inputs.metrics[name]["outcomes"].get(code) for name in names)]
    totals: dict[str, int] = {}
    for name in names:
        for code, number in inputs.metrics[name]["reasons"].items():
            totals[code] = totals.get(code, 0) + number
    return {
        "names": [text.capital(label(inputs, name)) for name in names],
        "outcomes": []
        if codes == ["ok"]
        else [{"label": words.OUTCOMES[code], "cells": _shares(inputs, code, outcome=True)} for code in codes],
        "reasons": [
            {"label": text.clean(words.reason(code), 80), "cells": _shares(inputs, code, outcome=False)}
            for code in sorted(totals, key=lambda code: (-totals[code], code))
            if totals[code]
        ],
    }


def _shares(inputs: Inputs, code: str, *, outcome: bool) -> list[Mapping[str, str]]:
    cells: list[Mapping[str, str]] = []
    for name in inputs.answerers:
        document = inputs.metrics[name]
        number = (document["outcomes"] if outcome else document["reasons"]).get(code, 0)
        cells.append({"count": text.count(number), "share": text.percent(number / document["n"]) if number else ""})
    return cells


def slices(inputs: Inputs) -> View | None:
    """The first core metric by kind of row: the decisive contender drawn, all in numbers; None without slices."""
    verdict = inputs.verdict
    if not verdict["slices"]:
        return None
    name = verdict["decisive"]
    margin = 100 * verdict["margin"]
    parts = [part["contenders"][name] for values in verdict["slices"].values() for part in values.values()]
    axis = plots.Axis.around([0, margin, *(100 * part[end] for part in parts for end in ("low", "high"))])
    groups, tables = [], []
    for dimension, values in verdict["slices"].items():
        ordered = sorted(values.items(), key=lambda item: (-item[1]["contenders"][name]["gap"], item[0]))
        more = max(0, len(ordered) - SLICES)
        heading = f"By {words.dimension(dimension)}"
        groups.append(
            {
                "name": heading,
                "more": more,
                "lanes": [
                    _slice_lane(
                        inputs,
                        axis,
                        margin,
                        f"{text.clean(value, 60)} ({text.count(part['n'])})",
                        part["contenders"][name],
                    )
                    for value, part in ordered[:SLICES]
                ],
            }
        )
        tables.append(
            {
                "name": heading,
                "column": text.capital(words.dimension(dimension)),
                "lines": [
                    {
                        "value": text.clean(value, 80),
                        "n": text.count(part["n"]),
                        "teacher": text.rate({**part["teacher"]}),
                        "cells": [_cell(part["contenders"][rung["name"]]) for rung in inputs.ladder],
                    }
                    for value, part in ordered[:SLICES]
                ],
            }
        )
    return {
        "metric": words.metric(verdict["core"][0]),
        "contender": label(inputs, name),
        "names": [text.capital(label(inputs, rung["name"])) for rung in inputs.ladder],
        "groups": groups,
        "long": any(len(values) > PRINTED for values in verdict["slices"].values()),
        "scale": plots.scale(
            axis, [f"{tick:g}".replace("-", text.MINUS) for tick in axis.ticks], margin=(margin, f"margin {margin:g}")
        ),
        "tables": tables,
    }


def _slice_lane(inputs: Inputs, axis: plots.Axis, margin: float, name: str, part: SliceGap) -> View:
    limit = inputs.verdict["margin"]
    void = case(inputs).kind == "invalid"
    worse = part["low"] > limit or (part["differs"] and part["gap"] > 0)
    mark: plots.Mark = "void" if void else "bad" if worse else "holds" if part["high"] < limit else "open"
    proof = ", not judged" if void else "" if not worse else ", proven" if part["differs"] else ", not proven"
    return {
        "name": name,
        "note": text.gap(part["gap"]) + proof,
        "mark": "bad" if mark == "bad" else "",
        "bar": plots.lane(
            axis, plots.Point(100 * part["gap"], 100 * part["low"], 100 * part["high"], mark), margin=margin, zero=True
        ),
    }


def _cell(part: SliceGap) -> View:
    return {
        "value": text.percent(part["value"]),
        "gap": text.gap(part["gap"]),
        "span": text.span(part["low"], part["high"]),
        "differs": part["differs"],
        "p": text.p_value(part["p_holm"]),
    }


def floors(inputs: Inputs) -> list[str]:
    """Floors that the decisive contender or the teacher is not shown to beat, a sentence each."""
    decisive = inputs.decisive
    found = []
    for name, against in ((decisive["contender"], decisive["floors"]), (TEACHER, decisive["teacher_floors"])):
        for floor, entries in against.items():
            for metric, entry in entries.items():
                if not entry["beaten"]:
                    found.append(
                        f"{text.capital(label(inputs, name))} scores {text.percent(entry['contender'])} on "
                        f"{words.metric(metric).lower()}, not shown to be better than {words.floor(floor)} "
                        f"({text.percent(entry['floor'])})."
                    )
    return found
