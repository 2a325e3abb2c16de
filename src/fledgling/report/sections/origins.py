"""Where everything comes from: rows, training, who answered, with which settings."""

from collections.abc import Mapping

from fledgling.artefacts import Datasheet, JsonObject, Training
from fledgling.report import plots, text, words
from fledgling.report.load import Inputs
from fledgling.report.sections.answer import View, label

LISTED = 5  # files of one source that are named


def data(inputs: Inputs) -> View:
    """The datasheet: splits, sources, what was rejected, what was cut."""
    sheet = inputs.datasheet
    return {
        "generated": sheet["generated"],
        "summary": text.sentence(text.clean(sheet["summary"], 500)),
        "weighted": any(part["weight"] != part["rows"] for part in sheet["splits"].values()),
        "splits": [
            {
                "name": name,
                "rows": text.count(part["rows"]),
                "weight": text.count(part["weight"]) if part["weight"] != part["rows"] else "",
                "groups": text.count(part["groups"]),
                "median": text.count(part["request_characters"].get("0.5")),
                "longest": text.count(part["request_characters"].get("1.0")),
                "sha256": part["sha256"],
            }
            for name, part in sheet["splits"].items()
        ],
        "sources": [
            {
                "name": ", ".join(text.clean(str(part.get("name")), 100) for part in source["parts"][:LISTED])
                or text.ABSENT,
                "more": max(0, len(source["parts"]) - LISTED),
                "formats": ", ".join(text.clean(name, 60) for name in source["formats"]) or text.ABSENT,
                "rows": "; ".join(
                    f"{words.plain(key)} {text.count(number)}" for key, number in source["rows"].items() if number
                ),
            }
            for source in sheet["sources"]
        ],
        "rejects": [
            {
                "code": text.clean(words.plain(code), 80),
                "rows": text.count(entry["rows"]),
                "first": [text.clean(line, 300) for line in entry["first"]],
            }
            for source in sheet["sources"]
            for code, entry in source["rejected"].items()
        ],
        "lists": [
            (name, [text.clean(line, 300) for line in lines])
            for name, lines in [
                ("Rows that nobody could get right, the first", sheet["unwinnable"]["first"]),
                ("Questions with more than one answer, the first", sheet["conflicts"]),
                (
                    "Copies that another row stands for, the first",
                    [line for one in sheet["sources"] for line in one["copies"]],
                ),
                ("Linked rows that were left out, the first", sheet["leaks"]["pairs"]),
            ]
            if lines
        ],
        "facts": _facts(sheet),
    }


def _facts(sheet: Datasheet) -> list[tuple[str, str]]:
    """What was looked for in the rows, and what was found; what was not found is not listed."""
    leaks = sheet["leaks"]
    outside = sum(source["gold_outside_tool_schema"]["rows"] for source in sheet["sources"])
    number = sheet["unwinnable"]["rows"]
    reasons = ", ".join(
        f"{text.clean(words.plain(code), 80)} {text.count(rows)}"
        for code, rows in sheet["unwinnable"]["reasons"].items()
    )
    copies = sum(part["near_copies"] for part in sheet["splits"].values())
    bare = sum(source["without_tools_or_schema"] for source in sheet["sources"])
    nulls = sum(source["nulls_left_out"] for source in sheet["sources"])
    found = [
        ("links between splits, found and cut", _tally(leaks["links"])),
        ("rows left out for a link", _tally(leaks["dropped"])),
        ("near-duplicates", "not looked for" if leaks["near_duplicate"] is None else ""),
        (
            "questions with more than one answer",
            text.count(sheet["conflicting_answers"]) if sheet["conflicting_answers"] else "",
        ),
        ("rows whose answer its own tool refuses", text.count(outside) if outside else ""),
        ("left out, as nobody could get them right", f"{text.count(number)} ({reasons})" if number else ""),
        ("rows that nearly repeat another one and share its group", text.count(copies) if copies else ""),
        ("rows without tools or a schema of their own", text.count(bare) if bare else ""),
        ("empty arguments that a table gave to every call", text.count(nulls) if nulls else ""),
    ]
    return [(key, value) for key, value in [*found, *_logged(sheet)] if value]


