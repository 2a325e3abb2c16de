"""The outbox of many answers: seconds, memory and disk to keep 100,000 predictions of one contender, masked.

    python benchmarks/traces.py --rows 100000

Makes a track of so many rows (prompts, tools and replies of the embedded world's size, all different), lets the rule's
own command put it into the outbox with nobody there to send to, and prints what that took.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import Datasheet, Gate, Metrics, Predictions, Verdict
from fledgling.files import sha256_file, write_jsonl

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--like", type=Path, default=ROOT / "results", help="a built tree to take files after")
    parser.add_argument("--track", default="toolcall")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = prepared(Path(folder), arguments.like, arguments.track, arguments.rows)
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        disk = sum(path.stat().st_size for path in Path(folder, ".outbox").iterdir())
    print(
        f"{arguments.rows:,} rows and predictions: {seconds:.1f} s ({used.ru_utime + used.ru_stime:.1f} s of processor), "
        f"{used.ru_maxrss / 1024:.0f} MB at most, {disk / 1e6:.1f} MB on disk"
    )


def prepared(folder: Path, like: Path, track: str, rows: int) -> list[str]:
    """Files of one contender over `rows` rows, sealed, and the command that traces them."""
    data, predictions = folder / f"data/{track}/test.jsonl", folder / f"predictions/{track}/teacher.jsonl"
    metrics = folder / f"metrics/{track}/teacher.json"
    samples = [
        [json.loads(line) for line in (like / place / track / name).read_text().splitlines()]
        for place, name in (("data", "test.jsonl"), ("predictions", "teacher.jsonl"), ("metrics", "teacher.jsonl"))
    ]
    for path, sample, edit in zip(
        (data, predictions, metrics.with_suffix(".jsonl")), samples, (asked, replied, None), strict=True
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(path, (numbered(sample[number % len(sample)], number, edit) for number in range(rows)))
    sheet = read(like / f"data/{track}/datasheet.json")
    sheet["splits"]["test"] |= {"sha256": sha256_file(data), "rows": rows}
    artefacts.write(Datasheet, data.parent / "datasheet.json", sheet)
    seal = read(like / f"predictions/{track}/teacher.json")
    seal |= {"sha256": sha256_file(predictions), "rows": rows, "made_from": {str(data): sha256_file(data)}}
    artefacts.write(Predictions, predictions.with_suffix(".json"), seal)
    scored = read(like / f"metrics/{track}/teacher.json")
    scored |= {
        "predictions_sha256": seal["sha256"],
        "rows_sha256": sha256_file(metrics.with_suffix(".jsonl")),
        "n": rows,
    }
    artefacts.write(Metrics, metrics, scored)
    for kind, name in ((Gate, "compare"), (Verdict, "verdict")):
        artefacts.write(kind, folder / f"{name}.json", read(like / f"{name}/{track}.json"))
    return [
        *(sys.executable, str(ROOT / "scripts/trace.py"), "--track", track, "--settings", "{}"),
        *("--verdict", "verdict.json", "--compare", "compare.json", "--data", str(data)),
        *("--predictions", str(predictions), "--metrics", str(metrics), "--out", "trace.json"),
    ]


def read(path: Path) -> dict:
    """A file to go by, without its own seal."""
    value = json.loads(path.read_text())
    value.pop("seal", None)
    return value


def numbered(row: dict, number: int, edit) -> dict:
    row = {**row, "id": f"{row['id']}-{number}"}
    return edit(row, number) if edit else row


def asked(row: dict, number: int) -> dict:
    *before, last = row["messages"]
    return {**row, "messages": [*before, {**last, "content": f"{last['content']} (request {number})"}]}


def replied(row: dict, number: int) -> dict:
    calls = [
        {
            **one,
            "id": f"call_{number}",
            "function": {**one["function"], "arguments": one["function"]["arguments"] + " " * (number % 7)},
        }
        for one in row["tool_calls"] or []
    ]
    return {**row, "tool_calls": calls or None}


if __name__ == "__main__":
    main()
