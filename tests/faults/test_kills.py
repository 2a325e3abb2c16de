"""Real processes, real signals: what is billed, what is kept, what is left behind."""

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fledgling.graph.driver import DRIVER, identity

from .harness import Ask, kill_after, reported, server, wait_for_calls

Work = Callable[..., Ask]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Ask], list[object]]:
    """The answers of the same command, never killed, from another journal."""

    def run(job: Ask) -> list[object]:
        calm = Ask(tmp_path_factory.mktemp("calm"), job.data, job.teacher)
        code, error = calm.finish()
        assert code == 0, error
        return list(calm.answers())

    return run


def test_f1_kill_9_of_the_worker(work: Work, undisturbed: Callable[[Ask], list[object]]) -> None:
    """Kills at chosen places and at seeded random times; every one costs at most what was in flight."""
    concurrency, kills = 4, 0
    with server({"latency_s": 0.02}) as at:
        job = work(40, at.url, concurrency=concurrency)
        for place in ("journal.before_write:9", "journal.after_write:20", "ask.before_send:3", "ask.after_reply:5"):
            code, _ = job.finish(FLEDGLING_FAILPOINT=place)
            assert code == -signal.SIGKILL, place
            kills += 1
        before = at.counts()["received"]
        process = job.start()
        wait_for_calls(at, before + 6)
        assert kill_after(process, random.Random(7).uniform(0, 0.05)) == -signal.SIGKILL
        kills += 1
        assert not job.out.exists()
        code, error = job.finish(FLEDGLING_FAILPOINT="ask.before_publish:1")
        assert code == -signal.SIGKILL, error
        billed = at.counts()["received"]
        assert billed <= 40 + kills * concurrency
        assert not job.out.exists()
        code, error = job.finish()
        assert code == 0, error
        assert at.counts()["received"] == billed, "everything had been kept"
        assert job.litter() == []
        assert job.answers() == undisturbed(job)


def test_f1_the_cost_report_agrees_with_the_server(work: Work) -> None:
    fault = {"fault": "status", "status": 500, "share": 0.2, "times": 1}
    with server(fault) as at:
        code, error = work(30, at.url).finish()
        counts = at.counts()
    assert code == 0, error
    said = reported(error)
    assert (said["calls"], said["answered"]) == (counts["received"], counts["answered"])
    assert [said["prompt_tokens"], said["completion_tokens"]] == counts["tokens"]


def test_f2_kill_9_of_the_driver_ends_the_worker(work: Work) -> None:
    with server({"latency_s": 0.1}) as at, subprocess.Popen(["sleep", "60"]) as driver:
        job = work(40, at.url, concurrency=2)
        process = job.start(**{DRIVER: identity(driver.pid)})
        wait_for_calls(at, 4)
        driver.kill()
        process.communicate(timeout=5)
        assert process.returncode == -signal.SIGKILL
        billed = at.counts()["received"]
        time.sleep(0.3)
        assert at.counts()["received"] == billed
        assert not job.out.exists()
        code, error = job.finish()
        assert code == 0, error
        assert at.counts()["received"] <= 40 + 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_f3_one_signal_lets_calls_in_flight_finish(work: Work, number: int, code: int) -> None:
    with server({"latency_s": 0.3}) as at:
        job = work(40, at.url, concurrency=4)
        process = job.start()
        wait_for_calls(at, 5)
        process.send_signal(number)
        _, error = process.communicate(timeout=20)
        assert process.returncode == code
        assert "Resume with: python scripts/ask.py" in error
        counts = at.counts()
        assert counts["received"] < 40
        assert reported(error)["answered"] == counts["received"], "no reply was thrown away"
        assert job.finish()[0] == 0
        assert at.counts()["received"] == 40


def test_f4_a_second_signal_ends_it_at_once(work: Work) -> None:
    with server({"fault": "hang"}) as at:
        job = work(10, at.url, timeout_s=60)
        process = job.start()
        wait_for_calls(at, 1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.7)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert time.monotonic() - start < 2
        assert process.returncode == 130
        assert job.litter() == []


def test_f43_two_runs_at_once_share_the_bill(work: Work) -> None:
    with server({"latency_s": 0.05}) as at:
        jobs = [work(40, at.url, out=name) for name in ("one.jsonl", "two.jsonl")]
        processes = [job.start() for job in jobs]
        for process in processes:
            _, error = process.communicate(timeout=60)
            assert process.returncode == 0, error
        assert at.counts()["received"] == 40
        assert jobs[0].answers() == jobs[1].answers()


