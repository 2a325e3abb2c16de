"""The verdict: teacher, slm and tuned on the same test rows; what to deploy, or how many rows are missing.

    python scripts/decide.py --track toolcall --settings '{"decision": …, "seed": 7, "track": …}' \
        --compare results/compare/toolcall.json --datasheet results/data/toolcall/datasheet.json \
        --rows results/metrics/toolcall/{teacher,slm,tuned}.jsonl --floors results/metrics/toolcall/floor-*.jsonl \
        --metrics results/metrics/toolcall/*.json --out results/verdict/toolcall.json

Each file is known by its name: teacher, slm and, where something was trained, tuned. `--repeat` takes the rows of
second runs, in files of the same names elsewhere; a contender that differs from itself by more than the margin gets no
verdict. `--ledger` names a file outside results/ that counts the verdicts on each test split.
"""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from fledgling.cli import run
from fledgling.decision import looks
from fledgling.decision.gate import Rule, foreign
from fledgling.decision.scored import read_rows
from fledgling.decision.verdict import Rows, inputs_digest, verdict
from fledgling.errors import DataError, UsageError
from fledgling.files import read_json, write_json
from fledgling.graph.driver import where


def _ledger() -> str | None:
    """Beside the journal in a run of the graph, nowhere by hand."""
    folder = where().get("journal")
    return f"{folder}/looks.jsonl" if folder else None


def _by_name(paths: list[str]) -> dict[str, Any]:
    return {Path(path).stem: read_json(path) for path in paths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", required=True)
    parser.add_argument("--settings", required=True, type=json.loads, help="decision, seed, track … as JSON")
    parser.add_argument("--compare", required=True)
    parser.add_argument("--datasheet", required=True)
    parser.add_argument("--rows", required=True, nargs="+", help="scored rows of teacher, slm and tuned")
    parser.add_argument("--floors", required=True, nargs="+")
    parser.add_argument("--metrics", required=True, nargs="+")
    parser.add_argument("--repeat", nargs="*", default=[], help="scored rows of second runs")
    parser.add_argument("--repeat-metrics", nargs="*", default=[], help="metrics beside these")
    parser.add_argument("--ledger", default=_ledger(), help="count this verdict here")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    by = {Path(path).stem: path for path in args.rows}
    if not {"teacher", "slm"} <= by.keys() <= {"teacher", "slm", "tuned"}:
        raise UsageError(f"--rows needs teacher.jsonl, slm.jsonl and perhaps tuned.jsonl; found: {', '.join(by)}")
    if unknown := {Path(path).stem for path in args.repeat} - by.keys():
        raise UsageError(f"--repeat: no first run of {', '.join(sorted(unknown))} is among --rows")
    datasheet, compared = read_json(args.datasheet), read_json(args.compare)
    if compared["track"] != args.track:
        raise DataError(f"{args.compare}: is about track {compared['track']!r}, not {args.track!r}")
    rule = Rule.of(args.track, {"simulated": compared["simulated"]} | args.settings)
    rows = Rows(
        read_rows(by["teacher"]),
        tuple(read_rows(by[name]) for name in ("slm", "tuned") if name in by),
        tuple(read_rows(path) for path in args.floors),
        tuple(read_rows(path) for path in args.repeat),
    )
    number = None
    if args.ledger:
        test = datasheet["splits"]["test"]["sha256"]
        number = looks.look(args.ledger, test=test, inputs=inputs_digest(rule, rows))
    problems = foreign(rows.first_runs(), datasheet, _by_name(args.metrics))
    again = foreign(rows.repeats, datasheet, _by_name(args.repeat_metrics))
    problems += [f"second run: {problem}" for problem in again]
    result = verdict(rule, rows, datasheet, problems=problems, looks=number)
    write_json(args.out, result)
    logging.getLogger("decide").info("%s: %s", result["deploy"], result["statement"])


if __name__ == "__main__":
    run(main)
