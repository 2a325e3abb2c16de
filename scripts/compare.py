"""The gate: the teacher against the contenders that need no training; says in a file which one is built next, if any.

    python scripts/compare.py --track toolcall --config config/config.yaml \
        --datasheet results/data/toolcall/datasheet.json --rows results/metrics/toolcall/{teacher,slm}.jsonl \
        --floors results/metrics/toolcall/floor-*.jsonl --out results/compare/toolcall.json

Each file is known by its name. `decision` in the file is swap, fine_tune, inconclusive or invalid; docs/decision.md
explains each. The exit code says only whether a file was written: a contender that misses the gate is an answer.
"""

import argparse
import logging

from fledgling import artefacts
from fledgling.artefacts import Gate
from fledgling.bought import record_of
from fledgling.cli import run
from fledgling.decision import buying, evidence, gate
from fledgling.decision.rule import Rule
from fledgling.graph import sees


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", required=True)
    sees.add_arguments(parser)
    parser.add_argument("--datasheet", required=True)
    parser.add_argument("--rows", required=True, nargs="+", help="scored rows of the teacher and the contenders")
    parser.add_argument("--floors", required=True, nargs="+", help="scored rows of the floors")
    parser.add_argument("--metrics", nargs="+", default=[], help="the metrics that vouch for the rows")
    parser.add_argument("--ladder", nargs="*", default=[], help="what val says of the contenders")
    parser.add_argument("--bought", help="seal of the teacher's predictions, where its rows were bought in looks")
    parser.add_argument("--key", default="", help="names what the answer rests on")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    settings = sees.of_arguments(args, "compare")
    rule = Rule.of(args.track, settings)
    bought = record_of(args.bought) if args.bought else None
    if bought is not None:
        rule = buying.held(rule, bought, args.bought)
    found = evidence.read(args.datasheet, args.rows, args.floors, args.metrics, bought=bought)
    ladder = evidence.ladder(settings["ladder"], found.rows)
    result = gate.judge(
        rule.over(found.datasheet),
        ladder,
        found.rows.teacher,
        found.rows.contenders,
        found.rows.floors,
        trials=evidence.read_trials(args.ladder),
        problems=found.problems,
        key=args.key,
        made_from=found.made_from | artefacts.digests(*args.ladder, *([args.bought] if args.bought else [])),
    )
    artefacts.write(Gate, args.out, result)
    logging.getLogger("compare").info("%s: %s", result["decision"], result["statement"])


if __name__ == "__main__":
    run(main)
