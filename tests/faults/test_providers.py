"""Providers as they are: what they say, what they leave out, what they charge for, and what they share."""

import json
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fledgling.errors import ConfigError, Unavailable
from fledgling.journal import Journal
from tests.allowance import within

from . import harness
from .conftest import Bench
from .harness import server

PRICES = {"input_per_million": 1000.0, "output_per_million": 1000.0, "currency": "EUR"}  # 0.001 a token
TOOL = {
    "type": "function",
    "function": {
        "name": "track_package",
        "description": "Find out where a package is, by its number and the name of its carrier",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "integer"}, "carrier": {"type": "string"}},
            "required": ["number", "carrier"],
        },
    },
}


def choice(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"fault": "choice", "message": message, **more}


def refuse(status: int, body: Any, **more: Any) -> dict[str, Any]:
    return {"fault": "status", "status": status, "body": body, **more}


def with_tools(count: int) -> list[dict[str, Any]]:
    return [row | {"tools": [TOOL], "answer": []} for row in harness.rows(count)]


# A stage is done when its rows are answered.


def test_rows_that_no_try_answers_are_asked_again_and_published_only_by_a_setting(asked: Bench) -> None:
    asked.server.fault = {"fault": "status", "status": 500, "share": 0.2, "seed": 3}
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"rows have no answer .*nothing is published"):
            asked.ask(30, max_tries=1)
    assert not asked.job.out.exists()
    rows = asked.ask(30, max_tries=1, give_up=True)
    assert {row["reason"] for row in rows if row["outcome"] == "error"} == {"given up: HTTP 500 fault: fault"}
    asked.server.fault = {}
    assert {row["outcome"] for row in asked.ask(30)} == {"ok"}


def test_giving_up_every_row_is_no_success(asked: Bench) -> None:
    asked.server.fault = {"fault": "status", "status": 500}
    with pytest.raises(Unavailable, match="none of 3 rows has an answer"):
        asked.ask(3, max_tries=1, give_up=True)
    assert not asked.job.out.exists()


# One row decides for itself, and for no other.


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "body", [{"error": {"message": "Unable to generate parser for this schema"}}, {"detail": "no"}]
)
def test_a_row_that_is_refused_stops_no_other(asked: Bench, first: bool, body: Any) -> None:
    rows = harness.rows(12)
    rows[0 if first else 7]["messages"][0]["content"] = "an odd question"
    asked.server.fault = refuse(400, body, only="an odd question")
    with pytest.raises(Unavailable, match=r"1 of 12 rows have no answer \(the endpoint"):
        asked.ask(rows)
    assert asked.server.answered == 11
    given = asked.ask(rows, give_up=True)
    assert [row["outcome"] for row in given].count("ok") == 11
    words = body.get("detail") or body["error"]["message"]
    assert words in next(row["reason"] for row in given if row["outcome"] == "error")


def test_an_endpoint_that_takes_none_of_the_first_rows_is_told_after_three(asked: Bench) -> None:
    asked.server.fault = refuse(400, {"error": {"message": "what?"}})
    with pytest.raises(ConfigError, match=r"the first 3 calls failed .*what\?"):
        asked.ask(20)
    assert asked.server.received == 3


def test_a_row_that_exceeds_the_rate_limit_by_itself_costs_one_call_and_no_pause(asked: Bench) -> None:
    rows = harness.rows(12)
    rows[3]["messages"][0]["content"] = "a big question"
    words = "Request too large for m on tokens per min (TPM): Limit 30000, Requested 30601."
    asked.server.fault = refuse(
        429, {"error": {"code": "rate_limit_exceeded", "message": words}}, only="a big question"
    )
    start = time.monotonic()
    with pytest.raises(Unavailable, match=r"1 of 12 rows have no answer \(the row is larger than .*Requested 30601"):
        asked.ask(rows)
    assert asked.server.tries["a big question"] == 1
    assert time.monotonic() - start < 5


# What is read as an answer, and what is not.


PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": '{"a": '}, "1}"]


@pytest.mark.parametrize(
    ("message", "raw"),
    [({"content": PARTS}, '{"a": 1}'), ({"content": {"a": 1.50}}, '{"a": 1.5}'), ({"content": [{"text": "x"}]}, "x")],
)
def test_content_in_parts_is_an_answer(asked: Bench, message: dict[str, Any], raw: str) -> None:
    asked.server.fault = choice(message)
    rows = asked.ask(3)
    assert [(row["outcome"], row["raw"]) for row in rows] == [("ok", raw)] * 3
    assert asked.server.received == 3


