"""The verdict: the teacher and all contenders on the same test rows; what to deploy, or how many rows are missing.

    python scripts/decide.py --track toolcall --config config/config.yaml \
        --compare results/compare/toolcall.json --datasheet results/data/toolcall/datasheet.json \
        --rows results/metrics/toolcall/{teacher,slm,tuned}.jsonl --floors results/metrics/toolcall/floor-*.jsonl \
        --metrics results/metrics/toolcall/*.json --out results/verdict/toolcall.json

Each file is known by its name. `--repeat` takes the rows of second runs, in files of the same names elsewhere; a
contender that differs from itself by more than the margin gets no verdict. `--ledger` names a file outside results/
that counts the verdicts on each test split.
"""

import argparse
import logging
from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import Gate, Verdict
from fledgling.cli import run
from fledgling.contenders import TEACHER
from fledgling.decision import buying, climb, evidence, looks
from fledgling.decision.climb import Known
from fledgling.decision.rule import Rule
from fledgling.decision.verdict import decide, inputs_digest
from fledgling.errors import DataError
from fledgling.graph import sees
from fledgling.graph.driver import where


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", required=True)
    sees.add_arguments(parser)
    parser.add_argument("--compare", required=True)
    parser.add_argument("--datasheet", required=True)
    parser.add_argument("--rows", required=True, nargs="+", help="scored rows of the teacher and the contenders")
    parser.add_argument("--floors", required=True, nargs="+", help="scored rows of the floors")
    parser.add_argument("--metrics", nargs="+", default=[], help="the metrics that vouch for the rows")
    parser.add_argument("--predictions", nargs="*", default=[], help="the seals of the predictions")
    parser.add_argument("--ladder", nargs="*", default=[], help="what val says of the contenders")
    parser.add_argument("--repeat", nargs="*", default=[], help="scored rows of second runs")
    parser.add_argument("--repeat-metrics", nargs="*", default=[], help="the metrics that vouch for these")
    parser.add_argument("--ledger", help="count this verdict here; beside the journal in a run of the graph")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    settings = sees.of_arguments(args, "decide")
    compared = artefacts.read(Gate, args.compare)
    if compared["track"] != args.track:
        raise DataError(f"{args.compare}: is about track {compared['track']!r}, not {args.track!r}")
    answers = evidence.read_answers(args.predictions)
    bought = answers[TEACHER].get("bought") if TEACHER in answers else None
    found = evidence.read(
        args.datasheet,
        args.rows,
        args.floors,
        args.metrics,
        repeats=args.repeat,
        repeat_metrics=args.repeat_metrics,
        bought=bought,
    )
    artefacts.require_same(compared["made_from"], found.made_from, args.compare)
    trials = evidence.read_trials(args.ladder)
    rule = climb.held(
        Rule.of(args.track, settings).over(found.datasheet), trials, [one.name for one in found.rows.contenders]
    )
    if bought is not None:
        seal = next(path for path in args.predictions if Path(path).stem == TEACHER)
        rule = buying.held(rule, bought, seal)
        buying.require(rule, settings["ladder"], found.rows, bought, seal)
    number, ledger = None, args.ledger or (f"{where()['journal']}/looks.jsonl" if "journal" in where() else None)
    if ledger:
        test = found.datasheet["splits"]["test"]["sha256"]
        sample = None if bought is None else bought["sample"]
        number = looks.look(ledger, test=test, inputs=inputs_digest(rule, found.rows), sample=sample)
    result = decide(
        rule,
        evidence.ladder(settings["ladder"], found.rows),
        found.rows,
        found.datasheet,
        answers=answers,
        known=Known(settings["ladder"], trials, evidence.read_metrics(args.metrics), **settings["costs"]),
        problems=found.problems,
        looks=number,
        bought=bought,
        made_from=found.made_from | artefacts.digests(args.compare, *args.ladder, *args.predictions),
    )
    artefacts.write(Verdict, args.out, result)
    logging.getLogger("decide").info("%s: %s", result["deploy"], result["statement"])


if __name__ == "__main__":
    run(main)
