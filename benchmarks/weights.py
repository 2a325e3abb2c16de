"""Is a split whose repeated rows were collapsed to one row with a weight judged as the rows that there were?

    python benchmarks/weights.py [--questions 300] [--seed 1] [--keep FOLDER]

Repeated traffic (each question 1 to 40 times) goes through the rules' own commands twice: `prepare` collapses it to rows
with weights, which are scored and judged as they are; and every row is put back as often as it came, in the group of its
question, then scored and judged. Teacher and contender answer a question alike whenever it comes. Prints each metric and
each gap with its bounds, both ways. Exit code 1 where a value or a gap differs, or a bound by more than the bootstrap's noise,
which is what another seed alone changes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fledgling import artefacts
from fledgling.artefacts import Datasheet
from fledgling.files import read_json, read_jsonl, sha256_file, write_jsonl

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("teacher", "slm", "floor-empty")
RIGHT = {"teacher": 0.94, "slm": 0.93, "floor-empty": 0.0}
NOISE = 0.005  # half a point: what a bound moves between seeds at the default number of resamples


def script(name: str, *arguments: str) -> None:
    """A rule's own command."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / f"scripts/{name}.py"), *arguments]
    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)


def settings(block: dict[str, Any], seed: int) -> dict[str, Any]:
    """What the rules hand to `prepare` and `compare`."""
    decision = {"margin": 0.05, "alpha": 0.05, "power": 0.8, "min_coverage": 0.9, "resamples": 10_000}
    core = {"structured": ["exact_match_rate", "field_f1"], "toolcall": ["ast_match_rate", "args_f1"]}
    ladder = [{"name": "slm", "label": "the small model", "model": "slm", "adapter": None, "after": None}]
    return {"track": block, "seed": seed, "decision": {**decision, "core": core}, "ladder": ladder, "simulated": True}


def traffic(folder: Path, questions: int, rng: np.random.Generator) -> dict[str, Any]:
    """Rows as they came, and the block of a track over them."""
    times = np.minimum(40, np.ceil(rng.pareto(0.9, questions) + 0.01).astype(int))
    lines = [
        {
            "id": f"q{number}-{copy}",
            "group": f"q{number}",
            "messages": [{"role": "user", "content": f"question {number}: {rng.integers(1 << 62):x}"}],
            "schema": {"type": "object"},
            "answer": {"a": int(number), "b": f"value {number}"},
        }
        for number, count in enumerate(times)
        for copy in range(count)
    ]
    asked: dict[str, str] = {}
    for line in lines:  # copies ask the same
        line["messages"][0]["content"] = asked.setdefault(line["group"], line["messages"][0]["content"])
    rng.shuffle(lines)
    write_jsonl(folder / "rows.jsonl", lines)
    few = [
        {**lines[0], "id": f"{part}", "group": part, "messages": [{"role": "user", "content": f"alone {part}"}]}
        for part in ("train", "val")
    ]
    for part in few:
        write_jsonl(folder / f"{part['id']}.jsonl", [part])
    sources = [
        {"path": str(folder / f"{name}.jsonl"), "split": split}
        for name, split in (("rows", "test"), ("train", "train"), ("val", "val"))
    ]
    return {
        "kind": "structured",
        "title": "Mail",
        "finetune": "never",
        "sources": sources,
        "leaks": {"near_duplicate": None},
    }


def prepared(folder: Path, block: dict[str, Any], seed: int) -> None:
    """The split as `prepare` collapses it, and the same with every row put back."""
    out = folder / "weighted"
    splits = [part for name in ("train", "val", "test") for part in (f"--{name}", str(out / f"{name}.jsonl"))]
    given = json.dumps(settings(block, seed))
    script("prepare", "--track", "mail", "--settings", given, *splits, "--datasheet", str(out / "datasheet.json"))
    again = [
        {**{key: value for key, value in row.items() if key != "weight"}, "id": f"{row['id']}#{copy}"}
        for _, row in read_jsonl(out / "test.jsonl")
        for copy in range(round(row.get("weight", 1)))
    ]
    put_back = folder / "copies"
    put_back.mkdir()
    write_jsonl(put_back / "test.jsonl", again)
    sheet = artefacts.read(Datasheet, out / "datasheet.json")
    sheet["splits"]["test"] |= {"rows": len(again), "sha256": sha256_file(put_back / "test.jsonl")}
    artefacts.write(Datasheet, put_back / "datasheet.json", sheet)


