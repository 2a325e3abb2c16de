"""One process a claimed card: `python -m fledgling.training.launch script arguments…` becomes `accelerate launch`.

The layout is a matter of the machine, so it comes from the claimed cards and from the "where" part of
the configuration, never from a setting that would train again when it changes.
"""

import os
import sys
from pathlib import Path

from fledgling.cli import run
from fledgling.errors import UsageError
from fledgling.graph.driver import where

CONFIGS = Path(__file__).parents[3] / "config/accelerate"


def arguments(cards: int, *, deepspeed: bool) -> list[str]:
    """What `accelerate launch` is told: its configuration file and the number of processes."""
    name = "cpu" if cards == 0 else "zero2" if deepspeed else "gpu1" if cards == 1 else "gpu4"
    return ["--config_file", str(CONFIGS / f"{name}.yaml"), "--num_processes", str(max(1, cards))]


def main() -> None:
    """Become the launcher."""
    if len(sys.argv) < 2:
        raise UsageError("usage: python -m fledgling.training.launch script arguments…")
    cards = len([name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name])
    options = arguments(cards, deepspeed=bool(where().get("training", {}).get("deepspeed")))
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, *sys.argv[1:]]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    run(main)
