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


# Calls that stand in the text ---------------------------------------------------------------------

CALL = '{"name": "book", "arguments": {"seats": 2}}'


@pytest.mark.parametrize(
    "message",
    [
        {"content": f"<|tool_call|>[{CALL}]<|/tool_call|>"},
        {"content": f"<tool_call>\n{CALL}\n</tool_call>"},
        {"content": f"[TOOL_CALLS] [{CALL}]"},
        {"content": '<|python_tag|>{"name": "book", "parameters": {"seats": 2}}'},
        {"content": f"<functioncall> {CALL} <|endoftext|>"},
        {"content": '<functioncall> {"name": "book", "arguments": \'{"seats": 2}\'} <|endoftext|>'},
        {"content": f"functools[{CALL}]"},
        {"content": '<function=book>{"seats": 2}</function>'},
        {"content": f"```json\n{CALL}\n```"},
        {"content": f"```\n[{CALL}]\n```"},
        {"content": f"<think>Two, then.</think>\n{CALL}"},
        {"content": f"I will book it.\n<tool_call>{CALL}</tool_call>"},
        {"content": '[{"function": {"name": "book", "arguments": "{\\"seats\\": 2}"}}]'},
        {"content": "One moment.", "function_call": {"name": "book", "arguments": '{"seats": 2}'}},
        {"content": "One moment.", "tool_calls": [{"function": {"name": "book", "arguments": {"seats": 2}}}]},
        {"content": None, "tool_calls": json.dumps([{"function": {"name": "book", "arguments": '{"seats": 2}'}}])},
        {"content": "", "tool_calls": [], "function_call": {"name": "book", "arguments": {"seats": 2}}},
    ],
)
def test_a_call_in_the_answer_is_the_gold(message):
    row = {"messages": [*ASK, {"role": "assistant", **message}], "tools": TOOLS}
    assert parse(row, "toolcall").answer == TWO[:1]


@pytest.mark.parametrize(
    "text",
    [
        "[book(seats=2)]",
        "Sure: book(seats=2)",
        f"Sure: {CALL}",
        "<function=book>\n<parameter=seats>2</parameter>\n</function>",
        "Action: book\nAction Input: 2",
        "<tool_call>{'name': 'book'}</tool_call>",
        "<invoke name='book'><parameter name='seats'>2</parameter></invoke>",
        "<think>I should book(seats=2)",
        f"```json\n{CALL[:-1]}\n```",
    ],
)
def test_a_call_that_is_not_read_for_certain_is_refused(text):
    problem = refused({"messages": [*ASK, {"role": "assistant", "content": text}], "tools": TOOLS})
    assert problem.code == "call_in_text"
    assert str(problem).startswith("messages[1].content: ")
    assert refused({"prompt": "p", "completion": text, "tools": TOOLS}).code == "call_in_text"


@pytest.mark.parametrize(
    "text", ["No tool is needed.", "I cannot book that.", '{"answer": "No"}', "book (a table) is not for me"]
)
def test_an_answer_that_only_speaks_is_no_call(text):
    row = {"messages": [*ASK, {"role": "assistant", "content": text}], "tools": TOOLS}
    assert parse(row, "toolcall").answer == []


@pytest.mark.parametrize("arguments", ["", " ", None, "null", "{}", {}])
def test_arguments_that_are_blank_are_none(arguments):
    turn = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "book", "arguments": arguments}}],
    }
    assert parse({"messages": [*ASK, turn], "tools": TOOLS}, "toolcall").answer == [{"name": "book", "arguments": {}}]


def test_two_answers_and_one_that_is_not_to_be_learnt_are_refused_with_their_turns():
    said = {"role": "assistant", "content": "It is done."}
    called = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "book", "arguments": "{}"}}]}
    problem = refused({"messages": [*ASK, called, said], "tools": TOOLS})
    assert "messages[1] and messages[2] are two assistant turns in a row" in str(problem)
    problem = refused({"messages": [*ASK, said | {"weight": 0}], "tools": TOOLS})
    assert "messages[1].weight is 0" in str(problem)
    earlier = [*ASK, said | {"weight": 0}, *ASK]
    assert parse({"messages": [*earlier, said | {"weight": 1}], "tools": TOOLS}, "toolcall").answer == []


