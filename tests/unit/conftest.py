"""A tiny untrained checkpoint, for tests that need a model and not what it knows."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

WORDS = "turn the light on in kitchen for Alice three two one kitchen porch name arguments true false " * 4


@pytest.fixture(scope="session")
def benchmark(root: Path) -> ModuleType:
    """benchmarks/false_swap.py, which simulates the gate itself."""
    spec = importlib.util.spec_from_file_location("false_swap", root / "benchmarks" / "false_swap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Phi-3-architecture checkpoint of 50,000 random weights and Phi-4-mini's special tokens."""
    import torch
    from transformers import GenerationConfig, Phi3Config, Phi3ForCausalLM

    from fledgling.embedded.architecture import tokenizer

    tokens = tokenizer([WORDS])
    end, pad = tokens.convert_tokens_to_ids(["<|end|>", "<|endoftext|>"])
    torch.manual_seed(0)
    model = Phi3ForCausalLM(
        Phi3Config(
            vocab_size=len(tokens),
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=4096,
            original_max_position_embeddings=4096,
            tie_word_embeddings=True,
            bos_token_id=pad,
            eos_token_id=end,
            pad_token_id=pad,
            initializer_range=0.2,
        )
    )
    model.generation_config = GenerationConfig(
        bos_token_id=pad, eos_token_id=[end, pad], pad_token_id=pad, do_sample=False
    )
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Path) -> Path:
    """The manifest of the tiny checkpoint."""
    from fledgling.models import checkpoint

    path = tiny_checkpoint.parent / "manifest.json"
    checkpoint.write(path, checkpoint.describe(tiny_checkpoint, source="path"))
    return path


@pytest.fixture(scope="session")
def tiny_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSON Lines file with 24 short tool-call rows; prompts are of different lengths."""
    tool = {
        "type": "function",
        "function": {
            "name": "set_light",
            "description": "control a lamp",
            "parameters": {
                "type": "object",
                "properties": {"room": {"type": "string"}, "on": {"type": "boolean"}},
                "required": ["room", "on"],
            },
        },
    }
    rows: list[dict[str, Any]] = []
    for i in range(24):
        room, on = ("kitchen", "porch", "attic")[i % 3], i % 2 == 0
        request = f"turn the light {'on' if on else 'off'} in the {room}" + " for Alice" * (i % 5) + f" {i}"
        rows.append(
            {
                "id": f"r{i}",
                "group": f"g{i}",
                "messages": [{"role": "user", "content": request}],
                "tools": [tool],
                "answer": [{"name": "set_light", "arguments": {"room": room, "on": on}}],
            }
        )
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def replaying(monkeypatch: pytest.MonkeyPatch) -> type:
    """Micro-batches are replayed, on the CPU."""
    from . import replays

    return replays.stand_in(monkeypatch)
