"""A merged adapter answers as the adapter on its base does, and a chain as its adapters one after the other."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from fledgling.errors import DataError
from fledgling.models import adapter, checkpoint
from fledgling.models.merge import merge


def train(base: checkpoint.Model, folder: Path, seed: int) -> Path:
    """An adapter of random weights, sealed as a training seals it."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base.checkpoint.resolve())
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=["qkv_proj", "down_proj"], init_lora_weights=False))
    folder.mkdir(parents=True)
    adapter.write_weights(tuned, folder / adapter.WEIGHTS)
    adapter.write_config(tuned, adapter.name_of(base), folder / adapter.CONFIG)
    adapter.seal(folder, track="t", model=base, data={"train": "x"}, recipe={"rank": 4}, backend="peft")
    return folder


def logits(folder: Path, *adapters: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder.resolve())
    for place in adapters:
        model = PeftModel.from_pretrained(model, place.resolve()).merge_and_unload()
    with torch.no_grad():
        result: torch.Tensor = model(torch.arange(5, 25)[None]).logits
    return result


def test_a_merged_adapter_answers_as_before(tiny_model: Path, tmp_path: Path) -> None:
    base = checkpoint.load(tiny_model)
    one = train(base, tmp_path / "one", seed=1)
    merged = merge(base, [one], tmp_path / "merged")
    assert torch.allclose(logits(merged.checkpoint), logits(base.checkpoint, one), atol=1e-4)
    assert not torch.allclose(logits(merged.checkpoint), logits(base.checkpoint), atol=1e-2)
    assert merged.chat_template_sha256 == base.chat_template_sha256
    assert merged.fingerprint != base.fingerprint
    assert merged.generated == base.generated
    two = train(merged, tmp_path / "two", seed=2)
    both = merge(base, [one, two], tmp_path / "chain")
    assert torch.allclose(logits(both.checkpoint), logits(merged.checkpoint, two), atol=1e-4)
    assert [place.name for place in (tmp_path / "chain").iterdir()] == ["two"]
    checkpoint.write(tmp_path / "manifest.json", both)
    assert checkpoint.load(tmp_path / "manifest.json", verify=True) == both


def test_an_adapter_of_something_else_is_not_merged(tiny_model: Path, tmp_path: Path) -> None:
    base = checkpoint.load(tiny_model)
    one = train(base, tmp_path / "one", seed=1)
    two = train(merge(base, [one], tmp_path / "merged"), tmp_path / "two", seed=2)
    with pytest.raises(DataError, match="does not fit"):
        merge(base, [two], tmp_path / "wrong")
    config = json.loads((one / adapter.CONFIG).read_text())
    (one / adapter.CONFIG).write_text(json.dumps(config | {"lora_alpha": 99}))
    with pytest.raises(DataError, match="damaged"):
        merge(base, [one], tmp_path / "wrong")
