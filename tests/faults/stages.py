"""kill -9 in every stage of a built tree: the same command then makes what an undisturbed one made.

Each stage runs its rule's own command, as Snakemake recorded it, in a copy of the tree without the stage's outputs and
without journal. It is killed at seeded moments, then left to end. Times that were measured are left out of the comparison.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fledgling.graph.driver import WHERE

from .edits import Job, jobs

MEASURED = ("latency_s", "seconds", "tokens_per_s", "memory_gib", "in_flight", "micro_batch_tokens")
DERIVED = ("seal", "sha256", "made_from")  # digests of files that hold times
ORDER = [
    "fetch",
    "prepare",
    "ask",
    "answer",
    "floor",
    "score",
    "compare",
    "train",
    "answer_candidates",
    "select_adapter",
    "decide",
    "report",
]


@dataclass
class Figures:
    """What many kills did, by stage."""

    kills: dict[str, int] = field(default_factory=dict)
    runs: int = 0
    faults: list[str] = field(default_factory=list)


def storm(
    tree: Path, kills: int, seed: int, *, files: Sequence[Path] = (), only: str = "", say: Callable[[str], None] = print
) -> Figures:
    """Kill stages in turn until so many kills have happened, each stage about as often.

    `files` are the configuration files that the tree was built with, beside config/config.yaml.
    """
    lots, figures = random.Random(seed), Figures()
    os.environ[WHERE] = _where(tree, files)
    here = Path.cwd()
    os.chdir(tree)
    try:
        known = [job for job in jobs(Path()) if job.rule in ORDER and only in job.rule]
    finally:
        os.chdir(here)
    stages = sorted({job.rule for job in known}, key=ORDER.index)
    for number, stage in enumerate(stages):
        share = kills // len(stages) + (number < kills % len(stages))
        figures.kills[stage] = 0
        while figures.kills[stage] < share:
            job = lots.choice([job for job in known if job.rule == stage])
            _one(tree, job, min(5, share - figures.kills[stage]), lots, figures)
            say(f"{stage}: {figures.kills[stage]} kills, {len(figures.faults)} faults")
    return figures


def _where(tree: Path, files: Sequence[Path]) -> str:
    """What the graph hands to its jobs beside their command, by the tree's own code."""
    code = (
        "import sys; from pathlib import Path; from fledgling import config; from fledgling.files import canonical; "
        "print(canonical(config.where(config.load('config/config.yaml', *sys.argv[1:])) | {'journal': '.journal'}))"
    )
    command = [sys.executable, "-c", code, *(str(file.resolve()) for file in files)]
    environment = os.environ | {"PYTHONPATH": str((tree / "src").resolve())}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def outputs(job: Job) -> list[Path]:
    """The files and folders that a command writes."""
    found = []
    words = list(job.command)
    for option in ("--out", "--rows", "--train", "--val", "--test", "--datasheet"):
        if option in words and (job.rule == "prepare" or option in ("--out", "--rows")):
            at = words.index(option) + 1
            while at < len(words) and not words[at].startswith("--"):
                found.append(Path(words[at]))
                at += 1
    if job.rule in ("compare", "decide", "report"):
        found = [Path(words[words.index("--out") + 1])]
    if job.rule in ("train", "select_adapter"):
        return [found[0].parent]
    if job.rule == "fetch":
        return [found[0].parent]
    seals = [path.with_suffix(".json") for path in found if path.suffix == ".jsonl"]
    return [*found, *(path for path in seals if job.rule in ("ask", "answer", "answer_candidates", "floor"))]


def _one(tree: Path, job: Job, kills: int, lots: random.Random, figures: Figures) -> None:
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        shutil.copytree(tree / "results", copy / "results")
        for other in ("scripts", "src", "config"):
            (copy / other).symlink_to((tree / other).resolve())
        made = outputs(job)
        wanted = _content(copy, made)
        for path in made:
            shutil.rmtree(copy / path) if (copy / path).is_dir() else (copy / path).unlink()
        took = _limit(job, copy)
        for _ in range(kills):
            process = _start(job, copy)
            try:
                process.wait(lots.uniform(0.02, 1) * took)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                figures.kills[job.rule] += 1
            else:  # it ended first, so nothing is left to kill here
                _expect(process.returncode == 0, job, "a run ended by itself and failed", process, figures)
                break
        process = _start(job, copy)
        said = process.communicate()[0]
        figures.runs += 1
        if process.returncode != 0:
            figures.faults.append(f"{job.rule}: exit code {process.returncode} after kills: {said[-600:]}")
            return
        there = _content(copy, made)
        for path in sorted(set(wanted) | set(there)):
            if wanted.get(path) != there.get(path):
                figures.faults.append(f"{job.rule}: {path} differs from an undisturbed run's")
        if litter := list((copy / "results").rglob(".*.tmp")):
            figures.faults.append(f"{job.rule}: left {litter[0]}")


def _expect(held: bool, job: Job, words: str, process: "subprocess.Popen[str]", figures: Figures) -> None:
    if not held:
        figures.faults.append(f"{job.rule}: {words}: {process.communicate()[0][-600:]}")


def _limit(job: Job, copy: Path) -> float:
    """Seconds that the stage takes undisturbed, from a first run in a copy of its own."""
    with tempfile.TemporaryDirectory() as name:
        other = Path(name) / "first"
        shutil.copytree(copy, other, symlinks=True)
        start = time.monotonic()
        process = _start(job, other)
        said = process.communicate()[0]
        assert process.returncode == 0, f"{job.rule}: {said[-2000:]}"
        return time.monotonic() - start


def _start(job: Job, folder: Path) -> "subprocess.Popen[str]":
    script = job.command[0].replace("$FLEDGLING_SCRIPTS", str(folder / "scripts"))
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, script, *job.command[1:]],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )


def _content(folder: Path, made: list[Path]) -> dict[str, Any]:
    """What files hold, times that were measured left out."""
    found: dict[str, Any] = {}
    for place in made:
        top = folder / place
        files = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
        for path in files:
            name = str(path.relative_to(folder))
            if path.suffix == ".jsonl":
                found[name] = [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
            elif path.suffix == ".json":
                found[name] = _timeless(json.loads(path.read_text()))
            else:
                found[name] = path.read_bytes()
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(part) for key, part in value.items() if key not in (*MEASURED, *DERIVED)}
    return [_timeless(part) for part in value] if isinstance(value, list) else value
