"""Logs of production as rows: all formats alike, what is taken, what is left out and why, groups, splits, tools' results."""

import json
from pathlib import Path
from typing import Any

import pytest

from fledgling.data.formats import parse
from fledgling.data.invalid import Unusable
from fledgling.data.prepare import prepare
from fledgling.data.traces.logs import calls as call_records
from fledgling.data.traces.record import moment
from fledgling.errors import DataError
from fledgling.prompting import template
from fledgling.records import read_examples
from fledgling.training.tokens import IGNORED, encode

from . import logs
from .families import FAMILIES, tokenizer
from .logs import TOWNS, Call, booking, order

SHARES = {"train": 0.5, "val": 0.2, "test": 0.3}


def prepared(
    folder: Path, rows: list[logs.Row], kind: str, *, name: str = "log.jsonl", splits: Any = SHARES, **source: Any
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any], bytes]:
    """The rows of each split, the datasheet, and the bytes of all splits."""
    folder.mkdir(exist_ok=True, parents=True)
    path = logs.write(folder / name, rows)
    outputs = {split: folder / f"{split}.out.jsonl" for split in ("train", "val", "test")}
    track = {"kind": kind, "sources": [{"path": str(path), "format": "traces", **source}], "splits": splits}
    sheet = prepare(track, 1, name="t", outputs=outputs)
    written = b"".join(outputs[split].read_bytes() for split in outputs)
    found = {split: [json.loads(line) for line in outputs[split].read_text().splitlines()] for split in outputs}
    return found, sheet, written


