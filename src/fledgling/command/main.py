"""The `fledgling` command: finds the subcommand, runs it, ends with its exit code."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Protocol, cast

from fledgling.cli import run

EXAMPLES = """\
examples:
  fledgling init rows.jsonl                       look at rows and write a track that runs unedited
  fledgling check                                 what is here, what each stage would use, whether it fits
  fledgling plan                                  what a run would ask, cost and take
  snakemake --cores all                           run it (the answer and its report are named at the end)
  fledgling verify                                whether every file under results/ is what was written
  fledgling journal list                          paid replies and finished work that are kept
  fledgling score --data test.jsonl --predictions mine.jsonl --track-kind toolcall --out metrics.json

The same configuration files go to every command: --config config/config.yaml mine.yaml, later over earlier.
"""
# subcommand: (module, what it does)
COMMANDS = {
    "init": ("init", "look at rows in any format and write a track that runs unedited"),
    "plan": ("plan", "what a run would ask, cost and take, before it does"),
    "check": ("check", "what this machine has, what a run would use of it, and whether each stage can run"),
    "verify": ("verify", "check that every file under results/ is what was written"),
    "journal": ("journal", "look after paid replies and finished work"),
    "take-over": ("take_over", "take replies that a log holds over into the journal, instead of paying for them"),
    "score": ("score", "score predictions against rows, also from elsewhere"),
    "console": ("", "the operator's page and API on http://localhost:4000"),
    "publish": ("publish", "upload an adapter, or files, to the Hugging Face Hub"),
    "trace": ("trace", "send what is kept in the outbox to Langfuse, or to another back-end for traces"),
}


class Command(Protocol):
    """What a module of this package offers."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add its arguments."""

    def call(self, args: argparse.Namespace) -> int | None:
        """Do it; returns an exit code, None is 0."""


def load(name: str) -> Command:
    """The module of a subcommand."""
    return cast(Command, import_module(f"fledgling.command.{COMMANDS[name][0]}"))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["console"]:  # a layer of its own, with its own options
        sys.exit(import_module("fledgling.console.__main__").main(given[1:]))
    parser = argparse.ArgumentParser(
        prog="fledgling",
        description="Can a small local model take a track over from a hosted one? Measured, decided, tuned, shipped.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, what) in COMMANDS.items():
        inner = commands.add_parser(name, help=what, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name in given[:1] and COMMANDS[name][0]:  # the others are not imported: some take seconds
            module = load(name)
            inner.description = sys.modules[f"fledgling.command.{COMMANDS[name][0]}"].__doc__
            module.arguments(inner)
    args = parser.parse_args(given)
    run(lambda: load(args.command).call(args))


def script(module: ModuleType) -> None:
    """Run one subcommand as a script of the graph (scripts/NAME.py)."""
    command = cast(Command, module)
    parser = argparse.ArgumentParser(description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.arguments(parser)
    args = parser.parse_args()
    run(lambda: command.call(args))
