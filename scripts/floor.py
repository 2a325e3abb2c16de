"""Answer a split without a model, as the floor that every contender has to beat.

Writes predictions that echo the prompt, repeat the most frequent answer of train, or give nothing but what the
schema or the tools require (fledgling.tracks.floors says exactly what).
"""

import argparse

from fledgling.cli import run
from fledgling.records import KINDS, read_examples
from fledgling.sealing import verify_rows, write_predictions
from fledgling.tracks.floors import FLOORS, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--floor", required=True, choices=FLOORS, help="which floor")
    parser.add_argument("--track-kind", required=True, choices=KINDS, help="what the answers are")
    parser.add_argument("--train", required=True, help="rows whose answers are known (JSON Lines)")
    parser.add_argument("--data", required=True, help="rows to answer (JSON Lines)")
    parser.add_argument("--out", required=True, help="predictions to write (.jsonl)")
    given = parser.parse_args()
    for path in (given.train, given.data):
        verify_rows(path)
    predictions = answers(given.floor, given.track_kind, read_examples(given.train), read_examples(given.data))
    rows = (prediction.to_json() for prediction in predictions)
    write_predictions(given.out, rows, made_from=[given.train, given.data])


if __name__ == "__main__":
    run(main)
