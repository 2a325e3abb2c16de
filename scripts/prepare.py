"""Make a track's sources into train, val and test, with a datasheet: what happened to every row, what the test rows can show."""

import argparse
import logging
from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import Datasheet
from fledgling.cli import run
from fledgling.data.prepare import prepare
from fledgling.forecast import enough
from fledgling.graph import driver, sees


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
    sheet = prepare(settings["track"], settings["seed"], name=given.track, outputs=outputs)
    where, log = driver.where(), logging.getLogger("prepare")
    if "decision" not in where:
        log.warning("no margin was given (--config has it): what the test rows can show is not said")
    elif found := enough.prospect(Path(given.test), sheet["sources"], where, given.track):
        sheet["power"] = found
        log.log(logging.WARNING if found["low"] else logging.INFO, "%s: %s", given.track, found["sentence"])
    artefacts.write(Datasheet, given.datasheet, sheet)


if __name__ == "__main__":
    run(main)