def every(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [row for rows in found.values() for row in rows]


@pytest.mark.parametrize("form", [*logs.LOGS, "langfuse parquet", "langfuse columns parquet"])
@pytest.mark.parametrize(("kind", "make"), [("toolcall", booking), ("structured", order)])
def test_the_same_calls_are_the_same_rows_byte_for_byte(tmp_path, form, kind, make):
    calls = [make(number) for number in range(20)]
    expected, _, written = prepared(tmp_path / "first", logs.openai(calls), kind)
    assert len(every(expected)) == 20
    rows = logs.LOGS[form.removesuffix(" parquet")](calls)
    name = "log.parquet" if form.endswith("parquet") else "log.jsonl"
    found, sheet, other = prepared(tmp_path / "other", rows, kind, name=name)
    assert other == written
    assert sheet["sources"][0]["formats"] == {f"traces/{form.split()[0]}": 20}
    first = calls[0]
    for row in every(found):
        if row["messages"] == first.messages:
            assert row.get("schema") == first.schema
            assert row.get("tools") == first.tools


@pytest.mark.parametrize("form", [form for form in logs.LOGS if form != "openai"])
def test_logs_are_recognised_without_being_named(tmp_path, form):
    calls = [booking(number) for number in range(20)]
    found, _, _ = prepared(tmp_path, logs.LOGS[form](calls), "toolcall", format="auto")
    assert len(every(found)) == 20


def test_the_half_of_a_stored_completion_is_counted(tmp_path):
    rows = logs.stored_apart([booking(number) for number in range(20)])
    lost = rows.pop()
    del rows[0]["data"][0]
    _, sheet, _ = prepared(tmp_path, rows, "toolcall")
    assert lost["data"]
    assert sheet["sources"][0]["rejected"].keys() == {"body_absent"}
    assert sheet["sources"][0]["rows"] == {"read": 20, "rejected": 2, "duplicates": 0, "beyond_limit": 0, "used": 18}


@pytest.mark.parametrize("form", ["otel", "langfuse", "stored"])
def test_one_document_holds_many_calls(tmp_path, form):
    calls = [order(number) for number in range(20)]
    rows = logs.LOGS[form](calls)
    if form == "otel":
        document: Any = {"resourceSpans": [part for row in rows for part in row["resourceSpans"]]}
    elif form == "langfuse":
        document = {"data": logs.langfuse_columns(calls), "meta": {"page": 1, "totalItems": 20}}
    else:
        document = {"object": "list", "data": [{**row["completion"], "messages": row["messages"]} for row in rows]}
    path = tmp_path / "log.json"
    path.write_text(json.dumps(document, indent=2))
    outputs = {split: tmp_path / f"{split}.jsonl" for split in SHARES}
    for named in ("traces", "auto"):
        track = {"kind": "structured", "sources": [{"path": str(path), "format": named}], "splits": SHARES}
        sheet = prepare(track, 1, name="t", outputs=outputs)
        assert sheet["sources"][0]["rows"]["used"] == 20


def broken(form: str, call: Call, how: str) -> logs.Row:
    """One row whose call did not end well."""
    row = logs.LOGS[form]([call])[-1]
    choice: dict[str, Any] = {
        "reply_refusal": {"message": {"role": "assistant", "content": None, "refusal": "I cannot help with that."}},
        "reply_content_filter": {"message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"},
        "reply_length": {"message": {"role": "assistant", "content": '{"item": "ch'}, "finish_reason": "length"},
        "reply_empty": {"message": {"role": "assistant", "content": " "}, "finish_reason": "stop"},
    }.get(how, {})
    if form == "helicone":
        if how == "reply_status":
            return row | {"response_status": 429, "response_body": {"error": {"message": "slow down"}}}
        if how == "body_absent":
            return row | {"response_body": None, "signed_body_url": "https://example.org/x"}
        return row | {"response_body": {"choices": [choice]}}
    if how == "reply_error":
        return row | {"status": "failure", "error_str": "timeout"}
    return row | {"response": {"choices": [choice]}}


@pytest.mark.parametrize(
    ("form", "how"),
    [
        *(
            ("helicone", how)
            for how in (
                "reply_refusal",
                "reply_content_filter",
                "reply_length",
                "reply_empty",
                "reply_status",
                "body_absent",
            )
        ),
        ("litellm", "reply_length"),
        ("litellm", "reply_error"),
    ],
)
def test_calls_that_failed_are_counted_by_their_reason(tmp_path, form, how):
    rows = [*logs.LOGS[form]([order(number) for number in range(20)]), broken(form, order(77), how)]
    _, sheet, _ = prepared(tmp_path, rows, "structured")
    (found,) = sheet["sources"][0]["rejected"].items()
    assert (found[0], found[1]["rows"]) == (how, 1)
    assert found[1]["first"][0].startswith(f"{tmp_path}/log.jsonl:21: ")


def test_a_body_that_was_cut_is_no_prompt(tmp_path):
    rows = logs.langfuse([order(number) for number in range(20)])
    rows[-1]["input"] = rows[-1]["input"][:40]
    rows[-2]["output"] = rows[-2]["output"][:10]
    _, sheet, _ = prepared(tmp_path, rows, "structured")
    assert {code: found["rows"] for code, found in sheet["sources"][0]["rejected"].items()} == {"body_truncated": 2}
    assert sheet["sources"][0]["not_asked_for"] == {"no call of a model": 1}


def test_errors_of_a_log_stop_where_the_source_says_so(tmp_path):
    rows = [*logs.helicone([order(number) for number in range(20)]), broken("helicone", order(77), "reply_length")]
    with pytest.raises(DataError, match=r"log\.jsonl:21: the reply was cut off"):
        prepared(tmp_path, rows, "structured", on_invalid="error")


def test_where_takes_calls_by_name_model_time_and_tags(tmp_path):
    calls = [order(number) for number in range(24)]
    calls[0].name, calls[1].model, calls[2].tags, calls[3].time, calls[4].time = "chat", "o1", ("dev",), 1e9, 2e9
    where = {
        "name": "extr*",
        "model": ["gpt-4o*", "gpt-5"],
        "tags": "prod",
        "since": "2026-09-01",
        "until": "2027-01-01T00:00:00",
    }
    found, sheet, _ = prepared(tmp_path, logs.langfuse(calls), "structured", where=where)
    assert len(every(found)) == 19
    left = {f"where.{key}": 1 for key in where}
    assert sheet["sources"][0]["not_asked_for"] == {"no call of a model": 1, **left}
    assert "6 not asked for" in sheet["summary"]


def test_several_models_need_a_word(tmp_path):
    calls = [order(number, model=f"gpt-{number % 2}") for number in range(20)]
    with pytest.raises(DataError, match=r"replies of 2 models \(gpt-0 10, gpt-1 10\).*where: \{model"):
        prepared(tmp_path, logs.litellm(calls), "structured")
    _, sheet, _ = prepared(tmp_path, logs.litellm(calls), "structured", where={"model": "*"})
    assert sheet["traces"]["models"] == {"gpt-0": 10, "gpt-1": 10}


def test_temperatures_are_counted(tmp_path):
    calls = [order(number, temperature=0.7 if number < 5 else 0) for number in range(20)]
    _, sheet, _ = prepared(tmp_path, logs.helicone(calls), "structured")
    assert (sheet["traces"]["sampled"], sheet["traces"]["temperature_unknown"]) == (5, 0)
    _, sheet, _ = prepared(tmp_path, logs.openai(calls), "structured")
    assert (sheet["traces"]["sampled"], sheet["traces"]["temperature_unknown"]) == (0, 20)


def test_feedback_approves_replies(tmp_path):
    calls = [order(number, scores={"correct": number % 2, "other": 1}) for number in range(40)]
    approves = {"gold": "feedback", "feedback": {"score": "correct", "at_least": 1}}
    found, sheet, _ = prepared(tmp_path, logs.helicone(calls), "structured", **approves)
    assert len(every(found)) == 20
    assert sheet["traces"]["gold"] == "feedback"
    assert sheet["sources"][0]["not_asked_for"] == {"feedback below": 20}


def test_langfuse_keeps_scores_apart(tmp_path):
    calls = [order(number) for number in range(40)]
    scores: list[logs.Row] = [
        {"trace_id": calls[at].trace, "observation_id": None, "name": "ok", "value": at % 2, "data_type": "BOOLEAN"}
        for at in range(30)
    ]
    scores += [{"trace_id": calls[2].trace, "observation_id": "obs-o2", "name": "ok", "value": 1}]
    path = logs.write(tmp_path / "scores.jsonl", scores)
    feedback = {"score": "ok", "at_least": 1, "path": str(path)}
    found, sheet, _ = prepared(tmp_path, logs.langfuse(calls), "structured", gold="feedback", feedback=feedback)
    assert len(every(found)) == 16
    left = {"no call of a model": 1, "feedback below": 14, "no feedback": 10}
    assert sheet["sources"][0]["not_asked_for"] == left


def test_repeated_requests_stay_together_and_newer_rows_move_none(tmp_path):
    calls = [order(number % 25, id=f"c{number}", trace=f"t{number}") for number in range(100)]
    found, sheet, _ = prepared(tmp_path / "one", logs.langfuse(calls), "structured")
    rows = every(found)
    assert len(rows) == 25, "copies are one row that stands for all of them"
    assert sum(row.get("weight", 1) for row in rows) == 100
    assert (sheet["traces"]["repeated"], sheet["traces"]["repeated_share"]) == (75, 0.75)
    assert sum(sheet["leaks"]["links"].values()) == 0, "nothing is lost to a split that tears copies apart"
    newer = [order(number, time=1_795_000_000.0) for number in range(15, 60)]
    grown, _, _ = prepared(tmp_path / "two", logs.langfuse([*calls, *newer]), "structured")
    for split, before in found.items():
        assert {row["id"] for row in before} <= {row["id"] for row in grown[split]}


def test_another_answer_to_the_same_request_is_a_row_in_the_same_group(tmp_path):
    calls = [order(number) for number in range(30)]
    other = order(3, id="again", trace="elsewhere")
    other.reply = {**other.reply, "content": '{"item": "stools", "amount": 1}'}
    found, sheet, _ = prepared(tmp_path, logs.langfuse([*calls, other]), "structured")
    (group,) = {row["group"] for row in every(found) if row["messages"] == other.messages}
    assert group
    assert sheet["conflicting_answers"] == 1


def test_sessions_are_groups(tmp_path):
    calls = [order(number, session=f"s{number // 4}") for number in range(80)]
    found, _, _ = prepared(tmp_path, logs.langfuse(calls), "structured")
    groups: dict[str, set[str]] = {}
    for row in every(found):
        number = int(row["messages"][0]["content"].split()[2])
        groups.setdefault(row["group"], set()).add(f"s{number // 4}")
    assert len(groups) == 20
    assert all(len(sessions) == 1 for sessions in groups.values())


def test_an_export_that_overlaps_counts_once(tmp_path):
    calls = [order(number) for number in range(20)]
    found, sheet, _ = prepared(tmp_path, [*logs.langfuse(calls), *logs.langfuse(calls[:5])[1:]], "structured")
    assert sheet["sources"][0]["not_asked_for"]["exported twice"] == 5
    assert all("weight" not in row for row in every(found))


def test_the_newest_traffic_is_the_test(tmp_path):
    day = 86_400.0
    calls = [order(number, time=1_790_000_000.0 + day * number) for number in range(40)]  # from 2026-09-21 on
    calls.append(order(2, id="late", trace="late", time=1_790_000_000.0 + day * 39))
    splits = {"test_from": "2026-10-21", "train": 0.8, "val": 0.2}
    found, sheet, _ = prepared(tmp_path, logs.langfuse(calls), "structured", splits=splits)
    asked = {split: {row["messages"][0]["content"] for row in rows} for split, rows in found.items()}
    new = {call.messages[0]["content"] for call in calls if call.time >= 1_792_540_800}
    assert asked["test"] == new
    assert calls[2].messages[0]["content"] in new
    assert sheet["leaks"]["dropped"] in ({"train": 1, "val": 0}, {"train": 0, "val": 1})
    assert len(asked["train"] | asked["val"]) == 40 - len(new)
    assert sheet["traces"]["test_from"] == "2026-10-21"


def test_a_row_without_a_time_is_counted_where_time_decides(tmp_path, caplog):
    rows = logs.langfuse([order(number) for number in range(20)])
    rows[3]["start_time"], rows[4]["start_time"] = None, "yesterday"
    splits = {"test_from": "2026-01-01", "train": 0.8, "val": 0.2}
    _, sheet, _ = prepared(tmp_path, rows, "structured", splits=splits)
    assert "a larger tracks.t.splits.val, a later splits.test_from, or a source with split: val" in caplog.text
    assert {code: found["rows"] for code, found in sheet["sources"][0]["rejected"].items()} == {"no_time": 1, "time": 1}


def test_what_patterns_match_is_written_nowhere(tmp_path):
    calls = [booking(number, session=f"{number}@example.org") for number in range(20)]
    for call in calls:
        call.messages[-1]["content"] += f" for jane{call.id}@example.org"
        call.reply["tool_calls"][0]["function"]["arguments"] = json.dumps(
            {"seats": 2, "place": f"jane{call.id}@example.org"}
        )
    calls[0].reply["tool_calls"][0]["function"]["name"] = "jane@example.org"
    found, sheet, written = prepared(tmp_path, logs.helicone(calls), "toolcall", redact=[r"[\w.]+@[\w.]+"])
    assert b"@example" not in written
    assert "@example" not in json.dumps({**sheet, "sources": [{**sheet["sources"][0], "settings": None}]})
    assert len(every(found)) == 19
    assert sheet["sources"][0]["rejected"]["unknown_tool"]["rows"] == 1
    assert every(found)[0]["answer"][0]["arguments"]["place"] == "[redacted]"
    assert sheet["traces"]["redacted"] >= 38


def trajectory(number: int, turns: int, *, bad: int | None = None) -> list[Call]:
    """The calls of one agent's run: each asks with everything before it; `bad` is a turn whose tool fails."""
    town = TOWNS[number % len(TOWNS)]
    messages = [
        {"role": "system", "content": "You are a travel agent."},
        {"role": "user", "content": f"Trip {number}: {turns} nights out in {town}, all different"},
    ]
    calls = []
    for at in range(turns):
        last = at == turns - 1
        call = booking(
            number, id=f"{number}-{at}", trace=f"run{number}", time=1_790_000_000.0 + 1000 * number + at, name="agent"
        )
        called = {
            "id": f"call_{number}_{at}",
            "type": "function",
            "function": {"name": "book", "arguments": json.dumps({"seats": at + 1, "place": town})},
        }
        call.messages = list(messages)
        call.reply = {"role": "assistant", "content": None, "tool_calls": [called]}
        if last:
            call.reply = {"role": "assistant", "content": "All is booked."}
        calls.append(call)
        said = '{"error": "full"}' if at == bad else f'{{"ok": "SECRETRESULT{number}-{at}"}}'
        messages += [call.reply, {"role": "tool", "tool_call_id": called["id"], "content": said}]
    return calls


def whole(calls: list[Call]) -> logs.Row:
    """A run as one row of fine-tuning JSONL."""
    return {"messages": [*calls[-1].messages, calls[-1].reply], "tools": calls[-1].tools, "created": int(calls[0].time)}


RUNS = [trajectory(number, 2 + number % 7) for number in range(300)]


@pytest.mark.parametrize("form", ["openai", "otel", "langfuse", "litellm"])
def test_every_turn_of_a_trajectory_is_a_row_in_the_group_of_its_run(tmp_path, form):
    calls = [call for run in RUNS for call in run]
    rows = [whole(run) for run in RUNS] if form == "openai" else logs.LOGS[form](calls)
    found, sheet, _ = prepared(tmp_path, rows, "toolcall")
    assert len(every(found)) == len(calls) == sum(2 + number % 7 for number in range(300))
    by_prompt = {json.dumps(call.messages[1]): call.trace for call in calls}
    groups: dict[str, set[str]] = {}
    for row in every(found):
        groups.setdefault(row["group"], set()).add(by_prompt[json.dumps(row["messages"][1])])
        assert "SECRETRESULT" not in json.dumps(row["answer"])
    assert len(groups) == 300
    assert all(len(runs) == 1 for runs in groups.values())
    of_split = {row["group"]: split for split, rows in found.items() for row in rows}
    assert all(of_split[row["group"]] == split for split, rows in found.items() for row in rows)
    traced = sheet["traces"]
    assert (traced["later_turns"], traced["trajectories"]) == (len(calls) - 300, 300)
    assert 0.5 < traced["prompt_tokens_repeated"] / traced["prompt_tokens"] < 0.95


@pytest.mark.parametrize("form", ["openai", "otel", "langfuse"])
def test_turns_whose_tool_failed_can_be_left_out_or_their_whole_run(tmp_path, form):
    runs = [trajectory(number, 4, bad=1 if number < 10 else None) for number in range(40)]
    rows = [whole(run) for run in runs] if form == "openai" else logs.LOGS[form]([call for run in runs for call in run])
    left = {}
    for policy in ("keep", "turn", "trajectory"):
        found, sheet, _ = prepared(tmp_path / policy, rows, "toolcall", tool_errors=policy)
        assert sheet["traces"]["tool_errors"] == 10
        left[policy] = len(every(found))
    assert left == {"keep": 160, "turn": 150, "trajectory": 120}


def test_turns_that_are_not_to_be_learnt_are_no_rows(tmp_path):
    rows = [whole(trajectory(number, 4)) for number in range(20)]
    for row in rows:
        row["messages"] = [{**turn, "weight": 0} if turn.get("tool_calls") else turn for turn in row["messages"]]
    found, _, _ = prepared(tmp_path, rows, "toolcall")
    assert {json.dumps(row["answer"]) for row in every(found)} == {"[]"}
    assert len(every(found)) == 20


@pytest.mark.parametrize(
    "family", [one for one in FAMILIES if one.name in ("phi-4-mini", "qwen2.5", "llama3.1")], ids=str
)
def test_no_tools_result_is_in_any_label(tmp_path, family):
    """Over token masks: what is learnt of each turn is its own answer, though tools' results stand in the prompt."""
    runs = RUNS if family.name == "phi-4-mini" else RUNS[:42]
    prepared(tmp_path, logs.otel([call for run in runs for call in run]), "toolcall")
    reader, rows, with_results = tokenizer(family), 0, 0
    chat = template.Chat(reader)
    for split in SHARES:
        examples = list(read_examples(tmp_path / f"{split}.out.jsonl"))
        encoded = encode(examples, reader, chat=chat, schema="none", max_length=100_000)
        assert (len(encoded.rows), encoded.refused, encoded.no_answer) == (len(examples), 0, 0)
        for example, row in zip(examples, encoded.rows, strict=True):
            learnt = reader.decode([token for token in row.labels if token != IGNORED])
            read = reader.decode(
                [token for token, label in zip(row.input_ids, row.labels, strict=True) if label == IGNORED]
            )
            rows += 1
            with_results += "SECRETRESULT" in read
            assert "SECRETRESULT" not in learnt
            assert learnt.count('"seats"') == len(example.answer)
            first = next(at for at, label in enumerate(row.labels) if label != IGNORED)
            assert row.labels[first:] == row.input_ids[first:], "one piece at the end has a loss"
    assert rows == sum(map(len, runs))
    assert with_results == rows - len(runs)


def test_what_instrumentations_really_write_is_read(tmp_path):
    """A span as openinference-instrumentation-openai 0.1.66 writes it, and an event of opentelemetry's older conventions."""
    calls = [booking(number) for number in range(20)]
    rows = logs.openinference(calls)
    spans = [span for row in rows for span in row["resourceSpans"][0]["scopeSpans"][0]["spans"]][1:]
    for call, span in zip(calls, spans, strict=True):
        for key, value in (("input.value", call.request()), ("output.value", call.completion())):
            span["attributes"].append({"key": key, "value": {"stringValue": json.dumps(value)}})
        span["attributes"].append({"key": "llm.token_count.prompt", "value": {"intValue": "5"}})
    cut = json.dumps({"choices": [{"message": calls[0].reply, "finish_reason": "length"}]})
    spans[0]["attributes"][-2]["value"] = {"stringValue": cut}
    event = {
        "eventName": "gen_ai.user.message",
        "attributes": [{"key": "gen_ai.system", "value": {"stringValue": "openai"}}],
    }
    rows.append({"resourceLogs": [{"scopeLogs": [{"logRecords": [event]}]}]})
    _, sheet, _ = prepared(tmp_path, rows, "toolcall")
    found = {code: entry["rows"] for code, entry in sheet["sources"][0]["rejected"].items()}
    assert found == {"reply_length": 1, "older_events": 1}


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"prompt": "a", "completion": {"n": 1}}, "not_text"),
        ({"messages": [{"role": "user", "content": "a"}], "answer": {"n": 1}, "trace_id": "t", "type": "x"}, None),
    ],
)
def test_rows_that_somebody_wrote_are_not_taken_for_logs(row, code):
    if code is None:
        assert parse(row, "structured").format == "example"
        return
    with pytest.raises(Unusable) as refused:
        parse(row, "structured")
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1_790_000_000, 1_790_000_000),
        ("1790000000000000000", 1_790_000_000),
        (1_790_000_000_000, 1_790_000_000),
        ("2026-09-21 14:13:20.000+00", 1_790_000_000),
        ("2026-09-21T16:13:20+02:00", 1_790_000_000),
        (None, None),
        *(
            (value, "refused")
            for value in (1e30, "9" * 40, 10**400, -5, True, "0001-01-01T00:00+14:00", "soon", [], {})
        ),
    ],
)
def test_times_of_every_kind(value, seconds):
    if seconds != "refused":
        assert moment(value, "t") == seconds
        return
    with pytest.raises(Unusable, match="is no time"):
        moment(value, "t")


