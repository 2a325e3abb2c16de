"""How fast scoring is, and how much memory it takes.

    python benchmarks/score.py [--rows 100000] [--kind toolcall] [--folder DIR]

Makes rows and predictions (some right, some wrong, broken, in other dialects), scores them in a process of its own
and prints seconds of one core, rows a second and the peak of resident memory.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCORE = Path(__file__).resolve().parents[1] / "scripts" / "score.py"
CITIES = ["Oslo", "Lima", "Cairo", "Perth", "Turin", "Quito"]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Do what {name} does.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city."},
                    "days": {"type": "integer", "description": "How many days."},
                    "units": {"type": "string", "enum": ["metric", "imperial"]},
                },
                "required": ["city"],
            },
        },
    }
    for name in ("get_weather", "book_hotel", "find_flight", "plan_route")
]
SCHEMA = {
    "title": "trip",
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "arguments": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
    "required": ["name", "arguments"],
    "additionalProperties": False,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--kind", choices=("toolcall", "structured"), default="toolcall")
    parser.add_argument("--folder", help="where to keep the files; else they are removed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        make(folder, given.rows, given.kind)
        print(json.dumps({"kind": given.kind, "rows": given.rows, **measure(folder, given.kind)}))


def make(folder: Path, rows: int, kind: str) -> None:
    """Write test.jsonl and predictions.jsonl, the same for the same arguments."""
    rng = random.Random(0)
    with open(folder / "test.jsonl", "w") as data, open(folder / "predictions.jsonl", "w") as predictions:
        for number in range(rows):
            calls = [
                {
                    "name": rng.choice(TOOLS)["function"]["name"],
                    "arguments": {"city": rng.choice(CITIES), "days": rng.randint(1, 9)},
                }
                for _ in range(1 if kind == "structured" else rng.choices((0, 1, 2), (1, 7, 2))[0])
            ]
            text = f"Please look after {json.dumps(calls)} for me, number {number}, as soon as you can."
            row = {"id": f"row-{number}", "group": f"row-{number}", "messages": [{"role": "user", "content": text}]}
            if kind == "toolcall":
                row |= {"tools": TOOLS, "answer": calls}
                raw = reply(rng, calls)
            else:
                row |= {"schema": SCHEMA, "answer": calls[0]}
                raw = json.dumps(calls[0])[: rng.choice((None, None, None, -1))]
            data.write(json.dumps(row) + "\n")
            usage = {"prompt_tokens": 300, "completion_tokens": 40}
            prediction = {"id": row["id"], "outcome": "ok", "raw": raw, "usage": usage, "latency_s": 0.5, "model": "m"}
            predictions.write(json.dumps(prediction) + "\n")


def reply(rng: random.Random, calls: list[dict]) -> str:
    """One reply in some dialect; one in five has a wrong argument, one in twenty is broken."""
    if not calls:
        return "There is nothing that I could call for this."
    calls = [dict(call) for call in rng.sample(calls, len(calls))]
    if rng.random() < 0.2:
        calls[0]["arguments"] = {**calls[0]["arguments"], "city": "Nowhere"}
    text = json.dumps(calls)
    if rng.random() < 0.05:
        text = text[:-1]
    return rng.choice(("<|tool_call|>{}<|/tool_call|>", "functools{}", "[TOOL_CALLS] {}", "{}")).replace("{}", text)


def measure(folder: Path, kind: str) -> dict[str, float]:
    """Score the files in `folder`: seconds of processor and of wall time, peak MiB of memory."""
    command = [
        sys.executable,
        str(SCORE),
        "--track-kind",
        kind,
        "--data",
        str(folder / "test.jsonl"),
        "--predictions",
        str(folder / "predictions.jsonl"),
        "--out",
        str(folder / "metrics.json"),
        "--rows",
        str(folder / "rows.jsonl"),
    ]
    start = time.perf_counter()
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    subprocess.run(command, check=True, env={**os.environ, **single}, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "processor_s": round(used.ru_utime + used.ru_stime, 2),
        "wall_s": round(wall, 2),
        "peak_mib": round(used.ru_maxrss / 1024, 1),
    }


if __name__ == "__main__":
    main()
