"""`make env` takes torch's CPU build where it saves gigabytes, and only where it can be had."""

import importlib.util
import platform
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def install(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
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


def test_a_failing_pip_ends_it(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SystemExit) as ended:
        install.pip("nothing", "nothing")
    assert ended.value.code == 1