def test_a_logged_reply_whose_calls_are_lost_is_no_abstention():
    """Text that ends because a tool was called, without the call; and the call in the second of two choices."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    words = {"index": 0, "message": {"role": "assistant", "content": "Let me look."}, "finish_reason": "tool_calls"}
    calls = {"index": 1, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}

    def row(*choices):
        asked = {"messages": [{"role": "user", "content": "hi"}], "tools": [tool], "model": "m"}
        return {"id": "x", "object": "chat.completion", **asked, "choices": list(choices)}

    with pytest.raises(Unusable) as lost:
        parse(row(words), "toolcall")
    assert lost.value.code == "reply_call_lost"
    assert parse(row(words, calls), "toolcall").answer == [{"name": "f", "arguments": {"a": 1}}]
    assert parse(row(words | {"finish_reason": "stop"}), "toolcall").answer == []
    written = {"role": "assistant", "content": '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'}
    assert parse(row(words | {"message": written}), "toolcall").answer == [{"name": "f", "arguments": {"a": 1}}]


# --- bodies of other APIs, and answers that look like bodies


def helicone_row(reply: object, **request: object) -> logs.Row:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **request}
    body = {name: value for name, value in body.items() if value is not None}
    return {"request_id": "r", "response_status": 200, "request_body": body, "response_body": json.dumps(reply)}


@pytest.mark.parametrize(
    ("asked", "system"),
    [
        ({"system": "Be brief."}, "Be brief."),
        ({"system": [{"type": "text", "text": "Be brief."}]}, "Be brief."),
        ({"instructions": "Be brief.", "input": "hi", "messages": None}, "Be brief."),
        ({"system": ""}, None),
        ({"system": None}, None),
    ],
)
def test_what_the_system_is_told_beside_the_messages_is_in_the_prompt(asked, system):
    said = {"role": "assistant", "content": '{"n":1}'}
    read = parse(helicone_row(said, **asked), "structured")
    told = [] if system is None else [{"role": "system", "content": system}]
    assert read.messages == [*told, {"role": "user", "content": "hi"}]
    if system is not None:
        with pytest.raises(Unusable, match=r"request_body\.system: expected a text"):
            parse(helicone_row(said, system={"text": "Be brief."}), "structured")


ANTHROPIC = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": '{"n":1}'}]}


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (ANTHROPIC | {"stop_reason": "end_turn"}, {"n": 1}),
        (ANTHROPIC | {"stop_reason": "max_tokens"}, "reply_length"),
        (ANTHROPIC | {"stop_reason": "refusal"}, "reply_content_filter"),
        ({"type": "error", "error": {"type": "overloaded_error"}}, "reply_error"),
        ({"error": {"message": "no", "type": "x"}}, "reply_error"),
        ({"object": "response", "output": [{"type": "message"}]}, "reply_unreadable"),
        ({"object": "chat.completion", "choices": []}, "reply_unreadable"),
        # what a model answered
        ({"value": 3, "error": None}, {"value": 3, "error": None}),
        ({"value": 3, "error": "none seen"}, {"value": 3, "error": "none seen"}),
        ({"question": "Which?", "choices": [{"text": "a"}, {"text": "b"}]}, None),
        ({"choices": [{"message": "a"}]}, None),
        ({"message": {"subject": "s", "content": "c"}, "priority": 1}, None),
        ({"message": {"subject": "s", "content": "c"}}, None),
        ([{"role": "CEO", "name": "Ann"}, {"role": "CTO", "name": "Bob"}], None),
        ([{"role": "user", "name": "Ann"}], None),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": '{"n":1}'}], {"n": 1}),
        ({"message": {"content": '{"n":1}'}}, {"n": 1}),
        ({"message": {"role": "assistant", "content": '{"n":1}'}, "done": True}, {"n": 1}),
    ],
)
@pytest.mark.parametrize("form", ["text", "value"])
def test_an_answer_is_not_taken_for_a_body_nor_a_body_for_an_answer(reply, outcome, form):
    row = {"trace_id": "t", "type": "GENERATION", "model": "m", "input": [{"role": "user", "content": "hi"}]}
    row["output"] = json.dumps(reply) if form == "text" else reply
    if isinstance(outcome, str):
        with pytest.raises(Unusable) as refused:
            parse(row, "structured")
        assert refused.value.code == outcome
    else:
        assert parse(row, "structured").answer == (reply if outcome is None else outcome)


def test_embeddings_are_no_calls(tmp_path):
    rows = logs.helicone([order(number) for number in range(20)])
    listed = {"object": "list", "data": [{"object": "embedding", "embedding": [0.5]}]}
    rows.append(helicone_row(listed, input="hi", messages=None))
    _, sheet, _ = prepared(tmp_path, rows, "structured")
    assert sheet["sources"][0]["not_asked_for"] == {"no call of a model": 1}
    assert not sheet["sources"][0]["rejected"]


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ({"type": "text", "content": "Wake me"}, "Wake me"),
        ({"type": "text", "text": "Wake me"}, "Wake me"),
        ({"type": "text", "content": None}, None),
        ({"type": "text", "content": ["Wake me"]}, None),
        ({"type": "text"}, None),
        ({"type": "tool_call_response", "id": "c", "response": {"ok": 1}}, '{"ok":1}'),
        ({"type": "tool_call_response", "id": "c", "output": "done"}, "done"),
        ({"type": "tool_call_response", "id": "c"}, None),
    ],
)
def test_a_part_without_its_text_is_no_empty_message(part, text):
    message = {"role": "user", "parts": [part]}
    said = {"role": "assistant", "parts": [{"type": "text", "content": "ok"}], "finish_reason": "stop"}
    row = {
        "attributes": {
            "gen_ai.operation.name": "chat",
            "gen_ai.input.messages": json.dumps(
                [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}, message]
            ),
            "gen_ai.output.messages": json.dumps([said]),
        }
    }
    (read,) = [call for _, call in call_records(iter([(1, row)]), named=True, turns="reply")]
    if text is None:
        assert isinstance(read, Unusable)
        assert read.code == "content"
    else:
        assert read.messages[-1]["content"] == text


def test_attributes_that_are_not_read_contradict_nothing(tmp_path):
    rows = logs.openinference_values([order(number) for number in range(20)])
    for row in rows:
        row["attributes"] |= {"user": "ann", "user.id": "7", "http": 1, "http.method": "POST"}
    found, sheet, _ = prepared(tmp_path, rows, "structured")
    assert len(every(found)) == 20
    assert not sheet["sources"][0]["rejected"]


@pytest.mark.parametrize(("details", "code"), [({"reason": "max_output_tokens"}, "reply_length"), (None, None)])
def test_flattened_messages_of_a_response_that_was_cut_are_no_gold(details, code):
    body = {"object": "response", "output": [{"type": "message"}], "incomplete_details": details}
    attributes = {
        "openinference.span.kind": "LLM",
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "hi",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": '{"n":1}',
        "output.value": json.dumps(body),
    }
    if code is None:
        assert parse({"attributes": attributes}, "structured").answer == {"n": 1}
        return
    with pytest.raises(Unusable) as refused:
        parse({"attributes": attributes}, "structured")
    assert refused.value.code == code


def test_a_call_that_failed_and_then_ended_well_counts_once(tmp_path):
    calls = [order(number) for number in range(20)]
    rows = logs.litellm(calls)
    failed = broken("litellm", calls[3], "reply_error")
    found, sheet, _ = prepared(tmp_path, [failed, failed, *rows, rows[4], failed], "structured")
    assert len(every(found)) == 20
    assert sheet["sources"][0]["not_asked_for"] == {"exported twice": 3}
    assert {code: found["rows"] for code, found in sheet["sources"][0]["rejected"].items()} == {"reply_error": 1}


def test_numbers_are_redacted_and_keys_stay_apart(tmp_path):
    calls = [order(number) for number in range(20)]
    for call in calls:
        call.schema = None
        answer = {"card": 4111111111111111, "at": 17, "paid": True, "a@x.de": 1, "b@x.de": 2}
        call.reply = {"role": "assistant", "content": json.dumps(answer)}
    found, _, written = prepared(tmp_path, logs.helicone(calls), "structured", redact=[r"\d{16}", r"\w@x\.de"])
    assert b"4111111111111111" not in written
    answer = every(found)[0]["answer"]
    assert (answer["card"], answer["at"], answer["paid"]) == ("[redacted]", 17, True)
    assert sorted(value for key, value in answer.items() if key.startswith("[redacted]")) == [1, 2]
