"""The simulated teacher: real protocol, answers by content, mistakes at the stated rate."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from fledgling.teacher.ask import ask
from fledgling.teacher.requests import Teacher
from fledgling.teacher.simulated import mistaken, wrong_value

TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}},
    }
    for name in ("one", "two")
]


def calls(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"r{n}",
            "group": f"g{n}",
            "messages": [{"role": "user", "content": f"do {n}"}],
            "tools": TOOLS,
            "answer": [{"name": "one", "arguments": {"a": f"value {n}"}}] if n % 5 else [],
        }
        for n in range(count)
    ]


def records(count: int) -> list[dict[str, Any]]:
    schema = {"type": "object"}
    return [
        {
            "id": f"r{n}",
            "group": f"g{n}",
            "messages": [{"role": "user", "content": f"give {n}"}],
            "schema": schema,
            "answer": {"n": n, "ok": True, "name": f"some name {n}", "tags": ["x"], "inner": {"deep": None}},
        }
        for n in range(count)
    ]


def run(folder: Path, rows: list[dict[str, Any]], name: str = "out", **simulated: float) -> list[dict[str, Any]]:
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    teacher = Teacher.of({"provider": "simulated", "model": "sim", "concurrency": 4, "simulated": simulated})
    out = folder / f"{name}.jsonl"
    ask(data=data, teacher=teacher, prompt={}, journal=folder / f"journal-{name}", out=out, backoff_base_s=0.01)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("latency_s", "in_flight")} for row in found]


def right(row: dict[str, Any], prediction: dict[str, Any]) -> bool:
    if "schema" in row:
        return json.loads(prediction["raw"]) == row["answer"]
    said = [call["function"] for call in prediction["tool_calls"] or []]
    return [{"name": call["name"], "arguments": json.loads(call["arguments"])} for call in said] == row["answer"]


@pytest.mark.parametrize("make", [calls, records])
def test_without_mistakes_the_gold_comes_back(tmp_path: Path, make: Any) -> None:
    rows = make(20)
    predictions = run(tmp_path, rows)
    assert all(right(row, prediction) for row, prediction in zip(rows, predictions, strict=True))
    assert all("simulated" in prediction["model"] for prediction in predictions)
    assert all(prediction["usage"]["prompt_tokens"] > 5 for prediction in predictions)


@pytest.mark.parametrize("make", [calls, records])
def test_mistakes_come_at_the_stated_rate_and_do_not_depend_on_the_order(tmp_path: Path, make: Any) -> None:
    rows = make(150)
    predictions = run(tmp_path, rows, error_rate=0.2)
    wrong = sum(not right(row, prediction) for row, prediction in zip(rows, predictions, strict=True))
    assert 18 <= wrong <= 42
    assert run(tmp_path, rows[::-1], "reversed", error_rate=0.2, rate_429=0.2) == predictions[::-1]


def test_another_rate_or_another_gold_is_another_request(tmp_path: Path) -> None:
    rows = calls(3)
    first = run(tmp_path, rows)
    assert run(tmp_path, rows, error_rate=1.0) != first
    changed = [row | {"answer": [{"name": "two", "arguments": {}}]} for row in rows]
    assert [row["tool_calls"][0]["function"]["name"] for row in run(tmp_path, changed)] == ["two"] * 3


def test_filtered_rows_are_an_outcome(tmp_path: Path) -> None:
    outcomes = [row["outcome"] for row in run(tmp_path, calls(100), content_filter_rate=0.3)]
    assert 15 <= outcomes.count("content_filter") <= 45


@pytest.mark.parametrize("seed", range(60))
def test_a_mistake_is_a_mistake(seed: int) -> None:
    values: list[Any] = [{"a": 1, "b": "two words", "c": [], "d": None, "e": {"f": 1.5}}, {}, [], [{"a": 1}, 2]]
    for value in values:
        assert wrong_value(value, random.Random(seed)) != value
        assert wrong_value(value, random.Random(seed)) == wrong_value(value, random.Random(seed))
    answers: list[Any] = [
        [],
        [{"name": "one", "arguments": {}}],
        [{"name": "one", "arguments": {"a": "x"}}, {"name": "two", "arguments": {"a": ""}}],
    ]
    for answer in answers:
        assert mistaken(answer, TOOLS, random.Random(seed)) != answer
        assert mistaken(answer, [], random.Random(seed)) != answer
        assert mistaken(answer, TOOLS, random.Random(seed)) == mistaken(answer, TOOLS, random.Random(seed))
