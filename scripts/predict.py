"""Ask the slm (or the tuned one) every row of a split.

Reads results/data/{track}/test.jsonl and a checkpoint's manifest, with an adapter's manifest for the
tuned contender, and writes one prediction a row with the raw text kept. Runs on cards where there
are some and on the CPU otherwise. Finished rows lie in the journal, so that a run that was killed
goes on and added rows are the only ones asked. An adapter of another base is refused.
"""

import argparse
import json
from pathlib import Path

from fledgling.cli import run
from fledgling.graph.driver import where
from fledgling.slm.predict import predict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", required=True, help="name of the track, for the log")
    parser.add_argument("--data", required=True, type=Path, help="rows to answer (test.jsonl)")
    parser.add_argument("--model", required=True, type=Path, help="results/models/slm/manifest.json")
    parser.add_argument("--adapter", type=Path, help="results/adapters/{track}/manifest.json")
    parser.add_argument(
        "--settings", required=True, type=json.loads, help='JSON: {"slm": …, "track": …, "seed": …, "repeat": 1}'
    )
    parser.add_argument("--journal", type=Path, help="folder of finished work")
    parser.add_argument("--out", required=True, type=Path, help="predictions to write (.jsonl)")
    args = parser.parse_args()
    predict(
        track=args.track,
        data=args.data,
        model=args.model,
        adapter_path=args.adapter,
        settings=args.settings,
        journal=args.journal or Path(where().get("journal", ".journal")),
        out=args.out,
    )


if __name__ == "__main__":
    run(main)
