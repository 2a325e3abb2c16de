"""Buy the teacher's answers to test in looks: no row more than the verdict needs (teacher.looks, docs/decision.md).

    python scripts/buy.py --track toolcall --data results/data/toolcall/test.jsonl --config config/config.yaml looks.yaml \
        --contenders results/predictions/toolcall/slm.jsonl --floors results/predictions/toolcall/floor-*.jsonl \
        --out results/predictions/toolcall/teacher.jsonl

The contenders, cheapest first, and the floors have answered all rows before. After any stop the same command goes on.
"""

import argparse
from pathlib import Path

from fledgling.buy import buy
from fledgling.cli import run
from fledgling.decision.rule import Rule
from fledgling.errors import ConfigError
from fledgling.graph import sees
from fledgling.graph.driver import where
from fledgling.teacher.requests import Teacher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", required=True)
    parser.add_argument("--data", type=Path, required=True, help="rows to ask (results/data/T/test.jsonl)")
    sees.add_arguments(parser)
    parser.add_argument("--contenders", nargs="+", required=True, help="predictions of the contenders for all rows")
    parser.add_argument("--floors", nargs="+", required=True, help="predictions of the floors")
    parser.add_argument("--ladder", nargs="*", default=[], help="what val says of the contenders")
    parser.add_argument("--journal", type=Path, help="folder of paid replies")
    parser.add_argument("--out", type=Path, required=True, help="predictions to write")
    options = parser.parse_args()
    settings = sees.of_arguments(options, "buy")
    if not settings.get("looks"):
        raise ConfigError("teacher.looks is off: all rows are bought at once, by scripts/ask.py")
    outside = where()
    buy(
        data=options.data,
        teacher=Teacher.of(settings["teacher"] | outside.get("teacher", {})),
        prompt=settings["track"].get("prompt", {}),
        journal=options.journal or outside.get("journal", ".journal"),
        out=options.out,
        rule=Rule.of(options.track, settings),
        ladder=settings["ladder"],
        contenders=options.contenders,
        floors=options.floors,
        ladder_files=options.ladder,
    )


if __name__ == "__main__":
    run(main)