def answered(place: Path, rng_seed: int) -> None:
    """Predictions that depend on a row's question alone, scored by the rule's command."""
    for name in NAMES:
        lines = []
        for _, row in read_jsonl(place / "test.jsonl"):
            dice = np.random.default_rng([rng_seed, NAMES.index(name), int(row["answer"]["a"])])
            value = dict(row["answer"]) if dice.random() < RIGHT[name] else {"a": -1, "b": row["answer"]["b"]}
            reply = {} if name == "floor-empty" else value
            lines.append({"id": row["id"], "outcome": "ok", "raw": json.dumps(reply), "model": name})
        write_jsonl(place / f"predictions/{name}.jsonl", lines)
        files = ["--data", str(place / "test.jsonl"), "--predictions", str(place / f"predictions/{name}.jsonl")]
        out = ["--out", str(place / f"metrics/{name}.json"), "--rows", str(place / f"metrics/{name}.jsonl")]
        script("score", *files, "--track-kind", "structured", *out)


def judged(place: Path, block: dict[str, Any], seed: int) -> dict[str, Any]:
    """The gate's file, by the rule's command."""
    of = {name: str(place / f"metrics/{name}.jsonl") for name in NAMES}
    rows = ["--rows", of["teacher"], of["slm"], "--floors", of["floor-empty"]]
    metrics = ["--metrics", *(str(place / f"metrics/{name}.json") for name in NAMES)]
    out = place / f"compare-{seed}.json"
    given = ["--track", "mail", "--settings", json.dumps(settings(block, seed))]
    script("compare", *given, "--datasheet", str(place / "datasheet.json"), *rows, *metrics, "--out", str(out))
    return read_json(out)


def compared(folder: Path, questions: int, seed: int) -> list[tuple[str, float, float, float]]:
    """(what, weighted, as copies, how far they may lie apart) of every figure."""
    block = traffic(folder, questions, np.random.default_rng(seed))
    prepared(folder, block, seed)
    places = folder / "weighted", folder / "copies"
    for place in places:
        answered(place, seed)
    found: list[tuple[str, float, float, float]] = []
    one, other = (judged(place, block, seed) for place in places)
    found.append(("requests", one["comparisons"]["slm"]["requests"], other["comparisons"]["slm"]["n"], 0))
    found.append(("passes", float(one["decision"] == "swap"), float(other["decision"] == "swap"), 0))
    for name in ("teacher", "slm"):
        ours, theirs = (read_json(place / f"metrics/{name}.json")["metrics"] for place in places)
        for metric, entry in ours.items():
            if entry["value"] is None:
                continue
            found.append((f"{name} {metric}", entry["value"], theirs[metric]["value"], 1e-6))
            found += [(f"{name} {metric} {end}", entry[end], theirs[metric][end], NOISE) for end in ("low", "high")]
    ours, theirs = (body["comparisons"]["slm"]["metrics"] for body in (one, other))
    for metric, entry in ours.items():
        found.append((f"gap {metric}", entry["gap"], theirs[metric]["gap"], 1e-6))
        found += [(f"gap {metric} {end}", entry[end], theirs[metric][end], NOISE) for end in ("low", "high")]
    return found


def main() -> int:
    """Print every figure both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder for all files")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = compared(args.keep or Path(scratch), args.questions, args.seed)
    apart = [what for what, one, other, room in found if abs(one - other) > room]
    for what, one, other, _ in found:
        print(f"{what:40} {one:12.6f} {other:12.6f}")
    bounds = [abs(one - other) for _, one, other, room in found if room == NOISE]
    print(f"largest difference of a bound: {100 * max(bounds):.3f} points; {len(apart)} figures apart {apart}")
    return 1 if apart else 0


if __name__ == "__main__":
    sys.exit(main())
