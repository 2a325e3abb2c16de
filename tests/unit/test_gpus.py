"""GPUs: no two commands share one, whoever dies first and however CUDA_VISIBLE_DEVICES names it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fledgling import gpus

# Appends "start/end GPU" lines with a clock; holds the GPUs for a moment.
JOB = """
import os, sys, time
def say(what):
    with open(sys.argv[1], "a") as stream:
        for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
            stream.write(f"{what} {gpu} {time.monotonic()}\\n")
say("start"); time.sleep(float(sys.argv[2])); say("end")
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    clean = {
        key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES" and not key.startswith("SLURM")
    }
    return clean | {gpus.LOCKS: str(tmp_path / "locks"), gpus.GPUS: "4"}


def start(environment: dict[str, str], wanted: int, *command: str) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "fledgling.gpus", str(wanted), *command]
    return subprocess.Popen(line, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until(condition: object, timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_no_two_jobs_share_a_gpu(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = [start(environment, wanted, sys.executable, "-c", JOB, str(log), "0.3") for wanted in (2, 3, 1, 2, 4, 1)]
    for job in jobs:
        _, said = job.communicate(timeout=60)
        assert job.returncode == 0, said
    busy: set[str] = set()
    events = sorted((line.split() for line in log.read_text().splitlines()), key=lambda event: float(event[2]))
    assert len(events) == 2 * (2 + 3 + 1 + 2 + 4 + 1)
    for what, gpu, _ in events:
        if what == "start":
            assert gpu not in busy
            busy.add(gpu)
        else:
            busy.remove(gpu)


def test_a_job_that_waits_says_for_whom(environment: dict[str, str], tmp_path: Path) -> None:
    first = start(environment, 3, "sleep", "30")
    until(lambda: list((tmp_path / "locks").glob("*-gpu-2.lock")))
    second = start(environment, 2, "echo", "done")
    time.sleep(1)
    first.kill()
    out, said = second.communicate(timeout=20)
    assert out == "done\n"
    assert f"pid {first.pid} (sleep 30)" in said
    assert "waiting for 1 of 2 GPUs" in said
    first.communicate()


def test_killed_holder_frees_and_living_child_keeps(environment: dict[str, str], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    # A holder whose child inherits the descriptors, as those of a shell do.
    holder = start(environment, 4, "sh", "-c", f"sleep 30 & echo $! > {mark}; wait")
    until(lambda: mark.exists() and mark.read_text().strip())
    child = int(mark.read_text())
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    waiting = start(environment, 1, "echo", "done")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=1.5)
    os.kill(child, signal.SIGKILL)
    assert waiting.communicate(timeout=20)[0] == "done\n"


def test_a_restriction_that_is_there_is_respected(environment: dict[str, str]) -> None:
    job = start(environment | {"CUDA_VISIBLE_DEVICES": "1,3"}, 2, "sh", "-c", "echo $CUDA_VISIBLE_DEVICES {gpus}")
    assert job.communicate(timeout=20)[0] == "1,3 2\n"


def test_more_than_there_are_goes_on_with_those(environment: dict[str, str]) -> None:
    job = start(environment | {gpus.GPUS: "2"}, 4, "sh", "-c", "echo $CUDA_VISIBLE_DEVICES {gpus}")
    out, said = job.communicate(timeout=20)
    assert out == "0,1 2\n"
    assert "4 GPUs are asked for and 2 are here" in said


def test_none_claims_and_shows_none(environment: dict[str, str], tmp_path: Path) -> None:
    job = start(environment, 0, "sh", "-c", "echo [$CUDA_VISIBLE_DEVICES] {gpus}; exit 7")
    assert job.communicate(timeout=20)[0] == "[] 0\n"
    assert job.returncode == 7
    assert not (tmp_path / "locks").exists()


@pytest.mark.parametrize(("wanted", "said"), [(0, "1"), (1, "")])
def test_only_with_a_gpu_is_the_compiler_loaded(environment: dict[str, str], wanted: int, said: str) -> None:
    job = start(environment, wanted, "sh", "-c", "echo $TORCHDYNAMO_DISABLE")
    assert job.communicate(timeout=20)[0] == f"{said}\n"


def test_no_gpu_at_all_is_refused(environment: dict[str, str]) -> None:
    job = start(environment | {"CUDA_VISIBLE_DEVICES": ""}, 1, "true")
    assert "set gpus to 0" in job.communicate(timeout=20)[1]
    assert job.returncode == 3


def test_signals_reach_the_command(environment: dict[str, str], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"trap 'echo stopped; exit 9' TERM; touch {mark}; while :; do sleep 0.05; done"
    job = start(environment, 1, "bash", "-c", script)
    until(mark.exists)
    job.terminate()
    assert job.communicate(timeout=20)[0] == "stopped\n"
    assert job.returncode == 9


UUIDS = ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-89aaaaaa-d72c-4106-c12f-20bd9faed9f7")
SLICE = "MIG-5f3c4a2e-0a6b-5a6e-9d6c-3b1f2a4c5d6e"
SMI = f"""#!/bin/sh
if [ "$1" = -L ]; then
  echo "GPU 0: NVIDIA H100 (UUID: {UUIDS[0]})"
  echo "GPU 1: NVIDIA H100 (UUID: {UUIDS[1]})"
  echo "  MIG 1g.10gb     Device  0: (UUID: {SLICE})"
  echo "  MIG 1g.10gb     Device  1: (UUID: MIG-6f3c4a2e-0a6b-5a6e-9d6c-3b1f2a4c5d6e)"
else
  printf '%s\\n' {UUIDS[0]} {UUIDS[1]}
fi
"""


@pytest.fixture
def machine(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine with two GPUs, the second in slices; this process sees it too."""
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(SMI)
    tool.chmod(0o755)
    real = {key: value for key, value in environment.items() if key != gpus.GPUS}
    real["PATH"] = f"{tool.parent}:{real['PATH']}"
    monkeypatch.setenv("PATH", real["PATH"])
    monkeypatch.delenv(gpus.GPUS, raising=False)
    for key in [key for key in os.environ if key.startswith("SLURM")]:
        monkeypatch.delenv(key)
    return real


@pytest.mark.parametrize(
    ("names", "means"),
    [
        ("0", [0]),
        ("1,0", [1, 0]),
        (UUIDS[0], [0]),
        (UUIDS[0].upper(), [0]),
        (UUIDS[0][:12], [0]),
        ("gpu-8932", [0]),
        ("GPU-89", []),  # two begin so
        ("0,-1,1", [0]),
        ("-1", []),
        ("", []),
        ("0,7,1", [0]),
        ("7", []),
        ("NoDevFiles", []),
        (" 0 , 1 ", [0, 1]),
        ("00", [0]),
        ("²", []),
    ],
)
def test_names_mean_what_cuda_reads_in_them(
    machine: dict[str, str], monkeypatch: pytest.MonkeyPatch, names: str, means: list[int]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
    assert [gpu.identity for gpu in gpus.gpus()] == [UUIDS[place] for place in means]


@pytest.mark.parametrize("names", ["0,0", f"0,{UUIDS[0]}", f"{UUIDS[0]},{UUIDS[0][:12]}"])
def test_one_gpu_under_two_names_is_refused(machine: dict[str, str], names: str) -> None:
    job = start(machine | {"CUDA_VISIBLE_DEVICES": names}, 2, "true")
    assert "twice" in job.communicate(timeout=20)[1]
    assert job.returncode == 3


@pytest.mark.parametrize("name", [UUIDS[0], UUIDS[0][:12], UUIDS[0].upper()])
def test_another_name_of_a_gpu_waits_for_it(machine: dict[str, str], tmp_path: Path, name: str) -> None:
    holder = start(machine | {"CUDA_VISIBLE_DEVICES": "0"}, 1, "sleep", "30")
    until(lambda: list((tmp_path / "locks").glob("gpu-8932*.lock")))
    waiting = start(machine | {"CUDA_VISIBLE_DEVICES": name}, 1, "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=1)
    holder.kill()
    assert waiting.communicate(timeout=20)[0] == f"{UUIDS[0]}\n"
    holder.communicate()


def test_slices_share_their_gpu_and_the_whole_waits_for_them(machine: dict[str, str], tmp_path: Path) -> None:
    one = start(machine | {"CUDA_VISIBLE_DEVICES": SLICE}, 1, "sleep", "30")
    until(lambda: list((tmp_path / "locks").glob("mig-5f3c*.lock")))
    other = start(machine | {"CUDA_VISIBLE_DEVICES": "mig-6F3C"}, 1, "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert other.communicate(timeout=20)[0].startswith("MIG-6f3c")
    waiting = [start(machine | {"CUDA_VISIBLE_DEVICES": name}, 1, "true") for name in ("1", SLICE[:10])]
    for job in waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            job.wait(timeout=1)
    one.kill()
    for job in (one, *waiting):
        job.communicate(timeout=20)
    assert [job.returncode for job in waiting] == [0, 0]


@pytest.mark.parametrize(
    ("visible", "slurm", "numbers"),
    [("2,3", "2,3", [2, 3]), ("0,1", "2,3", [2, 3]), ("1", "2,3", [3]), ("0,1", "", [0, 1])],
)
def test_an_allocation_names_gpus_of_its_node(
    monkeypatch: pytest.MonkeyPatch, visible: str, slurm: str, numbers: list[int]
) -> None:
    """Where no nvidia-smi tells UUIDs; Slurm numbers from 0 where a cgroup hides the other GPUs."""
    monkeypatch.delenv(gpus.GPUS, raising=False)
    monkeypatch.setattr(gpus, "_ask", lambda *arguments: [])
    monkeypatch.setenv("SLURMD_NODENAME", "n2")
    monkeypatch.setenv("SLURM_JOB_GPUS", slurm)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.identity for gpu in gpus.gpus()] == [f"n2-gpu-{number}" for number in numbers]


def test_a_slurm_job_without_gpus_takes_none_of_its_node(environment: dict[str, str]) -> None:
    job = start(environment | {"SLURM_JOB_ID": "7"}, 1, "true")
    assert "Slurm gave this job none; ask for them (the resource gpu)" in job.communicate(timeout=20)[1]
    assert job.returncode == 3
    given = start(environment | {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "2", "CUDA_VISIBLE_DEVICES": "2"}, 1, "true")
    given.communicate(timeout=20)
    assert given.returncode == 0


def test_a_file_system_without_locks_is_named_with_the_remedy(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import errno, fcntl\ndef flock(*_): raise OSError(errno.ENOLCK, 'No locks available')\nfcntl.flock = flock\n"
    )
    without = environment | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    job = start(without, 1, "true")
    said = job.communicate(timeout=20)[1]
    assert f"{tmp_path / 'locks'}: this file system cannot lock files" in said
    assert "set FLEDGLING_LOCKS to a folder on a disk of this machine" in said
    assert job.returncode == 3
