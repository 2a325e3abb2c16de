"""A console over a small folder of results that were written by hand, on a real socket."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers.hub import TOKEN, Hub

NASTY = '<img src=x onerror=alert(1)>"><svg onload=alert(1)>{{7*7}}'


@dataclass
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def json(self):
        return json.loads(self.body)


def exchange(port: int, data: bytes, timeout: float = 15) -> Reply:
    """Send bytes, read one answer until it is whole or the connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(data)
        return receive(connection)


def receive(connection: socket.socket) -> Reply:
    got = b""
    while b"\r\n\r\n" not in got:
        part = connection.recv(65536)
        if not part:
            break
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if len(lines[0].split()) < 2:
        return Reply(0, [], b"")
    headers = [(key.lower(), value.strip()) for key, _, value in (line.partition(":") for line in lines[1:])]
    length = int(next((value for key, value in headers if key == "content-length"), "0"))
    while len(body) < length:
        part = connection.recv(65536)
        if not part:
            break
        body += part
    return Reply(int(lines[0].split()[1]), headers, body)


@dataclass
class Served:
    """A console that runs, and the folder that it runs over."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    process: subprocess.Popen | None = None
    port: int = 0

    def start(self, port: int = 0) -> "Served":
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("AZURE_", "FLEDGLING_", "HF_"))}
        self.log = self.folder / "console.log"
        with open(self.log, "ab") as output:
            start = output.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fledgling.console", "--port", str(port), *self.options],
                cwd=self.folder,
                env=clean | {"GIT_CEILING_DIRECTORIES": str(self.folder.parent)} | self.env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while not (found := re.search(rb"http://127.0.0.1:(\d+) for", self.log.read_bytes()[start:])):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        self.port = int(found[1])
        return self

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Reply:
        """One request as curl would make it; `body` is sent as JSON, or as it is where it is bytes."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {"Host": self.host, "Connection": "close"}
        if body is not None:
            sent |= {"Content-Type": "application/json", "Content-Length": str(len(data))}
        sent |= headers or {}
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items() if value is not None)
        return exchange(self.port, f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + data, timeout=60)

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers=headers)

    def selection(self) -> str | None:
        file = self.folder / "model_selection.json"
        return json.loads(file.read_text())["modelId"] if file.exists() else None


def put(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, bytes):
        path.write_bytes(value)
    else:
        path.write_text(value if isinstance(value, str) else json.dumps(value))


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


def write_track(folder: Path, track: str, count: int = 30) -> None:
    """Rows that a teacher and an slm answered: the teacher is wrong on every 10th, the slm on every 3rd."""
    rows, answers, scores = [], {"teacher": [], "slm": []}, {"teacher": [], "slm": []}
    for n in range(count):
        asked = f"question {n} {NASTY if n % 7 == 0 else ''}"
        rows.append(
            {"id": f"r{n}", "group": f"g{n}", "messages": [{"role": "user", "content": asked}], "answer": {"value": n}}
        )
        for name, every in (("teacher", 10), ("slm", 3)):
            right = n % every != 0
            given = {"value": n if right else f"no {NASTY}"}
            outcome = "content_filter" if name == "teacher" and n == 20 else "ok"
            answers[name].append({"id": f"r{n}", "outcome": outcome, "raw": json.dumps(given), "request": "x"})
            rates = {"json_valid_rate": 1.0, "exact_match_rate": float(right)}
            scores[name].append({"id": f"r{n}", "outcome": outcome, "scores": rates, "parsed": given, "reason": None})
    put(folder / f"results/data/{track}/test.jsonl", lines(rows))
    for name in answers:
        put(folder / f"results/predictions/{track}/{name}.jsonl", lines(answers[name]))
        put(folder / f"results/metrics/{track}/{name}.jsonl", lines(scores[name]))
    put(folder / f"results/metrics/{track}/teacher.json", {"n": count, "cost": {"amount": 1.5, "currency": "USD"}})


def write_adapter(folder: Path, base: str = "embedded", weights: bytes = b"weights" * 100) -> None:
    """An adapter whose files are as they should be, but for the numbers in them."""
    put(folder / "adapter_model.safetensors", weights)
    put(folder / "adapter_config.json", {"base_model_name_or_path": base, "r": 8})
    put(folder / "training.json", {"history": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]})
    put(folder / "manifest.json", {"format": "fledgling/adapter/1", "base": {"name": base}, "files": {}})
    for file in folder.iterdir():
        os.utime(file, (time.time() - 60,) * 2)


def write_folder(root: Path, folder: Path) -> None:
    """A project with two tracks' results, as far as a console looks at them."""
    shutil.copytree(root / "config", folder / "config")
    (folder / "Snakefile").write_text("rule all:\n    default_target: True\n")
    write_track(folder, "structured")
    put(
        folder / "results/verdict/structured.json",
        {
            "deploy": "slm",
            "statement": f"good {NASTY}",
            "title": NASTY,
            "core": ["exact_match_rate"],
            "caveats": [NASTY],
        },
    )
    put(
        folder / "results/report/structured.html",
        "<!doctype html><title>r</title><script>document.title='ran'</script>",
    )
    write_adapter(folder / "results/adapters/toolcall")
    for file in (folder / "results").rglob("*"):
        os.utime(file, (time.time() - 60,) * 2)


@pytest.fixture(scope="module")
def hub():
    with Hub() as server:
        yield server


@pytest.fixture(scope="module")
def served(root: Path, tmp_path_factory: pytest.TempPathFactory, hub: Hub):
    """One console for the tests of a module that leave it as it was."""
    folder = tmp_path_factory.mktemp("console")
    write_folder(root, folder)
    console = Served(folder, {"HF_ENDPOINT": hub.url}).start()
    yield console
    console.end()


@pytest.fixture
def own(root: Path, tmp_path: Path, hub: Hub):
    """A console of a test's own."""
    write_folder(root, tmp_path)
    console = Served(tmp_path, {"HF_ENDPOINT": hub.url})
    yield console
    if console.process:
        console.end()


@pytest.fixture
def with_token(served: Served):
    assert served.ask("POST", "/api/hf/token", {"token": TOKEN}).status == 200
    yield served
    served.ask("DELETE", "/api/hf/token")
