"""Which configuration a command line names, spelt the same in every script and command."""

import argparse
from pathlib import Path

from fledgling.config import Config, load

DEFAULT = Path("config/config.yaml")


def add_config(parser: argparse._ActionsContainer) -> None:
    """--config FILE…, or --configfile as Snakemake spells it: merged over config/config.yaml, later over earlier."""
    parser.add_argument(
        "--config",
        "--configfile",
        dest="config",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="configuration files over config/config.yaml, later over earlier, as with snakemake --configfile",
    )


def configured(args: argparse.Namespace) -> Config:
    """The configuration that the options name, as the graph sees it."""
    named = args.config[1:] if args.config[:1] == [DEFAULT] else args.config
    return load(DEFAULT, *named)
