"""Files of every stage for tests of the report, by the real stages: prepare, score, compare, decide."""

import copy
import json
import random
import runpy
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fledgling.data.prepare import prepare
from fledgling.files import read_json, sha256_file, write_jsonl
from fledgling.records import Example, Prediction, read_examples
from fledgling.report.load import Inputs
from fledgling.score import score
from tests.project import write_sealed

ROOT = Path(__file__).resolve().parents[2]
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}
    for name, properties in {
        "get_weather": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"type": "string"}},
        "set_light": {"room": {"type": "string"}, "on": {"type": "boolean"}},
    }.items()
]
SCHEMA = {"title": "Trip", "type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}
CITIES = ("Berlin", "Paris", "Oslo", "Rome", "Łódź", "Faro", "Graz")
# How often each contender is right, by the answer that is to come out.
SHAPES: dict[str, tuple[int, dict[str, float]]] = {
    "swap": (420, {"teacher": 0.93, "slm": 0.96}),
    "tuned": (420, {"teacher": 0.93, "slm": 0.52, "tuned": 0.97}),
    "keep": (420, {"teacher": 0.97, "slm": 0.52, "tuned": 0.7}),
    "fine_tune": (420, {"teacher": 0.97, "slm": 0.52}),
    "inconclusive": (60, {"teacher": 0.95, "slm": 0.93}),
    "tried": (60, {"teacher": 0.95, "slm": 0.5, "tuned": 0.93}),
    "invalid": (420, {"teacher": 0.93, "slm": 0.95}),
}
LABELS = {"slm": "the untuned small model", "tuned": "the tuned small model"}
HOSTILE = '</script><script>alert(1)</script><img src=x onerror=alert(1)> {{ 7 * 7 }} & "quotes" $x^2$\x00\x1b[31m\ud800 \u202e'


def answer(kind: str, number: int) -> Any:
    city, days = CITIES[number % len(CITIES)], number % 9 + 1
    if kind == "structured":
        return {"city": city, "days": days, "options": {"unit": "celsius", "tags": ["a", "b"]}}
    calls = [{"name": "get_weather", "arguments": {"city": city, "days": days, "unit": "celsius"}}]
    return [*calls, {"name": "set_light", "arguments": {"room": "kitchen", "on": True}}] if number % 5 == 0 else calls


def example(kind: str, number: int) -> dict[str, Any]:
    request = (
        f"Weather number {number} in {CITIES[number % len(CITIES)]} for {number % 9 + 1} days, half degrees please"
    )
    row = Example(
        id=f"row-{number:04d}",
        group=f"record-{number}",
        answer=answer(kind, number),
        messages=[{"role": "system", "content": "You are a house assistant."}, {"role": "user", "content": request}],
        tools=TOOLS if kind == "toolcall" else None,
        schema=SCHEMA if kind == "structured" else None,
        category="several" if number % 5 == 0 else "one",
    )
    return row.to_json()


def reply(kind: str, gold: Any, name: str, dice: random.Random, rate: float) -> dict[str, Any]:
    value, fate = json.loads(json.dumps(gold)), dice.random()
    if fate > rate:
        target = value[0]["arguments"] if kind == "toolcall" else value
        target["city"] = "Bergen"
        fate = (fate - rate) / (1 - rate)
        if fate > 0.9:
            return {"outcome": "length", "raw": None}
        if fate > 0.7:
            return {"raw": "```json\n" + json.dumps(value) + "\n```"}
        if fate > 0.4:
            target["note"] = None
            del target["days"]
    if name == "teacher" and kind == "toolcall":
        calls = [{"function": {"name": c["name"], "arguments": json.dumps(c["arguments"])}} for c in value]
        return {"tool_calls": calls}
    return {"raw": f"<|tool_call|>{json.dumps(value)}<|/tool_call|>" if kind == "toolcall" else json.dumps(value)}


def script(name: str, *arguments: str) -> None:
    """Run an entry point of scripts/ here, as its command line would."""
    before, sys.argv = sys.argv, [name, *arguments]
    try:
        assert not runpy.run_path(str(ROOT / f"scripts/{name}.py"), run_name=name)["main"]()
    finally:
        sys.argv = before


def build(
    folder: Path, shape: str, kind: str, *, hostile: str | None = None, foreign: bool = False, simulated: bool = True
) -> dict[str, Any]:
    """Files of every stage, by the real functions; returns the arguments of `load`."""
    n, rates = SHAPES[shape]
    for index, (split, rows) in enumerate((("train", 30), ("val", 10), ("test", n))):
        numbers = range(index * 10_000, index * 10_000 + rows)
        write_jsonl(folder / f"source/{split}.jsonl", (example(kind, number) for number in numbers))
    outputs = {split: folder / f"data/{split}.jsonl" for split in ("train", "val", "test")}
    sources = [{"path": str(folder / f"source/{split}.jsonl"), "split": split} for split in outputs]
    policy = "never" if shape == "fine_tune" else "auto"
    block = {"kind": kind, "title": "House assistant", "finetune": policy, "leaks": {"near_duplicate": None}}
    datasheet = folder / "data/datasheet.json"
    write_sealed(datasheet, prepare(block | {"sources": sources}, 7, name="demo", outputs=outputs))
    examples = list(read_examples(outputs["test"]))
    prices = {"input_per_million": 2.5, "output_per_million": 10.0, "currency": "USD"}
    empty = "[]" if kind == "toolcall" else "{}"
    for name in (*rates, "floor-echo", "floor-empty"):
        dice = random.Random(f"{shape} {name}")
        answers = [
            {"raw": empty} if name not in rates else reply(kind, row.answer, name, dice, rates[name])
            for row in examples
        ]
        if shape == "invalid" and name == "teacher":
            answers[::3] = [{"outcome": "error", "raw": None} for _ in answers[::3]]
        if hostile is not None and name == "slm":
            texts = [hostile + "x" * (1_000_000 if place % 10 == 0 else 0) for place in range(len(examples))]
            answers = [{"raw": one if kind == "toolcall" else json.dumps({"city": one})} for one in texts]
        usage = {"prompt_tokens": 280, "completion_tokens": 41}
        facts = {"outcome": "ok", "usage": usage, "latency_s": 0.2, "model": name, "fingerprint": "ab12cd"}
        lines = [asdict(Prediction(**{"id": row.id, **facts, **a})) for row, a in zip(examples, answers, strict=True)]
        path = folder / f"predictions/{name}.jsonl"
        write_jsonl(path, lines)
        score(
            outputs["test"],
            path,
            kind,
            folder / f"metrics/{name}.json",
            folder / f"metrics/{name}.jsonl",
            prices if name == "teacher" else None,
        )
    if foreign:  # the teacher's rows are those of another test
        path = folder / "metrics/teacher.jsonl"
        path.write_text(path.read_text().replace('"id":"row-', '"id":"other-'))
        vouching = path.with_suffix(".json")
        write_sealed(vouching, read_json(vouching) | {"rows_sha256": sha256_file(path)})
    settings: dict[str, Any] = {
        "decision": {
            "margin": 0.05,
            "alpha": 0.05,
            "power": 0.8,
            "min_coverage": 0.9,
            "resamples": 400,
            "core": {"toolcall": ["ast_match_rate", "args_f1"], "structured": ["exact_match_rate", "field_f1"]},
        },
        "seed": 7,
        "track": block,
        "simulated": simulated,
    }
    names = list(rates)
    ladder = [rung(name) for name in names[1:]]
    settings |= {"ladder": ladder, "costs": {"prices": {}, "currency": None}}
    for name in names:
        lines = folder / f"predictions/{name}.jsonl"
        seal = {"rows": len(examples), "outcomes": {}, "sha256": sha256_file(lines), "limits": [], "given_up": 0}
        seal["made_from"] = {"test.jsonl": sha256_file(outputs["test"])}
        write_sealed(lines.with_suffix(".json"), {"format": "fledgling/predictions/1", **seal})
    rows = {name: str(folder / f"metrics/{name}.jsonl") for name in names}
    floors = [str(path) for path in sorted((folder / "metrics").glob("floor-*.jsonl"))]
    metrics = [str(path) for path in sorted((folder / "metrics").glob("*.json"))]
    shared = ["--track", "demo", "--settings", json.dumps(settings), "--datasheet", str(datasheet), "--floors", *floors]
    shared += ["--metrics", *metrics]
    compare = folder / "compare.json"
    untrained = [rows[name] for name in ("teacher", *(one["name"] for one in ladder if not one["adapter"]))]
    script("compare", *shared, "--rows", *untrained, "--out", str(compare))
    ledger, verdict = str(folder / "looks.jsonl"), str(folder / "verdict.json")
    judged = ["--compare", str(compare), "--rows", *rows.values(), "--ledger", ledger]
    script("decide", *shared, *judged, "--out", verdict)
    training = folder / "sft/training.json"
    if "tuned" in rates:
        training.parent.mkdir()
        write_sealed(training, trained())
    return {
        "verdict": folder / "verdict.json",
        "compare": compare,
        "data": outputs["test"],
        "datasheet": datasheet,
        "predictions": [folder / f"predictions/{name}.jsonl" for name in rates],
        "metrics": sorted((folder / "metrics").glob("*.json")),
        "rows": [folder / f"metrics/{name}.jsonl" for name in rates],
        "training": [training] if "tuned" in rates else [],
    }


def trained() -> dict[str, Any]:
    """The summary of a training that kept two candidates."""
    history = [{"step": step, "loss": 2 * 0.97**step, "tokens_per_s": 900.0} for step in range(1, 200, 5)]
    candidates = [{"step": step, "metrics": {"args_f1": value}} for step, value in ((98, 0.75), (196, 0.5))]
    return {
        "format": "fledgling/training/1",
        "track": "demo",
        "recipe": {"epochs": 2, "rank": 64},
        "history": [*history, {"step": 196, "eval_loss": 0.02}],
        "rows": 30,
        "left_out": {"too_long": 0},
        "steps": 196,
        "candidates": [98, 196],
        "final_loss": 0.01,
        "eval_loss": 0.02,
        "seconds": 33.1,
        "world_size": 1,
        "micro_batch_tokens": 2048,
        "accumulation": 1,
        "base_fingerprint": "ab" * 32,
        "backend": "peft",
        "selection": {"rows": 40, "candidates": candidates, "step": 98},
    }


def rung(name: str) -> dict[str, Any]:
    adapter = name.startswith("tuned")
    return {
        "name": name,
        "label": LABELS.get(name, name),
        "model": "slm",
        "adapter": "sft" if adapter else None,
        "after": "slm" if adapter else None,
    }


def widened(inputs: Inputs, names: list[str]) -> Inputs:
    """The same report about other contenders: each one the copy of slm or (`tuned…`) of tuned, in this order."""
    verdict = copy.deepcopy(inputs.verdict)
    source = {name: "tuned" if name.startswith("tuned") else "slm" for name in names}

    def spread(found: Any) -> Any:
        return {name: copy.deepcopy(found[kind]) for name, kind in source.items() if kind in found}

    verdict["ladder"] = [rung(name) for name in names]  # type: ignore[misc]
    verdict["comparisons"] = spread(verdict["comparisons"])
    for name, body in verdict["comparisons"].items():
        body["contender"] = name
    verdict["regressions"] = spread(verdict["regressions"])
    for values in verdict["slices"].values():
        for part in values.values():
            part["contenders"] = spread(part["contenders"])
    verdict["decisive"] = names[-1]
    if verdict["deploy"] not in ("teacher", "inconclusive"):
        verdict["deploy"] = names[-1]
    floors = {name: found for name, found in inputs.metrics.items() if name.startswith("floor-")}
    return replace(
        inputs,
        verdict=verdict,
        metrics={**floors, "teacher": inputs.metrics["teacher"], **spread(inputs.metrics)},
        predictions={"teacher": inputs.predictions["teacher"], **{n: inputs.predictions[k] for n, k in source.items()}},
        rows={"teacher": inputs.rows["teacher"], **{n: inputs.rows[k] for n, k in source.items()}},
    )
