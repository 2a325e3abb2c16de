"""Mutated rows of every format through prepare and score: no traceback, every reject named, all that is taken can be won.

FLEDGLING_FUZZ=10000 python -m pytest tests/unit/test_fuzz_rows.py    rows of each format instead of a few hundred
"""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fledgling import strict_json
from fledgling.data.prepare import prepare
from fledgling.errors import DataError
from fledgling.records import Prediction, read_examples
from fledgling.score import score
from fledgling.tracks.registry import kind

ROWS = int(os.environ.get("FLEDGLING_FUZZ", "200"))
PARAMETERS = {
    "type": "object",
    "properties": {
        "seats": {"type": "integer"},
        "when": {"type": ["string", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["seats"],
}
TOOLS = [{"type": "function", "function": {"name": "book", "description": "Book.", "parameters": PARAMETERS}}]
CALL = {"name": "book", "arguments": {"seats": 2, "tags": ["a", "b"]}}
NATIVE = {"id": "c", "type": "function", "function": {"name": "book", "arguments": json.dumps(CALL["arguments"])}}
ASK = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Two seats in the old harbour, please"}]
TURNS = [
    {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    {"role": "assistant", "content": None, "tool_calls": [NATIVE]},
    {"role": "tool", "tool_call_id": "c", "content": "full"},
    *ASK[1:],
]
SCHEMA = {
    "title": "order",
    "type": "object",
    "properties": {"n": {"type": "integer"}, "deep": {"$ref": "#/$defs/d"}},
    "$defs": {"d": {"type": "array", "items": {"$ref": "#/$defs/d"}}},
}
WANTED = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "example": (
        "toolcall",
        {
            "id": "a",
            "group": "g",
            "messages": TURNS,
            "tools": TOOLS,
            "answer": [CALL, CALL],
            "allowed": [{"name": "book", "arguments": {"seats": [2], "when": ["", "now"], "tags": [["a", "b"]]}}] * 2,
            "weight": 2,
        },
    ),
    "records": ("structured", {"id": "a", "messages": ASK, "schema": SCHEMA, "answer": {"n": 1, "deep": [[], [[]]]}}),
    "arrays": ("structured", {"messages": ASK, "answer": [{"n": 1}, 2, None]}),
    "openai": (
        "toolcall",
        {
            "messages": [*TURNS, {"role": "assistant", "content": None, "tool_calls": [NATIVE, NATIVE]}],
            "tools": TOOLS,
            "parallel_tool_calls": True,
        },
    ),
    "openai text": (
        "toolcall",
        {
            "messages": [*ASK, {"role": "assistant", "content": f"<tool_call>{json.dumps(CALL)}</tool_call>"}],
            "functions": [TOOLS[0]["function"]],
        },
    ),
    "sharegpt": (
        "toolcall",
        {
            "system": "Be brief",
            "conversations": [
                {"from": "human", "value": "Two seats in the old harbour"},
                {"from": "function_call", "value": json.dumps(CALL)},
                {"from": "observation", "value": "full"},
                {"from": "human", "value": "Then another"},
                {"from": "gpt", "value": f"<tool_call>{json.dumps(CALL)}</tool_call>"},
            ],
            "tools": json.dumps([TOOLS[0]["function"]]),
        },
    ),
    "parts": (
        "toolcall",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Two seats"}]},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t", "name": "book", "input": {"seats": 1}}],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "full"}]},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "u", "name": "book", "input": {"seats": 2}}],
                },
            ],
            "tools": [{"name": "book", "input_schema": PARAMETERS}],
        },
    ),
    "openai records": (
        "structured",
        {"messages": [*ASK, {"role": "assistant", "content": '{"n": 1}'}], "response_format": json.dumps(WANTED)},
    ),
    "prompt": (
        "toolcall",
        {"prompt": "Two seats in the old harbour", "completion": json.dumps([CALL]), "tools": json.dumps(TOOLS)},
    ),
    "prompt records": ("structured", {"prompt": ASK, "completion": '{"n": 1}', "schema": json.dumps(SCHEMA)}),
    "xlam": (
        "toolcall",
        {
            "id": 7,
            "query": "Two seats in the old harbour",
            "tools": json.dumps(
                [{"name": "book", "parameters": {"seats": {"type": "int"}, "tags": {"type": "List[str], optional"}}}]
            ),
            "answers": json.dumps([CALL]),
        },
    ),
    "bfcl": (
        "toolcall",
        {
            "id": "b",
            "messages": ASK,
            "tools": TOOLS,
            "answers": [{"name": "book", "arguments": {"seats": [2, 3], "when": ["", None]}}],
            "gold": [{"name": "book", "arguments": {"seats": 2}}],
        },
    ),
    "bfcl published": (
        "toolcall",
        {
            "id": "b",
            "question": [ASK],
            "function": [
                {
                    "name": "a.book",
                    "parameters": {"type": "dict", "properties": {"seats": {"type": "float"}}, "required": ["seats"]},
                }
            ],
            "ground_truth": [{"a.book": {"seats": [2.5, ""]}}],
        },
    ),
}
STRANGE: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    1e308,
    10**400,
    -0.0,
    2**63,
    "",
    " ",
    "a",
    "\u200b",
    "é" * 50,
    "日本語",
    "\ud83d",
    "😀",
    "\x00",
    "\u2028",
    "[]",
    "{}",
    "[",
    "null",
    '"x"',
    "1e999",
    "<tool_call>",
    "```json\n{",
    "book(seats=2)",
    '{"name": "book", "arguments": {}}',
    "../x.json",
    "#/$defs/d",
    [],
    {},
    [None],
    [[]],
    {"": 1},
    {"a": {"b": [1, {"c": None}]}},
    {"$ref": "#"},
    {"$ref": "../x.json"},
    {"type": "object"},
    {"type": 5},
    {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    {"name": "book"},
    {"name": "book", "arguments": {"seats": None}},
    [CALL],
    CALL,
    NATIVE,
    "string",
    "assistant",
    "user",
]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) inside a value."""
    stack = [value]
    while stack:
        node = stack.pop()
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            yield node, key
            if isinstance(node[key], (dict, list)):
                stack.append(node[key])


def decoded(value: Any, change: Callable[[Any], Any]) -> Any:
    """A text that is JSON, changed inside; another text cut or repeated."""
    try:
        return json.dumps(change(json.loads(value)))
    except (ValueError, TypeError):
        return value


def mutated(row: Any, rng: random.Random) -> Any:
    row = json.loads(json.dumps(row))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        found = list(places(row))
        if not found:
            break
        node, key = rng.choice(found)
        action = rng.randrange(9)
        if action == 0 and isinstance(node, dict):
            del node[key]
        elif action == 1 and isinstance(node, dict):
            node[
                rng.choice(["id", "extra", "", "é", "answer", "answers", "tools", "weight", "group", "\ud83d", key])
            ] = node.pop(key)
        elif action == 2:
            node[key] = [node[key]] if rng.random() < 0.5 else {str(key): node[key]}
        elif action == 3 and isinstance(node, list):
            node.insert(key, json.loads(json.dumps(node[key])))
        elif action == 4 and isinstance(node, list):
            del node[key]
        elif action == 5 and isinstance(node[key], str):
            text = node[key]
            cut = rng.randrange(len(text) + 1)
            node[key] = rng.choice(
                [
                    text[:cut],
                    text[cut:],
                    text * 2,
                    text + "\u200b",
                    text[:cut] + "\ud800" + text[cut:],
                    decoded(text, lambda value: mutated(value, rng) if isinstance(value, (dict, list)) else value),
                ]
            )
        elif action == 6:
            deep: Any = node[key]
            for _ in range(rng.choice((3, 60, 126))):
                deep = [deep] if rng.random() < 0.5 else {"d": deep}
            node[key] = deep
        else:
            node[key] = json.loads(json.dumps(rng.choice(STRANGE)))
    return row


def perfect(example: Any, name: str) -> list[Prediction]:
    """The gold as replies, in the forms that contenders answer in."""
    answer = example.answer
    if name == "toolcall" and answer is None:
        answer = [{"name": example.tools[0]["function"]["name"], "arguments": {}}] if example.tools else [CALL]
    replies = [Prediction(example.id, "ok", raw=strict_json.dumps(answer))]
    if name == "toolcall" and answer:
        functions = [{"name": call["name"], "arguments": strict_json.dumps(call["arguments"])} for call in answer]
        replies.append(Prediction(example.id, "ok", tool_calls=[{"function": function} for function in functions]))
    return replies


@pytest.mark.parametrize("name", FORMATS)
def test_rows_are_refused_with_place_and_reason_or_can_be_won(name: str, tmp_path: Path) -> None:
    track_kind, row = FORMATS[name]
    rng = random.Random(f"rows of {name}")
    path = tmp_path / "rows.jsonl"
    with open(path, "w") as stream:
        stream.write(json.dumps(row) + "\n")
        for _ in range(ROWS):
            line = json.dumps(mutated(row, rng))
            if rng.random() < 0.02:
                line = line[: rng.randrange(len(line))]
            stream.write(line + "\n")
    source = {"path": str(path), "split": "test", "on_invalid": "reject"}
    outputs = {split: tmp_path / f"{split}.jsonl" for split in ("train", "val", "test")}
    sheet = prepare({"kind": track_kind, "sources": [source]}, 1, name="t", outputs=outputs)
    counts = sheet["sources"][0]["rows"]
    assert counts["read"] == counts["rejected"] + counts["duplicates"] + counts["used"]
    assert counts["used"] > 0
    assert counts["rejected"] > ROWS / 20
    for code, found in sheet["sources"][0]["rejected"].items():
        for message in found["first"]:
            assert message.startswith(f"{path}:"), (code, message)
            assert message.split(":", 2)[1].isdecimal()
            assert len(message.split(":", 2)[2].strip()) > 10
    scorer = kind(track_kind)
    for example in read_examples(outputs["test"]):
        for reply in perfect(example, track_kind):
            scored = scorer.score(example, reply)
            assert all(value == 1 for metric, value in scored.scores.items() if metric != "abstain_rate"), example
            assert scored.reason is None


@pytest.mark.parametrize("name", FORMATS)
def test_files_by_hand_are_scored_or_refused_with_their_line(name: str, tmp_path: Path) -> None:
    track_kind, row = FORMATS[name]
    rng = random.Random(f"files of {name}")
    reply = {
        "id": "a",
        "outcome": "ok",
        "raw": json.dumps([CALL]),
        "tool_calls": [NATIVE],
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
        "latency_s": 0.5,
        "model": "m",
        "fingerprint": "f",
        "request": "r",
    }
    data, predictions = tmp_path / "data.jsonl", tmp_path / "predictions.jsonl"
    scored = 0
    for _ in range(max(20, ROWS // 5)):
        data.write_text(json.dumps(mutated(row | {"id": "a"}, rng) if rng.random() < 0.6 else row | {"id": "a"}) + "\n")
        predictions.write_text(json.dumps(mutated(reply, rng) if rng.random() < 0.6 else reply) + "\n")
        refusal, metrics = "", None
        try:
            metrics = score(data, predictions, track_kind, tmp_path / "out.json", tmp_path / "out.jsonl")
        except DataError as error:
            refusal = str(error)
        if metrics is None:
            assert refusal.startswith((f"{data}:1", f"{predictions}:1"))
            continue
        scored += 1
        assert metrics["n"] == 1
        assert all(0 <= rate["value"] <= 1 for rate in metrics["metrics"].values())
    assert scored > 0
