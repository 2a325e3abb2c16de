"""Verdicts from real rows: dialogues, machine-written requests, voice requests, commands, and BFCL's for evaluation."""

import pytest

from .conftest import Project

TRACKS = ("sgd", "seal", "snips", "slurp")


@pytest.fixture(scope="module")
def real(root, shared_data, tmp_path_factory) -> Project:
    project = Project.of(root, tmp_path_factory.mktemp("real"))
    text = (root / "tests/smoke/real.yaml").read_text().replace("SHARED", str(shared_data))
    (project.folder / "real.yaml").write_text(text)
    targets = [f"results/verdict/{track}.json" for track in TRACKS] + [
        f"results/report/{track}.html" for track in TRACKS
    ]
    project.build("--configfile", "real.yaml", "--", *targets, "results/metrics/bfcl/teacher.json")
    return project


@pytest.mark.parametrize("track", TRACKS)
def test_a_verdict_from_real_rows(real, track):
    verdict = real.read(f"verdict/{track}.json")
    # The small checkpoint was never taught these rows: it cannot take the track over.
    assert verdict["deploy"] in ("teacher", "inconclusive")
    assert verdict["n"] >= 100
    teacher = real.read(f"metrics/{track}/teacher.json")["metrics"]
    core = "ast_match_rate" if track in ("sgd", "seal") else "exact_match_rate"
    assert teacher[core]["value"] > 0.85, "the simulated teacher errs on 6 of 100 rows"


def test_gold_of_every_real_row_scores(real):
    """The teacher's right answers are the gold: what is not right is an error that the endpoint made on purpose."""
    reasons = real.read("metrics/bfcl/teacher.json")
    assert reasons["n"] >= 390
    assert reasons["metrics"]["ast_match_rate"]["value"] > 0.85
