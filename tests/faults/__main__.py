"""The long form of the fault bench: python -m tests.faults [kills|guards|races|edits|stages|looks] [--kills N] [--seed N].

kills    seeded random kills of worker and driver, invariants after each
races    the three races: kill -9 with calls in flight, one row added, two runs at once
guards   every guard removed once in a copy; its test must fail
stages   200 kills over all stages of a built tree (--tree FOLDER); each then makes what an undisturbed one made
looks    what a teacher is asked, by its own count, where test rows are bought in looks: medians over 101 worlds and 21
edits    500 edits of one byte in a built tree (--tree FOLDER): each is named, and stops every rule that reads it
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from . import harness
from .edits import storm as storm_of_edits
from .guards import GUARDS, Guard
from .kills import storm
from .looks import BEHIND, PASSED, many
from .stages import storm as storm_of_stages


def kills(count: int, seed: int) -> None:
    start = time.monotonic()
    figures = storm(count, seed)
    print(
        f"{figures.kills} kills ({figures.worker} of the worker, {figures.driver} of the driver) in {figures.runs} runs "
        f"of 400 rows at concurrency 8: {figures.billed} calls billed for {figures.rows} rows, "
        f"{(figures.billed - figures.rows) / figures.kills:.2f} extra a kill (8 allowed), "
        f"{time.monotonic() - start:.0f} s; every invariant held"
    )


def races() -> None:
    with tempfile.TemporaryDirectory() as name, harness.server({"latency_s": 0.3}) as at:
        folder = Path(name)
        data = harness.write_rows(folder / "data.jsonl", harness.rows(40))
        job = harness.Ask(folder, data, harness.settings(at.url, concurrency=4))
        process = job.start()
        harness.wait_for_calls(at, 17)
        process.kill()
        process.communicate()
        assert job.finish()[0] == 0
        killed = at.counts()["received"]
        harness.write_rows(data, harness.rows(41))
        assert job.finish()[0] == 0
        added = at.counts()["received"] - killed
    with tempfile.TemporaryDirectory() as name, harness.server({"latency_s": 0.1}) as at:
        folder = Path(name)
        data = harness.write_rows(folder / "data.jsonl", harness.rows(40))
        teacher = harness.settings(at.url, concurrency=4)
        jobs = [harness.Ask(folder, data, teacher, out=out) for out in ("one.jsonl", "two.jsonl")]
        processes = [job.start() for job in jobs]
        codes = [process.communicate() and process.returncode for process in processes]
        assert codes == [0, 0]
        assert jobs[0].answers() == jobs[1].answers()
        both = at.counts()["received"]
    print(f"kill -9 in 40 rows, 4 in flight: {killed} calls · one row added: {added} · two runs at once: {both}")
    assert killed <= 44
    assert (added, both) == (1, 40)


def guards(chosen: list[Guard]) -> None:
    """Remove each guard in a copy of the sources and demand that its test fails there."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        ignore = shutil.ignore_patterns(".*", "results", "logs", "__pycache__")
        shutil.copytree(harness.ROOT, copy, ignore=ignore, dirs_exist_ok=True)
        for file in sorted({guard.test.partition("::")[0] for guard in chosen}):
            tests = {guard.test for guard in chosen if guard.test.startswith(file)}
            assert _pytest(copy, *sorted(tests)) == 0, f"with all guards in place, {file} passes in the copy"
        survived = [guard for guard in chosen if not _fails_without(guard, copy)]
    for guard in survived:
        print(f"NOT CAUGHT: {guard.faults} {guard.what} ({guard.test})")
    print(f"{len(chosen) - len(survived)} of {len(chosen)} guards are held by their tests")
    if survived:
        raise SystemExit(1)


def _fails_without(guard: Guard, copy: Path) -> bool:
    file = guard.path(copy)
    text = file.read_text()
    assert text.count(guard.before) == 1, f"{guard.file} holds {guard.before!r} {text.count(guard.before)} times"
    file.write_text(text.replace(guard.before, guard.after))
    try:
        caught = _pytest(copy, guard.test) == 1
    finally:
        file.write_text(text)
    print(f"{'caught' if caught else 'NOT CAUGHT'}: {guard.faults} {guard.what}", flush=True)
    return caught


def _pytest(copy: Path, *tests: str) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", "60", *tests]
    environment = os.environ | {"PYTHONPATH": str(copy / "src")}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.run(command, cwd=copy, env=environment, **silent).returncode


def edits(tree: Path, count: int, seed: int) -> None:
    start = time.monotonic()
    figures = storm_of_edits(tree, count, seed)
    for name, number in sorted(figures.kinds.items()):
        print(f"{number:5d} {name}")
    print(
        f"{figures.edits} edits of one byte: {figures.named} named by verify, {figures.stopped} commands of rules that "
        f"read them stopped, {len(figures.faults)} faults, {time.monotonic() - start:.0f} s"
    )
    if figures.faults:
        print("\n".join(figures.faults[:20]))
        raise SystemExit(1)


def stages(tree: Path, count: int, seed: int, files: list[Path], only: str) -> None:
    start = time.monotonic()
    figures = storm_of_stages(tree, count, seed, files=files, only=only)
    for name, number in figures.kills.items():
        print(f"{number:5d} {name}")
    total = sum(figures.kills.values())
    took = time.monotonic() - start
    print(f"{total} kills in {len(figures.kills)} stages, {len(figures.faults)} faults, {took:.0f} s")
    if figures.faults:
        print("\n".join(figures.faults[:20]))
        raise SystemExit(1)


def looks(seed: int) -> None:
    """The medians that docs/decision.md promises: level with the teacher, and ten points behind."""
    for worlds, gap, reason, most in ((101, 0.0, PASSED, 0.4), (21, 0.1, BEHIND, 1 / 8)):
        start = time.monotonic()
        found = many(worlds, gap, seed, reason)
        counts = ", ".join(f"{calls} calls {number} times" for calls, number in sorted(Counter(found.calls).items()))
        print(
            f"gap {gap:.0%}, 2,000 rows, discordance 20 %: median {found.median:.0f} calls of {worlds} worlds, at most "
            f"{most * 2000:.0f} wanted; {counts}; stopped otherwise: {found.otherwise}; {time.monotonic() - start:.0f} s",
            flush=True,
        )
        assert found.median <= most * 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", default=["races", "guards", "kills"])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", default="", help="guards of these faults (F20), or stages with this in their name")
    parser.add_argument("--tree", type=Path, help="a folder in which the graph was built, for edits")
    parser.add_argument(
        "--configfile", type=Path, nargs="+", default=[], help="what the tree was built with, for stages"
    )
    parser.add_argument("--edits", type=int, default=500)
    options = parser.parse_args()
    if "races" in options.part:
        races()
    if "guards" in options.part:
        guards([guard for guard in GUARDS if options.only in guard.faults])
    if "stages" in options.part:
        stages(options.tree, options.kills, options.seed, options.configfile, options.only)
    if "edits" in options.part:
        edits(options.tree, options.edits, options.seed)
    if "looks" in options.part:
        looks(options.seed)
    if "kills" in options.part:
        kills(options.kills, options.seed)


if __name__ == "__main__":
    main()
