"""GPUs claimed for one command: `python -m fledgling.gpus N command…`.

Waits until N GPUs are free, claims them with one lock a GPU, sets CUDA_VISIBLE_DEVICES and becomes
the command, which holds the locks for as long as it or a child that inherited them lives; a kill -9
frees them too. `{gpus}` in an argument becomes the number claimed. N = 0 claims and shows no GPU.

A scheduler's allocation comes first: only what CUDA_VISIBLE_DEVICES names is claimed. The locks then
keep apart what no scheduler placed: two Snakemake runs on one machine, or a command typed by hand.
"""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fledgling.cli import run
from fledgling.errors import ConfigError, UsageError
from fledgling.locks import LOCKS, lock, lock_folder

GPUS = "FLEDGLING_GPUS"  # number of GPUs, instead of asking nvidia-smi
POLL_S = 0.2
REMEDY = f"set {LOCKS} to a folder on a disk of this machine"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as CUDA_VISIBLE_DEVICES names it, and its lasting identity (UUID where known).

    A slice of a GPU (MIG) also has the identity of the whole, which others may use in slices, but not at once whole.
    """

    name: str
    identity: str
    whole: str | None = None


def gpus() -> list[Gpu]:
    """The GPUs that this process may use: those of CUDA_VISIBLE_DEVICES as CUDA reads it, or all of the machine.

    Raises:
        ConfigError: CUDA_VISIBLE_DEVICES names a GPU twice (CUDA shows none then).
    """
    machine = _machine()
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return [] if _without_gpus() else [Gpu(str(i), identity) for i, identity in enumerate(machine)]
    found: list[Gpu] = []
    names = _allowed(allowed)
    scheduled = _scheduled(names)
    for name in names:
        gpu = _named(name, machine, scheduled)
        if gpu is None:  # CUDA, too, shows what stands before the first name that it does not know
            if name:
                _say(f"CUDA_VISIBLE_DEVICES={allowed}: no GPU here is {name!r}; it and what follows is not used")
            break
        if gpu.identity in {other.identity for other in found}:
            raise ConfigError(f"CUDA_VISIBLE_DEVICES={allowed} names GPU {name} twice, and CUDA shows none then")
        found.append(gpu)
    return found


def _allowed(text: str) -> list[str]:
    """The entries up to the first -1, which hides itself and all that follow."""
    names = [name.strip() for name in text.split(",")]
    return names[: names.index("-1")] if "-1" in names else names


def _named(name: str, machine: list[str], scheduled: dict[str, str]) -> Gpu | None:
    """The GPU that an entry of CUDA_VISIBLE_DEVICES names, or None; `scheduled` maps entries to numbers of the machine."""
    if re.fullmatch(r"[0-9]+", name):
        if machine:
            return Gpu(str(int(name)), machine[int(name)]) if int(name) < len(machine) else None
        return Gpu(name, _of_this_host(scheduled.get(name, name)))
    if name.upper().startswith("MIG-"):
        return _slice(name)
    # CUDA takes the first digits of a UUID, in either case.
    matches = [identity for identity in machine if name and identity.lower().startswith(name.lower())]
    if len(matches) == 1:
        return Gpu(matches[0], matches[0])
    return Gpu(name, name.lower()) if not machine and re.fullmatch(r"(?i)GPU-[0-9a-f-]{36}", name) else None


def _slice(name: str) -> Gpu | None:
    """The slice that a name such as MIG-UUID or MIG-GPU-UUID/1/0 means, as nvidia-smi lists it; None where it has none."""
    if old := re.fullmatch(r"(?i)MIG-(GPU-[0-9a-f-]{36})(/[0-9]+/[0-9]+)", name):
        return Gpu(name, f"mig-{old[1].lower()}{old[2]}", old[1].lower())
    whole, found = "", []
    for line in _ask("-L"):
        if uuid := re.search(r"UUID: (\S+?)\)", line):
            if uuid[1].upper().startswith("GPU-"):
                whole = uuid[1]
            elif uuid[1].lower().startswith(name.lower()):
                found.append(Gpu(uuid[1], uuid[1].lower(), whole.lower()))
    return found[0] if len(found) == 1 else None


def _machine() -> list[str]:
    """The identity of each GPU that is visible on this machine, in CUDA's order by bus; [] where none can be asked."""
    if fixed := os.environ.get(GPUS):
        return [_of_this_host(i) for i in range(int(fixed))]
    return [line for line in _ask("--query-gpu=uuid", "--format=csv,noheader") if line]


def _ask(*arguments: str) -> list[str]:
    try:
        said = subprocess.check_output(["nvidia-smi", *arguments], text=True, timeout=60, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in said.splitlines()]


def _without_gpus() -> bool:
    """Whether a Slurm job was given no GPU: then those of its machine are other jobs'."""
    given = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE")
    return "SLURM_JOB_ID" in os.environ and not any(os.environ.get(name) for name in given)


def _scheduled(names: list[str]) -> dict[str, str]:
    """{entry: number of the GPU on its machine} where Slurm numbers the GPUs of a job from 0, as it does in cgroups."""
    told = os.environ.get("SLURM_STEP_GPUS") or os.environ.get("SLURM_JOB_GPUS") or ""
    numbers = told.split(",")
    return {} if set(names) <= set(numbers) else {str(i): number for i, number in enumerate(numbers) if number}