def test_the_calls_of_before_are_read(asked: Bench) -> None:
    call = {"name": "track_package", "arguments": '{"number": 97}'}
    asked.server.fault = choice({"content": None, "function_call": call}, choice={"finish_reason": "function_call"})
    row = asked.ask(with_tools(1))[0]
    assert (row["outcome"], row["tool_calls"]) == ("ok", [{"type": "function", "function": call}])


@pytest.mark.parametrize("finish", ["error", "insufficient_system_resource", "some_new_word"])
def test_a_reply_that_did_not_end_is_no_answer_and_is_paid_for(asked: Bench, finish: str) -> None:
    asked.server.fault = choice({"content": "hal"}, choice={"finish_reason": finish}, only="question 3")
    with pytest.raises(Unavailable, match=f"1 of 8 rows have no answer .*{finish}"):
        asked.ask(8, prices=PRICES)
    assert asked.server.received <= 7 + 3
    failures = [entry["record"] for entry in asked.journal() if entry["kind"] == "failure"]
    assert all((failure["billed"], failure["most"]) == ("yes", [11, 7]) for failure in failures)
    assert all('"hal"' in failure["body"] for failure in failures), "what was paid for is kept"


HUGE = "9" * 400
ARGUMENTS = {
    "1e999": '{"a": 1e999}',
    "NaN": '{"a": NaN}',
    "-Infinity": '{"a": -Infinity}',
    HUGE: f'{{"a": {HUGE}}}',
    "9" * 6000: f'{{"a": {"9" * 6000}}}',
    "0.1000000000000000055": '{"a": 0.1000000000000000055}',
    '"\\ud83d"': '{"a": "\ud83d"}',
}


@pytest.mark.parametrize("number", ARGUMENTS, ids=lambda number: number[:12])
def test_any_number_of_a_provider_is_an_outcome_of_its_row(asked: Bench, number: str) -> None:
    call = f'{{"id":"c","type":"function","function":{{"name":"track_package","arguments":{{"a":{number}}}}}}}'
    message = f'{{"role":"assistant","content":null,"tool_calls":[{call}]}}'
    body = f'{{"model":"m","choices":[{{"index":{HUGE},"finish_reason":"tool_calls","message":{message}}}],'
    asked.server.fault = {
        "fault": "body",
        "body": body + f'"usage":{{"prompt_tokens":{HUGE},"completion_tokens":-1}}}}',
    }
    for _ in range(2):
        row = asked.ask(with_tools(3), prices=PRICES)[0]
        assert (row["outcome"], row["usage"]) == ("ok", {})
        assert row["tool_calls"][0]["function"]["arguments"] == ARGUMENTS[number]
    assert asked.server.received == 3
    json.loads(asked.job.out.read_text().splitlines()[0], parse_constant=pytest.fail)


def test_a_reply_of_very_many_calls_is_bounded(asked: Bench) -> None:
    call = '{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}'
    message = f'{{"role":"assistant","content":null,"tool_calls":[{",".join([call] * 40_000)}]}}'
    body = f'{{"model":"m","choices":[{{"finish_reason":"tool_calls","message":{message}}}]}}'
    asked.server.fault = {"fault": "body", "body": body}
    with within(4):
        row = asked.ask(with_tools(1))[0]
    assert len(row["tool_calls"]) == 1000
    assert row["reason"].startswith("40,000 calls in one reply")


def test_a_reply_without_an_end_is_cut_off_and_paid_once(asked: Bench) -> None:
    asked.server.fault = {"fault": "flood", "only": "question 1"}
    with pytest.raises(Unavailable, match=r"1 of 3 rows have no answer \(huge: a reply of more than"):
        asked.ask(3)
    assert asked.server.tries["question 1"] == 1


def test_a_reply_in_another_encoding_is_kept(asked: Bench) -> None:
    asked.server.fault = {"fault": "body", "latin": True, "body": '{"choices":[{"message":{"content":"caf\xe9"}}]}'}
    assert [row["raw"] for row in asked.ask(1)] == ["caf�"]


# What may have been billed.


