"""Bring one checkpoint here, or make the embedded one, and record every file's digest.

Settings: {"model": a block of `models` in the configuration, "seed"}. The checkpoint lies in the folder
`checkpoint` beside the manifest, or stays where models.<name>.path says. SLM_MODEL_PATH, the folder of a
checkpoint, takes the place of whatever is configured for the model named slm.
"""

import argparse
import json
import logging
import os
from pathlib import Path

from fledgling.cli import run
from fledgling.fetch import fetch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="name of the model in the configuration")
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON: model, seed")
    parser.add_argument("--out", required=True, type=Path, help="the manifest")
    args = parser.parse_args()
    override = os.environ.get("SLM_MODEL_PATH") if args.model == "slm" else None
    model = fetch(args.settings["model"], args.out, seed=args.settings["seed"], override=override)
    logging.info(
        "%s: %s, %s parameters, fingerprint %s", args.out, model.architecture, model.parameters, model.fingerprint
    )


if __name__ == "__main__":
    run(main)
