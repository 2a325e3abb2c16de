"""The story that the product tells, on the embedded default: measured, refused, tuned, measured again, deployed."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from fledgling import artefacts

from .conftest import Project

CORE = {"toolcall": "ast_match_rate", "structured": "exact_match_rate"}


@pytest.mark.parametrize("track", CORE)
def test_the_slm_misses_the_gate_and_tuning_changes_the_verdict(story, track):
    gate = story.read(f"compare/{track}.json")
    assert gate["decision"] == "fine_tune"
    assert gate["fine_tune"] == 1
    value = {
        name: story.read(f"metrics/{track}/{name}.json")["metrics"][CORE[track]]["value"]
        for name in ("teacher", "slm", "tuned")
    }
    assert 0.2 <= value["slm"] <= 0.8
    assert value["tuned"] - value["slm"] >= 0.25
    assert value["teacher"] > 0.85
    verdict = story.read(f"verdict/{track}.json")
    assert verdict["deploy"] == "tuned", verdict["reasons"]
    assert verdict["climb"]["nominee"] == "tuned"
    on_val = story.read(f"ladder/{track}/slm.json")
    assert (on_val["promising"], on_val["goes_on"]) == (False, True), on_val["reason"]
    for step in verdict["climb"]["rungs"].values():
        assert step["built"]
        assert step["val"]["rows"] >= 100 * 0.9
        assert step["test"]["gap"] is not None
        assert step["cost_per_1000"] > 0
    training = story.read(f"adapters/{track}/sft/training.json")
    assert training["seconds"] > 0, "what the plan estimates the next run from"
    reached = [story.read(f"metrics/{track}/val/sft.{n}.json")["metrics"][CORE[track]]["value"] for n in (1, 2)]
    assert [each["metrics"][CORE[track]] for each in training["selection"]["candidates"]] == reached
    steps = [each["step"] for each in training["selection"]["candidates"]]
    assert reached[steps.index(training["selection"]["step"])] == max(reached)
    assert verdict["simulated"] is True
    assert verdict["looks"]["number"] == 1, "the verdict counts itself, beside the journal"
    assert (story.folder / ".journal/looks.jsonl").exists()
    assert "simulated" in verdict["statement"].lower()


@pytest.mark.parametrize("track", CORE)
def test_adapters_are_chosen_on_val_and_never_on_test(story, track):
    val = [row["id"] for row in story.rows(f"data/{track}/val.jsonl")]
    for n in (1, 2):
        assert [row["id"] for row in story.rows(f"predictions/{track}/val/sft.{n}.jsonl")] == val


@pytest.mark.parametrize("track", CORE)
def test_every_contender_answers_every_row(story, track):
    ids = [row["id"] for row in story.rows(f"data/{track}/test.jsonl")]
    assert len(ids) > 300
    for contender in ("teacher", "slm", "tuned", "floor-echo", "floor-frequent", "floor-empty"):
        assert [row["id"] for row in story.rows(f"predictions/{track}/{contender}.jsonl")] == ids
        assert story.read(f"metrics/{track}/{contender}.json")["n"] == len(ids)


@pytest.mark.parametrize("track", CORE)
def test_no_group_straddles_splits(story, track):
    groups = [{row["group"] for row in story.rows(f"data/{track}/{split}.jsonl")} for split in ("train", "val", "test")]
    assert all(groups)
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


@pytest.mark.parametrize("track", CORE)
def test_the_report_stands_alone(story, track):
    html = (story.folder / f"results/report/{track}.html").read_text()
    assert "<svg" in html
    assert "imulated" in html
    assert 'src="http' not in html
    assert "<link" not in html


def test_every_file_has_the_shape_that_is_documented(story):
    """docs/files.md and the JSON Schemas are what is really written, and seals fit what they vouch for."""
    seen = set()
    for path in sorted((story.folder / "results").rglob("*.json*")):
        kind = artefacts.of(path, results=story.folder / "results")
        if kind is None:
            assert path.name in ("adapter_config.json",) or "checkpoint" in path.parts, path
            continue
        seen.add(kind)
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        for number, line in enumerate(lines, 1):
            artefacts.check(kind, json.loads(line), f"{path}:{number}")
    assert seen == set(artefacts.PLACES.values()) - {artefacts.HubMarker, artefacts.Shots, artefacts.TraceMarker}


def test_a_second_run_has_nothing_to_do(story):
    assert "Nothing to be done" in story.build("--dry-run")


def test_the_workflow_report_is_made_offline(story, tmp_path):
    story.build("--report", str(tmp_path / "workflow.html"))
    assert (tmp_path / "workflow.html").stat().st_size > 10_000


def test_ten_rows_more_ask_only_for_those_ten(copied):
    """Both contenders answer the new rows alone: the teacher's calls and the slm's rows are in the journal."""
    config = copied.folder / "config/config.yaml"
    text = config.read_text()
    assert "rows: 1000, house: 0.8" in text
    before = {row["id"] for row in copied.rows("data/structured/test.jsonl")}
    config.write_text(text.replace("rows: 1000, house: 0.8", "rows: 1025, house: 0.8"))
    copied.build("results/predictions/structured/teacher.jsonl", "results/predictions/structured/slm.jsonl")
    added = {row["id"] for row in copied.rows("data/structured/test.jsonl")} - before
    assert 3 <= len(added) <= 25
    assert before <= {row["id"] for row in copied.rows("data/structured/test.jsonl")}
    for log in ("ask/structured/teacher.log", "answer/structured/slm.log"):
        log = (copied.folder / "logs" / log).read_text()
        assert f" {len(added)} of them to be asked" in log, log


def test_removed_results_pay_nothing_again(copied):
    (copied.folder / "results/predictions/toolcall/teacher.jsonl").unlink()
    copied.build("results/predictions/toolcall/teacher.jsonl")
    assert " 0 of them to be asked" in (copied.folder / "logs/ask/toolcall/teacher.log").read_text()


def test_contenders_that_answer_twice_agree_with_themselves(copied):
    """A/A: the simulated teacher is a function of its row, and the slm in fp32 depends on its batch in the last bit."""
    config = copied.folder / "config/config.yaml"
    config.write_text(config.read_text().replace("repeats: []", "repeats: [teacher, slm, tuned]"))
    before = copied.read("verdict/structured.json")
    copied.build("results/report/structured.html")
    assert "405 rows, 405 of them to be asked" in (copied.folder / "logs/answer/structured/repeat/slm.log").read_text()
    verdict = copied.read("verdict/structured.json")
    assert verdict["noise"].keys() == {"teacher", "slm", "tuned"}
    assert verdict["noise"]["teacher"]["metrics"]["exact_match_rate"]["flips"] == 0
    for entry in verdict["noise"].values():
        assert entry["metrics"]["exact_match_rate"]["share"] <= 0.01
        said = entry["reason"][0].upper() + entry["reason"][1:]
        assert said in (copied.folder / "results/report/structured.html").read_text()
    assert verdict["deploy"] == before["deploy"]
    assert verdict["looks"]["number"] == 2, "it rests on more than the first did"


def test_kill_and_resume_repeats_no_finished_row(copied):
    """SIGKILL in the middle of the slm's predictions; the plain command goes on and writes the same rows."""
    target = "results/predictions/toolcall/slm.jsonl"
    expected = [{**row, "latency_s": None} for row in copied.rows("predictions/toolcall/slm.jsonl")]
    (copied.folder / target).unlink()
    journal = copied.folder / ".journal/slm.jsonl"
    journal.unlink()
    driver = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "all", target],
        cwd=copied.folder,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={k: v for k, v in os.environ.items() if k[:9] != "FLEDGLING"},
    )
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.stat().st_size):
        assert time.monotonic() < deadline
        assert driver.poll() is None, "it was over before it could be killed"
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    time.sleep(1)
    assert not (copied.folder / target).exists()
    copied.build(target)
    log = (copied.folder / "logs/answer/toolcall/slm.log").read_text()
    asked = int(re.search(r"(\d+) of them to be asked", log)[1])
    assert 0 < asked < len(expected)
    assert [{**row, "latency_s": None} for row in copied.rows("predictions/toolcall/slm.jsonl")] == expected


@pytest.mark.slow
def test_another_seed_tells_the_same_story(root, tmp_path):
    project = Project.of(root, tmp_path)
    (tmp_path / "seed.yaml").write_text("seed: 11\n")
    project.build("--configfile", "seed.yaml", "--", "all")
    for track, metric in CORE.items():
        value = {
            name: project.read(f"metrics/{track}/{name}.json")["metrics"][metric]["value"] for name in ("slm", "tuned")
        }
        assert 0.2 <= value["slm"] <= 0.8
        assert value["tuned"] - value["slm"] >= 0.25
        assert project.read(f"verdict/{track}.json")["deploy"] == "tuned"
