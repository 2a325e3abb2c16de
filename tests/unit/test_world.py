"""The generated world: stable rows, valid answers, and conventions that matter."""

import json
import subprocess
import sys
from collections import Counter
from random import Random

import jsonschema_rs
import pytest

from fledgling.embedded import world
from fledgling.records import Example

KINDS = ("toolcall", "structured")


def rows(kind: str, count: int = 400, seed: int = 7, house: float = 0.8) -> list[Example]:
    return [Example(**row) for row in world.generate(kind, count, seed, house)]


@pytest.mark.parametrize("kind", KINDS)
def test_more_rows_move_none(kind: str) -> None:
    few, many = rows(kind, 30), rows(kind, 60)
    assert many[:30] == few
    assert len({row.id for row in many}) == 60


@pytest.mark.parametrize("kind", KINDS)
def test_seed_and_house_share_change_the_rows(kind: str) -> None:
    assert rows(kind, 20, seed=7) != rows(kind, 20, seed=8)
    assert rows(kind, 20, house=0.0) != rows(kind, 20, house=1.0)


def test_the_same_on_every_run_and_without_torch() -> None:
    program = (
        "import json, sys; from fledgling.embedded.world import generate;"
        "print(json.dumps([list(generate(k, 40, 3)) for k in ('toolcall', 'structured')]));"
        "assert not {'torch', 'numpy', 'transformers'} & set(sys.modules)"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1
    assert json.loads(texts.pop())[0][0] == next(iter(world.generate("toolcall", 1, 3)))


def test_calls_fit_the_offered_tools() -> None:
    calls = Counter(len(row.answer) for row in rows("toolcall"))
    assert 0.03 < calls[0] / 400 < 0.1
    assert set(calls) == {0, 1}
    for row in rows("toolcall"):
        tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row.tools or []}
        assert len(tools) == world.OFFERED
        for call in row.answer:
            schema = tools[call["name"]]
            assert set(schema["required"]) == set(schema["properties"])
            jsonschema_rs.validate(schema, call["arguments"])


def test_every_tool_and_record_is_asked_for() -> None:
    names = {call["name"] for row in rows("toolcall") for call in row.answer}
    assert names == {tool.name for tool in world.TOOLS}
    assert {row.schema["title"] for row in rows("structured")} == {record.name for record in world.RECORDS}


def test_records_fit_their_schemas() -> None:
    for row in rows("structured"):
        assert row.schema["additionalProperties"] is False
        jsonschema_rs.validate(row.schema, row.answer)


@pytest.mark.parametrize("kind", KINDS)
def test_one_request_has_one_group_and_one_answer(kind: str) -> None:
    asked: dict[str, set[str]] = {}
    groups: dict[str, str] = {}
    for row in rows(kind, 3000):
        text = row.messages[-1]["content"]
        asked.setdefault(text, set()).add(json.dumps(row.answer))
        assert groups.setdefault(row.group, text) == text
    assert all(len(answers) == 1 for answers in asked.values())
    assert len(groups) == len(asked) < 3000


@pytest.mark.parametrize("kind", KINDS)
def test_house_share_is_a_share(kind: str) -> None:
    assert all(row.category == "plain" for row in rows(kind, house=0.0))
    assert Counter(row.category for row in rows(kind))["house"] > 200


@pytest.mark.parametrize("task", world.TOOLS + world.RECORDS, ids=lambda task: task.name)
def test_only_conventions_tell_right_from_generic(task: world.Task) -> None:
    random = Random(1)
    assert all(request.values == request.generic for request in (task.draw(random, False) for _ in range(50)))
    house = [task.draw(random, True) for _ in range(50)]
    wrong = sum(request.values != request.generic for request in house)
    assert all(request.house for request in house) is (wrong > 0)
    assert wrong == 0 or wrong >= 20
