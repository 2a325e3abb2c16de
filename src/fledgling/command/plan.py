"""Say what a run would ask, cost and take before it does: rows, calls, tokens, money and GPU minutes a job.

    fledgling plan                                                    the embedded default
    fledgling plan --config config/config.yaml config/phi4-mini.yaml  the same files as for snakemake

Reads the configuration, the prepared rows and the journal; asks nobody. What is unknown is called unknown. Below the
table: how often an engine starts; whether the test rows can suffice, as the chance that an equally good model passes.
Minutes are those of the last time, and money in brackets is this machine's (slm.price_per_hour). `built` jobs run again
only where `snakemake -n` lists them. Paid replies and run times outlive `make clean`.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from fledgling.config import Config
from fledgling.contenders import ANSWERING, ASKING
from fledgling.forecast import starts
from fledgling.forecast.enough import sentences
from fledgling.forecast.history import History
from fledgling.forecast.plan import plan, table
from fledgling.forecast.start import beyond_budget
from fledgling.graph.options import add_config, configured


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)
    parser.add_argument("--results", type=Path, default=Path("results"), help="what is built")
    parser.add_argument("--journal", type=Path, help="folder of paid replies (default: the configuration's)")
    parser.add_argument("--json", action="store_true", help="for programs")


def call(args: argparse.Namespace) -> None:
    """Print the plan."""
    config = configured(args)
    lines = plan(config, results=args.results, journal=args.journal or Path(config["journal"]))
    if args.json:
        print(json.dumps([asdict(line) for line in lines], indent=2))
        return
    others = _others(History.of(args.results), config)
    said = [table(lines), *others, *starts.sentences(config), *sentences(config, results=args.results)]
    print("\n".join([*said, *beyond_budget(config, list(config["tracks"]), args.results)]))


def _others(history: History, config: Config) -> list[str]:
    """What the jobs that ask nobody took last time."""
    took = history.others(config["tracks"], (*ASKING, *ANSWERING, "choose_shots", "train"))
    if not took:
        return []
    each = ", ".join(f"{rule} {seconds:.0f} s" for rule, seconds in sorted(took.items(), key=lambda item: -item[1]))
    return [f"the other jobs, last time: {each}; they cost no calls"]
