"""Say what this machine has, what a run would use of it, and whether each stage fits. Run it once before the first run.

    python scripts/gpu_check.py                                                        the embedded default
    python scripts/gpu_check.py --configfile config/config.yaml config/phi4-mini.yaml  the same files as for snakemake

Reads the configuration, the checkpoint where it is built, and what earlier runs left; starts nothing. Memory is an
estimate from the checkpoint's config.json; what is unknown is called unknown. Exit code 3 where a run could not start:
more cards are asked for than are visible, or an engine or back-end that cannot run here.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from fledgling.cli import run
from fledgling.config import load
from fledgling.errors import ConfigError
from fledgling.forecast.fit import check, text, this_machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--configfile",
        "--config",
        type=Path,
        nargs="+",
        default=[Path("config/config.yaml")],
        dest="config",
        help="later over earlier",
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="what is built")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args()
    report = check(load(*options.config), results=options.results, machine=this_machine())
    print(json.dumps(asdict(report), indent=2, default=str) if options.json else text(report), flush=True)
    if report.refusals:
        raise ConfigError("this configuration cannot run here:\n  " + "\n  ".join(report.refusals))


if __name__ == "__main__":
    run(main)
