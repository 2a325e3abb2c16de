"""Ask the teacher every row of a split; a reply that is in the journal is not paid for again.

    python scripts/ask.py --track toolcall --data results/data/toolcall/test.jsonl \
        --config config/config.yaml --out predictions.jsonl

Azure: AZURE_ENDPOINT, AZURE_DEPLOYMENT, AZURE_API_KEY, AZURE_API_VERSION. After any stop the same command goes on.
"""

import argparse
from pathlib import Path

from fledgling.bought import ids, record_of
from fledgling.cli import run
from fledgling.graph import sees
from fledgling.graph.driver import where
from fledgling.teacher.ask import ask
from fledgling.teacher.requests import Teacher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", required=True, help="name, for the log")
    parser.add_argument("--data", type=Path, required=True, help="rows to ask (results/data/T/test.jsonl)")
    sees.add_arguments(parser)
    parser.add_argument("--repeat", type=int, default=0, help="by hand: 1 asks everything a second time")
    parser.add_argument("--journal", type=Path, help="folder of paid replies")
    parser.add_argument(
        "--bought", type=Path, help="seal of the first run that says which rows it asked (teacher.looks)"
    )
    parser.add_argument("--concurrency", type=int, help="calls in flight at most")
    parser.add_argument("--out", type=Path, required=True, help="predictions to write")
    options = parser.parse_args()
    settings = sees.of_arguments(options, "ask", repeat=options.repeat)
    outside = where()
    section = settings["teacher"] | outside.get("teacher", {})
    if options.concurrency:
        section["concurrency"] = options.concurrency
    ask(
        data=options.data,
        teacher=Teacher.of(section),
        prompt=settings.get("track", {}).get("prompt", {}),
        journal=options.journal or outside.get("journal", ".journal"),
        out=options.out,
        track=options.track,
        repeat=settings.get("repeat", 0),
        only=ids(options.data, record_of(options.bought)) if options.bought else None,
    )


if __name__ == "__main__":
    run(main)
