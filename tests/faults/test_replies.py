"""Every kind of reply: how many calls it costs, what the row becomes, and how the stage ends."""

import email.utils
import json
import socketserver
import threading
import time
from datetime import datetime
from typing import Any

import pytest

from fledgling.errors import ConfigError, Unavailable

from . import harness
from .conftest import Bench
from .server import FILTERED


def status(number: int, **error: Any) -> dict[str, Any]:
    return {"fault": "status", "status": number, "body": {"error": {"message": "fault", **error}}}


STOP = {
    "F22 quota": (status(429, type="insufficient_quota", code="insufficient_quota"), Unavailable, "quota"),
    "F28 temperature": (status(400, code="unsupported_value", param="temperature"), ConfigError, "teacher.temperature"),
    "F28 max_tokens": (
        status(400, code="unsupported_parameter", param="max_tokens"),
        ConfigError,
        "teacher.max_tokens_key",
    ),
    "F29 key": (status(401), ConfigError, "OPENAI_API_KEY"),
    "F29 denied": (status(403), ConfigError, "OPENAI_API_KEY"),
    "F29 model": (status(404, code="model_not_found"), ConfigError, "teacher.model"),
    "F29 api version": (
        status(400, message="Unsupported api-version"),
        ConfigError,
        "teacher.base_url is not accepted",
    ),
    "redirect": (
        {"fault": "status", "status": 307, "body": "", "headers": {"location": "http://127.0.0.1:9/v1"}},
        ConfigError,
        "redirects",
    ),
}


@pytest.mark.parametrize("name", STOP)
def test_a_reply_that_no_row_would_escape_stops_the_stage_after_one_call(asked: Bench, name: str) -> None:
    asked.server.fault, error, words = STOP[name]
    with pytest.raises(error, match=words):
        asked.ask(20)
    assert asked.server.received == 1
    assert not asked.job.out.exists()


FINAL = {
    "F27 filtered prompt": (status(400, **FILTERED), "content_filter", None),
    "F27 filtered answer": (
        {"fault": "choice", "choice": {"finish_reason": "content_filter"}, "message": {"content": ""}},
        "content_filter",
        "",
    ),
    "too long": (status(400, code="context_length_exceeded"), "length", None),
    "cut off": (
        {"fault": "choice", "choice": {"finish_reason": "length"}, "message": {"content": "abc"}},
        "length",
        "abc",
    ),
    "refused": ({"fault": "choice", "message": {"content": None, "refusal": "I must not"}}, "refusal", "I must not"),
    "empty": ({"fault": "choice", "message": {"content": ""}}, "empty", ""),
    "F30 null content": ({"fault": "choice", "message": {"content": None}}, "empty", None),
    "F30 two choices": ({"fault": "choice", "copies": 2}, "ok", "answer to question 0"),
    "not an object": ({"fault": "choice", "message": {"content": "no JSON"}}, "ok", "no JSON"),
}


@pytest.mark.parametrize("name", FINAL)
def test_a_final_reply_is_paid_once_and_never_asked_again(asked: Bench, name: str) -> None:
    asked.server.fault, outcome, raw = FINAL[name]
    first = asked.ask(3)
    assert [row["outcome"] for row in first] == [outcome] * 3
    assert first[0]["raw"] == raw
    assert asked.ask(3) == first
    assert asked.server.received == 3


CALLS = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1'}}]


def test_tool_calls_without_content_are_an_answer_and_their_text_is_kept_as_it_came(asked: Bench) -> None:
    asked.server.fault = {"fault": "choice", "message": {"content": None, "tool_calls": CALLS}}
    row = asked.ask(1)[0]
    assert (row["outcome"], row["raw"], row["tool_calls"]) == ("ok", None, CALLS)


def test_missing_usage_is_unknown_and_not_zero(asked: Bench) -> None:
    asked.server.fault = {"fault": "choice", "usage": "missing"}
    assert asked.ask(1)[0]["usage"] == {}


TRANSIENT = {
    "F20 429": {"fault": "status", "status": 429, "headers": {"retry-after-ms": "30"}},
    "F21 429 without Retry-After": {"fault": "status", "status": 429},
    "F23 500": {"fault": "status", "status": 500},
    "F23 502 HTML": {"fault": "status", "status": 502, "body": "<html>bad gateway</html>"},
    "F23 503": {"fault": "status", "status": 503},
    "408": {"fault": "status", "status": 408},
    "F25 silence": {"fault": "hang"},
    "F25 silence in the body": {"fault": "hang_in_body"},
    "F25 drip": {"fault": "drip"},
    "F26 reset": {"fault": "reset"},
    "F26 short": {"fault": "short"},
    "F30 HTML": {"fault": "body", "body": "<html></html>"},
    "F30 nothing": {"fault": "body", "body": ""},
    "F30 error in a 200": {"fault": "body", "body": '{"error": {"message": "later"}}'},
    "F30 no choices": {"fault": "body", "body": '{"choices": []}'},
    "F30 choices null": {"fault": "body", "body": '{"choices": null}'},
    "F30 no message": {"fault": "body", "body": '{"choices": [{}]}'},
    "F30 content of another type": {"fault": "choice", "message": {"content": 7}},
    "F30 deep": {"fault": "body", "body": "[" * 200_000},
}


