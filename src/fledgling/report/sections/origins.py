"""Where everything comes from: rows, training, who answered."""

from collections.abc import Mapping
from typing import Any

from fledgling.report import plots, text, words
from fledgling.report.load import Inputs


def data(inputs: Inputs) -> dict[str, Any]:
    """The datasheet: splits, sources, rejects, links."""
    sheet = inputs.datasheet
    links = sheet["leaks"]
    return {
        "generated": sheet["generated"],
        "splits": [
            {
                "name": name,
                "rows": text.count(part["rows"]),
                "groups": text.count(part["groups"]),
                "median": text.count(part["request_characters"]["0.5"]),
                "longest": text.count(part["request_characters"]["1.0"]),
                "sha256": part["sha256"],
            }
            for name, part in sheet["splits"].items()
        ],
        "sources": [
            {
                "name": ", ".join(text.clean(part["name"], 100) for part in source["parts"][:5]) or text.ABSENT,
                "more": max(0, len(source["parts"]) - 5),
                "formats": ", ".join(source["formats"]) or text.ABSENT,
                "rows": {key: text.count(number) for key, number in source["rows"].items()},
            }
            for source in sheet["sources"]
        ],
        "rejects": [
            {
                "code": words.plain(code),
                "rows": text.count(entry["rows"]),
                "first": [text.clean(line, 300) for line in entry["first"]],
            }
            for source in sheet["sources"]
            for code, entry in source["rejected"].items()
        ],
        "facts": [
            (
                "links between splits, found and cut",
                ", ".join(f"{words.plain(kind)} {text.count(number)}" for kind, number in links["links"].items()),
            ),
            (
                "rows left out for a link",
                ", ".join(f"{name} {text.count(number)}" for name, number in links["dropped"].items()),
            ),
            (
                "near-duplicates",
                "not looked for"
                if links["near_duplicate"] is None
                else f"from a similarity of {links['near_duplicate']:g}",
            ),
            ("prompts with more than one answer", text.count(sheet["conflicting_answers"])),
            (
                "gold outside its tool's own schema",
                text.count(sum(source["gold_outside_tool_schema"]["rows"] for source in sheet["sources"])),
            ),
            ("key of the split", text.clean(sheet["split_key"], 100)),
        ],
        "pairs": [text.clean(pair, 300) for pair in links["pairs"]],
    }


def training(inputs: Inputs, stamp: str) -> dict[str, Any] | None:
    """The loss curve with the facts of the run; None where nothing was trained."""
    document = next(iter(inputs.training.values()), None)
    if document is None:
        return None
    history = document.get("history", [])
    train = [(float(entry["step"]), float(entry["loss"])) for entry in history if entry.get("loss") is not None]
    held_out = [
        (float(entry["step"]), float(entry["eval_loss"])) for entry in history if entry.get("eval_loss") is not None
    ]
    facts = [
        (key.replace("_", " "), text.value(value, 120).strip('"'))
        for key, value in document.items()
        if key not in ("history", "format") and not isinstance(value, dict | list) and value is not None
    ]
    if selection := document.get("selection"):
        facts.append(("adapter kept", _kept(selection)))
    ends = (
        f"Training loss falls from {train[0][1]:.3f} to {train[-1][1]:.3f} in {train[-1][0]:.0f} steps."
        if train
        else ""
    )
    plot = (
        plots.curve(train, held_out, key="curve", title="Loss over training steps", desc=ends, stamp=stamp)
        if train
        else ""
    )
    return {"plot": plot, "facts": facts, "ends": ends}


def _kept(selection: dict[str, Any]) -> str:
    reached = "; ".join(
        f"step {each['step']}: "
        + ", ".join(f"{text.clean(name, 60)} {value:.3f}" for name, value in each["metrics"].items())
        for each in selection["candidates"]
    )
    return (
        f"after step {selection['step']}, by what it answers to {text.count(selection['rows'])} rows of val ({reached})"
    )


def provenance(inputs: Inputs) -> dict[str, Any]:
    """Digests, models, versions and settings."""
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
        "facts": _facts(inputs),
        "settings": text.plain(inputs.settings, 20_000),
    }


def _facts(inputs: Inputs) -> list[tuple[str, str]]:
    teacher, models = inputs.settings.get("teacher", {}), inputs.settings.get("models", {})
    found = {
        "digest of the test rows (sha256)": inputs.metrics["teacher"]["data_sha256"],
        "teacher": " ".join(str(teacher[key]) for key in ("provider", "model") if teacher.get(key)),
        **{
            f"checkpoint {name}": " ".join(
                str(model[key]) for key in ("source", "repo_id", "path", "revision") if model.get(key)
            )
            for name, model in models.items()
        },
        "base of the adapter (fingerprint)": ", ".join(
            sorted({one["base_fingerprint"] for one in inputs.training.values()})
        ),
    }
    return [(key, text.clean(value, 300)) for key, value in found.items() if value]


def _counted(counts: Mapping[str, int]) -> list[str]:
    return [f"{text.clean(str(name), 80)} × {text.count(number)}" for name, number in counts.items()]
