"""The graph on a cluster, over small tracks: paid once, trainings that go on, GPUs that no two jobs share."""

import fcntl
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

import pytest

from tests.project import copy_project

from .conftest import HERE, PROFILES, Project, until

TRACKS = ("toolcall", "structured")


@pytest.fixture
def project(request, root, cluster, tmp_path):
    """The real graph over the small configuration, through one profile."""
    (tmp_path / "project").mkdir()
    copy_project(root, tmp_path / "project")
    shutil.copy(HERE / "small.yaml", tmp_path / "project")
    made = Project(tmp_path / "project", cluster, getattr(request, "param", "slurm-generic"))
    yield made
    made.close()


def overlay(project, name, **value):
    """Write a further configuration file."""
    (project.folder / name).write_text(json.dumps(value))
    return ["--configfile", "small.yaml", name]


def local(project, *targets):
    """Build something on this machine; a test is about what comes after."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "small.yaml", "--", *targets],
        cwd=project.folder,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.timeout(120)
def test_groups_of_small_jobs_never_wait_for_each_other(project):
    """With several candidates the scores of val come before a training's end, and those of test after it."""
    files = overlay(project, "two.yaml", recipe={"candidates": 2})
    driver = project.start(*files, targets=["all"])
    until(lambda: "Submitted" in project.log() or project.cluster.jobs() or driver.poll() is not None, "a submission")
    assert "depends on itself" not in project.log()
    assert driver.poll() is None, project.log()


def entries(journal):
    """{kind: {key: times}} of a teacher's journal."""
    found = {"intent": Counter(), "result": Counter(), "failure": Counter()}
    for line in (journal / "teacher.jsonl").read_text().splitlines():
        entry = json.loads(line)
        found[entry["kind"]][entry["key"]] += 1
    return found


ASKED = "results/predictions/toolcall/teacher.jsonl"


def slowly(latency_s):
    """A simulated teacher who takes so long for a reply."""
    return {"simulated": {"error_rate": 0.06, "rate_429": 0.0, "latency_s": latency_s, "content_filter_rate": 0.0}}


@pytest.mark.timeout(240)
def test_two_drivers_on_two_nodes_with_one_journal_pay_once(project, root, tmp_path):
    other = Project(tmp_path / "other", project.cluster, "slurm-generic")
    shutil.copytree(project.folder, other.folder)
    journal = tmp_path / "journal"
    pair = ((project, "n1"), (other, "n2"))
    try:
        drivers = []
        for one, node in pair:
            files = overlay(one, "shared.yaml", journal=str(journal), teacher=slowly(0.4))
            drivers.append(one.start(*files, targets=[ASKED], partition="all", extra=f"-w {node}"))
        for (one, _), driver in zip(pair, drivers, strict=True):
            assert driver.wait(200) == 0, one.log()[-5000:]
    finally:
        other.close()
    rows = (project.folder / ASKED).read_text().splitlines()
    assert len(rows) > 30
    found = entries(journal)
    assert set(found["result"].values()) == {1}
    assert found["intent"] == found["result"]
    assert len(found["result"]) <= len(rows)
    assert [json.loads(row)["raw"] for row in rows] == [
        json.loads(row)["raw"] for row in (other.folder / ASKED).read_text().splitlines()
    ]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("project", ["slurm", "slurm-generic"], indirect=True)
def test_an_ask_that_is_cancelled_pays_at_most_the_calls_in_flight_again(project):
    files = overlay(project, "slowly.yaml", teacher=slowly(1.5))
    local(project, "results/data/toolcall/test.jsonl")
    driver = project.start(*files, targets=[ASKED])
    journal = project.folder / ".journal/teacher.jsonl"
    until(lambda: journal.exists() and '"result"' in journal.read_text(), "the first reply", 90, project.log)
    number = number_of(project, "fledgling-ask-*.json")
    project.cluster.ask("scancel", number)
    assert driver.wait(200) == 0, project.log()[-5000:]
    rows = len((project.folder / ASKED).read_text().splitlines())
    found = entries(journal.parent)
    assert number_of(project, "fledgling-ask-*.json") != number, "another one went on"
    assert set(found["result"].values()) == {1}
    assert sum(found["intent"].values()) <= rows + 8


# Before the training's own code: each step takes as many seconds as a file says, until another says that all was seen.
SLOW_STEPS = """\
import pathlib, time, torch
_step = torch.optim.AdamW.step
def _slow(*args, **options):
    if not pathlib.Path("release").exists():
        time.sleep(float(pathlib.Path("pace").read_text()))
    return _step(*args, **options)
torch.optim.AdamW.step = _slow
"""
TRAINING = "results/candidates/toolcall/sft/training.json"
WEIGHTS = "results/candidates/toolcall/sft/1/adapter_model.safetensors"
LOG = "logs/train/toolcall/sft.log"


