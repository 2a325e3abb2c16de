"""The shape of the code: layers, generated pages, ready overlays, names that are data."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fledgling.config import load
from tests.project import copy_project

EXAMPLES = sorted((Path(__file__).parents[2] / "config/examples").glob("*.yaml"))


def layers(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("stats.py", "from fledgling.decision import gate"),
        ("journal/line.py", "from fledgling.teacher import prices"),
        ("files.py", "import fledgling.command.main"),
    ],
)
def test_an_import_against_the_layers_is_refused(root: Path, tmp_path: Path, file: str, line: str) -> None:
    copy_project(root, tmp_path)
    shutil.copy(root / "pyproject.toml", tmp_path)
    assert layers(tmp_path).returncode == 0
    planted = tmp_path / "src/fledgling" / file
    planted.write_text(f"{planted.read_text()}\n{line}\n")
    done = layers(tmp_path)
    assert done.returncode == 1
    assert "Layers BROKEN" in done.stdout


def test_generated_pages_and_schemas_are_current(root: Path) -> None:
    done = subprocess.run([sys.executable, "docs/describe.py", "--check"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_configuration(root: Path, file: Path) -> None:
    assert load(root / "config/config.yaml", file, root=root)["contenders"]


def test_no_code_knows_the_name_of_a_contender(root: Path) -> None:
    """Names of the default stand in the defaults of the configuration, and nowhere else."""
    defaults = {"src/fledgling/config.py", "src/fledgling/contenders.py", "src/fledgling/selection.py"}
    found = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for folder in ("src", "rules", "scripts")
        for path in (root / folder).rglob("*")
        if path.suffix in (".py", ".smk", ".html", ".js") and str(path.relative_to(root)) not in defaults
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"""['"](slm|tuned)['"]""", line)
    ]
    assert found == []
