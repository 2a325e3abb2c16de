"""Every input format, read into one shape; every way in which a row of it can be wrong."""

import json

import pytest

from fledgling.data.formats import detect, parse
from fledgling.data.invalid import Unusable
from fledgling.data.python_types import python_type

TOOL = {"name": "book", "description": "Book a table", "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": TOOL}]
ASK = [{"role": "user", "content": "A table for two, and one for four"}]
TWO = [{"name": "book", "arguments": {"seats": 2}}, {"name": "book", "arguments": {"seats": 4}}]


def refused(row, kind="toolcall", format="auto"):
    with pytest.raises(Unusable) as caught:
        parse(row, kind, format)
    return caught.value


def test_example_rows_keep_every_field():
    allowed = [{"name": "book", "arguments": {"seats": [2, ""]}}]
    row = {
        "id": "a",
        "group": "g",
        "messages": ASK,
        "tools": TOOLS,
        "answer": TWO[:1],
        "allowed": allowed,
        "category": "c",
        "note": 1,
    }
    read = parse(row, "toolcall")
    assert (read.format, read.id, read.record, read.messages, read.tools) == ("example", "a", "g", ASK, TOOLS)
    assert (read.answer, read.allowed, read.category, read.ignored) == (TWO[:1], allowed, "c", ("note",))


def test_openai_rows_with_parallel_calls_keep_them_all_and_the_turns_before():
    earlier = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "0", "type": "function", "function": {"name": "book", "arguments": "{}"}}],
    }
    calls = [
        {"id": str(i), "type": "function", "function": {"name": c["name"], "arguments": json.dumps(c["arguments"])}}
        for i, c in enumerate(TWO)
    ]
    turns = [
        {"role": "developer", "content": "Be brief"},
        {"role": "user", "content": [{"type": "text", "text": "Book"}]},
        earlier,
        {"role": "tool", "tool_call_id": "0", "content": "full"},
        {"role": "user", "content": "Then two"},
    ]
    final = {"role": "assistant", "content": None, "tool_calls": calls, "weight": 1}
    read = parse({"messages": [*turns, final], "tools": TOOLS, "parallel_tool_calls": True}, "toolcall")
    assert read.format == "openai"
    assert read.answer == TWO
    assert read.messages[0] == {"role": "system", "content": "Be brief"}
    assert read.messages[1] == {"role": "user", "content": "Book"}
    assert read.messages[2:] == [
        {"role": "assistant", "content": None, "tool_calls": earlier["tool_calls"]},
        {"role": "tool", "tool_call_id": "0", "content": "full"},
        {"role": "user", "content": "Then two"},
    ]