def test_older_and_textual_forms_of_a_request():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    record = {"messages": [*ASK, {"role": "assistant", "content": '{"n": 1}'}]}
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    for given in (
        {"schema": schema},
        {"schema": json.dumps(schema)},
        {"response_format": wanted},
        {"response_format": json.dumps(wanted)},
        {"response_format": {**wanted, "json_schema": {"name": "s", "schema": json.dumps(schema)}}},
        {"schema": None, "response_format": wanted},
        {"schema": {**schema, "items": None}},
    ):
        assert parse({**record, **given}, "structured").schema == schema
    assert parse({**record, "response_format": {"type": "json_object"}}, "structured").schema is None
    assert refused({**record, "response_format": "[]"}, "structured").code == "response_format"
    called = {"role": "assistant", "content": None, "function_call": {"name": "book", "arguments": "{}"}}
    assert parse({"messages": [*ASK, called], "functions": [TOOL]}, "toolcall").tools == TOOLS


def test_keys_that_a_table_added_decide_no_format():
    table = {"answer": None, "answers": None, "prompt": None, "completion": None, "query": None, "gold": None}
    assert detect({**table, "messages": [*ASK, {"role": "assistant", "content": "No."}], "tools": TOOLS}) == "openai"
    assert detect({**table, "messages": None, "query": "q", "answers": "[]"}) == "xlam"
    assert detect({**table, "messages": None, "prompt": "q", "completion": "[]"}) == "prompt_completion"
    assert detect({"messages": ASK, "answer": None, "tools": TOOLS}) == "example"


def test_gold_is_optional_where_values_are_allowed():
    answers = [
        {"name": "book", "arguments": {"seats": [2, 3], "when": ["", "now"], "box": [{"a": [1, 2], "b": ["", 3]}]}}
    ]
    read = parse({"id": "b", "messages": ASK, "tools": TOOLS, "answers": answers}, "toolcall")
    assert read.answer == [{"name": "book", "arguments": {"seats": 2, "box": {"a": 1}}}]
    assert read.allowed == answers


@pytest.mark.parametrize(("group", "record"), [(0, "0"), ("", ""), ("g", "g"), (None, None)])
def test_a_group_means_what_it_says(group, record):
    assert parse({"messages": ASK, "answer": [], "group": group}, "toolcall").record == record


def conversation(*turns, **more):
    return {"conversations": [{"from": who, "value": said} for who, said in turns], "tools": json.dumps([TOOL])} | more


CALL = json.dumps({"name": "book", "arguments": {"seats": 2}})


@pytest.mark.parametrize(
    "row",
    [
        conversation(("human", "Book two"), ("gpt", f"<tool_call>\n{CALL}\n</tool_call>")),
        conversation(("human", "Book two"), ("function_call", CALL)),
        conversation(("user", "Book two"), ("function_call", f"[{CALL}]")),
        conversation(("human", "Book two"), ("gpt", f"<functioncall> {CALL} <|endoftext|>")),
        {
            "conversations": [{"role": "user", "content": "Book two"}, {"role": "assistant", "content": CALL}],
            "tools": TOOLS,
        },
        {
            "messages": [
                {"role": "user", "content": "Book two"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "I book."},
                        {"type": "tool_use", "id": "t", "name": "book", "input": {"seats": 2}},
                    ],
                },
            ],
            "tools": [{"name": "book", "input_schema": TOOL["parameters"]}],
        },
    ],
)
def test_conversations_of_other_tools_are_read(row):
    read = parse(row, "toolcall")
    assert read.answer == [{"name": "book", "arguments": {"seats": 2}}]
    assert read.messages == [{"role": "user", "content": "Book two"}]
    assert [tool["function"]["name"] for tool in read.tools] == ["book"]


def test_a_call_in_the_words_of_a_history_is_a_call():
    """Its result follows, so every contender has to read it as one."""
    said = f"I look.\n<tool_call>{CALL}</tool_call>"
    turns = [("human", "Book"), ("gpt", said), ("tool", "full"), ("human", "Then?"), ("gpt", "It is full.")]
    first = parse(conversation(*turns), "toolcall").messages[1]
    assert first["content"] == "I look."
    assert json.loads(first["tool_calls"][0]["function"]["arguments"]) == {"seats": 2}
    again = [*turns[:3], ("gpt", CALL), ("tool", "full too"), *turns[3:]]
    messages = parse(conversation(*again), "toolcall").messages
    assert [len(turn.get("tool_calls", [])) for turn in messages] == [0, 1, 0, 1, 0, 0]
    assert messages[3]["content"] is None


