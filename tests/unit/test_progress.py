"""Progress goes to whoever watches a run, seldom enough to cost nothing, and never breaks a stage."""

import io
import json
import os
import subprocess
import sys

from fledgling import progress


def events(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_without_a_watcher_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv(progress.EVENTS, raising=False)
    monkeypatch.chdir(tmp_path)
    assert list(progress.progress(range(3), desc="x")) == [0, 1, 2]
    assert list(tmp_path.iterdir()) == []


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


def test_no_bar_is_drawn_where_a_driver_draws(tmp_path, monkeypatch):
    """A job of a run has the run's terminal as its stdout: two that draw there leave a heap of half lines."""
    file, screen = tmp_path / "events.jsonl", Screen()
    file.touch()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.delenv(progress.EVENTS, raising=False)
    assert len(list(progress.progress(range(3), desc="x"))) == 3
    assert "3/3" in screen.getvalue()
    screen.truncate(0)
    monkeypatch.setenv(progress.EVENTS, str(file))
    assert len(list(progress.progress(range(3), desc="x"))) == 3
    assert screen.getvalue() == ""
    assert events(file)[-1]["done"] == 3


def test_a_file_that_is_gone_breaks_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(progress.EVENTS, str(tmp_path / "gone/events.jsonl"))
    assert list(progress.progress(range(3), desc="x")) == [0, 1, 2]
    assert not (tmp_path / "gone").exists()


def test_events_say_the_job_and_how_far_it_is(tmp_path, monkeypatch):
    file = tmp_path / "events.jsonl"
    file.touch()
    monkeypatch.setenv(progress.EVENTS, str(file))
    monkeypatch.setattr(
        sys, "argv", ["scripts/predict.py", "--track", "calls", "--out", "results/predictions/calls/slm.jsonl"]
    )
    bar = progress.Bar(desc="slm", total=400)
    for _ in range(400):
        bar.update(1, loss=0.5)
    bar.close()
    said = events(file)
    assert said[-1] | {"at": ""} == {
        "at": "",
        "event": "progress",
        "rule": "predict",
        "target": "results/predictions/calls/slm.jsonl",
        "track": "calls",
        "contender": "slm",
        "what": "slm",
        "done": 400,
        "total": 400,
        "unit": "row",
        "loss": 0.5,
    }
    assert len(said) <= 3  # the first, the last, and what half a second brings


def test_a_long_message_is_one_write_and_whole_json(tmp_path, monkeypatch):
    file = tmp_path / "events.jsonl"
    file.touch()
    monkeypatch.setenv(progress.EVENTS, str(file))
    progress.emit("failed", message="\ud800ä\n" * 100_000, code=5)
    (event,) = events(file)
    assert event["code"] == 5
    assert len(file.read_bytes()) < 4096


def test_a_stage_that_fails_says_why(tmp_path):
    file = tmp_path / "events.jsonl"
    file.touch()
    code = "from fledgling.cli import run\nfrom fledgling.errors import DataError\ndef main(): raise DataError('a:1: b')\nrun(main)"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {progress.EVENTS: str(file)})
    assert done.returncode == 5
    assert [(event["event"], event["message"], event["code"]) for event in events(file)] == [("failed", "a:1: b", 5)]