def test_timeouts_count_as_billed_at_their_upper_bound(asked: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    asked.server.fault = {"fault": "hang", "only": "question 1"}
    with pytest.raises(Unavailable):
        asked.ask(3, prices=PRICES, timeout_s=0.3, max_tries=2, max_tokens=100)
    failure = next(entry["record"] for entry in asked.journal() if entry["kind"] == "failure")
    assert failure["billed"] == "maybe"
    assert failure["most"][1] == 100
    assert "2 calls that may have been billed without a usable reply" in caplog.text


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "choice", "choice": {"finish_reason": "error"}, "usage": "missing"},
        {"fault": "hang"},
        {"fault": "reset"},
    ],
)
def test_a_budget_of_money_holds_when_nothing_usable_comes(asked: Bench, fault: dict[str, Any]) -> None:
    """A call may cost 0.1 and a little; none of these is known to be free."""
    asked.server.fault = fault
    with pytest.raises(Unavailable, match=r"budget of 0\.5"):
        asked.ask(40, prices=PRICES, budget={"money": 0.5}, timeout_s=0.2, max_tokens=80, max_tries=3, concurrency=2)
    assert asked.server.received <= 5


def test_replies_without_a_count_of_tokens_count_at_their_upper_bound(asked: Bench) -> None:
    asked.server.fault = {"fault": "choice", "usage": "missing"}
    with pytest.raises(Unavailable, match=r"budget of 0\.5"):
        asked.ask(40, prices=PRICES, budget={"money": 0.5}, max_tokens=80, concurrency=1)
    assert asked.server.received <= 5


# The first replies are looked at.


LOOKS = {
    "tools dropped": (
        choice({"content": "Sure, on its way."}, tokens=(12, 9)),
        with_tools(40),
        {},
        r"drops the tools",
    ),
    "prompt cut": (
        choice({"content": "x"}, tokens=(200, 9)),
        [
            row | {"messages": [{"role": "user", "content": f"{row['id']} " + "word " * 900}]}
            for row in harness.rows(40)
        ],
        {},
        "cuts prompts.*num_ctx",
    ),
    "limit ignored": (choice({"content": "x"}, tokens=(11, 900)), harness.rows(40), {}, "max_tokens_key to max_tokens"),
    "cut off, empty": (
        choice({"content": ""}, choice={"finish_reason": "length"}),
        harness.rows(40),
        {},
        "all cut off at teacher.max_tokens .*reasoning",
    ),
    "cut off": (
        choice({"content": "x"}, choice={"finish_reason": "length"}),
        harness.rows(40),
        {},
        "teacher.max_tokens",
    ),
    "empty": (choice({"content": ""}), harness.rows(40), {}, "all empty"),
    "thoughts": (
        choice({"content": None, "reasoning_content": "x"}),
        harness.rows(40),
        {},
        "message.reasoning_content",
    ),
    "filtered": (
        refuse(400, {"error": {"code": "content_filter", "message": "violence"}}),
        harness.rows(40),
        {},
        "violence",
    ),
}


@pytest.mark.parametrize("name", LOOKS)
def test_the_first_replies_are_looked_at_and_taken_back(asked: Bench, name: str) -> None:
    asked.server.fault, rows, teacher, words = LOOKS[name]
    with pytest.raises(ConfigError, match=words):
        asked.ask(rows, **teacher)
    assert asked.server.received <= 5 + 8
    assert not asked.job.out.exists()
    received = asked.server.received
    asked.server.fault = choice({"content": "fine"}, tokens=(1000, 9))
    assert {row["outcome"] for row in asked.ask(rows, **teacher)} == {"ok"}
    assert asked.server.received == received + 40, "a reply that shows a fault of all is no reply"


def test_the_look_can_be_a_warning(asked: Bench, caplog: pytest.LogCaptureFixture) -> None:
    asked.server.fault = LOOKS["tools dropped"][0]
    assert len(asked.ask(with_tools(20), first_replies="warn")) == 20
    assert "drops the tools" in caplog.text