def _logged(sheet: Datasheet) -> list[tuple[str, str]]:
    """What is known of logged calls, where rows are such."""
    traced = sheet.get("traces")
    if traced is None:
        return []
    share = traced["prompt_tokens_repeated"] / max(1, traced["prompt_tokens"])
    later = (
        f"{text.count(traced['later_turns'])} of {text.count(traced['trajectories'])} trajectories; evaluation is per turn, "
        "given the real history"
    )
    prefix = (
        f"{text.count(traced['prompt_tokens'])} in all prompts, {text.percent(share)} of them in an earlier prompt of the "
        "same trajectory: a server with prefix caching reads these once, training each time"
    )
    return [
        ("logged calls", text.count(traced["calls"])),
        ("their models", _tally(traced["models"])),
        ("when they were made", " to ".join(day[:10] for day in (traced["first"], traced["last"]) if day)),
        ("the test is", f"calls from {text.clean(traced['test_from'], 30)} on" if traced["test_from"] else ""),
        ("calls that repeat a request", f"{text.count(traced['repeated'])} ({text.percent(traced['repeated_share'])})"),
        ("calls with a temperature above 0", text.count(traced["sampled"]) if traced["sampled"] else ""),
        (
            "calls of unknown temperature",
            text.count(traced["temperature_unknown"]) if traced["temperature_unknown"] else "",
        ),
        ("rows that are later turns", later if traced["later_turns"] else ""),
        ("tokens of prompts, about", prefix if traced["later_turns"] else ""),
        (
            "calls that a tool answered with an error",
            text.count(traced["tool_errors"]) if traced["tool_errors"] else "",
        ),
        ("texts that were redacted", text.count(traced["redacted"]) if traced["redacted"] else ""),
    ]


def _tally(counts: Mapping[str, int]) -> str:
    return ", ".join(
        f"{text.clean(words.plain(kind), 60)} {text.count(number)}" for kind, number in counts.items() if number
    )


def training(inputs: Inputs) -> list[View]:
    """Each adapter: its loss, what its candidates reached on val, the recipe that was used."""
    return [_trained(inputs, name, document) for name, document in inputs.training.items()]


def _trained(inputs: Inputs, name: str, document: Training) -> View:
    train, held_out = _series(document, "loss"), _series(document, "eval_loss")
    if document["eval_loss"] is not None and not held_out:
        held_out = [(float(document["steps"]), document["eval_loss"])]
    ends = ""
    if train:
        ends = f"Training loss falls from {train[0][1]:.3g} to {train[-1][1]:.3g} in {text.count(document['steps'])} steps."
        ends = ends.replace("falls", "falls" if train[-1][1] < train[0][1] else "goes")
    users = [rung for rung in inputs.ladder if rung["adapter"] == name]
    kept = [float(step) for step in document.get("candidates", [])] or _steps(document)
    return {
        "name": text.clean(name, 80),
        "who": " and ".join(label(inputs, rung["name"]) for rung in users),
        "plot": plots.curves(
            train,
            held_out,
            kept,
            key=f"loss-{text.clean(name, 40)}",
            title=f"Loss over training steps, {text.clean(name, 40)}",
            desc=ends,
        )
        if len(train) > 1
        else "",
        "ends": ends,
        "held_out": bool(held_out),
        "kept": bool(kept),
        "candidates": _candidates(document),
        "facts": _training_facts(document),
        "recipe": [(words.plain(key), text.value(value, 120).strip('"')) for key, value in document["recipe"].items()],
    }


def _series(document: Training, key: str) -> list[tuple[float, float]]:
    found = []
    for entry in document["history"]:
        step, value = entry.get("step"), entry.get(key)
        if isinstance(step, int | float) and isinstance(value, int | float):
            found.append((float(step), float(value)))
    return found


def _steps(document: Training) -> list[float]:
    selection = document.get("selection")
    return [float(one["step"]) for one in selection["candidates"]] if selection else []


