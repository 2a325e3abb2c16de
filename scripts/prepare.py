"""Make a track's sources into train, val and test, with a datasheet that says what happened to every row."""

import argparse
import json

from fledgling.cli import run
from fledgling.data.prepare import prepare
from fledgling.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--track", required=True, help="name of the track, as in the configuration")
    parser.add_argument("--settings", required=True, help='JSON: {"track": the track\'s block, "seed": number}')
    parser.add_argument("--train", required=True, help="JSON Lines to write")
    parser.add_argument("--val", required=True, help="JSON Lines to write")
    parser.add_argument("--test", required=True, help="JSON Lines to write")
    parser.add_argument("--datasheet", required=True, help="JSON to write")
    given = parser.parse_args()
    settings = json.loads(given.settings)
    outputs = {"train": given.train, "val": given.val, "test": given.test}
    write_json(given.datasheet, prepare(settings["track"], settings["seed"], name=given.track, outputs=outputs))


if __name__ == "__main__":
    run(main)
