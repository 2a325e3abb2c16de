"""How close the teacher's client comes to the rate that is allowed, and what a call and a row cost here.

    python benchmarks/throughput.py --rate 60 600 6000          rate reached, CPU a call (server: 200 ms, own process)
    python benchmarks/throughput.py --memory 10000 100000       peak memory of a run over so many rows

Prints one line a measurement. The server's own clock measures the rate. A rate's CPU a call is that of the whole
process (user and system: start, reading, calls, journal, publishing) less that of a second process (the median of
five) that finds all those rows in the journal, asks one row more and publishes them all, by the number of calls; so
starting, reading the rows and publishing are out of it, and the one call more is subtracted with them. A run's CPU a
row has nothing subtracted. Peak memory is the kernel's ru_maxrss, shared libraries included. The kernel counts into it
what this process held when it started the other (Linux, exec), so rows are written one by one here and never held.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.faults import harness  # noqa: E402

SECONDS = {60: 120, 600: 30, 6000: 30}
STARTS = 5


def rows(count: int) -> Iterator[dict[str, Any]]:
    """Examples, one at a time."""
    return (row for number in range(count) for row in harness.rows(1, number))


def ask(job: harness.Ask) -> tuple[float, float]:
    """Run one scripts/ask.py; returns its CPU seconds and its peak memory in MiB."""
    process = job.start()
    assert process.stderr
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(error)
    here = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if here >= usage.ru_maxrss:
        sys.exit(f"this process held {here / 1024:.0f} MiB, so what the other held is unknown")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def rate(per_minute: int, folder: Path) -> None:
    count = max(30, per_minute * SECONDS.get(per_minute, 30) // 60)
    with harness.server() as at:  # a start that is not counted: it reads files from the disk
        ask(
            harness.Ask(folder / "first", harness.write_rows(folder / "first.jsonl", rows(1)), harness.settings(at.url))
        )
    with harness.server({"latency_s": 0.2}) as at:
        teacher = harness.settings(at.url, requests_per_minute=per_minute, concurrency=32)
        data = harness.write_rows(folder / "data.jsonl", rows(count))
        job = harness.Ask(folder, data, teacher)
        cpu, peak = ask(job)
        seen = at.counts()
        starts = []
        for more in range(1, STARTS + 1):
            harness.write_rows(job.data, rows(count + more))
            starts.append(ask(job)[0])
    start = statistics.median(starts)
    reached = (count - 1) / (seen["last_s"] - seen["first_s"]) * 60
    print(
        f"{per_minute:>6} calls a minute allowed: {reached:8.1f} reached ({reached / per_minute:.1%}), {count} calls, "
        f"{1000 * (cpu - start) / count:.2f} ms CPU a call (a run that asks one row more: {start:.2f} s), peak {peak:.0f} MiB"
    )


def memory(count: int, folder: Path) -> None:
    with harness.server() as at:
        teacher = harness.settings(at.url, concurrency=32)
        data = harness.write_rows(folder / "data.jsonl", rows(count))
        cpu, peak = ask(harness.Ask(folder, data, teacher))
    print(f"{count:>7} rows: peak {peak:.0f} MiB, {1000 * cpu / count:.2f} ms CPU a row in all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, nargs="*", default=[], help="calls a minute")
    parser.add_argument("--memory", type=int, nargs="*", default=[], help="rows")
    options = parser.parse_args()
    for work, values in ((rate, options.rate), (memory, options.memory)):
        for value in values:
            with tempfile.TemporaryDirectory() as folder:
                work(value, Path(folder))


if __name__ == "__main__":
    main()
