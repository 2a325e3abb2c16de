"""Makes an environment of what this checkout needs: `make env` calls it with the environment's own Python.

    .venv/bin/python envs/install.py '.[console,cluster,azure,dev]'

On x86-64 Linux without an NVIDIA driver torch comes from pytorch.org as its CPU build, where that can be reached: PyPI's
brings 3.4 GB of NVIDIA's libraries. FLEDGLING_TORCH_INDEX names another index of the kind (a mirror), or is empty for
PyPI's build. On a terminal the last line says how far it is; in a pipe there is a line now and then, each time after twice
the time. What pip says lies in install.log of the environment. Uses nothing but the standard library, as nothing else is
there yet.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
INDEX = "https://download.pytorch.org/whl/cpu"
PATIENCE_S = 8  # for an index to answer
TICK_S = 2  # between two looks at the clock on a terminal
FIRST_WORD_S = 10  # after which a pipe has its first line; on a terminal how old the size may be
END = 15  # lines of pip's that are shown where it fails


def cpu_index() -> str:
    """The index of torch's CPU build to use; empty for whatever pip is configured with."""
    named = os.environ.get("FLEDGLING_TORCH_INDEX")
    if named is not None:
        return named
    has_driver = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()
    return INDEX if platform.system() == "Linux" and platform.machine() == "x86_64" and not has_driver else ""


def answers(index: str) -> bool:
    """Whether an index has torch."""
    try:
        with urllib.request.urlopen(f"{index.rstrip('/')}/torch/", timeout=PATIENCE_S) as reply:
            return bool(reply.status == 200)
    except (OSError, ValueError):
        return False


def size_gb() -> float:
    """What the environment takes on disk, in GB."""
    files = (Path(folder, name) for folder, _, names in os.walk(sys.prefix) for name in names)
    return sum(file.lstat().st_size for file in files if file.exists()) / 1e9


def pip(what: str, *arguments: str) -> None:
    """Run pip, and say how much lies there by now."""
    began, over, log = time.monotonic(), threading.Event(), Path(sys.prefix, "install.log")
    teller = threading.Thread(target=tell, args=(what, began, over), daemon=True)
    print(f"{what} …", flush=True)
    teller.start()
    try:
        with log.open("wb") as said:
            command = [sys.executable, "-m", "pip", "install", "--quiet", *arguments]
            done = subprocess.run(command, cwd=ROOT, check=False, stdout=said, stderr=subprocess.STDOUT)
    finally:
        over.set()
        teller.join()
    if done.returncode:
        print("\n".join(log.read_text(errors="replace").splitlines()[-END:]), file=sys.stderr)
        print(f"error: pip could not install {what}; all it said is in {log}", file=sys.stderr)
        print("the same command goes on from here", file=sys.stderr)
        raise SystemExit(done.returncode)


def tell(what: str, began: float, over: threading.Event) -> None:
    """Say how far it is until it is over: on one line that moves, or in a pipe after ever longer times."""
    live = sys.stdout.isatty()
    pause, seen, size = TICK_S if live else FIRST_WORD_S, 0.0, 0.0
    while not over.wait(pause):
        now = time.monotonic()
        if not live or now - seen > FIRST_WORD_S:
            seen, size = now, size_gb()
        line = f"  {what} … {now - began:.0f} s, {size:.1f} GB in {sys.prefix}"
        print(f"\r\033[2K{line}" if live else line, end="" if live else "\n", flush=True)
        pause = TICK_S if live else 2 * pause
    if live:
        print("\r\033[2K", end="", flush=True)


def main() -> None:
    """Install what the arguments name."""
    began = time.monotonic()
    wanted = re.search(r"^torch==\S+", (ROOT / "envs/base.txt").read_text(), re.MULTILINE)
    if wanted is None:
        raise SystemExit("error: envs/base.txt names no torch==VERSION")
    pip("pip", "--upgrade", "pip")
    index = cpu_index()
    if index and answers(index):
        pip(f"torch's CPU build from {index}", "--no-deps", "--index-url", index, wanted[0])
    elif index:
        print(f"{index} does not answer: torch comes from where pip looks, perhaps with NVIDIA's libraries (3.4 GB)")
    pip("everything else", "--editable", *sys.argv[1:])
    print(f"{size_gb():.1f} GB in {sys.prefix} after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
