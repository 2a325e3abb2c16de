"""Bring one checkpoint here, or make the embedded one, and record every file's digest.

Settings: {"model": a block of `models` in the configuration, "seed"}. The checkpoint lies in the folder
`checkpoint` beside the manifest, or stays where models.<name>.path says (SLM_MODEL_PATH for the model named slm).
"""

import argparse
import logging
from pathlib import Path

from fledgling.cli import run
from fledgling.fetch import fetch
from fledgling.graph import sees


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="name of the model in the configuration")
    sees.add_arguments(parser)
    parser.add_argument("--out", required=True, type=Path, help="the manifest")
    args = parser.parse_args()
    settings = sees.of_arguments(args, "fetch", model=args.model)
    model = fetch(settings["model"], args.out, seed=settings["seed"])
    logging.info(
        "%s: %s, %s parameters, fingerprint %s", args.out, model.architecture, model.parameters, model.fingerprint
    )


if __name__ == "__main__":
    run(main)
