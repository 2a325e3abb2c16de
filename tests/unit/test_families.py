"""Real chat templates: what is taught reads back as the answer, and the history is the model's own."""

import json
import re
from random import Random
from typing import Any

import pytest

from fledgling import strict_json
from fledgling.prompting.template import Chat, Refused
from fledgling.records import Example, Prediction
from fledgling.slm.answer import Asked, prediction
from fledgling.slm.engine import Answer, Decoding, Request
from fledgling.teacher.requests import with_ids
from fledgling.tracks import structured, toolcall
from fledgling.training import tokens
from tests.unit.families import FAMILIES, Family, rows, tokenizer

names = pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])


def scored(example: Example, raw: str) -> float:
    kind = structured if example.schema is not None else toolcall
    return kind.score(example, Prediction(example.id, "ok", raw=raw)).scores[kind.KIND.core]


@names
def test_what_is_taught_reads_back_as_the_answer(family: Family) -> None:
    """200 rows: gold → template → labels → what the engine would give back → parsed: equal, and nothing is left out."""
    tokens_of = tokenizer(family)
    chat = Chat(tokens_of)
    end = tokens_of.convert_tokens_to_ids(family.end)
    assert chat.end == end
    examples = list(rows(200))
    made = tokens.encode(examples, tokens_of, chat=chat, schema="system", max_length=10**6)
    assert (made.refused, made.too_long, made.no_answer, len(made.rows)) == (0, 0, 0, 200)
    decoding = Decoding(max_new_tokens=10**6, stops=tuple(chat.stops()), pad=0)
    for example, row in zip(examples, made.rows, strict=True):
        learned = [i for i, label in zip(row.input_ids, row.labels, strict=True) if label != tokens.IGNORED]
        assert learned == row.input_ids[-len(learned) :]
        assert learned[-1] == end
        asked = Asked(example.id, Request(prompt=row.input_ids[: -len(learned)]), "d")
        back = prediction(asked, Answer(learned, 0.0), tokens_of, decoding, "m", "f")
        assert back.outcome == "ok"
        reply = back.raw or ""
        if chat.opening().thought != "none":  # what scores is read behind the thought
            reply = reply.rpartition("</think>")[2] if "</think>" in reply else reply
        if example.schema is not None:
            assert strict_json.equal(strict_json.loads(reply.strip()), example.answer), back.raw
        elif example.answer:
            read = toolcall.parse_calls(back.raw or "")
            assert read is not None, back.raw
            assert strict_json.equal(
                [{"name": call.name, "arguments": call.arguments} for call in read], example.answer
            ), back.raw
            assert strict_json.equal([vars_of(call) for call in toolcall.parse_calls(reply) or []], example.answer)
        else:
            assert scored(example, reply) == 1.0, back.raw


def vars_of(call: Any) -> dict[str, Any]:
    return {"name": call.name, "arguments": call.arguments}


@names
def test_a_prompt_is_what_transformers_renders(family: Family) -> None:
    tokens_of = tokenizer(family)
    chat = Chat(tokens_of)
    for example in rows(12):
        made = chat._conversation(example, "system", ())[0]
        if chat._parts:
            made = [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in made]
        theirs = tokens_of.apply_chat_template(
            made, tools=chat._tools(example), add_generation_prompt=True, tokenize=False, strftime_now=_july
        )
        assert chat.prompt(example, schema="system") == theirs


def _july(form: str) -> str:
    from fledgling.prompting.sandbox import TODAY

    return TODAY.strftime(form)


@names
def test_everything_of_a_history_reaches_the_prompt(family: Family) -> None:
    chat = Chat(tokenizer(family))
    for example in rows(30):
        text = chat.prompt(example)
        assert "please do it" in text
        for message in example.messages:
            if message["role"] == "system":
                assert "You run a house." in text
            if message["role"] == "tool":
                assert "it is done" in text
                assert "Oslo" in text
        for tool in example.tools or []:
            assert tool["function"]["name"] in text
        assert ("No tool is needed" in text) is False


