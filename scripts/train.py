"""Tune the slm on one track.

Reads the train and val splits and a checkpoint's manifest, and writes training.json (recipe, loss curve,
speed) and beside it, in 1/, 2/, …, the adapters to choose from: weights, configuration and, last, manifest.
The loss is on the completion only; the global batch is the same on any number of cards. Start it with
`accelerate launch`, `torchrun` or plain `python`; a killed run goes on from its newest sealed checkpoint.
"""

import argparse
from pathlib import Path

from fledgling.cli import run
from fledgling.graph import sees
from fledgling.graph.driver import where
from fledgling.training.train import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", required=True, help="name of the track")
    parser.add_argument("--adapter", default="sft", help="name of the adapter")
    parser.add_argument("--train", required=True, type=Path, help="rows to train on (train.jsonl)")
    parser.add_argument("--val", required=True, type=Path, help="rows for the loss at the end (val.jsonl)")
    parser.add_argument("--model", required=True, type=Path, help="results/models/slm/manifest.json")
    sees.add_arguments(parser)
    parser.add_argument("--out", required=True, type=Path, help="results/candidates/{track}/{adapter}/training.json")
    args = parser.parse_args()
    settings = sees.of_arguments(args, "train", adapter=args.adapter)
    train(
        track=args.track,
        train_data=args.train,
        val_data=args.val,
        model=args.model,
        settings={**settings, "training": where().get("training", {})},
        out=args.out,
    )


if __name__ == "__main__":
    run(main)
