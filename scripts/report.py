"""The verdict for people: one self-contained HTML page with pictures and rows side by side."""

import argparse
from pathlib import Path

from fledgling.cli import run
from fledgling.graph import sees


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--track", required=True, help="name of the track")
    sees.add_arguments(parser)
    parser.add_argument("--verdict", type=Path, required=True, help="results/verdict/T.json")
    parser.add_argument("--compare", type=Path, required=True, help="results/compare/T.json")
    parser.add_argument("--data", type=Path, required=True, help="the test rows, results/data/T/test.jsonl")
    parser.add_argument("--datasheet", type=Path, required=True, help="results/data/T/datasheet.json")
    parser.add_argument("--predictions", type=Path, nargs="+", required=True, help="of teacher and contenders")
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="of all contenders and floors (.json)")
    parser.add_argument("--rows", type=Path, nargs="+", required=True, help="of teacher and contenders (.jsonl)")
    parser.add_argument("--training", type=Path, nargs="*", default=[], help="training.json of each adapter")
    parser.add_argument("--ladder", type=Path, nargs="*", default=[], help="what val says of the contenders")
    parser.add_argument("--out", type=Path, required=True, help="the page")
    arguments = parser.parse_args()

    from fledgling import seals
    from fledgling.files import write_text
    from fledgling.report.load import load
    from fledgling.report.render import render

    inputs = load(
        arguments.track,
        sees.of_arguments(arguments, "report"),
        verdict=arguments.verdict,
        compare=arguments.compare,
        data=arguments.data,
        datasheet=arguments.datasheet,
        predictions=arguments.predictions,
        metrics=arguments.metrics,
        rows=arguments.rows,
        training=arguments.training,
        ladder=arguments.ladder,
    )
    write_text(arguments.out, seals.sealed(render(inputs).rstrip("\n") + "\n", seals.HTML))


if __name__ == "__main__":
    run(main)
