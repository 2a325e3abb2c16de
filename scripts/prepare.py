"""Make a track's sources into train, val and test, with a datasheet that says what happened to every row."""

import argparse

from fledgling import artefacts
from fledgling.artefacts import Datasheet
from fledgling.cli import run
from fledgling.data.prepare import prepare
from fledgling.graph import sees


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--track", required=True, help="name of the track, as in the configuration")
    sees.add_arguments(parser)
    parser.add_argument("--train", required=True, help="JSON Lines to write")
    parser.add_argument("--val", required=True, help="JSON Lines to write")
    parser.add_argument("--test", required=True, help="JSON Lines to write")
    parser.add_argument("--datasheet", required=True, help="JSON to write")
    given = parser.parse_args()
    settings = sees.of_arguments(given, "prepare")
    outputs = {"train": given.train, "val": given.val, "test": given.test}
    artefacts.write(
        Datasheet, given.datasheet, prepare(settings["track"], settings["seed"], name=given.track, outputs=outputs)
    )


if __name__ == "__main__":
    run(main)
