"""What val says of one contender: whether it promises to pass on test, or a dearer one is built.

    python scripts/try_on_val.py --track toolcall --contender slm --config config/config.yaml \
        --datasheet results/data/toolcall/datasheet.json --rows results/metrics/toolcall/val/{teacher,slm}.jsonl \
        --metrics results/metrics/toolcall/val/{teacher,slm}.json --out results/ladder/toolcall/slm.json

It decides what is built and never what passes (docs/decision.md). `--key` names what the answer rests on.
"""

import argparse
import logging

from fledgling import artefacts
from fledgling.artefacts import Trial
from fledgling.cli import run
from fledgling.decision import evidence, trial
from fledgling.decision.rule import Rule
from fledgling.graph import sees


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", required=True)
    parser.add_argument("--contender", required=True)
    sees.add_arguments(parser)
    parser.add_argument("--datasheet", required=True)
    parser.add_argument(
        "--rows", required=True, nargs="+", help="scored rows of val: the teacher's and the contender's"
    )
    parser.add_argument("--metrics", nargs="+", default=[], help="the metrics that vouch for the rows")
    parser.add_argument("--key", default="")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    settings = sees.of_arguments(args, "try_on_val", contender=args.contender)
    found = evidence.read(args.datasheet, args.rows, (), args.metrics, split="val")
    result = trial.judge(
        Rule.of(args.track, settings),
        found.rows.teacher,
        found.rows.contenders[0],
        trained=settings["trained"],
        test_rows=found.datasheet["splits"]["test"]["rows"],
        problems=found.problems,
        key=args.key,
        made_from=found.made_from,
    )
    artefacts.write(Trial, args.out, result)
    answer = "promises to pass" if result["promising"] else "does not promise to pass"
    logging.getLogger("try_on_val").info("%s %s: %s", args.contender, answer, result["reason"])


if __name__ == "__main__":
    run(main)
