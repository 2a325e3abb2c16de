"""Ask a small local model every row of a split, under an adapter if it has one.

    python scripts/answer.py --track toolcall --contender slm --config config/config.yaml \
        --data results/data/toolcall/test.jsonl --model results/models/slm/manifest.json --out slm.jsonl

Reads rows and a checkpoint's manifest, with an adapter's manifest for a contender that is trained, and writes one
prediction a row with the raw text kept. Runs on GPUs where there are some and on the CPU otherwise. Finished rows lie
in the journal, so that a run that was killed goes on and added rows are the only ones asked. An adapter of another
base is refused.
"""

import argparse
from pathlib import Path

from fledgling.cli import run
from fledgling.errors import UsageError
from fledgling.graph import sees
from fledgling.graph.driver import where
from fledgling.slm.answer import Ask, answer_all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", required=True, help="name of the track")
    parser.add_argument("--contender", required=True, help="name of the contender")
    parser.add_argument("--data", required=True, type=Path, help="rows to answer (test.jsonl)")
    parser.add_argument("--model", required=True, type=Path, help="results/models/{model}/manifest.json")
    parser.add_argument("--adapter", type=Path, help="results/adapters/{track}/{adapter}/manifest.json")
    sees.add_arguments(parser)
    parser.add_argument(
        "--also",
        nargs="+",
        action="append",
        default=[],
        metavar="DATA OUT [ADAPTER]",
        help="further rows, or further adapters of the model, that the same start of the engine answers (repeatable)",
    )
    parser.add_argument("--repeat", type=int, default=0, help="by hand: 1 asks everything a second time")
    parser.add_argument(
        "--shots", type=Path, help="results/data/{track}/train.jsonl, where shots are put before each row"
    )
    parser.add_argument("--journal", type=Path, help="folder of finished work")
    parser.add_argument("--out", required=True, type=Path, help="predictions to write (.jsonl)")
    args = parser.parse_args()
    settings = sees.of_arguments(args, "answer", contender=args.contender, repeat=args.repeat)
    if wrong := [more for more in args.also if len(more) not in (2, 3)]:
        raise UsageError(f"--also takes DATA OUT [ADAPTER], found {len(wrong[0])} values: {' '.join(wrong[0])}")
    more = [Ask(Path(data), Path(adapter[0]) if adapter else None, Path(out)) for data, out, *adapter in args.also]
    answer_all(
        [Ask(args.data, args.adapter, args.out), *more],
        track=args.track,
        model=args.model,
        settings=settings,
        journal=args.journal or Path(where().get("journal", ".journal")),
        train_data=args.shots,
    )


if __name__ == "__main__":
    run(main)
