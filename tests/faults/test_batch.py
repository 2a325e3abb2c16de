"""Batch mode: one file of calls, resumable at every step, never sent twice."""

import json
import signal
from collections.abc import Callable

import pytest

from fledgling.errors import ConfigError, Unavailable
from fledgling.journal import Journal

from .conftest import Bench
from .harness import Ask, server


def sent(asked: Bench) -> int:
    return len(asked.server.batches)


def test_a_batch_gives_what_single_calls_give(asked: Bench) -> None:
    rows = asked.ask(20, batch=True)
    assert (sent(asked), asked.server.answered) == (1, 20)
    assert not asked.server.tries, "no single calls"
    (asked.job.journal / "teacher.jsonl").unlink()
    assert asked.ask(20) == rows


def test_the_same_journal_serves_both_ways(asked: Bench) -> None:
    asked.ask(10)
    asked.ask(15, batch=True)
    assert asked.server.files["file-0"].count("\n") == 5
    asked.ask(15)
    asked.ask(15, batch=True)
    assert (sent(asked), asked.server.received) == (1, 15)


def test_a_batch_line_holds_what_a_call_would(asked: Bench) -> None:
    asked.ask(1)
    asked.server.fault = {}
    (asked.job.journal / "teacher.jsonl").unlink()
    asked.ask(1, batch=True)
    line = json.loads(asked.server.files["file-0"])
    assert (line["method"], line["url"], line["body"]) == ("POST", "/v1/chat/completions", asked.server.bodies[0])
    assert line["custom_id"] == asked.job.answers()[0]["request"]


def test_azure_files_do_not_lie_below_the_deployment(asked: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ENDPOINT": asked.url.removesuffix("/v1"),
        "DEPLOYMENT": "gpt",
        "API_KEY": "a-key",
        "API_VERSION": "v9",
    }.items():
        monkeypatch.setenv(f"AZURE_{name}", value)
    asked.ask(2, provider="azure", model=None, base_url=None, batch=True)
    assert asked.server.paths[:2] == ["POST /openai/files?api-version=v9", "POST /openai/batches?api-version=v9"]
    assert json.loads(asked.server.files["file-0"].splitlines()[0])["url"] == "/chat/completions"


def test_rows_that_the_batch_refuses_are_outcomes_or_asked_again(asked: Bench) -> None:
    asked.server.fault = {"row_status": 400, "code": "content_filter", "share": 0.3}
    rows = asked.ask(20, batch=True)
    filtered = [row["id"] for row in rows if row["outcome"] == "content_filter"]
    assert 1 < len(filtered) < 15
    asked.ask(20, batch=True)
    assert sent(asked) == 1


@pytest.mark.parametrize("fault", [{"row_status": 500, "share": 0.3}, {"every": 2, "end": "expired"}])
def test_rows_without_a_reply_are_free_for_the_next_run(asked: Bench, fault: dict[str, object]) -> None:
    asked.server.fault = fault
    with pytest.raises(Unavailable, match="of 20 rows have no answer") as caught:
        asked.ask(20, batch=True)
    failed = int(str(caught.value).split()[0])
    assert 1 < failed < 15
    asked.server.fault = {}
    assert {row["outcome"] for row in asked.ask(20, batch=True)} == {"ok"}
    assert asked.server.received == 20 + failed


def test_an_answer_to_the_creation_that_is_lost_makes_no_second_batch(asked: Bench) -> None:
    asked.server.fault = {"create": "lost"}
    assert {row["outcome"] for row in asked.ask(5, batch=True)} == {"ok"}
    assert sent(asked) == 1


def test_a_budget_cuts_the_batch(asked: Bench) -> None:
    with pytest.raises(Unavailable, match="budget of 12 calls"):
        asked.ask(20, batch=True, budget={"calls": 12})
    assert asked.server.received == 12
    assert len(asked.ask(20, batch=True, budget={"calls": 12})) == 20
    assert asked.server.received == 20


def test_the_simulated_teacher_has_no_batches(asked: Bench) -> None:
    with pytest.raises(ConfigError, match=r"teacher\.batch"):
        asked.ask(2, provider="simulated", batch=True)


def test_kills_at_every_step_send_nothing_twice(work: Callable[..., Ask]) -> None:
    """Also when the run that goes on asks single calls."""
    with server({"polls": 1}) as at:
        job = work(12, at.url, batch=True)
        for place, received in (
            ("batch.before_upload:1", 0),
            ("batch.after_create:1", 12),
            ("batch.before_results:1", 12),
            ("journal.before_write:1", 12),
        ):
            assert job.finish(FLEDGLING_FAILPOINT=place)[0] == -signal.SIGKILL, place
            assert at.counts()["received"] == received, place
        job.teacher = {**job.teacher, "batch": False}
        code, error = job.finish()
        assert code == 0, error
        assert at.counts()["received"] == 12
        assert [row["outcome"] for row in job.answers()] == ["ok"] * 12
        assert job.litter() == []


def test_a_lost_batch_is_not_sent_twice_by_another_run(work: Callable[..., Ask]) -> None:
    with server({"polls": 3}) as at:
        job = work(4, at.url, batch=True)
        processes = [work(4, at.url, batch=True).start() for _ in range(2)]
        codes = [process.communicate(timeout=60) and process.returncode for process in processes]
        assert codes == [0, 0]
        assert at.counts()["received"] == 4
        assert [row["outcome"] for row in job.answers()] == ["ok"] * 4


def test_a_signal_leaves_the_batch_with_the_provider(work: Callable[..., Ask]) -> None:
    with server({"polls": 10_000}) as at:
        job = work(6, at.url, batch=True)
        process = job.start()
        while at.counts()["received"] < 6:
            pass
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=20)
        assert process.returncode == 143, error
        at.fault({"polls": 1})
        code, error = job.finish()
        assert code == 0, error
        assert at.counts()["received"] == 6


def test_two_runs_at_once_share_the_batch(work: Callable[..., Ask]) -> None:
    with server({"polls": 3}) as at:
        jobs = [work(10, at.url, out=name, batch=batch) for name, batch in (("one.jsonl", True), ("two.jsonl", False))]
        first = jobs[0].start()
        while at.counts()["received"] < 10:
            pass
        second = jobs[1].start()
        for process in (first, second):
            _, error = process.communicate(timeout=60)
            assert process.returncode == 0, error
        assert at.counts()["received"] == 10
        assert jobs[0].answers() == jobs[1].answers()


def test_compaction_keeps_an_open_batch(work: Callable[..., Ask]) -> None:
    with server({"polls": 1}) as at:
        job = work(4, at.url, batch=True)
        assert job.finish(FLEDGLING_FAILPOINT="batch.after_create:1")[0] == -signal.SIGKILL
        with Journal(job.journal, "teacher") as journal:
            journal.compact()
        assert job.finish()[0] == 0
        assert at.counts()["received"] == 4