@pytest.mark.parametrize("name", TRANSIENT)
def test_a_passing_fault_is_tried_again(asked: Bench, name: str) -> None:
    asked.server.fault = TRANSIENT[name] | {"times": 1}
    timeout = 0.4 if "F25" in name else 5
    assert [row["outcome"] for row in asked.ask(3, timeout_s=timeout)] == ["ok"] * 3
    assert asked.server.received == 6


@pytest.mark.parametrize("name", ["F23 500", "F26 reset", "408"])
def test_tries_are_bounded_and_the_row_is_asked_again_by_the_next_run(asked: Bench, name: str) -> None:
    asked.server.fault = TRANSIENT[name]
    with pytest.raises(Unavailable, match="none of 3 rows has an answer"):
        asked.ask(3, max_tries=2)
    assert asked.server.received == 6
    assert not asked.job.out.exists()
    asked.server.fault = {}
    assert [row["outcome"] for row in asked.ask(3, max_tries=2)] == ["ok"] * 3
    assert asked.server.received == 9


@pytest.mark.parametrize("fault", ["hang", "hang_in_body", "drip"])
def test_f25_the_deadline_is_the_wall_clocks(asked: Bench, fault: str) -> None:
    asked.server.fault = {"fault": fault}
    with pytest.raises(Unavailable, match="timeout: no whole reply within 1 s"):
        asked.ask(1, timeout_s=1, max_tries=1)
    intent, failure = (datetime.fromisoformat(entry["at"]) for entry in asked.journal())
    assert 1 <= (failure - intent).total_seconds() < 1.5


def test_f23_a_provider_that_is_down_stops_the_stage(asked: Bench) -> None:
    asked.server.fault = {"fault": "status", "status": 503}
    with pytest.raises(Unavailable, match="10 rows in a row"):
        asked.ask(200, max_tries=2)
    assert asked.server.received <= 2 * (10 + 8)


def test_f24_nobody_listens(asked: Bench) -> None:
    with pytest.raises(Unavailable, match=r"the first call failed \(connect"):
        asked.ask(20, base_url="http://127.0.0.1:9/v1")


def test_f24_no_tls_no_question(asked: Bench) -> None:
    class NoTls(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"this is not TLS")

    with socketserver.TCPServer(("127.0.0.1", 0), NoTls) as plain:
        threading.Thread(target=plain.serve_forever, daemon=True).start()
        with pytest.raises(Unavailable, match=r"the first call failed \(connect: ConnectError"):
            asked.ask(20, base_url=f"https://127.0.0.1:{plain.server_address[1]}/v1")
        plain.shutdown()


def test_f24_a_connection_that_fails_later_is_tried_again(asked: Bench) -> None:
    asked.server.fault = {"fault": "reset", "times": 1, "share": 0.5}
    assert {row["outcome"] for row in asked.ask(20)} == {"ok"}