def _candidates(document: Training) -> View | None:
    """What each candidate reached on val, the one that was kept marked; None where there was no choice."""
    selection = document.get("selection")
    if not selection:
        return None
    values = [100 * value for one in selection["candidates"] for value in one["metrics"].values()]
    axis = plots.Axis.around(values, pad=0.15)
    metrics = list(selection["candidates"][0]["metrics"])
    return {
        "rows": text.count(selection["rows"]),
        "step": text.count(selection["step"]),
        "groups": [
            {
                "name": words.metric(metric),
                "lanes": [
                    {
                        "name": f"after step {text.count(one['step'])}{', kept' if one['step'] == selection['step'] else ''}",
                        "note": text.percent(one["metrics"][metric]),
                        "mark": "",
                        "bar": plots.lane(
                            axis,
                            plots.Point(
                                100 * one["metrics"][metric],
                                mark="holds" if one["step"] == selection["step"] else "open",
                            ),
                        ),
                    }
                    for one in selection["candidates"]
                ],
            }
            for metric in metrics
        ],
        "scale": plots.scale(axis, [f"{tick:g} %" for tick in axis.ticks]),
    }


def _training_facts(document: Training) -> list[tuple[str, str]]:
    found = [
        ("rows learnt from", text.count(document["rows"])),
        ("rows left out", _tally(document["left_out"])),
        ("steps", text.count(document["steps"])),
        ("time", text.seconds(document["seconds"])),
        ("processes", text.count(document["world_size"])),
        ("loss at the end", f"{document['final_loss']:.3g}"),
        ("loss on val", "" if document["eval_loss"] is None else f"{document['eval_loss']:.3g}"),
        ("back-end", text.clean(document["backend"], 60)),
        ("base (fingerprint)", document["base_fingerprint"][:16]),
    ]
    return [(key, value) for key, value in found if value]


def provenance(inputs: Inputs) -> View:
    """Models, versions, digests and the settings that were used."""
    return {
        "models": _models(inputs),
        "contenders": [
            {
                "label": text.capital(label(inputs, name)),
                "models": _counted(inputs.metrics[name]["models"]),
                "fingerprints": _counted(inputs.metrics[name]["fingerprints"]),
                "predictions": inputs.metrics[name]["predictions_sha256"],
            }
            for name in inputs.answerers
        ],
        "test_sha256": inputs.verdict["test_sha256"] or inputs.metrics["teacher"]["data_sha256"],
        "settings": text.plain(dict(_used(inputs)), 20_000) if inputs.settings else "",
    }


def _models(inputs: Inputs) -> list[tuple[str, str]]:
    """One line a model: the teacher, then each checkpoint with the contenders that are asked on it."""
    teacher = inputs.section("teacher")
    models = inputs.section("models")
    shown = [("teacher", _words(teacher, "provider", "model", "base_url"))]
    for name in dict.fromkeys(rung["model"] for rung in inputs.ladder):
        block = models.get(name)
        users = ", ".join(label(inputs, rung["name"]) for rung in inputs.ladder if rung["model"] == name)
        what = _words(block if isinstance(block, dict) else {}, "source", "repo_id", "path", "revision")
        shown.append((f"checkpoint {text.clean(name, 60)}", f"{what or name} (asked as {users})"))
    return [(key, value) for key, value in shown if value]


def _words(block: JsonObject, *keys: str) -> str:
    return " ".join(text.clean(str(block[key]), 200) for key in keys if block.get(key))


def _used(inputs: Inputs) -> JsonObject:
    """The settings as they were used: where an adapter was trained, its own recipe instead of the general one."""
    used = dict(inputs.settings)
    if inputs.training:
        used.pop("recipe", None)
        track = used.get("track")
        if isinstance(track, dict):
            used["track"] = {key: value for key, value in track.items() if key != "recipe"}
        used["recipes"] = {name: document["recipe"] for name, document in inputs.training.items()}
    else:
        used.pop("recipe", None)
    return used


def _counted(counts: Mapping[str, int]) -> list[str]:
    return [
        text.clean(str(name), 80) + (f" × {text.count(number)}" if len(counts) > 1 else "")
        for name, number in counts.items()
    ]
