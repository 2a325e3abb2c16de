"""Ask a small local model every row of a split, under an adapter if it has one.

    python scripts/answer.py --track toolcall --contender slm --config config/config.yaml \
        --data results/data/toolcall/test.jsonl --model results/models/slm/manifest.json --out slm.jsonl

Reads rows and a checkpoint's manifest, with an adapter's manifest for a contender that is trained (or those of all
candidates of a training), and writes one prediction a row with the raw text kept. Runs on GPUs where there are some
and on the CPU otherwise. Finished rows lie in the journal, so that a run that was killed goes on and added rows are the
only ones asked. An adapter of another base is refused.
"""

import argparse
import itertools
from pathlib import Path

from fledgling import contenders
from fledgling.cli import run
from fledgling.errors import UsageError
from fledgling.graph import sees
from fledgling.graph.driver import where
from fledgling.slm.answer import Ask, answer_all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", required=True, help="name of the track")
    parser.add_argument("--contender", required=True, help="name of the contender")
    parser.add_argument("--data", required=True, type=Path, nargs="+", help="rows to answer (val.jsonl test.jsonl)")
    parser.add_argument("--model", required=True, type=Path, help="results/models/{model}/manifest.json")
    parser.add_argument(
        "--adapter",
        type=Path,
        nargs="+",
        help="results/adapters/{track}/{adapter}/manifest.json; several share a start",
    )
    sees.add_arguments(parser)
    parser.add_argument(
        "--ahead", type=Path, help="rows that one of the adapters will be asked next, answered where a start costs more"
    )
    parser.add_argument(
        "--untuned",
        action="store_true",
        help="by hand: the model without adapter will be asked --data and --ahead, too",
    )
    parser.add_argument("--repeat", type=int, default=0, help="by hand: 1 asks everything a second time")
    parser.add_argument(
        "--shots", type=Path, help="results/shots/{track}/{contender}.jsonl: answered rows that are put before each row"
    )
    parser.add_argument("--journal", type=Path, help="folder of finished work")
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        nargs="+",
        help="predictions (.jsonl), a file for each of --data by each adapter",
    )
    args = parser.parse_args()
    settings = sees.of_arguments(args, "answer", contender=args.contender, repeat=args.repeat)
    adapters = args.adapter or [None]
    asked = list(itertools.product(args.data, adapters))
    if len(asked) != len(args.out):
        raise UsageError(f"--out: {len(args.out)} files where {len(asked)} are answered; give one for each")
    answer_all(
        [Ask(data, adapter, out, args.shots) for (data, adapter), out in zip(asked, args.out, strict=True)],
        track=args.track,
        model=args.model,
        settings=settings,
        journal=args.journal or Path(where().get("journal", ".journal")),
        ahead=args.ahead,
        untuned=args.untuned or args.contender.rpartition(".")[0] in where().get("untuned", {}).get(args.track, ()),
        spelled=lambda key: contenders.spelled(where().get("spelled", {}), args.contender, args.track, key),
    )


if __name__ == "__main__":
    run(main)
