"""Look after the journals in a folder: fledgling journal list | verify | compact | take-back [--journal DIR].

list       what is kept, what may have been billed without a reply, tokens, outcomes, runs
verify     check every line's checksum; exit 5 where one is damaged
compact    drop what is superseded; safe beside running stages
take-back  make results count no more, so that the next run asks them again: one row, one outcome, one run
"""

import argparse
from pathlib import Path

from fledgling.errors import DataError, UsageError
from fledgling.graph.driver import where
from fledgling.journal import Journal
from fledgling.journal.care import journals, verify
from fledgling.teacher.ledger import account, chosen, requests_of, take_back


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("do", metavar="ACTION", choices=["list", "verify", "compact", "take-back"])
    parser.add_argument("--journal", type=Path, help="folder (default: .journal)")
    parser.add_argument("--name", help="one journal of the folder (default: all; teacher for take-back)")
    parser.add_argument("--outcome", help="take back results with this outcome")
    parser.add_argument("--run", help="take back results of this run (`list` names them)")
    parser.add_argument("--request", nargs="+", default=[], help="take back these requests (a prediction's `request`)")
    parser.add_argument("--row", nargs="+", default=[], help="take back these rows of --predictions")
    parser.add_argument("--predictions", type=Path, help="results/predictions/TRACK/teacher.jsonl, to find rows in")


def call(options: argparse.Namespace) -> None:
    """Do it."""
    folder = options.journal or Path(where().get("journal", ".journal"))
    name = options.name or ("teacher" if options.do == "take-back" else None)
    paths = [path for path in journals(folder) if name in (None, path.stem)]
    if not paths:
        raise UsageError(f"{folder}: no journal {name!r} here")
    {"list": _list, "verify": _verify, "compact": _compact, "take-back": _take_back}[options.do](paths, options)


def _list(paths: list[Path], options: argparse.Namespace) -> None:
    for path in paths:
        print(f"{path}: {path.stat().st_size:,} bytes")
        for line in account(path).lines():
            print(f"  {line}")


def _verify(paths: list[Path], options: argparse.Namespace) -> None:
    bad = []
    for path in paths:
        lines, damage = verify(path)
        for found in damage:
            print(f"{path}: {found.what} at byte {found.offset:,}")
        print(f"{path}: {lines - len(damage):,} of {lines:,} lines are whole")
        bad += [str(path)] if damage else []
    if bad:
        raise DataError(f"{', '.join(bad)}: damaged lines; the next run moves them aside and asks those rows again")


def _compact(paths: list[Path], options: argparse.Namespace) -> None:
    for path in paths:
        with Journal(path.parent, path.stem) as journal:
            before, after = journal.compact()
        print(f"{path}: {before:,} bytes before, {after:,} after")


def _take_back(paths: list[Path], options: argparse.Namespace) -> None:
    if options.row and not options.predictions:
        raise UsageError("--row needs --predictions, the file that the rows are in")
    requests = frozenset(options.request)
    requests |= requests_of(options.predictions, options.row) if options.row else frozenset()
    for path in paths:
        keys = chosen(path, outcome=options.outcome, run=options.run, requests=requests)
        count = take_back(path, keys, "by hand")
        print(f"{path}: {count:,} results taken back")
        if count:
            who = "teacher" if path.stem == "teacher" else "CONTENDER"
            print(f"ask again: delete results/predictions/TRACK/{who}.jsonl and run the same snakemake command")
