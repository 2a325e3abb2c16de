"""What Slurm says and what is done about it, with clients that are scripts. The real one is met in tests/cluster."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fledgling import slurm
from fledgling.errors import ConfigError, Unavailable
from fledgling.graph import lease
from fledgling.graph.driver import CONFIG

CLIENT = """#!{python}
import json, os, sys
from pathlib import Path
here = Path(__file__).parent
name, state = Path(__file__).name, json.loads((here / "state.json").read_text())
with open(here / "calls", "a") as stream:
    stream.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
if state.get("away"):
    sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
if name == "squeue":
    for number, (word, job) in state["jobs"].items():
        print(f"{{number}}|{{word}}|{{state.get('reasons', {{}}).get(number, 'None')}}|{{job}}")
elif name == "scancel":
    state["jobs"][sys.argv[1]][0] = "CANCELLED"
else:
    if state.get("refuses"):
        sys.exit("sbatch: error: invalid partition specified: nowhere")
    number = str(100 + len(state["jobs"]))
    job = next(argument.split("=", 1)[1] for argument in sys.argv if argument.startswith("--job-name="))
    state["jobs"][number] = ["PENDING", job]
    if not state.get("times_out"):
        print(number)
(here / "state.json").write_text(json.dumps(state | {{"times_out": False}}))
if state.get("times_out") and name == "sbatch":
    sys.exit("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
"""


class Scheduler:
    """The scripts' state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.set(jobs={})
        for name in ("squeue", "sbatch", "scancel"):
            (folder / name).write_text(CLIENT.format(python=sys.executable))
            (folder / name).chmod(0o755)

    def set(self, **values: object) -> None:
        path = self.folder / "state.json"
        state = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(state | values))

    def word(self, number: str, word: str | None) -> None:
        jobs = json.loads((self.folder / "state.json").read_text())["jobs"]
        if word is None:
            jobs.pop(number)
        else:
            jobs[number][0] = word
        self.set(jobs=jobs)

    def cancelled(self) -> list[str]:
        lines = (json.loads(line) for line in (self.folder / "calls").read_text().splitlines())
        return [line[1] for line in lines if line[0] == "scancel"]

    def submissions(self) -> list[list[str]]:
        lines = (json.loads(line) for line in (self.folder / "calls").read_text().splitlines())
        return [line for line in lines if line[0] == "sbatch"]


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    clients = tmp_path / "clients"
    clients.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{clients}:{os.environ['PATH']}")
    monkeypatch.setenv(CONFIG, "same")
    monkeypatch.setenv(slurm.WAIT, "2")
    monkeypatch.setenv(lease.LEASE, json.dumps({"file": "x", "driver": "first"}))
    return Scheduler(clients)


def submit(*targets: str) -> str:
    return slurm.submit(targets or ("train:track=a",), "run", "train", ["--nodes=1"], "true")


def next_driver(monkeypatch: pytest.MonkeyPatch, config: str = "same") -> None:
    monkeypatch.setenv(lease.LEASE, json.dumps({"file": "x", "driver": "second"}))
    monkeypatch.setenv(CONFIG, config)