def _of_this_host(number: int | str) -> str:
    """An identity for a GPU without UUID: several machines may keep their locks in one shared folder."""
    return f"{os.environ.get('SLURMD_NODENAME') or socket.gethostname()}-gpu-{number}"


def claim(wanted: int, available: list[Gpu], folder: Path, command: list[str]) -> dict[str, list[int]]:
    """{GPU name: locked descriptors} of `wanted` free GPUs; waits for them, first come, first served.

    Only one process at a time collects GPUs, so two that wait never hold each other's.
    """
    queue = _open(folder / "queue.lock")
    held: dict[str, list[int]] = {}
    try:
        if not lock(queue, folder / "queue.lock", REMEDY):
            _say(f"waiting for GPUs behind {_holder(folder / 'queue.lock')}")
            lock(queue, folder / "queue.lock", REMEDY, wait=True)
        _sign(queue, command)
        told = ""
        while True:
            for gpu in available:
                if gpu.name not in held and len(held) < wanted and (locked := _take(folder, gpu, command)):
                    held[gpu.name] = locked
            if len(held) == wanted:
                return held
            busy = [
                f"GPU {gpu.name}: {_holder(_path(folder, gpu.identity))}" for gpu in available if gpu.name not in held
            ]
            line = f"waiting for {wanted - len(held)} of {wanted} GPUs; in use: " + "; ".join(busy)
            if line != told:
                _say(line)
                told = line
            time.sleep(POLL_S)
    except BaseException:
        for fd in _all(held):
            os.close(fd)
        raise
    finally:
        os.close(queue)


def _take(folder: Path, gpu: Gpu, command: list[str]) -> list[int]:
    """Descriptors of the locks of one GPU, or [] where someone else uses it: as a whole or, for a whole, in slices."""
    taken: list[int] = []
    for identity, shared in [(gpu.whole, True), (gpu.identity, False)] if gpu.whole else [(gpu.identity, False)]:
        assert identity is not None
        path = _path(folder, identity)
        taken.append(_open(path))
        if not lock(taken[-1], path, REMEDY, shared=shared):
            for fd in taken:
                os.close(fd)
            return []
    for fd in taken:
        _sign(fd, command)
    return taken


def _all(held: dict[str, list[int]]) -> list[int]:
    return [fd for locked in held.values() for fd in locked]


def _path(folder: Path, identity: str) -> Path:
    return folder / f"{identity.lower().replace('/', '_')}.lock"


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be opened ({error.strerror}); {REMEDY}") from None


def _sign(fd: int, command: list[str]) -> None:
    job = f", Slurm job {os.environ['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in os.environ else ""
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"pid {os.getpid()}{job} ({' '.join(command)[:200]})\n".encode(), 0)


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or "a process that just started"
    except FileNotFoundError:
        return "nobody"


def _say(line: str) -> None:
    print(f"gpus: {line}", file=sys.stderr, flush=True)


def die_with_launcher() -> None:
    """End this process when accelerate's or torchrun's launcher is gone, which holds the claim of its GPUs.

    Launchers close inherited descriptors in their children, so a child that outlived one would use
    GPUs that are free to claim. Does nothing in a process that was not launched so.
    """
    if "LOCAL_RANK" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ:
        pr_set_pdeathsig = 1
        parent = os.getppid()
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if parent == 1 or os.getppid() != parent:
            raise SystemExit(143)


def main() -> None:
    """Claim GPUs and become the command."""
    if len(sys.argv) < 3 or not sys.argv[1].isdigit():
        raise UsageError("usage: python -m fledgling.gpus N command…")
    wanted, command = int(sys.argv[1]), sys.argv[2:]
    held: dict[str, list[int]] = {}
    if wanted:
        available = gpus()
        if not available:
            raise ConfigError(_none_visible(wanted))
        if wanted > len(available):
            _say(f"{wanted} GPUs are asked for and {len(available)} are here; going on with {len(available)}")
        held = claim(min(wanted, len(available)), available, lock_folder(), command)
        _say(f"claimed GPU {', '.join(held)}")
    for fd in _all(held):
        os.set_inheritable(fd, True)
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order of nvidia-smi, whose UUIDs name the locks
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(held)
    if not held:  # nothing is compiled for a CPU, and to load torch's compiler takes bitsandbytes a second
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    command = [part.replace("{gpus}", str(len(held))) for part in command]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        raise UsageError(f"{command[0]}: no such command") from None


def _none_visible(wanted: int) -> str:
    asked = f"GPUs asked for: {wanted}, visible here: none"
    if _without_gpus() and "CUDA_VISIBLE_DEVICES" not in os.environ:
        return (
            f"{asked}, for Slurm gave this job none; ask for them (the resource gpu), or set CUDA_VISIBLE_DEVICES "
            "where Slurm does not hand out GPUs"
        )
    if (names := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return (
            f"{asked} (CUDA_VISIBLE_DEVICES={names}); set gpus to 0 for the CPU, or name GPUs that nvidia-smi -L lists"
        )
    return f"{asked}; set gpus to 0 for the CPU"


if __name__ == "__main__":
    run(main)
