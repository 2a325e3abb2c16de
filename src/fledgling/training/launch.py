"""One process a claimed GPU: `python -m fledgling.training.launch script arguments…` becomes the script's launcher.

The layout is a matter of the machine, so it comes from the claimed GPUs and from the "where" part of the
configuration, never from a setting that would train again when it changes. One process needs no launcher; more are
started by `accelerate launch`, which ends the others when one has ended.
"""

import os
import sys
from pathlib import Path

from fledgling.cli import run
from fledgling.errors import UsageError
from fledgling.graph.driver import where

CONFIGS = Path(__file__).parents[3] / "config/accelerate"


def command(processes: int, *, deepspeed: bool) -> list[str]:
    """What comes before the script: the interpreter, and for several processes accelerate with its configuration."""
    if processes <= 1:
        return [sys.executable]
    file = CONFIGS / ("zero2.yaml" if deepspeed else "gpus.yaml")
    options = ["--config_file", str(file), "--num_processes", str(processes)]
    return [sys.executable, "-m", "accelerate.commands.launch", *options]


def main() -> None:
    """Become the launcher, or the script where it is one process."""
    if len(sys.argv) < 2:
        raise UsageError("usage: python -m fledgling.training.launch script arguments…")
    cards = len([name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name])
    # Micro-batches differ in size: without this, the allocator's blocks of one size are of no use to the next.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    start = command(cards, deepspeed=bool(where().get("training", {}).get("deepspeed")))
    os.execv(sys.executable, [*start, *sys.argv[1:]])


if __name__ == "__main__":
    run(main)
