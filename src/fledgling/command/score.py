"""Score a contender's predictions against a split.

Reads rows (results/data/{track}/test.jsonl, or BFCL's own rows) and predictions, which need not come from the graph
({"id", "outcome", "raw"} is enough), and writes the metrics and, if asked, one line a row. Every row of the split
counts, answered or not.
"""

import argparse
import json

from fledgling.errors import UsageError
from fledgling.records import KINDS
from fledgling.score import score


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--data", required=True, help="rows to score against (JSON Lines)")
    parser.add_argument("--predictions", required=True, help="predictions of one contender (JSON Lines)")
    parser.add_argument("--track-kind", required=True, choices=KINDS, help="what the answers are")
    parser.add_argument("--settings", default="{}", type=json.loads, help='JSON: {"prices": {...}} or nothing')
    parser.add_argument("--bought", help="seal of the teacher's predictions that says which rows count (teacher.looks)")
    parser.add_argument("--out", required=True, help="metrics to write (.json)")
    parser.add_argument("--rows", help="scores to write, one line a row (.jsonl)")


def call(args: argparse.Namespace) -> None:
    """Score and write."""
    if not isinstance(args.settings, dict):
        raise UsageError(f'--settings: expected an object, as {{"prices": {{…}}}}, found {json.dumps(args.settings)}')
    prices = args.settings.get("prices")
    score(args.data, args.predictions, args.track_kind, args.out, args.rows, prices, args.bought)
