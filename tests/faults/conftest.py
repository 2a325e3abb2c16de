"""Fixtures of the fault bench: a place to work in, a way to ask in this process, and no way out to a network."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fledgling.locks import LOCKS
from fledgling.teacher.ask import ask
from fledgling.teacher.requests import Teacher

from . import harness
from .server import Background


@pytest.fixture(autouse=True)
def own_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ports come again: what one test's provider was told is no other's."""
    monkeypatch.setenv(LOCKS, str(tmp_path / "locks"))


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for another machine fails."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost"), address
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "FLEDGLING_DRIVER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bench() -> Iterator[Background]:
    """A fault server on a thread."""
    with Background() as background:
        yield background


class Bench:
    """Asks a few rows in this process, through real sockets."""

    def __init__(self, background: Background, folder: Path) -> None:
        self.server, self.url, self.folder = background.server, background.url, folder
        self.job = harness.Ask(folder, folder / "data.jsonl", {})

    def ask(
        self, rows: int | list[dict[str, Any]] = 3, *, backoff_base_s: float = 0.01, **teacher: Any
    ) -> list[dict[str, Any]]:
        examples = harness.rows(rows) if isinstance(rows, int) else rows
        harness.write_rows(self.job.data, examples)
        ask(
            data=self.job.data,
            teacher=Teacher.of(harness.settings(self.url, **teacher)),
            prompt={},
            journal=self.job.journal,
            out=self.job.out,
            track="t",
            backoff_base_s=backoff_base_s,
        )
        return self.job.answers()

    def journal(self) -> list[dict[str, Any]]:
        """The lines of the journal."""
        return [json.loads(line) for line in (self.job.journal / "teacher.jsonl").read_text().splitlines()]


@pytest.fixture
def asked(bench: Background, tmp_path: Path) -> Bench:
    """Rows to ask, a server to ask, a journal and a place for the answers."""
    return Bench(bench, tmp_path)


@pytest.fixture
def work(tmp_path: Path) -> Callable[..., harness.Ask]:
    """Makes runs of scripts/ask.py in one folder, so with one journal."""

    def make(count: int, url: str, out: str = "out.jsonl", **teacher: Any) -> harness.Ask:
        data = harness.write_rows(tmp_path / f"{count}.jsonl", harness.rows(count))
        return harness.Ask(tmp_path, data, harness.settings(url, **teacher), out=out)

    return make
