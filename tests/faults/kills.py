"""Seeded random kills over one run: after each, what FAULTS promises must hold.

Worker kills end scripts/ask.py itself; driver kills end the process that it belongs to (as a killed Snakemake).
"""

import random
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from fledgling.graph.driver import DRIVER, identity
from fledgling.journal import Journal

from . import harness

ROWS, CONCURRENCY = 400, 8


@dataclass
class Figures:
    """What many kills did."""

    kills: int = 0
    worker: int = 0
    driver: int = 0
    finished: int = 0
    billed: int = 0
    rows: int = 0
    most_extra_a_kill: float = 0.0
    runs: int = 0


def storm(kills: int, seed: int, say: bool = True) -> Figures:
    """Kill runs of ROWS rows until so many kills have happened, checking the invariants after each kill."""
    lots, figures = random.Random(seed), Figures()
    while figures.kills < kills:
        figures.runs += 1
        figures.rows += ROWS
        with tempfile.TemporaryDirectory() as name, harness.server({"latency_s": 0.03}) as at:
            _one_run(Path(name), at, kills, lots, figures)
        if say:
            print(f"{figures.kills} kills, {figures.billed} calls billed for {figures.rows} rows", flush=True)
    return figures


def _one_run(folder: Path, at: harness.Server, kills: int, lots: random.Random, figures: Figures) -> None:
    data = harness.write_rows(folder / "data.jsonl", harness.rows(ROWS))
    job = harness.Ask(folder, data, harness.settings(at.url, concurrency=CONCURRENCY))
    killed = 0
    while figures.kills < kills:
        with subprocess.Popen(["sleep", "600"]) as driver:
            worker = job.start(**{DRIVER: identity(driver.pid)})
            before = at.counts()["received"]
            victim = driver if lots.random() < 0.3 else worker
            _wait(worker, at, before, lots)
            ended = worker.poll() is not None
            if not ended:
                victim.send_signal(signal.SIGKILL)
            worker.communicate(timeout=60)
            driver.kill()
        if ended:
            assert worker.returncode == 0
            break
        assert worker.returncode == -signal.SIGKILL
        killed += 1
        figures.kills += 1
        figures.driver += victim is driver
        figures.worker += victim is worker
        billed = at.counts()["received"]
        time.sleep(0.05)
        assert at.counts()["received"] == billed, "an orphan goes on calling"
        assert not job.out.exists(), "a killed run has published"
        with Journal(job.journal, "teacher") as kept:
            assert billed <= len(kept) + killed * CONCURRENCY, "more was billed than kept and in flight"
            figures.finished = len(kept)
    code, error = job.finish()
    assert code == 0, error
    billed = at.counts()["received"]
    assert billed <= ROWS + killed * CONCURRENCY
    assert set(job.litter()) <= {"teacher.torn"}, job.litter()
    figures.billed += billed
    figures.most_extra_a_kill = max(figures.most_extra_a_kill, (billed - ROWS) / max(1, killed))
    expected = [f"answer to question {number}" for number in range(ROWS)]
    assert [row["raw"] for row in job.answers()] == expected, "the published file differs from an undisturbed run's"


def _wait(worker: "subprocess.Popen[str]", at: harness.Server, before: int, lots: random.Random) -> None:
    """Until some calls have been made and a random moment more."""
    calls = lots.randint(0, 40)
    limit = time.monotonic() + 30
    while at.counts()["received"] < before + calls and worker.poll() is None and time.monotonic() < limit:
        time.sleep(0.002)
    time.sleep(lots.uniform(0, 0.06))
