"""Say what a run would ask and cost before it does: rows, calls, tokens, money and GPU minutes per rule.

    python scripts/plan.py                                                    the embedded default
    python scripts/plan.py --config config/config.yaml config/phi4-mini.yaml  the same files as for snakemake

Reads the configuration, the prepared rows and the journal; asks nobody. What is unknown is called unknown.
`snakemake -n` says which of these jobs would run.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from fledgling.cli import run
from fledgling.config import load
from fledgling.forecast.plan import plan, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config", type=Path, nargs="+", default=[Path("config/config.yaml")], help="later over earlier"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="what is built")
    parser.add_argument("--journal", type=Path, help="folder of paid replies (default: the configuration's)")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args()
    config = load(*options.config)
    lines = plan(config, results=options.results, journal=options.journal or Path(config["journal"]))
    print(json.dumps([asdict(line) for line in lines], indent=2) if options.json else table(lines))


if __name__ == "__main__":
    run(main)
