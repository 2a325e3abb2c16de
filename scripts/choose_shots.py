"""Choose the answered rows of train that are put before every row of a contender, on val.

    python scripts/choose_shots.py --track toolcall --contender fewshot --config config/config.yaml \
        --train results/data/toolcall/train.jsonl --val results/data/toolcall/val.jsonl \
        --model results/models/slm/manifest.json --out results/shots/toolcall/fewshot.jsonl

Writes the rows and, beside them, how they were chosen. The test rows have no say in it.
"""

import argparse
from pathlib import Path

from fledgling.choose_shots import choose
from fledgling.cli import run
from fledgling.graph import sees
from fledgling.graph.driver import where


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", required=True)
    parser.add_argument("--contender", required=True)
    parser.add_argument("--train", required=True, type=Path, help="rows that shots are drawn from")
    parser.add_argument("--val", required=True, type=Path, help="rows on which they are chosen")
    parser.add_argument("--model", required=True, type=Path, help="results/models/{model}/manifest.json")
    parser.add_argument("--adapter", type=Path, help="results/adapters/{track}/{adapter}/manifest.json")
    sees.add_arguments(parser)
    parser.add_argument("--journal", type=Path, help="folder of finished work")
    parser.add_argument("--out", required=True, type=Path, help="the shots (.jsonl)")
    args = parser.parse_args()
    choose(
        track=args.track,
        contender=args.contender,
        train=args.train,
        val=args.val,
        model=args.model,
        adapter=args.adapter,
        settings=sees.of_arguments(args, "choose_shots", contender=args.contender),
        journal=args.journal or Path(where().get("journal", ".journal")),
        out=args.out,
    )


if __name__ == "__main__":
    run(main)
