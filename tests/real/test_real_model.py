"""A real server and a real model through the whole graph: nothing is simulated, whatever they answer."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.project import copy_project
from tests.real.conftest import ROWS, Teacher, configuration, environment, write_rows

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(3600)]  # other work on the machine slows it down


def project(root: Path, folder: Path, teacher: Teacher, checkpoint: Path) -> Path:
    copy_project(root, folder)
    write_rows(folder)
    (folder / "real.yaml").write_text(json.dumps(configuration(teacher, checkpoint)))  # JSON is YAML
    return folder


def start(folder: Path, *targets: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "real.yaml", "--", *targets],
        cwd=folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def build(folder: Path, *targets: str) -> None:
    run = start(folder, *targets)
    try:
        said, _ = run.communicate()
    except BaseException:
        os.killpg(run.pid, signal.SIGKILL)  # a test that is given up leaves nothing running
        raise
    assert run.returncode == 0, said[-6000:]


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / "results" / name).read_text())


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_killed_with_four_in_flight_pays_for_four_at_most_again(
    root: Path, tmp_path: Path, teacher: Teacher, checkpoint: Path
) -> None:
    folder = project(root, tmp_path, teacher, checkpoint)
    target = "results/predictions/calls/teacher.jsonl"
    before = teacher.counted()["calls"]
    run = start(folder, target)
    while run.poll() is None:
        now = teacher.counted()
        if now["waiting"] == 4 and now["calls"] - before >= 8:
            break
        time.sleep(0.01)
    assert run.poll() is None, "it was done before it could be killed"
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    time.sleep(1)  # its jobs end with it
    subprocess.run(
        [sys.executable, "-m", "snakemake", "--unlock", "--configfile", "real.yaml"],
        cwd=folder,
        env=environment(),
        capture_output=True,
    )
    build(folder, target)
    assert teacher.counted()["calls"] - before <= ROWS["test"] + 4
    made = lines(folder / target)
    assert len(made) == ROWS["test"]
    assert all(row["outcome"] != "error" for row in made)


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory, teacher: Teacher, checkpoint: Path) -> Path:
    folder = project(root, tmp_path_factory.mktemp("real"), teacher, checkpoint)
    before, begun = teacher.counted(), time.monotonic()
    build(folder, *[f"results/verdict/{track}.json" for track in ("calls", "records")])
    now = teacher.counted()
    figures = {key: now[key] - before[key] for key in now}
    figures["seconds"] = round(time.monotonic() - begun)
    (folder / "counted.json").write_text(json.dumps(figures))
    return folder


def test_the_cost_is_what_the_server_counted(built: Path) -> None:
    counted = json.loads((built / "counted.json").read_text())
    rows = [
        row for track in ("calls", "records") for row in lines(built / f"results/predictions/{track}/teacher.jsonl")
    ]
    assert counted["calls"] == len(rows) == 2 * ROWS["test"]
    for key in ("prompt_tokens", "completion_tokens"):
        assert sum(row["usage"][key] for row in rows) == counted[key]
    print(counted)


@pytest.mark.parametrize("track", ["calls", "records"])
def test_there_is_a_verdict_with_a_trained_contender(built: Path, track: str) -> None:
    verdict = read(built, f"verdict/{track}.json")
    assert verdict["n"] == ROWS["test"]
    assert set(verdict["comparisons"]) == {"slm", "tuned"}
    print(track, verdict["deploy"], {name: body.get("status") for name, body in verdict["comparisons"].items()})


@pytest.mark.parametrize("track", ["calls", "records"])
def test_the_slm_answers_every_row_in_its_own_template(built: Path, track: str) -> None:
    for contender in ("slm", "tuned"):
        made = lines(built / f"results/predictions/{track}/{contender}.jsonl")
        assert len(made) == ROWS["test"]
        assert all(row["outcome"] in ("ok", "length", "empty") for row in made)
        assert not any("<|im_end|>" in (row["raw"] or "") for row in made)


def test_training_teaches_the_form(built: Path) -> None:
    """Eight rows do not teach 135 M parameters the task, but they do teach what an answer looks like."""
    valid = {
        contender: read(built, f"metrics/records/{contender}.json")["metrics"]["json_valid_rate"]["value"]
        for contender in ("slm", "tuned")
    }
    history = next((built / "results/candidates/records").rglob("training.json"))
    losses = [entry["loss"] for entry in json.loads(history.read_text())["history"]]
    assert losses[-1] < losses[0]
    assert valid["tuned"] >= valid["slm"]
