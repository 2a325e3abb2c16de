"""A copy of the graph whose scripts write placeholders, so that a whole build takes seconds.

The scripts keep their real code below the placeholder, so that code digests cover what they import.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.project import copy_project, several_candidates

OUTPUTS = {
    "prepare": ["--train", "--val", "--test", "--datasheet"],
    "score": ["--out", "--rows"],
    "train": ["--out"],
}
PLACEHOLDER = """\
import itertools, json, pathlib, sys
from fledgling.seals import sealed_json
def _given(name):
    after = sys.argv[sys.argv.index(name) + 1 :]
    return list(itertools.takewhile(lambda word: not word.startswith("--"), after))
for _out in [pathlib.Path(_path) for _name in {options!r} for _path in _given(_name)]:
    _out.parent.mkdir(parents=True, exist_ok=True)
    _said = {{"made by": {script!r}, "for": str(_out)}}
    if "--key" in sys.argv:  # what val and the gate say: that no contender promises, unless says.json has it otherwise
        _says = json.loads(pathlib.Path("says.json").read_text()) if pathlib.Path("says.json").exists() else {{}}
        _where = "/".join(_out.parts[-2:])[:-5]
        _said |= {{"key": _given("--key")[0], "goes_on": _says.get(_where, True), "next": _says.get(_where)}}
    if {script!r} == "decide":
        _said |= {{"of": [str(_file) for _option in ("--rows", "--ladder") for _file in _given(_option)]}}
    _out.write_text(sealed_json(json.dumps(_said, indent=2) + "\\n"))
    if {script!r} == "prepare" and _out.suffix == ".jsonl":  # what a run asks is counted before it starts
        _row = {{"id": "1", "group": "1", "messages": [{{"role": "user", "content": "Hello"}}], "answer": []}}
        _out.write_text(json.dumps(_row) + "\\n")
    _folders = {{"train": [_out.parent / "1", _out.parent / "2", _out.parent / "3"], "select_adapter": [_out.parent]}}
    if {script!r} in ("ask", "buy", "answer", "floor", "choose_shots"):
        _out.with_suffix(".json").write_text("{{}}")
    for _folder in _folders.get({script!r}, []):
        _folder.mkdir(exist_ok=True)
        for _sibling in ("adapter_model.safetensors", "adapter_config.json", "training.json", "manifest.json"):
            if _folder / _sibling != _out:
                (_folder / _sibling).write_text(json.dumps({{"for": str(_folder)}}))
sys.exit(0)
"""


@dataclass
class Graph:
    """A folder with the project's graph in it."""

    folder: Path

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run snakemake; the result holds stdout and stderr in one text."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("AZURE_", "FLEDGLING_"))}
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env=clean | (env or {}),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def build(self, *arguments: str) -> None:
        """Build everything, with placeholders."""
        result = self.run("--cores", "2", "--quiet", "all", *arguments)
        assert result.returncode == 0, result.stdout

    def plan(self, *arguments: str) -> dict[str, int]:
        """{rule: jobs} of a dry run, without `all`."""
        result = self.run("--dry-run", *arguments)
        assert result.returncode == 0, result.stdout
        table = re.search(r"^Job stats:\n(.*?)\n\n", result.stdout, re.DOTALL | re.MULTILINE)
        rows = [line.split() for line in table[1].splitlines()[2:]] if table else []
        return {rule: int(count) for rule, count in rows if rule not in ("all", "total")}

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace one text in one file; the old one must be there."""
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new, 1))


def copy_graph(root: Path, folder: Path) -> Graph:
    """Copy the project's graph and put a placeholder before each script's own code."""
    copy_project(root, folder)
    several_candidates(folder)
    for script in (folder / "scripts").glob("*.py"):
        options = OUTPUTS.get(script.stem, ["--out"])
        script.write_text(PLACEHOLDER.format(options=options, script=script.stem) + script.read_text())
    return Graph(folder)


@pytest.fixture(scope="session")
def _built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    graph = copy_graph(root, tmp_path_factory.mktemp("graph"))
    graph.build()
    return graph


@pytest.fixture
def built(_built: Graph, tmp_path: Path) -> Graph:
    """A private copy of the graph with everything built."""
    shutil.copytree(_built.folder, tmp_path / "graph", symlinks=True)
    return Graph(tmp_path / "graph")


@pytest.fixture
def empty(root: Path, tmp_path: Path) -> Graph:
    """A private copy of the graph with nothing built."""
    return copy_graph(root, tmp_path)


@pytest.fixture
def overlay(tmp_path: Path):
    """Write a second configuration file; returns its path."""

    def write(value: object) -> str:
        path = tmp_path / "overlay.yaml"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return str(path)

    return write
