"""What the console costs a run: the same run with and without a console whose page watches it, in pairs.

    python benchmarks/console.py --pairs 5

Each run builds the rows, floors and their scores of the embedded default from nothing, in a copy of the project. Says
the median of the paired ratios of wall time, and what the console itself took of the processor, which other work on the
machine does not disturb.
"""

import argparse
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGETS = [
    f"results/metrics/{track}/floor-{floor}.json" for track in ("toolcall", "structured") for floor in ("echo", "empty")
]


def copy(folder: Path) -> None:
    """The project, without what was built in it."""
    for name in ("Snakefile", "config", "profiles", "rules", "scripts", "src", "report", "envs"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)


def run(folder: Path) -> float:
    """Build from nothing; seconds."""
    for name in ("results", "logs", ".journal", ".snakemake", ".fledgling/runs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", "--", *TARGETS],
        cwd=folder,
        env=environment(folder),
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return time.monotonic() - began


def environment(folder: Path) -> dict[str, str]:
    """That of this process, over the copy's code."""
    return {**os.environ, "PYTHONPATH": str(folder / "src")}


class Watched:
    """A console over a folder with a page that watches whatever runs; `cpu_s` is what it took of the processor."""

    def __init__(self, folder: Path) -> None:
        self._over = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fledgling.console", "--port", "0"],
            cwd=folder,
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        line = next(line for line in self._process.stdout if "http://" in line)
        found = re.search(r":(\d+)", line.partition("//")[2])
        assert found is not None
        self._port = int(found[1])
        self._started = self._cpu()
        threading.Thread(target=self._watch, args=(folder,), daemon=True).start()

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _watch(self, folder: Path) -> None:
        """Follow each run's events as a page does."""
        seen: set[str] = set()
        while not self._over.wait(0.5):
            for place in sorted((folder / ".fledgling/runs").glob("*/run.json")):
                name = place.parent.name
                if name in seen or self._over.is_set():
                    continue
                seen.add(name)
                with socket.create_connection(("127.0.0.1", self._port)) as stream:
                    host = f"Host: 127.0.0.1:{self._port}\r\n\r\n"
                    stream.sendall(f"GET /api/runs/{name}/events HTTP/1.1\r\n{host}".encode())
                    while not self._over.is_set() and stream.recv(65536):
                        pass

    def end(self) -> float:
        """Its seconds of the processor, start-up aside."""
        used = self._cpu() - self._started
        self._over.set()
        self._process.terminate()
        self._process.wait()
        return used


def main() -> None:
    """Print the pairs and their median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    ratios, shares = [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        copy(folder)
        run(folder)  # warm
        for pair in range(options.pairs):
            took: dict[bool, float] = {}
            for watched in random.Random(pair).sample([True, False], 2):
                console = Watched(folder) if watched else None
                took[watched] = run(folder)
                if console:
                    shares.append(console.end() / took[watched])
            ratios.append(took[True] / took[False])
            print(f"pair {pair + 1}: {took[False]:.1f} s alone, {took[True]:.1f} s watched", flush=True)
    print(
        f"median of the ratios {statistics.median(ratios):.3f}; the console took {100 * statistics.median(shares):.2f} % "
        f"of a core; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