@names
def test_shots_are_turns_of_the_conversation(family: Family) -> None:
    """What a shot shows is, letter by letter, what training would teach for it."""
    chat = Chat(tokenizer(family))
    asked = Example("r", "g", [{"role": "user", "content": "and now?"}], [], tools=next(rows(1)).tools)
    given = [
        row for row in rows(40, seed=5) if row.schema is None and row.answer and row.messages[-1]["role"] == "user"
    ]
    for shot in given[:3]:
        text = chat.prompt(asked, shots=[shot])
        assert chat.reply(shot).strip() in text
        assert text.index(shot.messages[-1]["content"].rstrip()) < text.index("and now?")


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.name.startswith("mistral")], ids=lambda f: f.name)
def test_ids_are_the_rows_own_where_the_template_takes_them(family: Family) -> None:
    def history(id: str | None) -> Example:
        call: dict[str, Any] = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
        result: dict[str, Any] = {"role": "tool", "content": "done"}
        if id:
            call["id"], result["tool_call_id"] = id, id
        return Example(
            "r", "g", [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [call]}, result], []
        )

    chat = Chat(tokenizer(family))
    assert chat.prompt(history("aB3dE5fG7")).count("aB3dE5fG7") == 2
    for id in ("call_Xy12-with-more", None):
        text = chat.prompt(history(id))
        assert id is None or id not in text
        ids = [part[:9] for part in text.split("CALL_ID]")[1:]] or [part[:9] for part in text.split('"id": "')[1:]]
        assert len(ids) == 1
        assert text.count(ids[0]) == 2


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.name.startswith("mistral")], ids=lambda f: f.name)
def test_a_result_without_an_id_belongs_to_the_tool_that_it_names(family: Family) -> None:
    def turn(*names: str) -> dict[str, Any]:
        calls = [{"type": "function", "function": {"name": name, "arguments": "{}"}} for name in names]
        return {"role": "assistant", "content": None, "tool_calls": calls}

    def result(name: str) -> dict[str, Any]:
        return {"role": "tool", "name": name, "content": f"of {name}"}

    history = [
        *({"role": "user", "content": "hi"}, turn("never"), {"role": "user", "content": "go on"}),
        *(turn("first", "second"), result("second"), result("first")),
    ]
    sent = with_ids(history)
    ids = [call["id"] for call in sent[3]["tool_calls"]]
    assert [made["tool_call_id"] for made in sent[4:]] == ids[::-1]
    text = Chat(tokenizer(family)).prompt(Example("r", "g", history, []))
    of = dict(re.findall(r'"name": "(\w+)", "arguments": {}, "id": "(\w{9})"', text))
    of |= dict(re.findall(r"(\w+)\[CALL_ID\](\w{9})\[ARGS\]", text))
    assert of.keys() == {"never", "first", "second"}
    for name in ("first", "second"):
        told = [part for part in text.split("[TOOL_RESULTS]")[1:] if of[name] in part]
        assert [f"of {name}" in part for part in told] == [True]


def test_two_calls_of_a_history_reach_a_template_that_takes_one() -> None:
    calls = [
        {"id": f"c{i}", "type": "function", "function": {"name": "f", "arguments": f'{{"x": {i}}}'}} for i in (1, 2)
    ]
    results = [{"role": "tool", "tool_call_id": f"c{i}", "content": f"r{i}"} for i in (1, 2)]
    row = Example(
        "r", "g", [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": calls}, *results], []
    )
    llama = next(family for family in FAMILIES if family.name == "llama3.1")
    text = Chat(tokenizer(llama)).prompt(row)
    assert '{"name": "f", "parameters": {"x": 1}}; {"name": "f", "parameters": {"x": 2}}<|eot_id|>' in text
    assert "r1" in text
    assert "r2" in text


def test_a_thought_is_closed_where_the_prompt_opens_one() -> None:
    family = next(family for family in FAMILIES if family.name == "deepseek-v3")
    chat = Chat(tokenizer(family))
    example = Example("r", "g", [{"role": "user", "content": "hi"}], [{"name": "f", "arguments": {}}])
    assert chat.prompt(example).endswith("<think>\n")
    assert chat.completion(example).text.startswith("</think>\n\n<｜tool▁calls▁begin｜>")


def test_an_answer_that_a_template_would_change_is_not_taught() -> None:
    family = next(family for family in FAMILIES if family.name == "qwen3")
    chat = Chat(tokenizer(family))
    row = Example("r", "g", [{"role": "user", "content": "hi"}], {"text": "a </think> b"}, schema={})
    with pytest.raises(Refused, match="does not read as that answer"):
        chat.completion(row)
    assert json.loads(
        chat.completion(Example("r", "g", row.messages, {"text": "ab"}, schema={})).text.rpartition("\n")[2]
    )


@names
def test_a_dialects_calls_are_those_of_its_own_template(family: Family) -> None:
    """Right values: the template's own call text is taught, not ours, wherever the scorer reads it."""
    own = {
        "qwen2.5",
        "qwen3",
        "qwen3-2507",
        "llama3.1",
        "llama3.2",
        "deepseek-v3",
        "deepseek-v3.1",
        "mistral-nemo",
        "mistral-small",
    }
    manner = Chat(tokenizer(family)).manner
    assert (manner.calls == "template") == (family.name in own)
    assert manner.system == (family.name != "gemma")
    assert manner.several == (family.name not in ("llama3.1", "llama3.2"))
    assert manner.arguments == ("text" if family.name == "deepseek-v3" else "object")
    assert manner.nine == family.name.startswith("mistral")


def test_random_rows_are_of_every_sort() -> None:
    many = list(rows(200))
    assert {len(row.answer) for row in many if row.schema is None} == {0, 1, 2, 3}
    assert any("東京" in json.dumps(row.answer, ensure_ascii=False) for row in many)
    assert Random(0).random() == Random(0).random()
