"""The embedded default as it is shipped, on a cluster: measured, refused, tuned, measured again, deployed."""

import json
import subprocess

import pytest

from tests.project import copy_project

from .conftest import PROFILES, Project


@pytest.mark.timeout(900)
@pytest.mark.parametrize("profile", PROFILES)
def test_both_verdicts_and_then_nothing_is_to_be_done(root, cluster, tmp_path, profile):
    copy_project(root, tmp_path)
    project = Project(tmp_path, cluster, profile)
    try:
        seldom = ["--seconds-between-status-checks", "3"] if profile == "slurm-generic" else []
        driver = project.start(*seldom, targets=["all"], OMP_NUM_THREADS="1")
        assert driver.wait(880) == 0, project.log()[-8000:]
    finally:
        project.close()
    for track in ("toolcall", "structured"):
        verdict = json.loads((tmp_path / f"results/verdict/{track}.json").read_text())
        assert verdict["deploy"] == "tuned", verdict["reasons"]
        assert "<svg" in (tmp_path / f"results/report/{track}.html").read_text()
    submitted = [path.stem for path in (tmp_path / ".snakemake/fledgling/jobs").rglob("*.json")]
    small = [name for name in submitted if "small" in name]
    assert 2 <= len(small) <= 12, "of 20 floors and scores, those that can go together do"
    again = subprocess.run(
        [*project.arguments("--dry-run"), "--", "all"],
        cwd=tmp_path,
        env=project.environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert "Nothing to be done" in again.stdout, again.stdout[-5000:]
