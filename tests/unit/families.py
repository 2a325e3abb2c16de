"""Chat templates of real families, and rows to put in them."""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from fledgling.embedded import architecture
from fledgling.records import Example

HERE = Path(__file__).resolve().parents[1] / "templates"
MARKERS = re.compile(
    r"<[|｜][^<>\s]{1,30}[|｜]>|<end_of_turn>|<start_of_turn>|\[/?(?:INST|TOOL_[A-Z]+|ARGS|CALL_ID|AVAILABLE_TOOLS)\]"
    r"|</?think>|</?tool_call>"
)


@dataclass(frozen=True)
class Family:
    """A chat template: its name, its file, its first and last tokens, and the token that ends a turn."""

    name: str
    file: str
    bos: str
    eos: str
    end: str


FAMILIES = (
    Family("phi-4-mini", "", "<|endoftext|>", "<|endoftext|>", "<|end|>"),
    Family("phi-3", "phi3.jinja", "<s>", "<|endoftext|>", "<|end|>"),
    Family("phi-3.5", "phi3_5.jinja", "<s>", "<|endoftext|>", "<|end|>"),
    Family("qwen2.5", "qwen2_5.jinja", "<|endoftext|>", "<|endoftext|>", "<|im_end|>"),
    Family("qwen3", "qwen3.jinja", "<|endoftext|>", "<|endoftext|>", "<|im_end|>"),
    Family("qwen3-2507", "qwen3_instruct_2507.jinja", "<|endoftext|>", "<|endoftext|>", "<|im_end|>"),
    Family("llama3.1", "llama3_1.jinja", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"),
    Family("llama3.2", "llama3_2.jinja", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"),
    Family("gemma", "gemma.jinja", "<bos>", "<eos>", "<end_of_turn>"),
    Family("gemma3", "gemma3.jinja", "<bos>", "<eos>", "<end_of_turn>"),
    Family(
        "deepseek-v3", "deepseekv3.jinja", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
    ),
    Family(
        "deepseek-v3.1",
        "deepseek-v3.1.jinja",
        "<｜begin▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
    ),
    Family(
        "deepseek-r1",
        "deepseek_r1_distill.jinja",
        "<｜begin▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
    ),
    Family("glm4", "glm4moe.jinja", "<|endoftext|>", "<|endoftext|>", "<|endoftext|>"),
    Family("mistral-nemo", "mistral-nemo.jinja", "<s>", "</s>", "</s>"),
    Family("mistral-small", "mistral-small-3.2.jinja", "<s>", "</s>", "</s>"),
    Family("smollm2", "smollm2.jinja", "<|im_start|>", "<|im_end|>", "<|im_end|>"),
    Family("llama3", "llama3.jinja", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"),
    Family("lfm2", "lfm2.jinja", "<|startoftext|>", "<|im_end|>", "<|im_end|>"),
    Family("gemma4", "gemma4_v5.jinja", "<bos>", "<eos>", "<turn|>"),
)


@cache
def _base() -> Any:
    return architecture.tokenizer(["turn the light on in the kitchen"])


@cache
def tokenizer(family: Family) -> Any:
    """A byte-level tokenizer with the template of the family, and its markers as special tokens."""
    made = copy.deepcopy(_base())
    if not family.file:
        return made
    trl = Path(next(iter(find_spec("trl").submodule_search_locations))) / "chat_templates"  # type: ignore[union-attr, arg-type]
    own = HERE / family.file
    text = (own if own.is_file() else trl / family.file).read_text(encoding="utf-8")
    markers = sorted({*MARKERS.findall(text), family.end})
    made.add_special_tokens({"bos_token": family.bos, "eos_token": family.eos, "additional_special_tokens": markers})
    made.chat_template = text
    return made


WORDS = [
    "kitchen",
    "Zürich",
    "東京の天気",
    "🌧️ rain",
    'say "hi"',
    "a\nb",
    "back\\slash",
    "</b> & <i>",
    "",
    "null",
    "007",
    "it's",
]
NAMES = ["set_light", "get_weather", "book.table", "send-mail"]


def value(random: Random, depth: int = 0) -> Any:
    """A JSON value as arguments hold them, nested up to three deep."""
    kind = random.randrange(8 if depth < 3 else 6)
    if kind < 2:
        return random.choice(WORDS)
    if kind < 6:
        return random.choice([0, -7, 12345678901234567890, 2.5, 1e-9, True, False, None])
    if kind == 6:
        return [value(random, depth + 1) for _ in range(random.randrange(4))]
    return {
        random.choice(["a", "größe", "x y", "0"]) + str(i): value(random, depth + 1) for i in range(random.randrange(3))
    }


def rows(count: int, seed: int = 0) -> Iterator[Example]:
    """Rows of both kinds: none, one and several calls, with and without system message and history, and records."""
    random = Random(seed)
    for number in range(count):
        names = random.sample(NAMES, 2)
        properties = {key: {} for key in ("city", "n", "deep")}
        tools = [
            {
                "type": "function",
                "function": {
                    "name": name,
                    "description": "does it",
                    "parameters": {"type": "object", "properties": properties, "required": []},
                },
            }
            for name in names
        ]
        calls = [
            {
                "name": random.choice(names),
                "arguments": {key: value(random) for key in random.sample(list(properties), random.randrange(4))},
            }
            for _ in range(random.choice([0, 1, 1, 2, 3]))
        ]
        messages: list[dict[str, Any]] = [{"role": "system", "content": "You run a house."}] if number % 2 else []
        messages.append({"role": "user", "content": f"please do it, {random.choice(WORDS)} {number}"})
        if number % 3 == 0:  # no user's turn after the result: some templates want user and assistant by turns
            call = {"name": names[0], "arguments": '{"city": "Oslo"}'}
            messages += [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c", "type": "function", "function": call}],
                },
                {"role": "tool", "tool_call_id": "c", "content": "it is done"},
            ]
        if number % 5 == 4:
            schema = {"type": "object", "title": "Record"}
            answer = {"a": value(random), "b": value(random)}
            yield Example(f"r{number}", f"g{number}", messages[: 1 + number % 2], answer, schema=schema)
        else:
            yield Example(f"r{number}", f"g{number}", messages, calls, tools=tools)
