"""Runs of scripts/ask.py as real processes against a server in its own process, and what must hold after each kill."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledgling.locks import LOCKS

ROOT = Path(__file__).resolve().parents[2]
CLEAN = ("AZURE_", "OPENAI_", "FLEDGLING_")


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Examples that the bench's server answers with a function of the question."""
    return [
        {"id": f"row-{i}", "group": f"g{i}", "messages": [{"role": "user", "content": f"question {i}"}], "answer": {}}
        for i in range(first, first + count)
    ]


def write_rows(path: Path, examples: Iterable[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in examples)
    return path


def settings(url: str, **teacher: Any) -> dict[str, Any]:
    return {
        "provider": "openai",
        "model": "bench",
        "base_url": url,
        "seed": 1,
        "timeout_s": 5,
        "max_tries": 4,
    } | teacher


@dataclass
class Server:
    """A fault server in a process of its own."""

    url: str

    def counts(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/counts") as reply:
            return json.load(reply)

    def fault(self, value: dict[str, Any]) -> None:
        request = urllib.request.Request(f"{self.url}/fault", data=json.dumps(value).encode(), method="POST")
        urllib.request.urlopen(request).close()


@contextmanager
def server(fault: dict[str, Any] | None = None) -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.server", json.dumps(fault or {})],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}/v1")
    finally:
        process.kill()
        process.wait()


class Ask:
    """One scripts/ask.py over a data file; `start` gives the process, `finish` waits for it."""

    def __init__(self, folder: Path, data: Path, teacher: Mapping[str, Any], *, out: str = "out.jsonl") -> None:
        self.folder, self.data, self.teacher = folder, data, teacher
        self.out = folder / "results" / out
        self.journal = folder / "journal"
        self.locks = folder / "locks"

    def command(self) -> list[str]:
        return [
            sys.executable,
            "scripts/ask.py",
            "--track",
            "t",
            "--data",
            str(self.data),
            "--settings",
            json.dumps({"teacher": dict(self.teacher), "track": {"kind": "structured"}}),
            "--journal",
            str(self.journal),
            "--out",
            str(self.out),
        ]

    def start(self, **environment: str) -> "subprocess.Popen[str]":
        env = {name: value for name, value in os.environ.items() if not name.startswith(CLEAN)}
        return subprocess.Popen(
            self.command(),
            cwd=ROOT,
            env=env | {LOCKS: str(self.locks)} | environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self, **environment: str) -> tuple[int, str]:
        process = self.start(**environment)
        _, error = process.communicate(timeout=120)
        return process.returncode, error

    def answers(self) -> list[dict[str, Any]]:
        """The published predictions without the two fields that measure time and company."""
        predictions = [json.loads(line) for line in self.out.read_text().splitlines()]
        return [
            {key: value for key, value in row.items() if key not in ("latency_s", "in_flight")} for row in predictions
        ]

    def litter(self) -> list[str]:
        """Files that no finished run leaves."""
        allowed = {
            self.out.name,
            self.out.with_suffix(".json").name,
            "teacher.jsonl",
            "teacher.lock",
            "teacher.keys",
        }
        found = [path.name for place in (self.out.parent, self.journal) for path in place.glob("*")]
        found += [path.name for place in (self.out.parent, self.journal) for path in place.glob(".*")]
        return sorted(set(found) - allowed)


def kill_after(process: "subprocess.Popen[str]", seconds: float, number: int = signal.SIGKILL) -> int:
    """Signal a process after a while, unless it ends first; returns its exit code."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


def wait_for_calls(at: Server, count: int) -> None:
    """Return when the server has received so many calls."""
    limit = time.monotonic() + 60
    while at.counts()["received"] < count:
        assert time.monotonic() < limit, "no calls arrive"
        time.sleep(0.002)


def reported(error: str) -> dict[str, int]:
    """What the stage itself says that it did."""
    found = re.search(
        r"(\d+) calls, (\d+) answered, (\d+) rows failed, (\d+) still to ask; (\d+) prompt and (\d+)", error
    )
    assert found, error
    names = ("calls", "answered", "failed", "left", "prompt_tokens", "completion_tokens")
    return dict(zip(names, map(int, found.groups()), strict=True))