def http_date(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def test_f20_one_pause_holds_everybody(asked: Bench) -> None:
    asked.server.fault = {
        "fault": "status",
        "status": 429,
        "headers": {"retry-after-ms": "600"},
        "share": 0.1,
        "times": 1,
        "seed": 4,
        "latency_s": 0.05,
    }
    asked.ask(30, concurrency=2)
    assert asked.server.refused
    for refused in asked.server.refused:
        assert not [time for time in asked.server.times if refused + 0.15 < time < refused + 0.55]


def test_f20_a_used_up_limit_is_waited_out(asked: Bench) -> None:
    asked.server.fault = {"fault": "allowance", "limit": 4, "window_s": 0.4}
    start = time.monotonic()
    assert {row["outcome"] for row in asked.ask(10, concurrency=1)} == {"ok"}
    assert asked.server.refused == []
    assert 0.8 <= time.monotonic() - start < 5


def test_f20_a_long_wait_ends_the_stage_and_can_be_resumed(asked: Bench) -> None:
    asked.server.fault = {"fault": "status", "status": 429, "headers": {"retry-after": http_date(3600)}}
    with pytest.raises(Unavailable, match=r"asks to wait 3,[56]\d\d s"):
        asked.ask(10)
    assert asked.server.received == 1
    asked.server.fault = {}
    assert len(asked.ask(10)) == 10


def test_f21_refusals_shrink_the_window(asked: Bench) -> None:
    asked.server.fault = {"fault": "crowd", "limit": 2, "work_s": 0.01}
    asked.ask(40, concurrency=16, backoff_base_s=0.01)
    assert asked.server.answered == 40
    assert asked.server.received < 80


def test_f53_a_partial_outage_publishes_nothing_until_the_failed_rows_are_answered_or_given_up(asked: Bench) -> None:
    asked.server.fault = {"fault": "status", "status": 500, "share": 0.3, "seed": 3}
    with pytest.raises(Unavailable, match=r"of 60 rows have no answer .*HTTP 500.*teacher\.give_up"):
        asked.ask(60, max_tries=2)
    assert not asked.job.out.exists()
    rows = asked.ask(60, max_tries=2, give_up=True)
    failed = [row["id"] for row in rows if row["outcome"] == "error"]
    assert 8 <= len(failed) <= 30
    assert all("given up: HTTP 500 fault: fault" in row["reason"] for row in rows if row["outcome"] == "error")
    assert not any("reason" in row for row in rows if row["outcome"] == "ok")
    asked.server.fault = {}
    asked.server.reset()
    assert {row["outcome"] for row in asked.ask(60)} == {"ok"}
    assert asked.server.received == len(failed)


def test_f54_a_switched_model_is_reported(asked: Bench, caplog: pytest.LogCaptureFixture) -> None:
    asked.server.fault = {"fault": "model_switch", "share": 0.5}
    rows = asked.ask(20)
    assert {row["model"] for row in rows} == {"bench-1", "bench-2"}
    assert "switched its model" in caplog.text
    caplog.clear()
    asked.ask(20, allow_mixed_models=True)
    assert "switched its model" not in caplog.text


def test_f16_the_same_question_twice_is_one_call(asked: Bench) -> None:
    row = {"group": "g", "messages": [{"role": "user", "content": "same"}], "answer": {}}
    rows = asked.ask([{"id": "a", **row}, {"id": "b", **row}])
    assert [row["id"] for row in rows] == ["a", "b"]
    assert rows[0]["raw"] == rows[1]["raw"]
    assert asked.server.received == 1


def test_f16_the_same_question_twice_fails_once(asked: Bench) -> None:
    asked.server.fault = {"fault": "status", "status": 500}
    row = {"group": "g", "messages": [{"role": "user", "content": "same"}], "answer": {}}
    with pytest.raises(Unavailable, match="none of 2 rows"):
        asked.ask([{"id": "a", **row}, {"id": "b", **row}], max_tries=3)
    assert asked.server.received == 3


def test_f17_a_row_beyond_the_context_is_final_without_a_call(asked: Bench) -> None:
    rows = harness.rows(3)
    rows[1]["messages"][0]["content"] = "word " * 5000
    assert [row["outcome"] for row in asked.ask(rows, context_tokens=1000)] == ["ok", "length", "ok"]
    assert asked.server.received == 2


def test_characters_that_utf_8_cannot_hold_are_no_crash(asked: Bench) -> None:
    rows = harness.rows(2)
    rows[0]["messages"][0]["content"] = "lone \ud800 surrogate"
    assert [row["outcome"] for row in asked.ask(rows)] == ["ok", "ok"]


def test_one_added_row_is_one_call(asked: Bench) -> None:
    asked.ask(40)
    asked.ask(41)
    assert asked.server.received == 41


def test_a_budget_of_calls_ends_the_stage_and_the_next_run_goes_on(asked: Bench) -> None:
    with pytest.raises(Unavailable, match="budget of 25 calls"):
        asked.ask(40, budget={"calls": 25})
    assert asked.server.received == 25
    assert len(asked.ask(40, budget={"calls": 25})) == 40
    assert asked.server.received == 40


def test_a_budget_of_money_is_never_exceeded(asked: Bench) -> None:
    prices = {"input_per_million": 1000.0, "output_per_million": 1000.0, "currency": "EUR"}
    with pytest.raises(Unavailable, match=r"budget of 0\.5"):
        asked.ask(100, budget={"money": 0.5}, prices=prices, max_tokens=20)
    assert 0.3 < sum(asked.server.tokens) / 1000 <= 0.5


def test_f49_a_budget_of_money_without_prices_is_refused(asked: Bench) -> None:
    with pytest.raises(ConfigError, match=r"teacher\.prices"):
        asked.ask(3, budget={"money": 1})
    assert asked.server.received == 0


def test_f46_an_unknown_key_is_refused_before_any_call(asked: Bench) -> None:
    with pytest.raises(ConfigError, match="temperatur: unknown key"):
        asked.ask(3, temperatur=1)
    assert asked.server.received == 0


def test_the_order_of_requests_does_not_change_the_answers(asked: Bench) -> None:
    asked.server.fault = {"fault": "status", "status": 500, "share": 0.3, "times": 1}
    first = asked.ask(30, concurrency=8)
    (asked.job.journal / "teacher.jsonl").unlink()
    asked.server.fault = {}
    assert json.dumps(asked.ask(30, concurrency=1)) == json.dumps(first)
