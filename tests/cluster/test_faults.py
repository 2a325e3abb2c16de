"""Life and death on a cluster, through both profiles: the plain command goes on, and nothing waits for ever.

One slow job stands for any: it keeps its steps beside its output, as a training and the journal do.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from .conftest import TARGET, until

pytestmark = pytest.mark.timeout(240)


def test_a_job_that_was_cancelled_is_tried_again_and_goes_on(slow):
    driver = slow.start()
    slow.cluster.ask("scancel", slow.started())
    reached = int((slow.folder / "kept").read_text())
    slow.started(2)
    slow.release()
    assert slow.done(driver)["steps"] >= reached
    assert len(slow.starts()) == 2


def test_a_job_that_was_killed_is_tried_again(slow):
    driver = slow.start()
    number = slow.started()
    for pid in slow.cluster.pids(SLURM_JOB_ID=number):
        if "scripts/fetch.py" in _command(pid) and "snakemake" not in _command(pid):
            os.kill(pid, signal.SIGKILL)
    slow.started(2)
    slow.release()
    slow.done(driver)


def test_ahead_of_the_time_limit_the_job_gets_term_and_goes_on_in_the_next(slow):
    # TERM comes 40 s after the start: a job on a busy machine has begun by then.
    driver = slow.start("--set-resources", "fetch:runtime=2", extra="--signal=TERM@80")
    slow.started()
    until((slow.folder / "ended").exists, "TERM", 75)
    assert (slow.folder / "ended").read_text() == "SystemExit"
    slow.started(2)
    slow.release()
    slow.done(driver)


def _go_on(slow, number):
    """Slurm holds a requeued job for two minutes; the test does not."""
    until(lambda: "PENDING" in slow.cluster.ask("squeue", "-h", "-j", number, "-o", "%T"), "requeued")
    slow.cluster.ask("scontrol", "update", f"JobId={number}", "StartTime=now")


def test_a_job_that_was_requeued_goes_on_under_its_id(slow):
    driver = slow.start()
    number = slow.started()
    slow.cluster.ask("scontrol", "requeue", number)
    _go_on(slow, number)
    assert slow.started(2) == number
    slow.release()
    slow.done(driver)


@pytest.mark.parametrize("partition", ["scavenge", "requeue"])
def test_a_job_that_was_preempted(slow, partition):
    """Cancelled, it is submitted again; requeued, it goes on under its id."""
    driver = slow.start(partition=partition)
    number = slow.started()
    urgent = slow.cluster.ask("sbatch", "--parsable", "-p", "urgent", "-n16", "-o/dev/null", "--wrap", "sleep 2")
    until(lambda: urgent not in slow.cluster.jobs(), "the urgent job")
    if partition == "requeue":
        _go_on(slow, number)
    assert (slow.started(2) == number) == (partition == "requeue")
    slow.release()
    slow.done(driver)


def test_a_node_that_dies(slow):
    driver = slow.start(partition="all")
    number = slow.started()
    node = slow.cluster.ask("squeue", "-h", "-j", number, "-o", "%N")
    pid = int((slow.cluster.folder / f"run/slurmd.{node}.pid").read_text())
    try:
        # What would tell the scheduler of the job's end goes first.
        steps = [process for process in slow.cluster.pids() if f"slurmstepd: [{number}." in _command(process)]
        assert steps
        for process in [pid, *steps, *slow.cluster.pids(SLURM_JOB_ID=number)]:
            os.kill(process, signal.SIGKILL)
        until(lambda: "PENDING" in slow.cluster.ask("squeue", "-h", "-j", number, "-o", "%T"), "the node's death", 90)
        slow.cluster.ask("scontrol", "update", f"JobId={number}", "StartTime=now")
        slow.started(2)
        slow.release()
        slow.done(driver)
    finally:
        slow.cluster.script("node", node)


def _command(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            return stream.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("state", ["old", "lost"])
def test_a_scheduler_that_is_away_is_no_end_of_a_job(slow, state):
    """It comes back with a state in which the job has not ended, or with one from before it was submitted.

    Then it gives the job's number to the next one, and holds the node for broken that knows the number already.
    """
    kept, before = slow.cluster.folder / "state", slow.folder / "before"
    if state == "lost":
        slow.cluster.remember()
        time.sleep(1)  # its other files follow, and are renamed
        shutil.copytree(kept, before)
    driver = slow.start()
    number = slow.started()
    if state == "old":
        name = slow.cluster.ask("squeue", "--noheader", "-j", number, "--format=%j")
        until(lambda: slow.cluster.wrote(name), "the scheduler to write its state")
    slow.cluster.script("scheduler", "stop")
    try:
        time.sleep(12)
        slow.release()
        time.sleep(3)
        assert driver.poll() is None, slow.log()
        if state == "lost":
            shutil.rmtree(kept)
            shutil.move(before, kept)
    finally:
        slow.cluster.script("scheduler", "start")
    slow.done(driver)
    assert slow.starts() == [number]
    until(lambda: number not in slow.cluster.jobs(), "the job to leave the queue")
    slow.cluster.settle()


def test_a_job_is_submitted_when_the_scheduler_is_back(slow):
    slow.cluster.remember()
    slow.cluster.script("scheduler", "stop")
    try:
        driver = slow.start()
        time.sleep(8)
        assert driver.poll() is None, slow.log()
    finally:
        slow.cluster.script("scheduler", "start")
    slow.started()
    slow.release()
    slow.done(driver)
    assert len(slow.starts()) == 1
    slow.cluster.settle()


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGHUP])
def test_the_next_driver_takes_a_live_job_over(slow, sent):
    driver = slow.start()
    number = slow.started()
    os.kill(driver.pid, sent)
    driver.wait(30)
    again = slow.start()
    until(lambda: slow.followed(again), "the take-over", log=slow.log)
    time.sleep(3)
    slow.release()
    slow.done(again)
    assert slow.starts() == [number]


def test_what_ended_while_no_driver_lived_is_kept(slow):
    driver = slow.start()
    number = slow.started()
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait(30)
    slow.release()
    until(lambda: number not in slow.cluster.jobs(), "the end of the job", 40)
    slow.done(slow.start())
    assert slow.starts() == [number]


def test_the_next_driver_takes_a_pending_job_over(slow):
    blocker = slow.cluster.ask("sbatch", "--parsable", "-w", "n1", "-n16", "-o/dev/null", "--wrap", "sleep 100")
    try:
        driver = slow.start()
        until(lambda: len(slow.cluster.jobs()) >= 2, "the submission")
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        again = slow.start()
        until(lambda: slow.followed(again), "the take-over", log=slow.log)
    finally:
        slow.cluster.ask("scancel", blocker)
    slow.started()
    slow.release()
    slow.done(again)
    assert len(slow.starts()) == 1


def test_a_job_that_is_held_says_so_and_starts_when_it_is_let_go(slow):
    driver = slow.start(extra="--hold")
    until(lambda: "waits: JobHeldUser" in slow.log(), "the warning", 90, slow.seen)
    number = re.search(r"scontrol release (\d+) lets it start", slow.log())[1]
    assert slow.starts() == []
    slow.cluster.ask("scontrol", "release", number)
    assert slow.started() == number
    slow.release()
    slow.done(driver)
    assert slow.log().count("waits: ") == 1


def test_a_job_that_no_driver_comes_back_for_ends_and_writes_nothing(slow):
    driver = slow.start(FLEDGLING_GRACE_S="4")
    number = slow.started()
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    until(lambda: number not in slow.cluster.jobs(), "the end of the job", 40)
    slow.release()
    time.sleep(2)
    assert not (slow.folder / TARGET).exists()
    slow.done(slow.start())
    assert len(slow.starts()) == 2


def test_a_live_job_of_another_configuration_makes_way(slow):
    driver = slow.start()
    number = slow.started()
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    (slow.folder / "other.yaml").write_text("seed: 8\n")
    again = slow.start("--configfile", "other.yaml")
    slow.started(2)
    assert number not in slow.cluster.jobs()
    slow.release()
    slow.done(again)


def test_a_run_beside_slurm_is_refused_while_its_jobs_live(slow):
    driver = slow.start()
    number = slow.started()
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    local = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", TARGET],
        cwd=slow.folder,
        env=slow.environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert local.returncode == 3, local.stdout
    assert f"Slurm jobs of an earlier run still work in this folder: {number}" in local.stdout
    assert f"scancel {number}" in local.stdout
    again = slow.start()
    until(lambda: slow.followed(again), "the take-over", log=slow.log)
    slow.release()
    slow.done(again)
    assert slow.starts() == [number]


def test_ctrl_c_ends_the_jobs_and_the_plain_command_goes_on(slow):
    driver = slow.start()
    number = slow.started()
    os.kill(driver.pid, signal.SIGINT)
    assert driver.wait(60) != 0
    until(lambda: number not in slow.cluster.jobs(), "the end of the job")
    slow.release()
    slow.done(slow.start())
    assert len(slow.starts()) == 2


def test_term_waits_for_running_jobs_and_the_plain_command_goes_on(slow):
    driver = slow.start()
    slow.started()
    os.kill(driver.pid, signal.SIGTERM)
    time.sleep(2)
    assert driver.poll() is None
    slow.release()
    driver.wait(90)
    slow.done(slow.start())
    assert len(slow.starts()) == 1