def test_a_history_of_other_tools_is_written_as_openais():
    turns = [
        ("human", "Book"),
        ("function_call", CALL),
        ("observation", "full"),
        ("human", "Then"),
        ("gpt", "It is full."),
    ]
    read = parse(conversation(*turns, system="Be brief"), "toolcall")
    parts = {
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "Book"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "book", "input": {"seats": 2}}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": "full"},
                    {"type": "text", "text": "Then"},
                ],
            },
            {"role": "assistant", "content": "It is full."},
        ],
        "tools": TOOLS,
    }
    other = parse(parts, "toolcall")
    for made in (read, other):
        assert made.answer == []
        assert [turn["role"] for turn in made.messages] == ["system", "user", "assistant", "tool", "user"]
        assert json.loads(made.messages[2]["tool_calls"][0]["function"]["arguments"]) == {"seats": 2}
    assert other.messages[2]["tool_calls"][0]["id"] == other.messages[3]["tool_call_id"] == "t"


@pytest.mark.parametrize(
    ("row", "code", "named"),
    [
        (conversation(("human", "Book"), ("gpt", "[book(seats=2)]")), "call_in_text", "conversations[1]"),
        (conversation(("human", "Book"), ("function_call", "book two")), "not_json", "conversations[1].value"),
        (conversation(("human", "Book"), ("function_call", CALL), ("gpt", "Done")), "two_answers", "conversations[1]"),
        (conversation(("gpt", "Hello"), ("gpt", "No")), "two_answers", "conversations[0]"),
        (conversation(("someone", "Book"), ("gpt", "No")), "role", "conversations[0].role"),
        (conversation(("human", "Book")), "no_answer", "conversations"),
        (conversation(("human", "Book"), ("tool", "full"), ("gpt", "No")), "turn", "conversations[1]"),
        (conversation(("human", "Book"), ("gpt", "Sure"), ("tool", "full"), ("gpt", "No")), "turn", "conversations[2]"),
        ({"conversations": "Book", "tools": TOOLS}, "not_json", "conversations"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
                    {"role": "assistant", "content": "No"},
                ],
                "tools": TOOLS,
            },
            "content",
            "messages[0].content[0] is of type image_url",
        ),
    ],
)
def test_conversations_that_cannot_be_used_say_where(row, code, named):
    problem = refused(row)
    assert problem.code == code
    assert named in str(problem)


@pytest.mark.parametrize(
    "turn", [{"tool_calls": [{"function": json.loads(CALL)}]}, {"function_call": json.loads(CALL)}]
)
def test_a_call_is_no_record(turn):
    problem = refused({"messages": [*ASK, {"role": "assistant", "content": None, **turn}]}, "structured")
    assert problem.code == "kind"
    assert "set kind: toolcall" in str(problem)


def test_a_schema_in_the_wrapping_of_a_request_is_that_schema():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    named = {"name": "s", "schema": schema, "strict": True}
    row = {"messages": ASK, "answer": {"a": 1}}
    for given in (
        {"schema": named},
        {"schema": json.dumps(named)},
        {"schema": {"type": "json_schema", "json_schema": named}},
        {"schema": {"type": "json_schema", **named}},
        {"response_format": {"type": "json_schema", **named}},
        {"response_format": {"type": "json_schema", "json_schema": named}},
    ):
        assert parse({**row, **given}, "structured").schema == schema
    own = {"type": "object", "properties": {"schema": {"type": "string"}, "name": {}}}
    assert parse({**row, "schema": own}, "structured").schema == own
    assert refused({**row, "response_format": {"type": "json_schema"}}, "structured").code == "response_format"


def test_a_structured_answer_may_be_json_text_and_an_xlam_answer_is_no_null():
    row = {"messages": ASK, "answer": '{"a": 1}'}
    assert parse(row, "structured").answer == {"a": 1}
    assert refused({**row, "answer": "{a: 1}"}, "structured").code == "not_json"
    assert refused({"query": "q", "tools": TOOLS, "answers": None}).code == "no_answer"


def test_a_refusal_is_what_the_assistant_said():
    said = {"role": "assistant", "content": None, "refusal": "I cannot do that."}
    row = {"messages": [*ASK, said, *ASK], "tools": TOOLS, "answer": []}
    assert parse(row, "toolcall").messages[1] == {"role": "assistant", "content": "I cannot do that."}
    assert parse({"messages": [*ASK, said], "tools": TOOLS}, "toolcall").answer == []
    assert refused({"messages": [*ASK, said]}, "structured").code == "not_json"
    kept = parse({**row, "messages": [*ASK, said | {"content": "No."}, *ASK]}, "toolcall")
    assert kept.messages[1]["content"] == "No."


def test_ids_of_calls_may_be_numbers():
    call = {"id": 7, "type": "function", "function": {"name": "book", "arguments": "{}"}}
    history = [*ASK, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": 7, "content": "ok"}]
    read = parse({"messages": history, "tools": TOOLS, "answer": []}, "toolcall").messages
    assert (read[1]["tool_calls"][0]["id"], read[2]["tool_call_id"]) == ("7", "7")