def test_f43_f44_one_of_two_is_killed_and_the_other_takes_over(work: Work) -> None:
    with server({"latency_s": 0.1}) as at:
        victim, heir = (work(40, at.url, out=name, concurrency=4) for name in ("one.jsonl", "two.jsonl"))
        process, other = victim.start(), heir.start()
        wait_for_calls(at, 10)
        process.kill()
        process.communicate()
        _, error = other.communicate(timeout=60)
        assert other.returncode == 0, error
        assert at.counts()["received"] <= 44
        assert len(heir.answers()) == 40


def test_budget_of_one_run_counts_the_calls_of_all_its_stages(work: Work) -> None:
    """Two tracks of one Snakemake run ask at the same time."""
    with server({"latency_s": 0.03}) as at:
        driver = {DRIVER: identity(1)} if Path("/proc/1/stat").exists() else {}
        first = work(30, at.url, budget={"calls": 40})
        second = work(60, at.url, out="two.jsonl", budget={"calls": 40})
        processes = [job.start(**driver) for job in (first, second)]
        codes = []
        for process in processes:
            process.communicate(timeout=60)
            codes.append(process.returncode)
        assert at.counts()["received"] == 40
        assert 4 in codes


def test_budget_of_money_of_one_run_counts_what_all_its_stages_have_under_way(work: Work) -> None:
    """Two stages, one of them killed with calls under way: what these may cost stays counted."""
    prices = {"input_per_million": 1000.0, "output_per_million": 1000.0, "currency": "EUR"}
    teacher = {"budget": {"money": 0.6}, "prices": prices, "max_tokens": 20, "concurrency": 4}
    with server({"latency_s": 0.05}) as at:
        driver = {DRIVER: identity(1)} if Path("/proc/1/stat").exists() else {}
        killed = work(200, at.url, out="killed.jsonl", **teacher).start(**driver)
        wait_for_calls(at, 6)
        killed.kill()
        killed.communicate()
        jobs = [work(count, at.url, out=f"{count}.jsonl", **teacher) for count in (90, 95)]
        processes = [job.start(**driver) for job in jobs]
        for process in processes:
            _, error = process.communicate(timeout=60)
            assert process.returncode == 4, error
            assert "budget of 0.6" in error
        counts = at.counts()
    assert 0.3 < counts["received"] * 18 / 1000 <= 0.6


def test_a_run_without_anything_to_ask_needs_no_key_and_no_client(work: Work) -> None:
    with server() as at:
        job = work(5, at.url)
        code, error = job.finish()
        assert code == 0
        assert "chat/completions" not in error, "no line a call in the log"
        code, error = job.finish(PYTHONPROFILEIMPORTTIME="1")
        assert code == 0
        assert "openai" not in error
        assert "httpx2" not in error
        assert at.counts()["received"] == 5


def test_the_command_line_holds_no_secret_and_neither_does_anything_written(work: Work) -> None:
    key = "sk-very-secret-0123456789"
    fault = {"fault": "status", "status": 401, "body": {"error": {"message": f"Incorrect API key provided: {key}"}}}
    with server(fault) as at:
        job = work(5, at.url)
        code, error = job.finish(OPENAI_API_KEY=key, OPENAI_LOG="debug")
        assert code == 3
        at.fault({"fault": "status", "status": 500, "body": {"error": {"message": f"key {key} is fine"}}})
        code, error_500 = job.finish(OPENAI_API_KEY=key, OPENAI_LOG="debug")
    kept = "".join(path.read_text(errors="replace") for path in job.folder.rglob("*") if path.is_file())
    assert "OPENAI_API_KEY" in error
    assert key not in error + error_500 + kept + " ".join(job.command())


def test_f12_a_place_that_cannot_be_written_is_found_before_the_first_call(work: Work) -> None:
    with server() as at:
        job = work(3, at.url)
        job.out = Path("/proc/fledgling/out.jsonl")
        code, error = job.finish()
        assert (code, "/proc/fledgling" in error, "user" in error) == (3, True, True)
        job = work(3, at.url)
        job.journal = Path("/proc/fledgling")
        code, error = job.finish()
        assert (code, "/proc/fledgling" in error, "user" in error) == (3, True, True)
        assert at.counts()["received"] == 0


def test_f10_a_disk_that_fills_up_loses_nothing(work: Work) -> None:
    """ulimit -f stands for the full disk: the journal cannot grow beyond 16 KiB."""
    with server() as at:
        job = work(60, at.url, concurrency=4)
        command = ["bash", "-c", 'ulimit -f 16; exec "$0" "$@"', *job.command()]
        limited = subprocess.run(command, cwd=Path(__file__).parents[2], text=True, stderr=subprocess.PIPE)
        assert limited.returncode == 4, limited.stderr
        assert "no space left" in limited.stderr
        assert not job.out.exists()
        code, error = job.finish()
        assert code == 0, error
        assert at.counts()["received"] <= 60 + 4
        assert len(job.answers()) == 60
        assert job.litter() == []
