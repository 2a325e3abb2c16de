"""A checkpoint of Phi-4-mini's shape with random weights, and work for it: what the card benchmarks run on.

Random weights never write an end token, so every answer is exactly as long as `max_new_tokens` allows.
"""

import json
import random
from pathlib import Path
from typing import Any

END, PAD = "<|end|>", "<|endoftext|>"
SPECIAL = [PAD, "<|assistant|>", "<|user|>", "<|system|>", END]
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def config(layers: int = 32) -> Any:
    """Phi-4-mini-instruct's config.json, with LongRoPE factors of 1."""
    from transformers import Phi3Config

    ones = [1.0] * 48
    return Phi3Config(
        vocab_size=200064,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=layers,
        num_attention_heads=24,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        original_max_position_embeddings=4096,
        partial_rotary_factor=0.75,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=199999,
        eos_token_id=199999,
        pad_token_id=199999,
        sliding_window=262144,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": ones,
            "long_factor": ones,
            "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 4096,
        },
    )


def make(folder: Path, layers: int = 32) -> Path:
    """Make the checkpoint on the first card, unless it is there, and return its manifest."""
    from fledgling.models import checkpoint as manifest

    written = folder / "manifest.json"
    if written.exists():
        return written
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config(layers), dtype=torch.bfloat16)
    model.save_pretrained(folder / "checkpoint", max_shard_size="4GB")
    vocabulary = {mark: i for i, mark in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {f"<t{i}>": i for i in range(len(vocabulary), 199999)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=PAD,
        eos_token=PAD,
        pad_token=PAD,
        unk_token=PAD,
        additional_special_tokens=SPECIAL[1:],
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder / "checkpoint")
    manifest.write(written, manifest.describe(folder / "checkpoint", source="path"))
    return written


def examples(count: int, seed: int = 3) -> list[dict[str, Any]]:
    """Rows of 80 to 1,200 prompt tokens (log-normal, mean about 300), behind one system message of 60."""
    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz "

    def text(length: int) -> str:
        return "".join(rng.choice(letters) for _ in range(length))

    system = text(56)
    rows = []
    for i in range(count):
        tokens = min(1200, max(80, int(rng.lognormvariate(5.6, 0.45))))
        turns = [{"role": "system", "content": system}, {"role": "user", "content": text(tokens - 61)}]
        rows.append(
            {"id": f"row-{i}", "group": f"row-{i}", "messages": turns, "schema": {"type": "object"}, "answer": {}}
        )
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def training_examples(count: int, seed: int = 3, tokens: int | None = None) -> list[dict[str, Any]]:
    """Rows of 100 to 1,500 tokens (log-normal, mean about 365), or all of `tokens`, a sixth of them answer."""
    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz "
    rows = []
    for i in range(count):
        length = tokens or min(1500, max(100, int(rng.lognormvariate(5.8, 0.45))))
        answer = max(10, length // 6)
        asked = "".join(rng.choice(letters) for _ in range(length - answer - 4))
        # Something to learn, so that the loss falls: the answer copies the beginning of the question.
        wanted = {"a": asked[: max(1, answer - 9)]}
        turns = [{"role": "user", "content": asked}]
        rows.append(
            {"id": f"row-{i}", "group": f"row-{i}", "messages": turns, "schema": {"type": "object"}, "answer": wanted}
        )
    return rows


def guided_examples(count: int, schemas: int = 60, seed: int = 6) -> list[dict[str, Any]]:
    """Rows of `schemas` different schemas in turn; every answer within one ends, whatever weights write it."""
    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"

    def word() -> str:
        return "".join(rng.choice(letters) for _ in range(rng.randint(3, 9)))

    def part(depth: int) -> dict[str, Any]:
        kind = rng.choice(["enum", "boolean", "integer", "string", "array", *(["object"] if depth < 2 else [])])
        if kind == "enum":
            return {"enum": sorted({word() for _ in range(rng.randint(2, 6))})}
        if kind == "integer":
            return {"type": "integer", "minimum": 0, "maximum": rng.choice([9, 120, 5000])}
        if kind == "string":
            return {"type": "string", "maxLength": rng.randint(3, 8)}
        if kind == "array":
            return {"type": "array", "items": {"enum": [word(), word()]}, "minItems": 1, "maxItems": 3}
        return {"type": "boolean"} if kind == "boolean" else whole(depth + 1)

    def whole(depth: int = 0) -> dict[str, Any]:
        parts = {word(): part(depth) for _ in range(rng.randint(2, 4))}
        return {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}

    made = [whole() for _ in range(schemas)]
    rows = examples(count, seed)
    return [{**row, "schema": made[i % schemas]} for i, row in enumerate(rows)]
