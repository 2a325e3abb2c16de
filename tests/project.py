"""A copy of the project's graph in a folder of its own."""

import shutil
from pathlib import Path

FILES = ("Snakefile", "rules", "config", "profiles", "envs", "src", "report", "scripts")


def copy_project(root: Path, folder: Path) -> None:
    """Copy what the graph needs from the project's folder, without anything that was built."""
    for name in FILES:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, folder / name)
