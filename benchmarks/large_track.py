"""How long the stages around the answers take for one large track: prepare, score, compare, decide, report.

    python benchmarks/large_track.py                               10,000 test rows, five contenders beside the teacher
    python benchmarks/large_track.py --rows 2000 --contenders 2

The answers are made up, some right and some wrong, so nobody is asked; everything else is the real stage. Prints seconds
of a processor by stage and the peak of resident memory, which is that of the largest stage, as one process runs them all.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fledgling import config as configuration  # noqa: E402
from fledgling.graph import sees  # noqa: E402
from fledgling.report.load import load  # noqa: E402
from fledgling.report.render import render  # noqa: E402
from tests.unit import report_files as files  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="of the test split, at most 10,000")
    parser.add_argument("--contenders", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--kind", choices=("toolcall", "structured"), default="toolcall")
    options = parser.parse_args()
    rates = {"teacher": 0.95, "slm": 0.6} | {f"tuned{n}": 0.9 + n / 100 for n in range(1, options.contenders)}
    files.SHAPES["large"] = (options.rows, rates)
    seconds: Counter[str] = Counter()
    files.prepare = timed("prepare", files.prepare, seconds)
    files.score = timed("score, all contenders and floors", files.score, seconds)
    run = files.script

    def script(name: str, *arguments: str) -> None:
        given = list(arguments)
        place = given.index("--settings") + 1
        settings = json.loads(given[place])
        settings["decision"]["resamples"] = options.resamples
        given[place] = json.dumps(settings)
        timed(name, run, seconds)(name, *given)

    files.script = script
    with tempfile.TemporaryDirectory() as folder:
        paths = files.build(Path(folder), "large", options.kind)
        settings = sees.settings(configuration.load(ROOT / "config/config.yaml"), "report", track=options.kind)
        inputs = timed("report", load, seconds)("demo", settings, **paths)
        page = timed("report", render, seconds)(inputs)
    for stage, each in seconds.items():
        print(f"{stage:>33} {each:>8.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'memory at the peak':>33} {peak:>8.2f} GiB; report {len(page) / 1e6:.1f} MB")


def timed(name: str, function: Any, seconds: Counter[str]) -> Any:
    """The same function, which adds what it took under a name."""

    def call(*arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            seconds[name] += time.process_time() - began

    return call


if __name__ == "__main__":
    main()