@pytest.mark.parametrize(
    "word", ["PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUE_HOLD", "STOPPED"]
)
def test_a_live_job_is_taken_over(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    number = submit()
    scheduler.word(number, word)
    next_driver(monkeypatch)
    assert submit() == number
    assert len(scheduler.submissions()) == 1
    assert [job.driver for job in slurm.records()] == ["second"]


@pytest.mark.parametrize(
    "word", ["COMPLETED", "FAILED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "OUT_OF_MEMORY", "CANCELLED by 1000", None]
)
def test_a_job_that_has_ended_is_not(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, word: str | None) -> None:
    scheduler.word(submit("other:track=b"), "RUNNING")
    number = submit()
    scheduler.word(number, word)
    next_driver(monkeypatch)
    assert submit() != number or word is None  # the number is free again then
    assert len(scheduler.submissions()) == 3


def test_one_of_another_configuration_is_cancelled_first(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    number = submit()
    next_driver(monkeypatch, config="other")
    assert submit() != number
    assert slurm.ask_scheduler()[number][0] == "CANCELLED"


def test_a_group_that_makes_one_of_the_same_files_is_cancelled_first(scheduler: Scheduler) -> None:
    number = submit("score:a", "score:b")
    assert submit("score:b", "score:c") != number
    assert slurm.ask_scheduler()[number][0] == "CANCELLED"
    assert submit("score:d") not in (number, None)
    assert [seen.state for seen in slurm.ask_scheduler().values()].count("CANCELLED") == 1


def test_a_submission_that_timed_out_but_went_through_is_found(scheduler: Scheduler) -> None:
    scheduler.set(times_out=True)
    assert submit() == "100"
    assert len(scheduler.submissions()) == 1


def test_a_killed_submission_is_found_by_its_name(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    number = submit()
    (job,) = slurm.records()
    job.file.write_text(job.file.read_text().replace(f'"id": "{number}"', '"id": null'))
    next_driver(monkeypatch)
    assert submit() == number


def test_a_scheduler_that_stays_away_is_said(scheduler: Scheduler) -> None:
    submit()
    scheduler.set(away=True)
    with pytest.raises(Unavailable, match="does not answer"):
        submit("train:track=b")


def test_what_sbatch_refuses_is_said_at_once(scheduler: Scheduler) -> None:
    scheduler.set(refuses=True)
    with pytest.raises(ConfigError, match="invalid partition"):
        submit()
    assert slurm.records() == []


def ended_well(job: slurm.Job, number: str | None = None) -> None:
    """What the job itself writes last."""
    job.done.write_text(f"{number or job.id}\n")


def test_silence_is_running_and_a_forgotten_job_has_ended(scheduler: Scheduler) -> None:
    number = submit()
    (job,) = slurm.records()
    assert slurm.state(job, None) == "RUNNING"
    scheduler.word(number, None)
    assert slurm.state(job, slurm.ask_scheduler()) == "FAILED"
    ended_well(job)
    assert slurm.state(job, slurm.ask_scheduler()) == "COMPLETED"


@pytest.mark.parametrize("word", ["PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT", "NODE_FAIL", "CANCELLED by 0"])
def test_a_job_that_says_it_ended_well_is_believed_over_the_scheduler(scheduler: Scheduler, word: str) -> None:
    """A scheduler that died restores an older state; a job that was requeued after a bad end says nothing."""
    scheduler.word(submit(), word)
    (job,) = slurm.records()
    slurms = word.split(" ")[0]
    assert slurm.state(job, slurm.ask_scheduler()) == slurms
    for said in ("", "99", f"{job.id}0"):  # half written, or of another submission
        job.done.write_text(said)
        assert slurm.state(job, slurm.ask_scheduler()) == slurms
    ended_well(job)
    assert slurm.state(job, slurm.ask_scheduler()) == "COMPLETED"


@pytest.mark.parametrize("word", ["RUNNING", "COMPLETING", "SUSPENDED"])
def test_one_that_runs_is_left_to_end(scheduler: Scheduler, word: str) -> None:
    scheduler.word(submit(), word)
    (job,) = slurm.records()
    ended_well(job)
    assert slurm.state(job, slurm.ask_scheduler()) == word


def test_what_has_ended_well_is_cancelled_in_the_queue(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By whoever asks first: the status command, the plugin, or the next driver, which takes nothing over then."""
    run = "0f0f0f0f-1111-2222-3333-444444444444"
    numbers = [slurm.submit([f"train:track={track}"], run, "train", [], "true") for track in "abcd"]
    for job in slurm.records():
        if job.id != numbers[3]:
            ended_well(job)
    slurm.status(numbers[0])
    said = capsys.readouterr()
    assert said.out == "success\n"
    assert f"cancelling Slurm job {numbers[0]}" in said.err
    slurm.answer("squeue", ["--format=%i|%T", "--name", run])
    assert f"{numbers[1]}|COMPLETED" in capsys.readouterr().out
    assert sorted(scheduler.cancelled()) == numbers[:3]
    scheduler.word(numbers[2], "PENDING")
    next_driver(monkeypatch)
    assert submit("train:track=c") not in numbers
    assert scheduler.cancelled()[-1] == numbers[2]
    assert numbers[3] not in scheduler.cancelled()


def test_a_number_that_the_scheduler_gave_to_another_job_is_not_ours(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = submit()
    (job,) = slurm.records()
    scheduler.set(jobs={number: ["RUNNING", "somebody-elses"]})
    assert slurm.state(job, slurm.ask_scheduler()) == "FAILED"
    next_driver(monkeypatch)
    assert submit() != number
    assert scheduler.cancelled() == []


def test_no_two_jobs_of_a_run_have_one_number(scheduler: Scheduler) -> None:
    """Snakemake asks by number: the end of one would be taken for that of the other."""
    number = submit("train:track=a")
    scheduler.word(number, None)
    assert submit("train:track=b") != number
    assert scheduler.cancelled() == [number]
    assert len({job.id for job in slurm.records()}) == 2


def test_what_failed_and_was_submitted_again_does_nothing_should_slurm_start_it_once_more(scheduler: Scheduler) -> None:
    number = submit()
    (job,) = slurm.records()
    scheduler.word(number, "NODE_FAIL")
    assert submit() != number
    assert len(slurm.records()) == 1
    started = batch(job, "touch worked")
    assert started.returncode == 1
    assert "was replaced" in started.stderr
    assert not Path("worked").exists()


def batch(job: slurm.Job, wrap: str) -> "subprocess.CompletedProcess[str]":
    """Run a job's script as slurmd does."""
    env = os.environ | {"SLURM_JOB_ID": job.id or ""}
    script = "#!/bin/sh\n# sbatch --wrap\n\n" + slurm.script_of(job, wrap) + "\n"
    return subprocess.run(["sh", "-c", script], env=env, check=False, text=True, capture_output=True)


def test_a_job_writes_its_number_when_it_has_ended_well_and_then_does_nothing_more(scheduler: Scheduler) -> None:
    submit()
    (job,) = slurm.records()
    work = 'echo "$FLEDGLING_JOB" >> worked; exit $(cat code)'
    Path("code").write_text("3")
    assert batch(job, work).returncode == 3
    assert not job.done.exists(), "a bad end says nothing"
    ended_well(job, "99")
    Path("code").write_text("0")
    assert batch(job, work).returncode == 0
    assert job.done.read_text().split() == [job.id], "requeued, it worked once more, whatever another had said"
    assert batch(job, work).returncode == 0
    assert Path("worked").read_text().split() == [str(job.file.absolute())] * 2
    assert sorted(path.name for path in slurm.JOBS.glob(f"{job.name}*")) == [f"{job.name}.done", f"{job.name}.json"]


WRAP = "--wrap=python -m snakemake --target-jobs 'train:track=a b,adapter=sft' 'score:x=1' --allowed-rules train --cores all"


def test_the_plugin_is_answered_from_the_records(scheduler: Scheduler, root: Path) -> None:
    run = "0f0f0f0f-1111-2222-3333-444444444444"
    env = os.environ | {"PYTHONPATH": str(root / "src"), slurm.CLIENTS: str(root / "profiles/slurm/bin")}
    env["PATH"] = f"{root / 'profiles/slurm/bin'}:{env['PATH']}"

    def call(*command: str) -> str:
        return subprocess.check_output(command, env=env, text=True)

    plugin = [
        "sbatch",
        "--parsable",
        "--job-name",
        run,
        "--comment",
        "rule_train_wildcards_a",
        "-p",
        "gpu",
        "--gpus=2",
        WRAP,
    ]
    number = call(*plugin).strip()
    (job,) = slurm.records()
    assert job.targets == ("score:x=1", "train:track=a b,adapter=sft")
    assert job.name.startswith("fledgling-train-a-")
    sent = scheduler.submissions()[0]
    assert {"-p", "gpu", "--gpus=2", f"--job-name={job.name}"} <= set(sent)
    assert run not in " ".join(sent)
    question = ["squeue", "--format=%i|%T", "--states=all", "--noheader", "--name", run]
    assert call(*question) == f"{number}|PENDING\n"
    scheduler.word(number, "PREEMPTED")
    assert call(*question) == f"{number}|FAILED\n", "the plugin would wait for ever"
    scheduler.word(number, None)
    assert call(*question) == f"{number}|FAILED\n", "the plugin would wait for ever"
    scheduler.set(away=True)
    assert call(*question) == f"{number}|RUNNING\n", "the plugin would forget the job"


def test_other_calls_go_to_the_real_client(scheduler: Scheduler, root: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(root / "src"), slurm.CLIENTS: str(root / "profiles/slurm/bin")}
    env["PATH"] = f"{root / 'profiles/slurm/bin'}:{env['PATH']}"
    subprocess.check_output(["sbatch", "--parsable", "--job-name=mine", "--wrap=hostname"], env=env)
    assert scheduler.submissions() == [["sbatch", "--parsable", "--job-name=mine", "--wrap=hostname"]]
    assert slurm.records() == []


@pytest.mark.parametrize("hours", [-3, 0, 3])
def test_clocks_of_machine_and_disk_need_not_agree(scheduler: Scheduler, hours: int) -> None:
    """What Slurm said is asked again when this machine's clock says so, whatever time the disk writes beside it."""
    number = submit()
    assert slurm._cached() == {number: ("PENDING", slurm.records()[0].name, "None")}
    cache = slurm.JOBS / "squeue.cache"
    os.utime(cache, (time.time() + 3600 * hours,) * 2)
    scheduler.word(number, "RUNNING")
    assert slurm._cached() == {number: ("PENDING", slurm.records()[0].name, "None")}, "seconds old"
    value = json.loads(cache.read_text())
    cache.write_text(json.dumps(value | {"at": value["at"] - 60}))
    os.utime(cache, (time.time() + 3600 * hours,) * 2)
    assert slurm._cached() == {number: ("RUNNING", slurm.records()[0].name, "None")}


OLD = '{"at": NOW, "jobs": {"100": ["PENDING", "a name, and no reason"]}}'


@pytest.mark.parametrize("text", ["", "{", "[]", '{"at": "now", "jobs": {}}', '{"at": 9e99, "jobs": 3}', OLD])
def test_a_damaged_cache_is_no_answer(scheduler: Scheduler, text: str) -> None:
    number = submit()
    (slurm.JOBS / "squeue.cache").write_text(text.replace("NOW", str(time.time())))
    assert slurm._cached() == {number: ("PENDING", slurm.records()[0].name, "None")}


def test_records_of_jobs_that_ended_well_are_put_away_once_that_was_told(
    scheduler: Scheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that a run of twenty thousand jobs does not read as many records at each submission."""
    numbers = [submit(f"train:track={track}") for track in "abc"]
    scheduler.word(numbers[0], "COMPLETED")
    scheduler.word(numbers[1], "NODE_FAIL")
    (slurm.JOBS / "squeue.cache").unlink(missing_ok=True)
    for number in numbers:
        slurm.status(number)
    assert capsys.readouterr().out.split() == ["success", "failed", "running"]
    assert {job.id for job in slurm.records()} == set(numbers[1:]), "Slurm may start one again whose node died"
    assert len(list(slurm.ENDED_JOBS.glob("*.json"))) == 1
    scheduler.word(numbers[1], "PENDING")
    assert submit("train:track=b") == numbers[1]


def test_the_plugin_hears_of_an_end_for_ten_minutes(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = "0f0f0f0f-1111-2222-3333-444444444444"
    number = slurm.submit(["train:track=a"], run, "train", [], "true")
    other = slurm.submit(["train:track=b"], run, "train", [], "true")
    scheduler.word(number, "COMPLETED")
    question = ["--format=%i|%T", "--name", run]
    said = [f"{number}|COMPLETED", f"{other}|PENDING"]
    for _ in range(3):
        slurm.answer("squeue", question)
        assert sorted(capsys.readouterr().out.split()) == said
    monkeypatch.setattr(slurm, "TOLD_S", -1)
    slurm.answer("squeue", question)
    assert sorted(capsys.readouterr().out.split()) == said
    slurm.answer("squeue", question)
    assert capsys.readouterr().out.split() == said[1:]


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if " waits: " in line]


@pytest.mark.parametrize("word", ["PENDING", "REQUEUE_HOLD"])
def test_why_a_job_waits_is_said_once_a_reason(
    scheduler: Scheduler, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr(slurm, "FRESH_S", 0)
    number = submit()
    scheduler.word(number, word)
    name = slurm.records()[0].name
    for passing in ("None", "Resources", "Priority"):
        scheduler.set(reasons={number: passing})
        slurm.status(number)
    assert warnings(capsys) == []
    scheduler.set(reasons={number: "launch failed requeued held"})
    slurm.status(number)
    slurm.status(number)
    start = f"slurm: Slurm job {number} ({name}) waits:"
    admin = f"; scontrol release {number} lets it start, for an administrator where Slurm refuses it to you"
    assert warnings(capsys) == [f"{start} launch failed requeued held{admin}"]
    for reason in ("JobHeldAdmin", "JobHoldMaxRequeue"):
        scheduler.set(reasons={number: reason})
        slurm.status(number)
        assert warnings(capsys) == [f"{start} {reason}{admin}"]
    scheduler.set(reasons={number: "JobHeldUser"})
    slurm.status(number)
    user = f"{start} JobHeldUser; scontrol release {number} lets it start"
    assert warnings(capsys) == [user]
    next_driver(monkeypatch)
    assert submit() == number
    slurm.status(number)
    assert user in warnings(capsys), "who takes it over hears it, too"
    scheduler.set(reasons={number: "PartitionTimeLimit"})
    slurm.status(number)
    assert warnings(capsys) == [f"slurm: Slurm job {number} ({name}) waits: PartitionTimeLimit"]
    scheduler.word(number, "RUNNING")
    slurm.status(number)
    scheduler.word(number, "COMPLETED")
    slurm.status(number)
    assert warnings(capsys) == []
    assert not list(slurm.JOBS.glob("*.waits"))


def test_why_a_job_waits_is_a_warning_of_the_run(
    scheduler: Scheduler, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    events = tmp_path / "events.jsonl"
    events.touch()
    monkeypatch.setenv("FLEDGLING_EVENTS", str(events))
    number = submit()
    scheduler.set(reasons={number: "JobHeldUser"})
    slurm.status(number)
    (event,) = [json.loads(line) for line in events.read_text().splitlines()]
    assert event["event"] == "waiting"
    assert event["message"].endswith(f"waits: JobHeldUser; scontrol release {number} lets it start")
    assert warnings(capsys) == []
