"""Prompts and completions: the model's own template, its own tool dialect, nothing lost on the way."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledgling.errors import ConfigError, DataError
from fledgling.prompting import template as prompts
from fledgling.records import Example

HERMES = (
    "{% if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>\n{{ c.function.arguments | tojson }}\n</tool_call>{% endfor %}"
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


def tool(**parameters: Any) -> dict[str, Any]:
    properties = {"room": {"type": "string"}, "on": {"type": "boolean"}}
    whole = {"type": "object", "properties": properties, "required": ["room", "on"]} | parameters
    return {"type": "function", "function": {"name": "set_light", "description": "a lamp", "parameters": whole}}


def example(**fields: Any) -> Example:
    given = {"id": "r1", "group": "g1", "messages": [{"role": "user", "content": "light on"}], "answer": []}
    return Example(**(given | fields))


def test_tools_are_text_in_the_system_message(tokenizer: Any) -> None:
    row = example(tools=[tool()], messages=[{"role": "system", "content": "Be brief."}, *example().messages])
    flat = (
        '[{"name":"set_light","description":"a lamp","parameters":{"room":{"type":"string"},"on":{"type":"boolean"}}}]'
    )
    assert prompts.dialect_of(tokenizer) == "phi4"
    assert prompts.prompt(tokenizer, row) == (
        f"<|system|>Be brief.<|tool|>{flat}<|/tool|><|end|><|user|>light on<|end|><|assistant|>"
    )
    assert "tools" not in row.messages[0]


def test_a_system_message_is_made_where_there_is_none(tokenizer: Any) -> None:
    assert prompts.prompt(tokenizer, example(tools=[tool()])).startswith(f"<|system|>{prompts.SYSTEM}<|tool|>[")
    assert prompts.prompt(tokenizer, example()) == "<|user|>light on<|end|><|assistant|>"


@pytest.mark.parametrize("loss", [{"required": ["room"]}, {"$defs": {}}, {"additionalProperties": True}])
def test_parameters_stay_whole_where_the_flat_form_would_lose_something(loss: dict[str, Any]) -> None:
    both = prompts.definitions([tool(), tool(**loss)])
    assert [row["parameters"]["type"] for row in both] == ["object", "object"]
    assert prompts.definitions([tool()])[0]["parameters"].keys() == {"room", "on"}


def test_schema_goes_into_the_system_message(tokenizer: Any) -> None:
    schema = {"type": "object", "required": ["a"]}
    text = prompts.prompt(tokenizer, example(schema=schema, answer={"a": 1}), schema="system")
    assert '{"type":"object","required":["a"]}' in text
    assert text.startswith("<|system|>Answer with one JSON object")
    assert "required" not in prompts.prompt(tokenizer, example(schema=schema, answer={"a": 1}), schema="none")


def test_history_is_written_as_the_model_writes_it(tokenizer: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "set_light", "arguments": '{"room": "attic"}'}}
    history = [
        {"role": "user", "content": [{"type": "text", "text": "light"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
        {"role": "user", "content": "thanks"},
    ]
    assert prompts.prompt(tokenizer, example(messages=history)) == (
        "<|user|>light<|end|>"
        '<|assistant|><|tool_call|>[{"name":"set_light","arguments":{"room":"attic"}}]<|/tool_call|><|end|>'
        "<|tool_response|>done<|end|><|user|>thanks<|end|><|assistant|>"
    )


def test_native_templates_take_tools_and_arguments_as_objects(hermes: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "set_light", "arguments": '{"room": "attic"}'}}
    row = example(tools=[tool()], messages=[{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert prompts.dialect_of(hermes) == "native"
    text = prompts.prompt(hermes, row, dialect="native")
    assert '<tool_call>\n{"room": "attic"}\n</tool_call>' in text
    assert '"name": "set_light"' in text
    done = prompts.completion(example(answer=[{"name": "f", "arguments": {"a": 1}}] * 2), "native")
    one = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    assert done == f"{one}\n{one}"


def test_a_template_that_drops_the_tools_is_refused(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="drops the tools"):
        prompts.prompt(tokenizer, example(tools=[tool()]), dialect="native")


def test_a_checkpoint_without_template_is_refused() -> None:
    class Bare:
        chat_template = None

    with pytest.raises(ConfigError, match="no chat template"):
        prompts.dialect_of(Bare())


def test_completions() -> None:
    call = {"name": "f", "arguments": {"b": 1, "a": "é"}, "extra": 0}
    text = '<|tool_call|>[{"name":"f","arguments":{"b":1,"a":"é"}}]<|/tool_call|>'
    assert prompts.completion(example(answer=[call])) == text
    assert prompts.completion(example(answer=[])) == prompts.NO_CALL
    assert prompts.completion(example(schema={}, answer={"b": [1.5], "a": None})) == '{"b":[1.5],"a":null}'
    with pytest.raises(DataError, match="no gold answer"):
        prompts.completion(example(answer=None))


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)))
def test_a_completion_says_the_answer_and_keeps_its_order(answer: dict[str, Any]) -> None:
    text = prompts.completion(example(schema={}, answer=answer))
    assert json.loads(text) == answer
    assert list(json.loads(text)) == list(answer)
    calls = prompts.completion(example(answer=[{"name": "f", "arguments": answer}]))
    inside = calls.removeprefix("<|tool_call|>").removesuffix("<|/tool_call|>")
    assert json.loads(inside) == [{"name": "f", "arguments": answer}]


def test_the_end_of_the_turn_is_the_templates_own(tokenizer: Any, hermes: Any) -> None:
    assert tokenizer.convert_ids_to_tokens(prompts.end_of_turn(tokenizer)) == "<|end|>"
    assert hermes.convert_ids_to_tokens(prompts.end_of_turn(hermes)) == "<|im_end|>"
    assert tokenizer.eos_token == "<|endoftext|>"
