"""What jobs took is known from the runs of a folder, also after `make clean`."""

import json

from fledgling.contenders import Job
from fledgling.forecast.history import History


def run(root, name, *jobs):
    """A run with jobs (rule, outputs, seconds); None is a job that did not end."""
    path = root / ".fledgling/runs" / name / "events.jsonl"
    path.parent.mkdir(parents=True)
    lines = []
    for number, (rule, outputs, seconds) in enumerate(jobs):
        start = {"at": "2026-01-01T10:00:00.000+00:00", "event": "job_started", "job": number, "rule": rule}
        lines.append({**start, "outputs": outputs})
        lines.append({"at": "2026-01-01T10:00:01.000+00:00", "event": "progress", "rule": rule})
        if seconds is not None:
            lines.append({"at": f"2026-01-01T10:00:{seconds:06.3f}+00:00", "event": "job_finished", "job": number})
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"half')


def test_the_last_time_counts(tmp_path):
    one = "results/predictions/a/slm.jsonl"
    run(tmp_path, "1", ("answer", [one, "results/predictions/a/slm.json"], 10))
    run(tmp_path, "2", ("answer", [one, "results/predictions/a/slm.json"], 20))
    run(tmp_path, "3", ("answer", [one], None))
    history = History.of(tmp_path / "results")
    assert history.seconds(Job("answer", "a", "slm")) == 20
    assert history.seconds(Job("answer", "b", "slm")) is None
    assert history.seconds(Job("answer", "a", "slm", "val")) is None


def test_candidates_that_answer_together_share_the_time(tmp_path):
    rows = [f"results/predictions/a/val/sft.{n}.jsonl" for n in (1, 2)]
    training = ["results/candidates/a/sft/1/adapter_model.safetensors", "results/candidates/a/sft/training.json"]
    run(tmp_path, "1", ("answer_candidates", [*rows, *[f"{row[:-1]}" for row in rows]], 30), ("train", training, 40))
    history = History.of(tmp_path / "results")
    assert history.seconds(Job("answer", "a", "sft.2", "val")) == 15
    assert history.seconds(Job("train", "a", "sft", None)) == 40


def test_the_other_jobs_are_summed_by_rule(tmp_path):
    run(
        tmp_path,
        "1",
        ("fetch", ["results/models/slm/manifest.json"], 9),
        ("prepare", ["results/data/a/train.jsonl", "results/data/a/test.jsonl"], 3),
        ("prepare", ["results/data/b/train.jsonl"], 5),
        ("score", ["results/metrics/a/slm.json"], 1),
        ("score", ["results/metrics/a/teacher.json"], 2),
        ("compare", ["results/compare/a.json"], 4),
        ("answer", ["results/predictions/a/slm.jsonl"], 50),
    )
    others = History.of(tmp_path / "results").others(["a"], ["answer"])
    assert others == {"fetch": 9, "prepare": 3, "score": 3, "compare": 4}


def test_a_folder_without_runs_says_nothing(tmp_path):
    history = History.of(tmp_path / "results")
    assert history.seconds(Job("ask", "a", "teacher")) is None
    assert history.others(["a"], []) == {}