NO_FAULT = {
    "calls, few tokens": (
        choice({"content": None, "tool_calls": [TOOL | {"id": "c"}]}, tokens=(12, 9)),
        with_tools(12),
    ),
    "tools in short": (choice({"content": "No tool fits."}, tokens=(40, 9)), with_tools(12)),
    "no usage": (choice({"content": "No tool fits."}, usage="missing"), with_tools(12)),
    "some empty": ({"fault": "choice", "message": {"content": ""}, "share": 0.6}, harness.rows(12)),
    "a little long": (choice({"content": "x"}, tokens=(11, 520)), harness.rows(12)),
}


@pytest.mark.parametrize("name", NO_FAULT)
def test_what_is_no_fault_stops_nothing(asked: Bench, name: str) -> None:
    asked.server.fault, rows = NO_FAULT[name]
    assert len(asked.ask(rows)) == 12


def test_another_model_than_asked_is_told(asked: Bench, caplog: pytest.LogCaptureFixture) -> None:
    asked.ask(2, model="gpt-9")
    assert "teacher.model is gpt-9, but the replies name bench-1" in caplog.text
    caplog.clear()
    asked.ask(2, model="owner/Bench")
    assert "teacher.model is" not in caplog.text


# Limits are a provider's.


def together(jobs: list[harness.Ask]) -> None:
    """Run jobs side by side; each has to end well."""
    processes = [job.start() for job in jobs]
    for process in processes:
        _, error = process.communicate(timeout=60)
        assert process.returncode == 0, error


def test_two_processes_keep_one_rate(tmp_path: Path) -> None:
    with server() as at:
        jobs = []
        for number, first in enumerate((0, 100)):
            data = harness.write_rows(tmp_path / f"{number}.jsonl", harness.rows(15, first))
            jobs.append(
                harness.Ask(tmp_path, data, harness.settings(at.url, requests_per_minute=240), out=f"{number}.jsonl")
            )
        together(jobs)
        seen = at.counts()
    assert seen["received"] == 30
    assert seen["last_s"] - seen["first_s"] >= 29 / 4 - 1  # the first call may arrive late; two paces would take half


def test_two_runs_in_two_folders_keep_one_rate(tmp_path: Path) -> None:
    """Each has its own journal and its own results, and the provider counts them together."""
    with server() as at:
        jobs = []
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            data = harness.write_rows(folder / "data.jsonl", harness.rows(15, 100 * number))
            jobs.append(harness.Ask(folder, data, harness.settings(at.url, requests_per_minute=240)))
            jobs[number].locks = tmp_path / "locks"
        together(jobs)
        seen = at.counts()
    assert seen["received"] == 30
    assert seen["last_s"] - seen["first_s"] >= 29 / 4 - 1


def test_two_processes_keep_one_concurrency(tmp_path: Path) -> None:
    with server({"latency_s": 0.05}) as at:
        jobs = []
        for number, first in enumerate((0, 100)):
            data = harness.write_rows(tmp_path / f"{number}.jsonl", harness.rows(30, first))
            jobs.append(harness.Ask(tmp_path, data, harness.settings(at.url, concurrency=4), out=f"{number}.jsonl"))
        together(jobs)
        assert at.counts()["most_in_flight"] == 4


def test_a_pause_that_one_process_was_asked_for_holds_the_next(tmp_path: Path) -> None:
    words = "Please retry after 6 seconds."
    with server(refuse(429, {"error": {"message": words}})) as at:
        data = harness.write_rows(tmp_path / "data.jsonl", harness.rows(1))
        job = harness.Ask(tmp_path, data, harness.settings(at.url))
        process = job.start()
        harness.wait_for_calls(at, 1)
        time.sleep(0.5)
        process.kill()
        process.communicate()
        at.fault({})
        code, error = job.finish()
        seen = at.counts()
    assert code == 0, error
    assert seen["received"] == 2
    assert 5.8 <= seen["last_s"] - seen["first_s"] < 20


def test_a_dead_process_takes_no_seat(tmp_path: Path) -> None:
    with server({"latency_s": 0.3}) as at:
        data = harness.write_rows(tmp_path / "data.jsonl", harness.rows(20))
        job = harness.Ask(tmp_path, data, harness.settings(at.url, concurrency=4))
        process = job.start()
        harness.wait_for_calls(at, 5)
        process.kill()
        process.communicate()
        at.fault({})
        code, error = job.finish()
        assert code == 0, error
        assert at.counts()["received"] <= 24


# Latency says its company.


