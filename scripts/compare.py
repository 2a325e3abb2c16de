"""The gate: the teacher against the slm, row by row; says in a file whether to fine-tune.

    python scripts/compare.py --track toolcall --settings '{"decision": …, "seed": 7, "track": …}' \
        --datasheet results/data/toolcall/datasheet.json --teacher results/metrics/toolcall/teacher.jsonl \
        --slm results/metrics/toolcall/slm.jsonl --floors results/metrics/toolcall/floor-*.jsonl \
        --out results/compare/toolcall.json

`decision` in the file is swap, fine_tune, inconclusive or invalid; docs/decision.md explains each. The exit code
says only whether a file was written: a contender that misses the gate is an answer, not an error.
"""

import argparse
import json
import logging
from pathlib import Path

from fledgling.cli import run
from fledgling.decision import gate
from fledgling.decision.scored import read_rows
from fledgling.files import read_json, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", required=True)
    parser.add_argument("--settings", required=True, type=json.loads, help="decision, seed, track … as JSON")
    parser.add_argument("--datasheet", required=True)
    parser.add_argument("--teacher", required=True, help="scored rows, as --rows of scripts/score.py writes them")
    parser.add_argument("--slm", required=True)
    parser.add_argument("--floors", required=True, nargs="+")
    parser.add_argument(
        "--metrics", nargs="+", default=[], help="metrics beside the rows, to check where they stem from"
    )
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    teacher, slm = read_rows(args.teacher, "teacher"), read_rows(args.slm, "slm")
    floors = [read_rows(floor) for floor in args.floors]
    metrics = {Path(path).stem: read_json(path) for path in args.metrics}
    problems = gate.foreign([teacher, slm, *floors], read_json(args.datasheet), metrics)
    result = gate.compare(gate.Rule.of(args.track, args.settings), teacher, slm, floors, problems=problems)
    write_json(args.out, result)
    logging.getLogger("compare").info("%s: %s", result["decision"], result["statement"])


if __name__ == "__main__":
    run(main)
