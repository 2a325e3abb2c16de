"""Prompts and completions: the model's own template, its own tool dialect, nothing lost on the way."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fledgling.errors import ConfigError, DataError
from fledgling.prompting import sandbox, template
from fledgling.records import Example

HERMES = (
    "{% if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{% if not loop.first %}{{ '\n' }}{% endif %}<tool_call>\n{{ c.function | tojson }}\n</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_checkpoint)


@pytest.fixture
def hermes(tiny_checkpoint: Path) -> Any:
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(tiny_checkpoint)
    other.chat_template = HERMES
    other.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return other


@pytest.fixture(scope="module")
def chat(tokenizer: Any) -> template.Chat:
    return template.chat(tokenizer)


def tool(**parameters: Any) -> dict[str, Any]:
    properties = {"room": {"type": "string"}, "on": {"type": "boolean"}}
    whole = {"type": "object", "properties": properties, "required": ["room", "on"]} | parameters
    return {"type": "function", "function": {"name": "set_light", "description": "a lamp", "parameters": whole}}


def example(**fields: Any) -> Example:
    given = {"id": "r1", "group": "g1", "messages": [{"role": "user", "content": "light on"}], "answer": []}
    return Example(**(given | fields))


def test_tools_are_text_in_the_system_message(chat: template.Chat) -> None:
    row = example(tools=[tool()], messages=[{"role": "system", "content": "Be brief."}, *example().messages])
    flat = (
        '[{"name":"set_light","description":"a lamp","parameters":{"room":{"type":"string"},"on":{"type":"boolean"}}}]'
    )
    assert chat.manner.tools == "phi4"
    assert chat.prompt(row) == (
        f"<|system|>Be brief.<|tool|>{flat}<|/tool|><|end|><|user|>light on<|end|><|assistant|>"
    )
    assert "tools" not in row.messages[0]


def test_a_system_message_is_made_where_there_is_none(chat: template.Chat) -> None:
    assert chat.prompt(example(tools=[tool()])).startswith(f"<|system|>{template.SYSTEM}<|tool|>[")
    assert chat.prompt(example()) == "<|user|>light on<|end|><|assistant|>"


@pytest.mark.parametrize("loss", [{"required": ["room"]}, {"$defs": {}}, {"additionalProperties": True}])
def test_parameters_stay_whole_where_the_flat_form_would_lose_something(loss: dict[str, Any]) -> None:
    both = template.definitions([tool(), tool(**loss)])
    assert [row["parameters"]["type"] for row in both] == ["object", "object"]
    assert template.definitions([tool()])[0]["parameters"].keys() == {"room", "on"}


def test_schema_goes_into_the_system_message(chat: template.Chat) -> None:
    schema = {"type": "object", "required": ["a"]}
    text = chat.prompt(example(schema=schema, answer={"a": 1}), schema="system")
    assert '{"type":"object","required":["a"]}' in text
    assert text.startswith("<|system|>Answer with one JSON object")
    assert "required" not in chat.prompt(example(schema=schema, answer={"a": 1}), schema="none")


def test_history_is_written_as_the_model_writes_it(chat: template.Chat) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "set_light", "arguments": '{"room": "attic"}'}}
    history = [
        {"role": "user", "content": [{"type": "text", "text": "light"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
        {"role": "user", "content": "thanks"},
    ]
    assert chat.prompt(example(messages=history)) == (
        "<|user|>light<|end|>"
        '<|assistant|><|tool_call|>[{"name":"set_light","arguments":{"room":"attic"}}]<|/tool_call|><|end|>'
        "<|tool_response|>done<|end|><|user|>thanks<|end|><|assistant|>"
    )


def test_native_templates_take_tools_and_arguments_as_objects(hermes: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "set_light", "arguments": '{"room": "attic"}'}}
    row = example(tools=[tool()], messages=[{"role": "assistant", "content": None, "tool_calls": [call]}])
    chat = template.chat(hermes)
    assert (chat.manner.tools, chat.manner.calls) == ("template", "template")
    text = chat.prompt(row)
    assert '<tool_call>\n{"name": "set_light", "arguments": {"room": "attic"}}\n</tool_call>' in text
    assert '"name": "set_light"' in text
    done = chat.completion(example(answer=[{"name": "f", "arguments": {"a": 1}}] * 2))
    one = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    assert done.text == f"{one}\n{one}"


PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def test_a_template_without_tools_has_them_in_words(hermes: Any) -> None:
    hermes.chat_template = PLAIN
    text = template.chat(hermes).prompt(example(tools=[tool()]))
    assert text.startswith("system: # Tools")
    assert '"required":["room","on"]' in text
    assert '<tool_call>\n{"name": "function_name", "arguments": {"argument": "value"}}\n</tool_call>' in text


def test_a_template_that_drops_the_tools_is_refused_where_it_was_chosen(hermes: Any) -> None:
    hermes.chat_template = PLAIN
    with pytest.raises(template.Refused, match=r"row 'r1'.*drops the tools; set slm\.tool_dialect to auto"):
        template.chat(hermes, "native").prompt(example(tools=[tool()]))


def test_a_template_that_drops_words_is_refused(hermes: Any) -> None:
    """A template that shows the last turn only has lost what the row says; nobody would see it."""
    hermes.chat_template = "{{ messages[-1].content }}<|end|>{% if add_generation_prompt %}assistant: {% endif %}"
    turns = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "2"},
    ]
    with pytest.raises(template.Refused, match="drops or changes the words of role user"):
        template.chat(hermes).prompt(example(messages=turns))


def test_a_checkpoint_without_template_is_refused() -> None:
    class Bare:
        chat_template = None
        special_tokens_map: dict[str, str] = {}  # noqa: RUF012

    with pytest.raises(ConfigError, match="no chat template"):
        template.chat(Bare())


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("{% if", "line 1"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "more than 1 s"),
        ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "more than 1,0"),
        ("{% set x = 'x' * 10**10 %}", "of memory"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages[0].nothing.at_all }}", "UndefinedError"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("hello", "drops what the model says"),
    ],
)
def test_a_broken_or_hostile_template_ends_in_words(hermes: Any, broken: str, says: str) -> None:
    hermes.chat_template = broken
    with pytest.raises(DataError, match=says):
        template.chat(hermes)


def test_a_template_that_loops_for_some_rows_stops_trying(hermes: Any) -> None:
    loops = "{% if 'loop' in messages[0].content %}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}{% endif %}"
    hermes.chat_template = loops + PLAIN
    chat = template.chat(hermes)
    assert chat.prompt(example()) == "user: light on<|end|>assistant: "
    row = example(messages=[{"role": "user", "content": "loop"}])
    for says in (*["of processor time"] * sandbox.ENDLESS, "no more are tried"):
        with pytest.raises(template.Refused, match=says):
            chat.prompt(row)


@pytest.mark.parametrize("calls", [[{"id": "c"}], [{"function": {}}], ["f"], [3], {"function": {"arguments": "{}"}}])
def test_a_call_of_the_history_without_a_name_is_refused_with_its_row(chat: template.Chat, calls: Any) -> None:
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": calls}]
    with pytest.raises(template.Refused, match=r"row 'r1'.*names no function"):
        chat.prompt(example(messages=turns))


def test_a_prompt_does_not_depend_on_the_day(hermes: Any) -> None:
    hermes.chat_template = "{{ strftime_now('%d %b %Y') }}" + PLAIN
    assert template.chat(hermes).prompt(example()).startswith("26 Jul 2024")


def test_completions(chat: template.Chat) -> None:
    call = {"name": "f", "arguments": {"b": 1, "a": "é"}, "extra": 0}
    text = '<|tool_call|>[{"name":"f","arguments":{"b":1,"a":"é"}}]<|/tool_call|>'
    assert chat.completion(example(answer=[call])) == template.Completion(text, chat.end)
    assert chat.completion(example(answer=[])).text == template.NO_CALL
    assert chat.completion(example(schema={}, answer={"b": [1.5], "a": None})).text == '{"b":[1.5],"a":null}'
    with pytest.raises(DataError, match="no gold answer"):
        chat.completion(example(answer=None))


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)))
def test_a_completion_says_the_answer_and_keeps_its_order(chat: template.Chat, answer: dict[str, Any]) -> None:
    text = chat.completion(example(schema={}, answer=answer)).text
    assert json.loads(text) == answer
    assert list(json.loads(text)) == list(answer)
    calls = chat.reply(example(answer=[{"name": "f", "arguments": answer}]))
    inside = calls.removeprefix("<|tool_call|>").removesuffix("<|/tool_call|>")
    assert json.loads(inside) == [{"name": "f", "arguments": answer}]


def test_the_end_of_the_turn_is_the_templates_own(chat: template.Chat, hermes: Any) -> None:
    assert chat.tokenizer.convert_ids_to_tokens(chat.end) == "<|end|>"
    assert hermes.convert_ids_to_tokens(template.chat(hermes).end) == "<|im_end|>"
    assert chat.tokenizer.eos_token == "<|endoftext|>"
    assert chat.stops() == {chat.end}