@pytest.fixture(scope="session")
def whole(root, cluster, tmp_path_factory, worker_id):
    """A project whose training would take twenty slow steps, and one that was trained; the workers share them."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "whole"
    shared.mkdir(exist_ok=True)
    with open(shared / "lock", "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not (shared / "trained").exists():
            (shared / "ready").mkdir()
            copy_project(root, shared / "ready")
            shutil.copy(HERE / "small.yaml", shared / "ready")
            script = shared / "ready/scripts/train.py"
            script.write_text(SLOW_STEPS + script.read_text())
            ready = Project(shared / "ready", cluster, "slurm-generic")
            rows = [f"results/data/{track}/train.jsonl" for track in TRACKS]
            local(ready, *rows, "results/models/slm/manifest.json")
            shutil.copytree(ready.folder, shared / "copy", symlinks=True)
            undisturbed = Project(shared / "copy", cluster, "slurm-generic")
            undisturbed.release()
            local(undisturbed, TRAINING)
            (shared / "copy").rename(shared / "trained")
    return shared


@pytest.fixture
def trained(request, cluster, whole, tmp_path):
    """A project that is ready to be trained slowly, and the weights of an undisturbed training."""
    shutil.copytree(whole / "ready", tmp_path / "project", symlinks=True)
    made = Project(tmp_path / "project", cluster, request.param)
    (made.folder / "pace").write_text("1")
    yield made, (whole / "trained" / WEIGHTS).read_bytes()
    made.close()


def sealed(project):
    """The steps of which a training has kept a sealed checkpoint."""
    folder = project.folder / "results/candidates/toolcall/sft/checkpoints"
    return {int(path.parent.name.removeprefix("checkpoint-")) for path in folder.glob("*/seal.json")}


def number_of(project, pattern="fledgling-train-*.json"):
    """Slurm's id of the job whose record fits."""
    record = max((project.folder / ".snakemake/fledgling/jobs").rglob(pattern), key=lambda path: path.stat().st_mtime)
    return json.loads(record.read_text())["id"]


def preempt(project):
    """Another job throws the training out; Slurm would hold that for two minutes then."""
    number = number_of(project)
    cluster = project.cluster
    urgent = cluster.ask("sbatch", "--parsable", "-p", "urgent", "-n16", "-o/dev/null", "--wrap", "sleep 1")
    until(lambda: urgent not in cluster.jobs(), "the urgent job", 90)
    until(lambda: "PENDING" in cluster.ask("squeue", "-h", "-j", number, "-o", "%T"), "the requeue")
    cluster.ask("scontrol", "update", f"JobId={number}", "StartTime=now")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("trained", PROFILES, indirect=True)
def test_a_training_that_was_preempted_twice_ends_like_an_undisturbed_one(trained):
    project, weights = trained
    driver = project.start("--configfile", "small.yaml", targets=[TRAINING], partition="requeue")
    for step in (5, 10):
        until(lambda step=step: max(sealed(project), default=0) >= step, f"step {step}", 120, project.log)
        preempt(project)
    until(lambda: (project.folder / LOG).exists() and "going on from" in (project.folder / LOG).read_text(), "the next")
    project.release()
    assert driver.wait(200) == 0, project.log()[-5000:]
    assert "going on from checkpoint-" in (project.folder / LOG).read_text()
    assert (project.folder / WEIGHTS).read_bytes() == weights


@pytest.mark.timeout(600)
@pytest.mark.parametrize("trained", PROFILES, indirect=True)
def test_ahead_of_the_time_limit_a_training_saves_its_step_and_the_next_try_goes_on_from_it(trained):
    """Without TERM ahead of the limit nothing would be kept: a checkpoint is due after a thousand steps."""
    project, weights = trained
    files = overlay(project, "seldom.yaml", recipe={"save_steps": 1000})
    (project.folder / "pace").write_text("6")  # so that TERM, after 80 s, comes in the middle of it
    limit = ("--set-resources", "train:runtime=2")
    driver = project.start(*files, *limit, targets=[TRAINING], extra="--signal=TERM@40")
    until(lambda: sealed(project), "a saved step", 200, project.log)
    (step,) = sealed(project)
    assert 0 < step < 20
    project.release()
    assert driver.wait(200) == 0, project.log()[-5000:]
    assert f"going on from checkpoint-{step}" in (project.folder / LOG).read_text()
    assert (project.folder / WEIGHTS).read_bytes() == weights


@dataclass(frozen=True)
class Ran:
    """When a job ran by Slurm's clock, where, and on which GPUs."""

    start: datetime
    end: datetime
    node: str
    gpus: frozenset[str]

    @classmethod
    def of(cls, cluster, number, log):
        """What Slurm says of an ended job, and its own log of the GPUs that it claimed: as many as it was given."""
        text = cluster.ask("scontrol", "show", "job", "-d", number)
        said = dict(re.findall(r"(\S+?)=(\S*)", text))
        gpus = frozenset(re.search(r"claimed GPU (.*)", log)[1].split(", "))
        assert int(re.search(r"Tres\w+=gres:gpu\S*?:(\d+)", text)[1]) == len(gpus), text
        times = [datetime.fromisoformat(said[key]) for key in ("StartTime", "EndTime")]
        return cls(*times, said["NodeList"], gpus)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("trained", "gpus"), [("slurm-generic", 2), ("slurm", 4)], indirect=["trained"])
def test_no_gpu_is_shared(trained, gpus):
    """On a node of four GPUs two trainings of two run at once, two of four one after another."""
    project, _ = trained
    files = overlay(project, "gpus.yaml", training={"gpus": gpus})
    driver = project.start(*files, targets=[f"results/candidates/{track}/sft/training.json" for track in TRACKS])
    logs = [project.folder / f"logs/train/{track}/sft.log" for track in TRACKS]

    def claims():
        return sum(log.exists() and "claimed GPU" in log.read_text() for log in logs)

    until(lambda: claims() == 4 // gpus, f"{4 // gpus} claims", 120, project.log)
    project.release()
    assert driver.wait(200) == 0, project.log()[-5000:]
    ran = {}
    for path in (project.folder / ".snakemake/fledgling/jobs").rglob("fledgling-train-*.json"):
        record = json.loads(path.read_text())
        track = re.search(r"track=(\w+)", record["targets"][0])[1]
        ran[track] = Ran.of(project.cluster, record["id"], logs[TRACKS.index(track)].read_text())
        assert len(ran[track].gpus) == gpus
    one, other = (ran[track] for track in TRACKS)
    at_once = one.node == other.node and one.start < other.end and other.start < one.end
    assert at_once == (gpus == 2)
    assert not at_once or not one.gpus & other.gpus
