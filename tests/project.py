"""A copy of the project's graph in a folder of its own."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from fledgling import seals

FILES = ("Snakefile", "rules", "config", "profiles", "envs", "src", "report", "scripts")


def copy_project(root: Path, folder: Path) -> None:
    """Copy what the graph needs from the project's folder, without anything that was built."""
    for name in FILES:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, folder / name)


def write_sealed(path: str | Path, value: Mapping[str, object]) -> None:
    """Write one JSON file as the stages do, with its seal, whatever its shape."""
    text = json.dumps({key: part for key, part in value.items() if key != seals.KEY}, indent=2) + "\n"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(seals.sealed_json(text))


def several_candidates(folder: Path) -> None:
    """Let trainings of the embedded default keep two adapters to choose from, where it keeps one to be quick."""
    path = folder / "config/config.yaml"
    text = path.read_text()
    assert text.count("  candidates: 1 #") == 1
    path.write_text(text.replace("  candidates: 1 #", "  candidates: 2 #"))
