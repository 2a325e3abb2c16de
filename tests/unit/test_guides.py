"""Decoding within a guide: whatever the weights would write, an answer that ends is valid by its row's schema."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import xgrammar

from fledgling import schema as json_schema
from fledgling import strict_json
from fledgling.prompting.template import NO_CALL, Chat
from fledgling.records import Example
from fledgling.slm.engine import Answer, Decoding, Request
from fledgling.slm.guides import Form, Guides, Unguided, form_of
from fledgling.slm.masks import Grammars
from fledgling.tracks import toolcall
from tests.unit.families import FAMILIES, Family, rows, tokenizer

PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Oslo", "Zürich", 'say "hi"']},
        "n": {"type": "integer"},
        "on": {"type": "boolean"},
        "many": {"type": "array", "items": {"type": "number"}, "maxItems": 3},
        "deep": {"type": "object", "properties": {"x": {"type": ["string", "null"]}}, "required": ["x"]},
    },
    "required": ["city", "on"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "", "parameters": PARAMETERS}}
    for name in ("set_light", "book.table")
]
CALLED = Example("c", "c", [{"role": "user", "content": "go"}], [], tools=TOOLS)
RECORD = Example("s", "s", [{"role": "user", "content": "go"}], {}, schema=PARAMETERS)
READABLE = [family for family in FAMILIES if family.name != "gemma4"]
names = pytest.mark.parametrize("family", READABLE, ids=[family.name for family in READABLE])


def compiled(family: Family) -> tuple[Any, Chat, xgrammar.GrammarCompiler]:
    tokens = tokenizer(family)
    chat = Chat(tokens)
    info = xgrammar.TokenizerInfo.from_huggingface(tokens, vocab_size=len(tokens), stop_token_ids=sorted(chat.stops()))
    return tokens, chat, xgrammar.GrammarCompiler(info, max_threads=1)


@names
def test_a_guide_takes_what_the_template_writes(family: Family) -> None:
    """Right values: gold answers of the dialect itself, no call and several calls, are within the guide."""
    tokens, chat, compiler = compiled(family)
    guides = Guides(chat)
    arguments = {"city": 'say "hi"', "n": -3, "on": True, "many": [1, 2.5], "deep": {"x": None}}
    call = {"name": "book.table", "arguments": arguments}
    other = {"name": "set_light", "arguments": {"city": "Zürich", "on": False}}
    for row in (
        Example("1", "1", CALLED.messages, [call], tools=TOOLS),
        Example("2", "2", CALLED.messages, [other, call, other], tools=TOOLS),
        Example("0", "0", CALLED.messages, [], tools=TOOLS),
        Example("s", "s", CALLED.messages, arguments, schema=PARAMETERS),
    ):
        guide = guides.guide(row)
        assert guide
        matcher = xgrammar.GrammarMatcher(compiler.compile_structural_tag(guide))
        done = chat.completion(row)
        for token in [*tokens(done.text, add_special_tokens=False)["input_ids"], done.end]:
            assert matcher.accept_token(token), (done.text, tokens.decode([token]))
        assert matcher.is_terminated()


def wander(random: Random, tokens: Any, matcher: Any, vocabulary: int, start: str) -> str | None:
    """A text written token by token, each drawn from those that may come, with a liking for what closes."""
    bits = xgrammar.allocate_token_bitmask(1, vocabulary)
    written: list[int] = tokens(start, add_special_tokens=False)["input_ids"]
    assert all(matcher.accept_token(token) for token in written)
    closing = [
        i for i in range(vocabulary) if tokens.decode([i]).strip() in ('"', "}", "]", '"}', "</think>", ",", ":")
    ]
    for _ in range(400):
        matcher.fill_next_token_bitmask(bits)
        may = [i for i in range(vocabulary) if bits[0, i // 32].item() >> (i % 32) & 1]
        stops = [i for i in may if i in matcher.stop_token_ids]
        liked = stops or [i for i in closing if i in set(may)]
        token = random.choice(liked) if liked and random.random() < 0.6 else random.choice(may)
        assert matcher.accept_token(token)
        if matcher.is_terminated():
            return tokens.decode(written)
        written.append(token)
    return None


@pytest.mark.parametrize("family", READABLE[::3], ids=[family.name for family in READABLE[::3]])
def test_whatever_is_drawn_within_a_guide_is_valid(family: Family) -> None:
    tokens, chat, compiler = compiled(family)
    guides, random = Guides(chat), Random(family.name)
    valid = json_schema.compiled(PARAMETERS).valid
    ended = called = 0
    for number in range(24):
        row = RECORD if number % 3 == 0 else CALLED
        guide = guides.guide(row)
        assert guide
        matcher = xgrammar.GrammarMatcher(compiler.compile_structural_tag(guide))
        start = "" if row is RECORD or number % 2 else form_of(chat).begin
        start = "</think>" + start if chat.opening().thought == "open" else start
        text = wander(random, tokens, matcher, len(tokens), start)
        if text is None:
            continue
        ended += 1
        reply = text.partition("</think>")[2] if chat.opening().thought == "open" else text
        if row is RECORD:
            assert valid(strict_json.loads(reply.strip())), text
            continue
        calls = toolcall.parse_calls(reply)
        called += bool(calls)
        for call in calls or []:
            assert call.name in ("set_light", "book.table")
            assert valid(call.arguments), text
        if not calls:
            assert not toolcall.attempts_call(reply), text
    assert ended > 12
    assert called


BYTES = xgrammar.TokenizerInfo([bytes([i]) for i in range(256)] + [b"</s>"], stop_token_ids=[256])
BOUNDED = [
    {"type": "string", "maxLength": 4},
    {"type": "string", "minLength": 3},
    {"type": "string", "minLength": 2, "maxLength": 5},
    {"type": "array", "items": {"type": "string", "maxLength": 2}, "minItems": 1, "maxItems": 3},
    {
        "type": "object",
        "propertyNames": {"maxLength": 3},
        "additionalProperties": {"type": "boolean"},
        "maxProperties": 1,
    },
]


def matcher_of(schema: dict[str, Any]) -> Any:
    guide = Guides(Chat(tokenizer(FAMILIES[0]))).guide(Example("s", "s", RECORD.messages, {}, schema=schema))
    assert guide
    return xgrammar.GrammarMatcher(xgrammar.GrammarCompiler(BYTES, max_threads=1).compile_structural_tag(guide))


@pytest.mark.parametrize("schema", BOUNDED, ids=str)
def test_bounded_strings_are_valid_byte_by_byte(schema: dict[str, Any]) -> None:
    """A model may write any byte that its guide takes: control characters and halves of surrogates among them."""
    ended = 0
    for number in range(30):
        random, matcher, written = Random(number), matcher_of(schema), bytearray()
        bits = xgrammar.allocate_token_bitmask(1, 257)
        for _ in range(300):
            matcher.fill_next_token_bitmask(bits)
            may = [i for i in range(257) if bits[0, i // 32].item() >> (i % 32) & 1]
            if 256 in may:
                ended += 1
                assert json_schema.compiled(schema).valid(strict_json.loads(bytes(written))), bytes(written)
                break
            closing = [i for i in may if i in b'"}]']
            token = random.choice(closing) if closing and random.random() < 0.3 else random.choice(may)
            assert matcher.accept_token(token)
            written.append(token)
    assert ended > 25


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a\nb", "\u0007ü€😀", "\x7f"])
def test_a_bounded_string_may_be_any_text_of_its_length(text: str) -> None:
    for size, takes in ((len(text), True), (len(text) - 1, False)):
        matcher = matcher_of({"type": "string", "maxLength": size})
        written = json.dumps(text, ensure_ascii=False).encode()
        assert all(matcher.accept_token(byte) for byte in written) == takes


def test_forms_are_read_off_the_template() -> None:
    by_name = {family.name: form_of(Chat(tokenizer(family))) for family in READABLE}
    assert by_name["phi-4-mini"] == Form('<|tool_call|>[{"name":"', '","arguments":', '},{"name":"', "}]<|/tool_call|>")
    assert by_name["llama3.1"] == Form('{"name": "', '", "parameters": ', '}; {"name": "', "}")
    assert by_name["mistral-nemo"].end == ', "id": "call00001"}]'
    assert by_name["deepseek-v3.1"].begin == "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"


def test_a_schema_without_a_grammar_is_said() -> None:
    guides = Guides(Chat(tokenizer(FAMILIES[0])))
    with pytest.raises(Unguided):
        guides.guide(Example("s", "s", RECORD.messages, {}, schema={"$ref": "#/$defs/none"}))


def test_rows_without_a_schema_are_free_and_without_tools_have_words() -> None:
    guides = Guides(Chat(tokenizer(FAMILIES[0])))
    assert guides.guide(Example("s", "s", RECORD.messages, {"a": 1})) is None
    words = guides.guide(Example("c", "c", RECORD.messages, []))
    assert words
    assert "const_string" not in words


@pytest.mark.parametrize("size", [1, 5])
def test_the_engine_keeps_each_row_within_its_own_guide(tiny_checkpoint: Path, size: int) -> None:
    """An untrained model, which would write anything: rows of three kinds side by side in a batch."""
    from transformers import AutoTokenizer

    from fledgling.slm.transformers_engine import TransformersSlm

    tokens = AutoTokenizer.from_pretrained(tiny_checkpoint)
    chat = Chat(tokens)
    guides = Guides(chat)
    stops = tuple(sorted({*chat.stops(), tokens.eos_token_id}))
    decoding = Decoding(max_new_tokens=60, stops=stops, pad=tokens.pad_token_id)
    slm = TransformersSlm(tiny_checkpoint, precision="fp32", batch_size=size, decoding=decoding)
    small = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
    tool = {"type": "function", "function": {"name": "set_light", "parameters": small}}
    kinds = [
        Example("s", "s", RECORD.messages, {}, schema=small),
        Example("c", "c", CALLED.messages, [], tools=[tool]),
        None,
    ]
    requests = []
    for number in range(15):
        kind = kinds[number % 3]
        prompt = tokens(f"<|user|>{'light ' * (number % 4)}go {number}<|end|><|assistant|>")["input_ids"]
        requests.append(Request(prompt=prompt, guide=guides.guide(kind) if kind else None))
    answers: dict[int, Answer] = {}
    for positions, batch in slm.answers(requests, lambda _: None):
        answers |= dict(zip(positions, batch, strict=True))
    seen = set()
    for number, answer in sorted(answers.items()):
        written = [token for token in answer.tokens or [] if token not in stops]
        text = tokens.decode(written)
        ended = len(written) < len(answer.tokens or [])
        if number % 3 == 0:
            assert ended
            assert json_schema.compiled(small).valid(strict_json.loads(text))
        elif number % 3 == 1 and ended:
            calls = toolcall.parse_calls(text)
            assert calls or not toolcall.attempts_call(text)
            assert all(json_schema.compiled(small).valid(call.arguments) for call in calls or [])
        seen.add((number % 3, ended))
    assert (0, True) in seen


def test_a_row_that_leaves_its_guide_is_noticed(tiny_checkpoint: Path) -> None:
    import torch
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(tiny_checkpoint)
    chat = Chat(tokens)
    masks = Grammars(tokens, len(tokens), tuple(chat.stops())).masks([Guides(chat).guide(RECORD), None])
    scores = torch.zeros(2, len(tokens))
    first = masks(torch.tensor([[1], [1]]), scores.clone())
    assert torch.isinf(first[0]).sum() > len(tokens) - 50
    assert not torch.isinf(first[1]).any()
    with pytest.raises(RuntimeError, match="row 0 of the batch left its guide"):
        masks(torch.tensor([[5], [5]]), scores.clone())


def test_gold_rows_of_every_family_have_guides() -> None:
    guides = Guides(Chat(tokenizer(FAMILIES[0])))
    for row in rows(20):
        assert json.loads(guides.guide(row) or "{}")
    assert NO_CALL[0].isalpha()
