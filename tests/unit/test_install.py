"""`make env` takes torch's CPU build where it saves gigabytes, and only where it can be had."""

import importlib.util
import platform
import shutil
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def install(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """envs/install.py, on a machine that could do without NVIDIA's libraries."""
    spec = importlib.util.spec_from_file_location("install", root / "envs/install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delenv("FLEDGLING_TORCH_INDEX", raising=False)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(module.Path, "exists", lambda self: False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return module


def test_a_laptop_gets_the_cpu_build(install: ModuleType) -> None:
    assert install.cpu_index() == install.INDEX


def test_a_driver_another_platform_or_a_wish_decides(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert install.cpu_index() == ""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert install.cpu_index() == ""
    monkeypatch.setenv("FLEDGLING_TORCH_INDEX", "https://mirror.example/cpu")
    assert install.cpu_index() == "https://mirror.example/cpu"
    monkeypatch.setenv("FLEDGLING_TORCH_INDEX", "")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert install.cpu_index() == ""


def run(install: ModuleType, monkeypatch: pytest.MonkeyPatch, *, reached: bool) -> list[list[str]]:
    """The calls of pip that an installation makes."""
    calls: list[list[str]] = []

    class Done:
        returncode = 0

    def called(command: list[str], **_: object) -> Done:
        calls.append(command[5:])
        return Done()

    monkeypatch.setattr(install.subprocess, "run", called)
    monkeypatch.setattr(install, "answers", lambda index: reached)
    monkeypatch.setattr(sys, "argv", ["install.py", ".[dev]"])
    install.main()
    return calls


def test_torch_alone_comes_from_the_index(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = next(line for line in (root / "envs/base.txt").read_text().splitlines() if line.startswith("torch=="))
    calls = run(install, monkeypatch, reached=True)
    assert calls[1:] == [["--no-deps", "--index-url", install.INDEX, torch], ["--editable", ".[dev]"]]
    assert "GB in" in capsys.readouterr().out


def test_an_index_that_is_out_of_reach_is_said(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not install.answers("http://127.0.0.1:9")
    assert not install.answers("no address")
    assert run(install, monkeypatch, reached=False)[1:] == [["--editable", ".[dev]"]]
    assert f"{install.INDEX} does not answer" in capsys.readouterr().out


def test_a_failing_pip_ends_it_with_its_own_words(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    false = tmp_path / "false"
    false.write_text("#!/bin/sh\nseq 100\necho no such package >&2\nexit 1\n")
    false.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(false))
    with pytest.raises(SystemExit) as ended:
        install.pip("nothing", "nothing")
    assert ended.value.code == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-3] == "no such package"
    assert said[-2] == f"error: pip could not install nothing; all it said is in {tmp_path / 'install.log'}"
    assert len(said) == install.END + 2
    assert len((tmp_path / "install.log").read_text().splitlines()) == 101


class Hours(threading.Event):
    """An event that is over after so many waits, none of which takes any time."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.asked: list[float] = []
        self.waits = waits

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout or 0.0)
        return len(self.asked) > self.waits


def test_a_terminal_hears_every_few_seconds_and_a_pipe_ever_more_rarely(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped = Hours(4)
    install.tell("torch", 0.0, piped)
    assert piped.asked == [10, 20, 40, 80, 160]
    assert capsys.readouterr().out.count("\n") == 4
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    seen = Hours(4)
    install.tell("torch", 0.0, seen)
    assert set(seen.asked) == {install.TICK_S}
    out = capsys.readouterr().out
    assert out.count("\r\033[2K  torch … ") == 4
    assert "\n" not in out
    assert out.endswith("\r\033[2K")
