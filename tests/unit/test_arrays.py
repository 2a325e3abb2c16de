"""Answers that are arrays, through every stage: asked for by name, taught, answered, floored and scored as any JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from fledgling.data.prepare import prepare
from fledgling.prompting import template
from fledgling.prompting.turns import messages
from fledgling.records import Example, Prediction, read_examples
from fledgling.slm.guides import Guides
from fledgling.teacher.ask import ask
from fledgling.teacher.requests import Endpoint, Teacher, request
from fledgling.tracks.declared import described
from fledgling.tracks.floors import FLOORS, answers
from fledgling.tracks.registry import kind
from tests.unit.families import FAMILIES, tokenizer

ANSWERS: dict[str, Any] = {
    "objects": [{"item": "kelp", "n": 3}, {"item": "tea", "n": None}],
    "none": [],
    "numbers": [1, 2.5],
    "nested": [[1], [], [{"a": []}]],
    "like calls": [{"name": "book", "arguments": {"seats": 2}}],
}
SCHEMA = {"type": "array", "items": {"type": "object", "properties": {"item": {"type": "string"}}}}
ENDPOINT = Endpoint("h", "d")


def prepared(folder: Path, *rows: dict[str, Any], **more: Any) -> list[Example]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outputs = {split: folder / f"{split}.jsonl" for split in ("train", "val", "test")}
    track = {"kind": "structured", "sources": [{"path": str(path), "split": "test"}]} | more
    prepare(track, 1, name="t", outputs=outputs)
    return list(read_examples(outputs["test"]))


@pytest.fixture(params=ANSWERS)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Example:
    row = {"id": "r", "messages": [{"role": "user", "content": "Give what is asked"}], "answer": ANSWERS[request.param]}
    return prepared(tmp_path, row)[0]


def test_the_prompt_asks_for_what_the_schema_asks_for() -> None:
    for schema, noun in (
        (SCHEMA, "array"),
        ({"type": "object"}, "object"),
        ({"type": ["object", "null"]}, "object"),
        ({"properties": {"a": {}}, "required": ["a"]}, "object"),
        ({"items": {"type": "string"}}, "array"),
        ({"$ref": "#/$defs/a", "$defs": {"a": SCHEMA}}, "array"),
        ({"anyOf": [SCHEMA, {"type": "object"}]}, "value"),
        ({}, "value"),
        (True, "value"),
    ):
        row = Example("r", "g", [{"role": "user", "content": "go"}], [], schema=schema)
        assert messages(row, "system")[0]["content"].startswith(f"Answer with one JSON {noun} that matches")
        assert described(schema) == noun


def test_gold_scores_as_text_and_its_fence_by_the_lenient_reading(example: Example) -> None:
    for raw, strict in ((json.dumps(example.answer), 1), (f"```json\n{json.dumps(example.answer)}\n```", 0)):
        scored = kind("structured").score(example, Prediction("r", "ok", raw=raw))
        assert set(scored.scores.values()) == {strict}
        assert set(scored.lenient.values()) == {1}
    wrong = kind("structured").score(example, Prediction("r", "ok", raw='{"item": "kelp"}'))
    assert wrong.scores["schema_valid_rate"] == wrong.scores["exact_match_rate"] == 0


@pytest.mark.parametrize("name", ["phi-4-mini", "qwen2.5", "mistral-nemo"])
def test_it_is_taught_and_guided_as_what_it_is(example: Example, name: str) -> None:
    chat = template.Chat(tokenizer(next(family for family in FAMILIES if family.name == name)))
    assert "one JSON array" in chat.prompt(example, schema="system")
    assert json.loads(chat.completion(example, schema="system").text) == example.answer
    guide = Guides(chat).guide(example)
    assert guide is not None
    assert "tool_call" not in guide


def test_the_simulated_teacher_answers_it_and_errs_on_it(tmp_path: Path) -> None:
    rows = [
        {"id": name, "messages": [{"role": "user", "content": f"Give {name}"}], "answer": answer}
        for name, answer in ANSWERS.items()
    ]
    examples = prepared(tmp_path, *rows)
    for rate in (0.0, 1.0):
        teacher = Teacher.of({"provider": "simulated", "simulated": {"error_rate": rate}})
        out = tmp_path / "out.jsonl"
        ask(data=tmp_path / "test.jsonl", teacher=teacher, prompt={}, journal=tmp_path / "journal", out=out)
        said = {row["id"]: row for row in map(json.loads, out.read_text().splitlines())}
        for example in examples:
            assert (json.loads(said[example.id]["raw"]) == example.answer) == (rate == 0)
            assert said[example.id]["tool_calls"] is None


def test_a_server_is_not_made_to_answer_an_object(example: Example) -> None:
    teacher = Teacher.of({"provider": "openai", "model": "m", "response_format": "json_object"})
    assert "response_format" not in request(example, teacher, ENDPOINT, {}).body
    record = Example("r", "g", example.messages, {"a": 1}, schema={"type": "object"})
    assert request(record, teacher, ENDPOINT, {}).body["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("floor", FLOORS)
def test_floors_answer_arrays(floor: str) -> None:
    schema = {"items": {"enum": ["tea", "kelp"]}}
    row = Example("r", "g", [{"role": "user", "content": "kelp, please"}], ["kelp"], schema=schema)
    said = json.loads(next(answers(floor, "structured", [], [row])).raw or "")
    assert said == (["kelp"] if floor == "echo" else [])


def test_calls_have_the_schemas_of_their_tools_and_no_other(tmp_path: Path) -> None:
    """A response_format says how words look where no tool is called: it is no schema of the calls."""
    tools = [{"type": "function", "function": {"name": "book", "parameters": {"type": "object", "properties": {}}}}]
    called = [{"type": "function", "function": {"name": "book", "arguments": "{}"}}]
    row = {
        "messages": [{"role": "user", "content": "Book"}, {"role": "assistant", "tool_calls": called}],
        "tools": tools,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
    }
    (example,) = prepared(tmp_path, row, kind="toolcall")
    assert example.schema is None
    assert not example.is_json
    chat = template.Chat(tokenizer(next(family for family in FAMILIES if family.name == "phi-4-mini")))
    assert chat.completion(example).text == '<|tool_call|>[{"name":"book","arguments":{}}]<|/tool_call|>'
