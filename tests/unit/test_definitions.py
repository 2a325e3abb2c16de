"""Tool definitions of every common form: read as OpenAI's, so that gold of each scores 1 against itself."""

import json

import pytest

from fledgling.data.calls import call
from fledgling.data.definitions import tools
from fledgling.data.formats import parse
from fledgling.data.invalid import Unusable
from fledgling.data.python_types import annotated
from fledgling.data.validate import check
from fledgling.records import Example, Prediction
from fledgling.tracks.declared import declared, item_types, types
from fledgling.tracks.registry import kind

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
OPENAI = {"type": "function", "function": {"name": "f", "description": "Does.", "parameters": SCHEMA}}
ASK = [{"role": "user", "content": "How is Oslo?"}]


@pytest.mark.parametrize(
    "given",
    [
        OPENAI,
        OPENAI["function"],
        {"type": "function", **OPENAI["function"]},
        {"name": "f", "description": "Does.", "inputSchema": SCHEMA},
        {"name": "f", "description": "Does.", "input_schema": SCHEMA},
        {"name": "f", "description": "Does.", "parametersJsonSchema": SCHEMA},
        {"functionDeclarations": [{"name": "f", "description": "Does.", "parameters": SCHEMA}]},
        {"toolSpec": {"name": "f", "description": "Does.", "inputSchema": {"json": SCHEMA}}},
        {"name": "f", "description": "Does.", "parameter_definitions": {"city": {"type": "str", "required": True}}},
        {"name": "f", "description": "Does.", "parameters": {"city": {"type": "str"}}},
        {"name": "f", "description": "Does.", "parameters": {"city": "str"}},
        {"name": "f", "description": "Does.", "parameters": [{"name": "city", "type": "string", "required": True}]},
        {"name": "f", "description": "Does.", "parameters": json.dumps(SCHEMA)},
        {"type": "function", "function": json.dumps(OPENAI["function"])},
        json.dumps(OPENAI),
        {
            "name": "f",
            "description": "Does.",
            "parameters": {"type": "dict", "properties": {"city": {"type": "STRING"}}, "required": ["city"]},
        },
        {
            "name": "f",
            "description": "Does.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "required": True}}},
        },
        {
            "name": "f",
            "description": "Does.",
            "strict": None,
            "parameters": SCHEMA | {"properties": SCHEMA["properties"] | {"other": None}, "enum": None},
        },
    ],
)
def test_forms_of_one_tool_are_one(given):
    assert tools([given]) == [OPENAI]
    assert tools(json.dumps([given])) == [OPENAI]


def test_what_says_nothing_keeps_saying_nothing():
    assert tools([{"name": "f"}]) == [{"type": "function", "function": {"name": "f"}}]
    assert tools([{"name": "f", "parameters": {}}])[0]["function"]["parameters"] == {}
    assert tools(None) is None
    assert tools([]) == []


def test_nulls_that_mean_null_stay():
    schema = {
        "properties": {"a": {"type": ["string", "null"], "default": None, "enum": ["x", None]}, "b": {"const": None}}
    }
    assert tools([{"name": "f", "parameters": schema}])[0]["function"]["parameters"] == schema


def test_a_parameter_may_be_called_like_a_keyword():
    flat = {"type": {"type": "str"}, "properties": {"type": "dict"}, "required": {"type": "bool", "default": True}}
    assert tools([{"name": "f", "parameters": flat}])[0]["function"]["parameters"] == {
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "properties": {"type": "object"},
            "required": {"type": "boolean", "default": True},
        },
        "required": ["type", "properties"],
    }


@pytest.mark.parametrize("given", [5, [5], [{}], [{"name": ""}], [{"name": 5}], [{"function": 5}], "{", ["{"], [None]])
def test_what_is_no_tool_is_refused_with_its_key(given):
    with pytest.raises(Unusable, match="tools"):
        tools(given)


@pytest.mark.parametrize(
    ("text", "schema", "optional"),
    [
        ("str", {"type": "string"}, False),
        ("str, optional", {"type": "string"}, True),
        ("str, optional, default 'x'", {"type": "string", "default": "x"}, True),
        ("str, default='x, y'", {"type": "string", "default": "x, y"}, True),
        ("int, default is 5", {"type": "integer", "default": "is 5"}, True),
        ("int, optional, defaults to 5", {"type": "integer", "default": 5}, True),
        ("int = 5", {"type": "integer", "default": 5}, True),
        ("float (optional)", {"type": "number"}, True),
        ("int | None", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, True),
        ("int or float", {"anyOf": [{"type": "integer"}, {"type": "number"}]}, False),
        ("Optional[List[str]]", {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]}, True),
        ("list of str", {"type": "array", "items": {"type": "string"}}, False),
        ("Literal['a', 'b,c']", {"enum": ["a", "b,c"]}, False),
        ("typing.List[int]", {"type": "array", "items": {"type": "integer"}}, False),
        ("Callable[[float], float]", {}, False),
        ("", {}, False),
        ("date", {}, False),
    ],
)
def test_types_as_data_sets_write_them(text, schema, optional):
    assert annotated(text) == (schema, optional)


