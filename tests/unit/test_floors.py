"""Answers that need no model."""

import json

import pytest

from fledgling import schema as json_schema
from fledgling.errors import UsageError
from fledgling.files import read_jsonl
from fledgling.records import Example
from fledgling.tracks.floors import FLOORS, answers
from fledgling.tracks.registry import kind
from fledgling.tracks.toolcall import parse_calls

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "nights": {"type": "integer"},
        "price": {"type": ["null", "number"]},
        "board": {"enum": ["none", "full", "half"]},
        "wifi": {"type": "boolean"},
        "extras": {"type": "array", "items": {"enum": ["pool", "bar"]}},
        "guest": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    },
    "required": ["city", "nights", "board", "guest"],
}
SAID = "3 nights in Lima for 99.5, half board, with a pool"


def tool(name, description="", **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    tool("get_weather", "Weather of a city", city={"type": "string"}),
    tool("book", "Book some nights", nights={"type": "integer"}),
]


def ask(answer, said=SAID, **fields):
    return Example("1", "1", [{"role": "system", "content": "s"}, {"role": "user", "content": said}], answer, **fields)


def floor(name, track_kind, train, example):
    (prediction,) = answers(name, track_kind, train, [example])
    assert (prediction.outcome, prediction.model, prediction.usage) == ("ok", f"floor-{name}", {})
    return json.loads(prediction.raw)


def test_structured():
    train = [ask({"city": city}, schema=SCHEMA) for city in ("Rome", "Lima", "Lima", "Rome", "Bern", "Lima")]
    train.append(ask({"x": 1}, schema={"title": "other"}))
    row = ask({}, schema=SCHEMA)
    echo = floor("echo", "structured", train, row)
    assert echo == {
        "city": SAID,
        "nights": 3,
        "price": 3,
        "board": "half",
        "wifi": True,
        "extras": ["pool"],
        "guest": {"name": SAID},
    }
    assert floor("frequent", "structured", train, row) == {"city": "Lima"}
    assert floor("frequent", "structured", train, ask({}, schema={"title": "other"})) == {"x": 1}
    empty = floor("empty", "structured", train, row)
    assert empty == {"city": "", "nights": 0, "board": "none", "guest": {"name": ""}}
    assert json_schema.compiled(SCHEMA).valid(echo)
    assert json_schema.compiled(SCHEMA).valid(empty)


def test_toolcall():
    calls = [{"name": "get_weather", "arguments": {"city": "Lima"}}]
    train = [ask(calls, tools=TOOLS)] * 3 + [ask([], tools=TOOLS)] * 2 + [ask([{"name": "gone", "arguments": {}}])] * 4
    row = ask([], tools=TOOLS)
    assert floor("echo", "toolcall", train, row) == [{"name": "book", "arguments": {"nights": 3}}]
    assert floor("echo", "toolcall", train, ask([], "weather?", tools=TOOLS)) == [
        {"name": "get_weather", "arguments": {"city": "weather?"}}
    ]
    assert floor("frequent", "toolcall", train, row) == calls
    assert floor("frequent", "toolcall", train, ask([], tools=TOOLS[1:])) == []
    assert floor("empty", "toolcall", train, row) == [{"name": "get_weather", "arguments": {}}]
    assert floor("empty", "toolcall", train, ask([], tools=TOOLS[1:])) == [{"name": "book", "arguments": {}}]
    assert floor("empty", "toolcall", [ask([])] * 3 + train[:2], row) == []


@pytest.mark.parametrize("name", FLOORS)
def test_nothing_to_learn_from(name):
    for example in (ask([]), ask([], tools=TOOLS), ask(None, tools=[])):
        floor(name, "toolcall", [], example)
    for schema in (None, True, {}, {"properties": {"a": {}}, "required": ["a", "b"]}, SCHEMA):
        assert isinstance(floor(name, "structured", [], ask({}, schema=schema)), dict)


def test_an_unknown_floor_is_refused():
    with pytest.raises(UsageError, match="'ceiling'"):
        list(answers("ceiling", "toolcall", [], []))


@pytest.mark.parametrize("name", FLOORS)
def test_floors_answer_real_rows_and_are_far_from_right(shared_data, name):
    def read(split):
        for number, (_, row) in enumerate(read_jsonl(shared_data / "toolcall" / f"sgd_{split}.jsonl")):
            yield Example(
                str(number), "1", row["messages"], row["gold"], tools=row["tools"], allowed=row["answers"] or None
            )

    test = list(read("test"))
    predictions = list(answers(name, "toolcall", read("train"), iter(test)))
    assert predictions == list(answers(name, "toolcall", read("train"), iter(test)))
    assert all(parse_calls(prediction.raw) is not None for prediction in predictions)
    right = [kind("toolcall").score(a, b).scores["ast_match_rate"] for a, b in zip(test, predictions, strict=True)]
    assert 0 < sum(right) / len(right) < 0.4