def test_the_latency_of_a_reply_says_how_many_calls_ran(asked: Bench) -> None:
    asked.server.fault = {"latency_s": 0.05}
    asked.ask(12, concurrency=4)
    rows = [json.loads(line) for line in asked.job.out.read_text().splitlines()]
    assert {row["in_flight"] for row in rows} <= {1, 2, 3, 4}
    assert max(row["in_flight"] for row in rows) == 4
    asked.job.journal.joinpath("teacher.jsonl").unlink()
    asked.ask(3, concurrency=1)
    assert all(json.loads(line)["in_flight"] == 1 for line in asked.job.out.read_text().splitlines())


# The journal changes under a run.


def test_a_journal_that_is_removed_while_rows_are_asked_ends_the_run(asked: Bench) -> None:
    asked.server.fault = {"latency_s": 0.02}
    path = asked.job.journal / "teacher.jsonl"
    threading.Timer(0.3, lambda: path.rename(path.with_suffix(".away"))).start()
    with pytest.raises(Unavailable, match="removed or replaced while it was open"):
        asked.ask(200, concurrency=2)
    received = asked.server.received
    path.with_suffix(".away").rename(path)
    asked.ask(200)
    assert asked.server.received - received <= 200 - received + 4


def test_an_outcome_can_be_taken_back_without_the_rest(asked: Bench) -> None:
    asked.server.fault = choice({"content": ""}, share=0.3)
    rows = asked.ask(20)
    empty = [row["request"] for row in rows if row["outcome"] == "empty"]
    asked.server.fault = {}
    with Journal(asked.job.journal, "teacher") as kept:
        assert kept.take_back([*empty, "0" * 64], {"why": "a test"}) == len(empty)
    before = asked.server.received
    assert {row["outcome"] for row in asked.ask(20)} == {"ok"}
    assert asked.server.received == before + len(empty)
    assert math.isclose(before, 20)


@pytest.mark.parametrize(
    "body", ["<html>Sign in</html>", '{"detail": "Not authenticated"}', '{"message": {"content": "x"}}']
)
def test_an_endpoint_that_never_gives_a_completion_is_told_after_three_calls(asked: Bench, body: str) -> None:
    asked.server.fault = {"fault": "body", "body": body}
    with pytest.raises(ConfigError, match=r"the first 3 calls failed \(HTTP 200 without an answer: .*check .*base_url"):
        asked.ask(40)
    assert asked.server.received == 3
    assert not asked.job.out.exists()


def test_a_stream_that_was_not_asked_for_is_read(asked: Bench) -> None:
    chunk = '{"model": "m", "choices": [{"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop"}]}'
    asked.server.fault = {"fault": "body", "body": f"data: {chunk}\n\ndata: [DONE]\n\n"}
    assert [row["raw"] for row in asked.ask(3)] == ["yes"] * 3
    assert asked.server.received == 3


def test_counts_of_no_tokens_are_paid_for_at_their_upper_bound(asked: Bench, caplog: pytest.LogCaptureFixture) -> None:
    asked.server.fault = {"fault": "choice", "tokens": [0, 0]}
    caplog.set_level("INFO")
    prices = {"input_per_million": 1.0, "output_per_million": 2.0, "currency": "USD"}
    assert [row["usage"] for row in asked.ask(3, prices=prices)] == [{}] * 3
    assert "3 calls that may have been billed" in caplog.text


def test_a_history_without_ids_is_sent_with_ids(asked: Bench) -> None:
    """Rows of before 2023 and of other tools have none, and the protocol asks for them."""
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    history = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [call, call | {"id": "own"}]},
        {"role": "tool", "content": "one", "name": "f"},
        {"role": "tool", "content": "two", "tool_call_id": "own"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "three", "tool_call_id": "lost"},
        {"role": "user", "content": "and now?"},
    ]
    asked.ask([{"id": "r", "group": "g", "messages": history, "answer": []}])
    sent = asked.server.bodies[0]["messages"]
    first, last = ([call["id"] for call in sent[at]["tool_calls"]] for at in (1, 4))
    assert first[1] == "own"
    assert len({*first, *last}) == 3
    assert [sent[at]["tool_call_id"] for at in (2, 3, 5)] == [*first, *last]
    asked.ask([{"id": "r", "group": "g", "messages": sent, "answer": []}])
    assert asked.server.received == 1, "a conversation that has its ids is the same request"
