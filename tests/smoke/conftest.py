"""The real graph in a folder of its own, on the embedded default."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.project import copy_project, several_candidates


@dataclass
class Project:
    """A copy of the project in which the graph really runs."""

    folder: Path
    printed: str = ""
    """What its first build printed."""

    @classmethod
    def of(cls, root: Path, folder: Path) -> "Project":
        """A copy without anything that was built."""
        copy_project(root, folder)
        return cls(folder)

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run snakemake on all cores; the result holds stdout and stderr in one text."""
        clean = {
            key: value for key, value in os.environ.items() if not key.startswith(("AZURE_", "FLEDGLING_", "OPENAI_"))
        }
        return subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "all", *arguments],
            cwd=self.folder,
            env=clean | {"HF_HUB_OFFLINE": "1"} | env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def build(self, *arguments: str, **env: str) -> str:
        """Run and expect success; returns what was printed."""
        done = self.run(*arguments, **env)
        assert done.returncode == 0, done.stdout[-8000:]
        return done.stdout

    def read(self, path: str) -> Any:
        """A JSON file under results/."""
        return json.loads((self.folder / "results" / path).read_text())

    def rows(self, path: str) -> list[dict[str, Any]]:
        """A JSON Lines file under results/."""
        return [json.loads(line) for line in (self.folder / "results" / path).read_text().splitlines()]


@pytest.fixture(scope="session")
def story(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Everything built once on the embedded default, with candidates to choose from; tests that change it work on a copy."""
    project = Project.of(root, tmp_path_factory.mktemp("story"))
    several_candidates(project.folder)
    project.printed = project.build()
    return project


@pytest.fixture
def copied(story: Project, tmp_path: Path) -> Project:
    """A private copy of what was built, journal and Snakemake's records included."""
    shutil.copytree(story.folder, tmp_path / "copy", symlinks=True)
    return Project(tmp_path / "copy")
