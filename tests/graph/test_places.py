"""The graph runs where its user is: another folder, spaces, a read-only checkout, an unusual user, no HOME."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.project import copy_project

TARGET = "results/data/structured/test.jsonl"
SMALL = {"tracks": {"structured": {"sources": [{"embedded": "structured", "rows": 60}]}}}


@pytest.fixture
def checkout(root, tmp_path):
    """A copy of the project in a folder with spaces and a quote, and an empty working folder of the same kind."""
    folder = tmp_path / "check out's"
    folder.mkdir()
    copy_project(root, folder)
    work = tmp_path / "my work"
    work.mkdir()
    (work / "small.yaml").write_text(json.dumps(SMALL))
    return folder, work


def build(folder, work, *command, **env):
    """Build the rows of one track from another folder than the checkout; what was printed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("FLEDGLING_", "SLURM"))}
    line = [*command, sys.executable, "-m", "snakemake", "--snakefile", str(folder / "Snakefile"), "--cores", "1"]
    done = subprocess.run(
        [*line, "--configfile", str(work / "small.yaml"), "--", TARGET],
        cwd=work,
        env={key: value for key, value in (clean | env).items() if value is not None},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    assert len((work / TARGET).read_text().splitlines()) > 5
    return done.stdout


def test_another_folder_with_spaces_in_it(checkout):
    folder, work = checkout
    before = sorted(path.name for path in folder.iterdir())
    build(folder, work)
    assert sorted(path.name for path in folder.iterdir()) == before, "nothing is written beside the code"
    assert (work / "logs/prepare/structured.log").exists()


def test_directory_keeps_runs_apart(checkout):
    folder, work = checkout
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "snakemake",
            "--directory",
            work,
            "--cores",
            "1",
            "--configfile",
            work / "small.yaml",
            "--",
            TARGET,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (work / TARGET).exists()
    assert not (folder / "results").exists()


def test_rows_of_a_track_are_looked_for_where_the_run_is(checkout):
    folder, work = checkout
    rows = [
        {"messages": [{"role": "user", "content": f"number {n}"}], "schema": {"type": "object"}, "answer": {"n": n}}
        for n in range(40)
    ]
    (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {"tracks": {"structured": {"sources": [{"path": "rows.jsonl"}]}}}
    (work / "small.yaml").write_text(json.dumps(own))
    build(folder, work)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="only root can become an unusual user")
def test_an_unusual_user_whose_home_is_not_there_and_a_checkout_that_cannot_be_written(checkout, request):
    open_to_all = Path(tempfile.mkdtemp(dir="/tmp", prefix="fledgling-"))
    request.addfinalizer(lambda: shutil.rmtree(open_to_all))
    open_to_all.chmod(0o755)
    folder, work = (shutil.copytree(place, open_to_all / place.name) for place in checkout)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    os.chown(work, 54321, 54321)
    as_user = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    seen = subprocess.run(
        [*as_user, "bash", "-c", "python -c 'import snakemake'"], env=os.environ | {"PATH": path}, capture_output=True
    )
    if seen.returncode:
        pytest.skip("this Python cannot be read by another user")
    # Snakemake itself wants names of a user and a HOME, and a cache that it can write; docs/clusters.md says so.
    build(folder, work, *as_user, HOME="/nonexistent", XDG_CACHE_HOME=str(work / "cache"), USER="nobody")


def test_no_home(checkout):
    build(*checkout, HOME=None, USER=None, LOGNAME=None, XDG_CACHE_HOME=None)
