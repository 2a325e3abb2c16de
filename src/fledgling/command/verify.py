"""Check that every file under results/ is what was written, byte for byte, and was made from what is there now.

    fledgling verify                     everything that is built here
    fledgling verify --results FOLDER    another results folder

Names every file that was edited, damaged or lost, with the command that makes it again, and exits with 5; says one line
where all is well. Rules check what they read by themselves, so an edited file stops the graph too. Seals are digests and
no signatures: they do not stop somebody who writes a whole chain of files anew.
"""

import argparse
import json
from pathlib import Path

from fledgling.errors import DataError
from fledgling.integrity import verify


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--results", type=Path, default=Path("results"), help="what is built")
    parser.add_argument("--json", action="store_true", help="for programs")


def call(args: argparse.Namespace) -> None:
    """Check, name, end with 5 where something is broken."""
    found = verify(args.results)
    if args.json:
        broken = [{"file": str(path), "problem": words} for path, words in found.broken.items()]
        print(json.dumps({"files": found.files, "broken": broken, "unknown": [str(path) for path in found.unknown]}))
    else:
        for words in found.broken.values():
            print(words)
        for path in found.unknown:
            print(f"note: {path}: no rule of this graph writes it, so nothing vouches for it")
        if not found.broken:
            print(f"{args.results}: all {found.files - len(found.unknown):,} files are what was written")
    if found.broken:
        raise DataError(f"{len(found.broken):,} of {found.files:,} files under {args.results} are not what was written")