def gold(parameters, arguments, allowed=None):
    row = {"id": "r", "messages": ASK, "tools": [{"name": "f", "parameters": parameters}]}
    row |= {"answer": [{"name": "f", "arguments": arguments}]}
    if allowed is not None:
        row["allowed"] = [{"name": "f", "arguments": allowed}]
    return row


def scores(row, reply=None):
    parsed = check(parse(row, "toolcall"), "toolcall").row
    example = Example("r", "r", parsed.messages, parsed.answer, parsed.tools, parsed.schema, parsed.allowed)
    text = json.dumps(parsed.answer if reply is None else reply)
    return kind("toolcall").score(example, Prediction("r", "ok", raw=text)).scores


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        ({"$ref": "#/$defs/a", "$defs": {"a": CITY}}, {"city": "Oslo"}),
        ({"allOf": [CITY, {"properties": {"n": {"type": "integer"}}}]}, {"city": "Oslo", "n": 1}),
        ({"anyOf": [CITY, {"properties": {"n": {"type": "integer"}}, "required": ["n"]}]}, {"n": 1}),
        ({"oneOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"allOf": [CITY]}}}, {"city": "Oslo"}),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"x": "a", "y": "b"}),
        (CITY | {"additionalProperties": True}, {"city": "Oslo", "z": 1}),
        ({"type": "object", "properties": {}, "patternProperties": {"^x": {"type": "integer"}}}, {"x1": 5}),
        ({"type": "object"}, {"city": "Oslo"}),
        ({}, {"city": "Oslo"}),
        ({"properties": {"y": {"type": "array", "items": {"type": ["number", "null"]}}}}, {"y": [1.5, None]}),
        ({"properties": {"y": {"type": "array", "items": {"type": ["string", "integer"]}}}}, {"y": ["a", 1]}),
        (
            {"properties": {"y": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}}}},
            {"y": ["a", 1, 2.5]},
        ),
        (
            {"properties": {"y": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]}}},
            {"y": ["a", 1]},
        ),
        ({"properties": {"y": {"type": "array", "items": {}}}}, {"y": ["a", 1, None, {"b": [True]}]}),
        (
            {
                "properties": {"y": {"type": "array", "items": {"$ref": "#/$defs/i"}}},
                "$defs": {"i": {"type": "integer"}},
            },
            {"y": [1, 2]},
        ),
        (
            {"properties": {"y": {"anyOf": [{"type": "array", "items": {"type": "object"}}, {"type": "null"}]}}},
            {"y": [{"a": 1}]},
        ),
        ({"properties": {"y": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}}, {"y": None}),
        ({"properties": {"y": {"type": "string", "nullable": True}}}, {"y": None}),
        ({"properties": {"y": {"type": "string"}}}, {"y": 5}),
        ({"properties": {"y": {"type": "object"}}}, {"y": {"a": {"b": [1, {"c": None}]}, "d": []}}),
        ({"properties": {"y": {}}}, {"y": ""}),
        ({"properties": {"y": {"type": "array", "items": [{"type": "string"}, {"type": "number"}]}}}, {"y": ["a", 1]}),
        ({"properties": {"y": {"type": "number", "minimum": 0, "exclusiveMinimum": True}}}, {"y": 1}),
        ({"properties": {"a": {}}, "if": {}, "then": {"properties": {"y": {"type": "string"}}}}, {"a": 1, "y": "x"}),
        ({"properties": {"a": {}}, "dependentSchemas": {"a": {"properties": {"y": {}}}}}, {"a": 1, "y": "x"}),
        ({"y": {"type": "Dict[str, List[int]]"}}, {"y": {"a": [1]}}),
        ({"y": {"type": "int | None"}}, {"y": 3}),
        ({"properties": {"y": {"type": "integer"}}}, {"y": 123456789012345678901234567890}),
    ],
)
def test_gold_of_every_form_is_right_and_another_answer_is_not(parameters, arguments):
    row = gold(parameters, arguments)
    made = scores(row)
    assert {name: value for name, value in made.items() if name != "abstain_rate"} == dict.fromkeys(
        [name for name in made if name != "abstain_rate"], 1
    )
    first = next(iter(arguments))
    wrong = scores(row, [{"name": "f", "arguments": {**arguments, first: "something else entirely"}}])
    assert wrong["ast_match_rate"] == 0
    extra = scores(row, [{"name": "f", "arguments": {**arguments, "unheard_of": 1}}])
    assert extra["ast_match_rate"] == 0


