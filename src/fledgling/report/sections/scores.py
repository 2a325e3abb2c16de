"""What every contender scored: metrics, floors, readings, outcomes, slices."""

from collections.abc import Mapping
from typing import Any

from fledgling.report import plots, text, words
from fledgling.report.load import Inputs
from fledgling.report.sections.answer import decisive

SLICES = 24  # slices of one dimension that are shown, largest first


def metrics(inputs: Inputs, stamp: str) -> dict[str, Any]:
    """All metrics of all contenders and floors; the core ones drawn."""
    names = [*inputs.contenders, *inputs.floors]
    core = inputs.verdict["core"]
    known = list(dict.fromkeys([*core, *(metric for name in names for metric in inputs.metrics[name]["metrics"])]))
    table = []
    for metric in known:
        cells = [text.rate(inputs.metrics[name]["metrics"].get(metric)) for name in names]
        table.append(
            {
                "name": metric,
                "label": words.metric(metric),
                "what": words.MEANINGS.get(metric, ""),
                "core": metric in core,
                "cells": cells,
            }
        )
    groups = [
        plots.Group(
            words.metric(metric),
            [
                _interval(name, inputs.metrics[name]["metrics"][metric], inputs.mark(name))
                for name in names
                if metric in inputs.metrics[name]["metrics"]
            ],
        )
        for metric in core
    ]
    desc = "; ".join(
        f"{line['label']}: "
        + ", ".join(f"{words.contender(name)} {cell['value']}" for name, cell in zip(names, line["cells"], strict=True))
        for line in table
        if line["core"]
    )
    return {
        "names": [words.contender(name) for name in names],
        "table": table,
        "plot": plots.metrics(
            groups, key="metrics", title="Core metrics of all contenders and floors", desc=f"{desc}.", stamp=stamp
        ),
    }


def _interval(name: str, entry: Mapping[str, Any], mark: str) -> plots.Interval:
    value, low, high = (None if entry[key] is None else 100 * entry[key] for key in ("value", "low", "high"))
    return plots.Interval(words.contender(name), value, low, high, note=text.percent(entry["value"]), mark=mark)


def floors(inputs: Inputs) -> list[dict[str, Any]]:
    """The decisive candidate against every floor."""
    comparison = decisive(inputs)
    return [
        {
            "contender": words.contender(comparison["contender"]),
            "floor": words.contender(floor),
            "metric": words.metric(metric),
            "value": text.percent(entry["floor"]),
            "other": text.percent(entry["contender"]),
            "beaten": entry["beaten"],
        }
        for floor, metrics in comparison["floors"].items()
        for metric, entry in metrics.items()
    ]


def readings(inputs: Inputs, stamp: str) -> dict[str, Any]:
    """Core metrics by the strict and the lenient reading."""
    table, groups = [], []
    for metric in inputs.verdict["core"]:
        shown = []
        for name in inputs.contenders:
            strict = inputs.metrics[name]["metrics"][metric]["value"]
            lenient = inputs.metrics[name]["lenient"].get(metric, {}).get("value")
            if strict is None or lenient is None:
                continue
            table.append(
                {
                    "contender": words.contender(name),
                    "metric": words.metric(metric),
                    "strict": text.percent(strict),
                    "lenient": text.percent(lenient),
                    "format": text.points(lenient - strict),
                }
            )
            shown.append(
                plots.Interval(
                    words.contender(name),
                    100 * strict,
                    None,
                    100 * lenient,
                    note=text.points(lenient - strict),
                    mark=inputs.mark(name),
                )
            )
        if shown:
            groups.append(plots.Group(words.metric(metric), shown))
    desc = "; ".join(
        f"{row['contender']} {row['metric']}: strict {row['strict']}, lenient {row['lenient']}" for row in table
    )
    plot = plots.readings(groups, key="readings", title="Strict and lenient readings", desc=f"{desc}.", stamp=stamp)
    return {"table": table, "plot": plot if groups else ""}


def outcomes(inputs: Inputs) -> dict[str, Any]:
    """How rows were answered, and why they are not right."""
    codes = [
        code for code in words.OUTCOMES if any(inputs.metrics[name]["outcomes"].get(code) for name in inputs.contenders)
    ]
    reasons = dict.fromkeys(code for name in inputs.contenders for code in inputs.metrics[name]["reasons"])
    totals = {code: sum(inputs.metrics[name]["reasons"].get(code, 0) for name in inputs.contenders) for code in reasons}
    return {
        "outcomes": [{"label": words.OUTCOMES[code], "cells": _shares(inputs, "outcomes", code)} for code in codes],
        "reasons": [
            {"label": words.plain(code), "cells": _shares(inputs, "reasons", code)}
            for code in sorted(reasons, key=lambda code: (-totals[code], code))
        ],
    }


def _shares(inputs: Inputs, key: str, code: str) -> list[dict[str, str]]:
    cells = []
    for name in inputs.contenders:
        document = inputs.metrics[name]
        number = document[key].get(code, 0)
        cells.append(
            {"count": text.count(number), "share": text.percent(number / document["n"]) if document["n"] else ""}
        )
    return cells


def slices(inputs: Inputs) -> dict[str, Any]:
    """The first core metric by kind of row, with gaps and corrected differences."""
    candidates = list(inputs.verdict["comparisons"])
    tables = []
    for dimension, values in inputs.verdict["slices"].items():
        ordered = sorted(values.items(), key=lambda item: (-item[1]["n"], item[0]))
        tables.append(
            {
                "label": words.DIMENSIONS.get(dimension, words.plain(dimension)),
                "lines": [
                    {
                        "value": text.clean(str(value), 80),
                        "n": text.count(entry["n"]),
                        "teacher": text.rate(entry["teacher"]),
                        "cells": [_slice(entry["contenders"][name]) for name in candidates],
                    }
                    for value, entry in ordered[:SLICES]
                ],
                "more": max(0, len(ordered) - SLICES),
            }
        )
    return {"candidates": [words.contender(name) for name in candidates], "tables": tables}


def _slice(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "value": text.percent(entry["value"]),
        "gap": text.points(entry["gap"]),
        "interval": f"{text.points(entry['low'])} to {text.points(entry['high'])}",
        "differs": entry["differs"],
        "p": text.p_value(entry["p_holm"]),
    }