def test_openai_text_is_no_call_and_json_text_is_a_record():
    said = {"messages": [*ASK, {"role": "assistant", "content": "I cannot book that."}], "tools": TOOLS}
    assert parse(said, "toolcall").answer == []
    schema = {"type": "object"}
    record = {
        "messages": [*ASK, {"role": "assistant", "content": '{"seats": 2}'}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
    }
    read = parse(record, "structured")
    assert (read.answer, read.schema) == ({"seats": 2}, schema)


@pytest.mark.parametrize(
    "completion",
    [
        '<tool_call name="book">{"seats": 2}</tool_call>\n<tool_call name="book">{"seats": 4}</tool_call>',
        '[{"name": "book", "arguments": {"seats": 2}}, {"name": "book", "arguments": "{\\"seats\\": 4}"}]',
        [{"role": "assistant", "content": json.dumps(TWO)}],
    ],
)
def test_completions_keep_several_calls(completion):
    assert parse({"prompt": "A table for two, and one for four", "completion": completion}, "toolcall").answer == TWO


def test_completions_as_text_or_messages():
    wrapped = {"prompt": ASK, "completion": '<tool_call name="say">{"text": "</tool_call>"}</tool_call>'}
    assert parse(wrapped, "toolcall").answer == [{"name": "say", "arguments": {"text": "</tool_call>"}}]
    assert parse(wrapped, "toolcall").messages == ASK
    assert parse({"prompt": "p", "completion": "[]"}, "toolcall").answer == []
    assert parse({"prompt": "p", "completion": ' {"a": 1} '}, "structured").answer == {"a": 1}


def test_xlam_rows_become_openai_tools():
    tools = [
        {
            "name": "book",
            "description": "Book",
            "parameters": {
                "seats": {"type": "int", "description": "How many"},
                "names": {"type": "List[str], optional", "description": "Who", "default": ""},
                "type": {"type": "str", "description": "A parameter named type", "default": "dinner"},
            },
        }
    ]
    row = {"id": 7, "query": "Two seats", "tools": json.dumps(tools), "answers": json.dumps(TWO)}
    read = parse(row, "toolcall")
    assert (read.format, read.id, read.messages, read.answer) == (
        "xlam",
        7,
        [{"role": "user", "content": "Two seats"}],
        TWO,
    )
    assert read.tools[0]["function"]["parameters"] == {
        "type": "object",
        "properties": {
            "seats": {"type": "integer", "description": "How many"},
            "names": {"type": "array", "items": {"type": "string"}, "description": "Who", "default": ""},
            "type": {"type": "string", "description": "A parameter named type", "default": "dinner"},
        },
        "required": ["seats"],
    }
    ready = {"query": "q", "tools": [TOOL], "answers": []}
    assert parse(ready, "toolcall").tools == TOOLS


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("str", {"type": "string"}),
        ("float", {"type": "number"}),
        ("List[List[int]]", {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}),
        ("Tuple[int, str]", {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}),
        (
            "Dict[str, Union[int, bool]]",
            {"type": "object", "additionalProperties": {"anyOf": [{"type": "integer"}, {"type": "boolean"}]}},
        ),
        ("Optional[str]", {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ("Callable[[float], float]", {}),
        ("Any", {}),
    ],
)
def test_python_types(text, schema):
    assert python_type(text) == schema


def test_bfcl_rows_keep_what_is_allowed():
    answers = [{"name": "book", "arguments": {"seats": [2], "when": ["tonight", ""]}}]
    row = {"id": "b", "messages": ASK, "tools": TOOLS, "answers": answers, "gold": TWO[:1]}
    read = parse(row, "toolcall")
    assert (read.format, read.answer, read.allowed) == ("bfcl", TWO[:1], answers)
    assert parse(row | {"answers": [], "gold": []}, "toolcall").answer == []
    any_call = parse(row | {"answers": None, "gold": None}, "toolcall")
    assert (any_call.answer, any_call.allowed) == (None, None)


def test_numbers_keep_their_value():
    row = {"prompt": "p", "completion": '{"exact": 0.1000000000000000055, "whole": 12345678901234567890}'}
    answer = parse(row, "structured").answer
    assert str(answer["exact"].exact) == "0.1000000000000000055"
    assert answer["whole"] == 12345678901234567890


def test_a_named_format_is_not_guessed():
    row = {"messages": [*ASK, {"role": "assistant", "content": "Hello"}], "answer": []}
    assert parse(row, "toolcall", "openai").answer == []
    assert refused(row).code == "no_request"  # as an example, the answer stands among the messages


@pytest.mark.parametrize(
    ("row", "code", "named"),
    [
        ([], "not_an_object", "list"),
        ({"text": "x", "label": 1}, "unknown_format", "label, text"),
        ({"messages": [], "answer": []}, "no_request", "messages"),
        ({"messages": [{"role": "system", "content": "s"}], "answer": []}, "no_request", "no user message"),
        ({"messages": [{"role": "usr", "content": "s"}], "answer": []}, "role", "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}], "answer": []}, "content", "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}], "answer": []}, "content", "type text"),
        ({"messages": ASK, "answer": {"name": "book"}}, "not_a_list", "answer"),
        ({"messages": ASK, "answer": [{"arguments": {}}]}, "no_name", "answer[0].name"),
        ({"messages": ASK, "answer": [{"name": "b", "arguments": [1]}]}, "not_an_object", "answer[0].arguments"),
        ({"messages": ASK, "answer": [], "tools": [{"type": "function"}]}, "tools", "tools[0].function.name"),
        ({"messages": ASK, "answer": [], "id": 1.5}, "id", "float"),
        ({"messages": ASK, "answer": [], "group": []}, "group", "list"),
        ({"messages": ASK, "tools": TOOLS}, "no_answer", "assistant"),
        ({"messages": [*ASK, {"role": "assistant", "content": ""}]}, "no_answer", "neither content nor tool_calls"),
        ({"messages": [*ASK, {"role": "assistant", "content": '[{"name": "b"'}]}, "call_in_text", "content"),
        ({"messages": ASK, "answers": [{"name": "b", "arguments": {"x": 1}}], "gold": []}, "allowed", "arguments.x"),
        ({"prompt": "p", "completion": "Sure!"}, "no_call", "write []"),
        ({"prompt": "p", "completion": ""}, "no_call", "completion"),
        ({"prompt": "p", "completion": 5}, "not_text", "completion"),
        ({"prompt": "p", "completion": [{"content": "[]"}, {"content": "[]"}]}, "completion", "one assistant message"),
        ({"messages": ASK, "answer": [], "id": ""}, "id", "empty"),
        ({"prompt": "p", "completion": '<tool_call name="b">{"a": }</tool_call>'}, "call_in_text", "completion"),
        ({"prompt": "p", "completion": '<tool_call name="b">{} done</tool_call>'}, "call_in_text", "completion"),
        ({"prompt": "p", "completion": '[{"name": "b", "name": "c", "arguments": {}}]'}, "call_in_text", "twice"),
        ({"query": "q", "tools": "[{]", "answers": "[]"}, "not_json", "tools"),
        ({"query": "q", "tools": "[]", "answers": "{}"}, "not_a_list", "answers"),
    ],
)
def test_unusable_rows_say_why(row, code, named):
    problem = refused(row)
    assert problem.code == code
    assert named in str(problem)


@pytest.mark.parametrize("format", ["xlam", "bfcl"])
def test_calls_are_no_records(format):
    row = {"query": "q", "answers": [], "messages": ASK, "gold": []}
    assert refused(row, "structured", format).code == "kind"


def test_detect_names_the_formats_it_reads():
    with pytest.raises(Unusable, match=r"xLAM"):
        detect({"text": ""})