@pytest.mark.parametrize(
    ("parameters", "arguments", "allowed", "code", "said"),
    [
        (CITY, {"city": "Oslo", "zz": 1}, None, "gold_undeclared_argument", "declares no argument 'zz'"),
        (CITY, {}, None, "gold_required", "requires argument 'city'"),
        (CITY, {"city": "Oslo"}, {"city": ["Rome"]}, "gold_outside_allowed", "argument 'city'"),
        (CITY, {"city": "Oslo"}, {"city": ["Oslo"], "n": [1]}, "gold_missing_argument", "argument 'n' is left out"),
        (
            CITY | {"additionalProperties": True},
            {"city": "Oslo", "n": 1},
            {"city": ["Oslo"]},
            "gold_without_allowed_value",
            "argument 'n'",
        ),
    ],
)
def test_what_nobody_can_get_right_is_refused_with_its_reason(parameters, arguments, allowed, code, said):
    with pytest.raises(Unusable, match="nobody can get this row right") as caught:
        check(parse(gold(parameters, arguments, allowed), "toolcall"), "toolcall")
    assert caught.value.code == code
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ([[{"text": "Yes", "data": "y"}]], [[{"text": "No", "data": "y"}]]),  # a keyboard of Telegram
        ([[{"a": 1}], [{"a": 2}]], [[{"a": 1}, {"a": 2}]]),
        ([[[{"a": 1}]]], [[[{"a": 2}]]]),
        ({"rows": [[{"a": [1, 2]}], []]}, {"rows": [[{"a": [1, 3]}], []]}),
        ([[1, [2, "X"]], ["Y"]], [[1, [2, "X"]], ["y"]]),
        ([["X", {"z": None}]], [["x", {"z": None}]]),
        ([[[]]], [[[0]]]),
    ],
)
def test_gold_of_any_depth_is_right(value, other):
    row = gold({"properties": {"v": {}}}, {"v": value})
    assert scores(row)["args_exact_rate"] == scores(row)["ast_match_rate"] == 1
    assert scores(row, [{"name": "f", "arguments": {"v": other}}])["ast_match_rate"] == 0


@pytest.mark.parametrize("empty", ["arguments", "input"])
def test_arguments_that_are_null_stand_under_another_name(empty):
    assert call({"name": "f", empty: None, "parameters": {"c": "x"}}, "k")["arguments"] == {"c": "x"}
    assert call({"name": "f", empty: None}, "k")["arguments"] == {}


def test_plain_objects_among_the_allowed_values_are_read_as_the_gold_says():
    parameters = {"properties": {"box": {"type": "object"}}}
    box = {"x": 1, "tags": ["a", "b"], "in": {"deep": [1, 2], "flat": "y"}}
    row = gold(parameters, {"box": box}, {"box": [box]})
    assert scores(row)["args_exact_rate"] == scores(row)["ast_match_rate"] == 1
    for other in (
        {**box, "x": 2},
        {**box, "tags": ["a"]},
        {**box, "tags": "a"},
        {**box, "in": {"deep": 1, "flat": "y"}},
    ):
        assert scores(row, [{"name": "f", "arguments": {"box": other}}])["ast_match_rate"] == 0
    listed = gold(parameters, {"box": {"x": 1}}, {"box": [{"x": [1, 2], "y": ["", 5]}]})
    assert scores(listed, [{"name": "f", "arguments": {"box": {"x": 2, "y": 5}}}])["ast_match_rate"] == 1


def test_an_empty_list_of_allowed_values_leaves_its_argument_out():
    parameters = {"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
    row = gold(parameters, {"a": 1}, {"a": [1], "b": []})
    assert scores(row)["ast_match_rate"] == 1
    assert scores(row, [{"name": "f", "arguments": {"a": 1, "b": 2}}])["ast_match_rate"] == 0


def test_nulls_of_a_table_are_left_out_of_the_gold_and_others_stay():
    row = gold(CITY, {"city": "Oslo", "other": None})
    checked = check(parse(row, "toolcall"), "toolcall")
    assert (checked.nulls, checked.row.answer) == (1, [{"name": "f", "arguments": {"city": "Oslo"}}])
    day = {"properties": {"city": {"type": "string"}, "day": {"type": "string"}}}
    checked = check(parse(gold(day, {"city": "Oslo", "day": None}), "toolcall"), "toolcall")
    assert (checked.nulls, checked.row.answer) == (1, [{"name": "f", "arguments": {"city": "Oslo"}}])
    said = gold(day, {"city": "Oslo", "day": None}, {"city": ["Oslo"], "day": [None]})
    checked = check(parse(said, "toolcall"), "toolcall")
    assert (checked.nulls, checked.row.answer[0]["arguments"]["day"]) == (0, None)
    for own, warned in (
        (day | {"required": ["day"]}, True),
        ({"properties": {"city": {}, "day": {}}}, False),
        ({"properties": {"city": {}, "day": {"type": ["string", "null"]}}}, False),
        ({"properties": {"city": {}, "day": {"type": "string", "nullable": True}}}, True),
        ({"properties": {"city": {}, "day": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}, False),
        ({"properties": {"city": {}}, "additionalProperties": True}, False),
    ):
        checked = check(parse(gold(own, {"city": "Oslo", "day": None}), "toolcall"), "toolcall")
        assert (checked.nulls, checked.row.answer[0]["arguments"]["day"]) == (0, None)
        assert (checked.warning is not None) == warned


def test_references_that_lead_in_circles_end():
    loop = {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}] * 3}, "b": {"anyOf": [{"$ref": "#/$defs/a"}] * 3}},
    }
    assert declared(loop).open
    assert types(loop, loop) == item_types(loop, loop) == []
    assert types({"$ref": "elsewhere.json"}, {}) == []
