"""Cards claimed for one command: `python -m fledgling.gpus N command…`.

Waits until N cards are free, claims them with one lock a card, sets CUDA_VISIBLE_DEVICES and becomes
the command, which holds the locks for as long as it or a child that inherited them lives; a kill -9
frees them too. `{cards}` in an argument becomes the number claimed. N = 0 claims and shows no card.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fledgling.cli import run
from fledgling.errors import ConfigError, UsageError

LOCKS = "FLEDGLING_LOCKS"  # folder of the locks, instead of /tmp/fledgling-gpus-UID
CARDS = "FLEDGLING_CARDS"  # number of cards, instead of asking nvidia-smi
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Card:
    """A card as CUDA_VISIBLE_DEVICES names it, and its lasting identity (UUID where known)."""

    name: str
    identity: str


def cards() -> list[Card]:
    """The cards that this process may use: those of CUDA_VISIBLE_DEVICES, or all of the machine."""
    uuids = _machine()
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return [Card(str(i), uuid) for i, uuid in enumerate(uuids)]
    names = [name.strip() for name in allowed.split(",") if name.strip() not in ("", "-1")]
    return [Card(name, uuids[int(name)] if name.isdigit() and int(name) < len(uuids) else name) for name in names]


def _machine() -> list[str]:
    if fixed := os.environ.get(CARDS):
        return [f"card-{i}" for i in range(int(fixed))]
    try:
        return subprocess.check_output(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"], text=True, timeout=60
        ).split()
    except (OSError, subprocess.SubprocessError):
        return []


def lock_folder() -> Path:
    """The folder of this user's locks, made if need be. Not TMPDIR: two jobs may have two of those.

    Raises:
        ConfigError: it belongs to someone else.
    """
    folder = Path(os.environ.get(LOCKS) or f"/tmp/fledgling-gpus-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder}: belongs to uid {folder.stat().st_uid}; set {LOCKS} to a folder of your own")
    return folder


def claim(wanted: int, available: list[Card], folder: Path, command: list[str]) -> dict[str, int]:
    """{card name: locked descriptor} of `wanted` free cards; waits for them, first come, first served.

    Only one process at a time collects cards, so two that wait never hold each other's.
    """
    queue = os.open(folder / "queue.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    held: dict[str, int] = {}
    try:
        if not _lock(queue):
            _say(f"waiting for cards behind {_holder(folder / 'queue.lock')}")
            fcntl.flock(queue, fcntl.LOCK_EX)
        _sign(queue, command)
        told = ""
        while True:
            for card in available:
                if card.name not in held and len(held) < wanted:
                    fd = os.open(_path(folder, card), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                    if _lock(fd):
                        _sign(fd, command)
                        held[card.name] = fd
                    else:
                        os.close(fd)
            if len(held) == wanted:
                return held
            busy = [f"card {c.name}: {_holder(_path(folder, c))}" for c in available if c.name not in held]
            line = f"waiting for {wanted - len(held)} of {wanted} cards; in use: " + "; ".join(busy)
            if line != told:
                _say(line)
                told = line
            time.sleep(POLL_S)
    except BaseException:
        for fd in held.values():
            os.close(fd)
        raise
    finally:
        os.close(queue)


def _path(folder: Path, card: Card) -> Path:
    return folder / f"{card.identity.replace('/', '_')}.lock"


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(fd: int, command: list[str]) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"pid {os.getpid()} ({' '.join(command)[:200]})\n".encode(), 0)


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or "a process that just started"
    except FileNotFoundError:
        return "nobody"


def _say(line: str) -> None:
    print(f"gpus: {line}", file=sys.stderr, flush=True)


def die_with_launcher() -> None:
    """End this process when accelerate's or torchrun's launcher is gone, which holds the claim of its cards.

    Launchers close inherited descriptors in their children, so a child that outlived one would use
    cards that are free to claim. Does nothing in a process that was not launched so.
    """
    if "LOCAL_RANK" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ:
        pr_set_pdeathsig = 1
        parent = os.getppid()
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if parent == 1 or os.getppid() != parent:
            raise SystemExit(143)


def main() -> None:
    """Claim cards and become the command."""
    if len(sys.argv) < 3 or not sys.argv[1].isdigit():
        raise UsageError("usage: python -m fledgling.gpus N command…")
    wanted, command = int(sys.argv[1]), sys.argv[2:]
    held: dict[str, int] = {}
    if wanted:
        available = cards()
        if not available:
            raise ConfigError(f"{wanted} cards are asked for and none is visible here; set gpus to 0 for the CPU")
        if wanted > len(available):
            _say(f"{wanted} cards are asked for and {len(available)} are here; going on with {len(available)}")
        held = claim(min(wanted, len(available)), available, lock_folder(), command)
        _say(f"claimed card {', '.join(held)}")
    for fd in held.values():
        os.set_inheritable(fd, True)
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order of nvidia-smi, whose UUIDs name the locks
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(held)
    command = [part.replace("{cards}", str(len(held))) for part in command]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        raise UsageError(f"{command[0]}: no such command") from None


if __name__ == "__main__":
    run(main)
