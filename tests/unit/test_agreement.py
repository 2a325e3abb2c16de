"""What is trained on is the model's own loss, whatever the model: held against transformers, a row at a time."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fledgling.errors import ConfigError, DataError
from fledgling.training import agreement, attention
from fledgling.training.batch import Batch
from fledgling.training.objective import Apart, Objective, compile_layers
from fledgling.training.peft_backend import load
from fledgling.training.recipe import Recipe
from fledgling.training.tokens import Row
from fledgling.training.updates import Group
from tests.unit import tiny_models

CPU = torch.device("cpu")
ONE = Group(0, 1, CPU)
RECIPE = Recipe(
    learning_rate=1e-3,
    epochs=1,
    max_length=128,
    global_batch=4,
    rank=4,
    alpha=8,
    dropout=0.0,
    backend="peft",
    quantization="none",
    gradient_checkpointing=False,
)
FASTEST = {
    "phi3": Apart.KERNEL,
    "llama": Apart.KERNEL,
    "qwen3": Apart.KERNEL,
    "opt": Apart.KERNEL,
    "granite": Apart.KERNEL,
    "gpt2": Apart.MASK,
    "stablelm": Apart.MASK,
    "cohere2": Apart.MASK,
    "gemma2": Apart.MASK,
    "bloom": Apart.ALONE,
    "lfm2": Apart.ALONE,
    "recurrent_gemma": Apart.ALONE,
    "rwkv": Apart.ALONE,
    "gpt_oss": Apart.ALONE,
    "mamba2": Apart.ALONE,
}


def row(length: int, seed: int) -> Row:
    ids = torch.randint(3, 90, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return Row(input_ids=ids, labels=[-100] * (length // 3) + ids[length // 3 :])


ROWS = [row(length, seed) for seed, length in enumerate((20, 31, 7))]


def loaded(kind: str, folder: Path, recipe: Recipe = RECIPE) -> Any:
    model = load(tiny_models.save(kind, folder), recipe, device=CPU)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02)  # a fresh LoRA adds nothing, and its first half learns nothing
    return model


def own_loss(model: Any) -> torch.Tensor:
    """As transformers has it, every row in a pass of its own."""
    losses = []
    for each in ROWS:
        logits = model(input_ids=torch.tensor([each.input_ids]), use_cache=False).logits[0, :-1].float()
        labels = torch.tensor(each.labels[1:])
        losses.append(torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
    return torch.stack(losses).sum()


@pytest.mark.parametrize("kind", sorted(tiny_models.KINDS))
def test_every_model_learns_from_its_own_loss(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = loaded(kind, tmp_path)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    model.eval()  # some have dropout
    wanted = own_loss(model)
    wanted_gradients = torch.autograd.grad(wanted, list(trained.values()), allow_unused=True)
    objective = Objective(model.train(), longest=31, rows=6)
    with caplog.at_level(logging.WARNING):
        agreement.settle(objective, ROWS, ONE)
    assert objective.training
    assert objective.apart is FASTEST[kind]
    assert any("kept apart" in record.message for record in caplog.records) is (FASTEST[kind] is not objective.ways[0])
    objective.eval()
    found = objective(Batch.of(ROWS))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)
    for one, other, name in zip(
        torch.autograd.grad(found, list(trained.values()), allow_unused=True), wanted_gradients, trained, strict=True
    ):
        assert (one is None) == (other is None), name
        if one is not None and other is not None:
            assert torch.allclose(one, other, atol=1e-3 * max(1.0, float(other.abs().max()))), name


def test_a_head_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    model = loaded("llama", tmp_path)
    base = model.get_base_model()
    plain = base.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        found = plain(*args, **kwargs)
        found.logits = found.logits * 0.25
        return found

    base.forward = forward
    with pytest.raises(DataError, match=r"log probabilities differ by .*; train another checkpoint"):
        agreement.settle(Objective(model.train(), longest=31, rows=6), ROWS, ONE)


def test_a_loss_that_is_not_finite_is_for_the_first_step_to_say(tmp_path: Path) -> None:
    model = loaded("llama", tmp_path)
    model.get_base_model().model.norm.weight.data.fill_(float("nan"))
    objective = Objective(model.train(), longest=31, rows=6)
    agreement.settle(objective, ROWS, ONE)
    assert objective.apart is Apart.KERNEL
    assert model.get_base_model().config._attn_implementation == attention.ONE_BY_ONE


def test_a_word_that_the_model_forbids_is_left_out(tmp_path: Path) -> None:
    model = loaded("lfm2", tmp_path)
    base = model.get_base_model()
    plain, forbidden = base.forward, ROWS[1].input_ids[3]

    def forward(*args: Any, **kwargs: Any) -> Any:
        found = plain(*args, **kwargs)
        found.logits[..., forbidden] = -float("inf")
        return found

    base.forward = forward
    objective = Objective(model.train(), longest=31, rows=6)
    agreement.settle(objective, ROWS, ONE)
    assert objective.apart is Apart.ALONE


def test_a_pass_that_fails_under_lora_is_said(tmp_path: Path) -> None:
    model = loaded("llama", tmp_path)

    def forward(*_: Any, **__: Any) -> Any:
        raise AttributeError("'tuple' object has no attribute 'dtype'")

    model.get_base_model().forward = forward
    with pytest.raises(DataError, match="a pass under LoRA fails \\(AttributeError: 'tuple' object"):
        agreement.settle(Objective(model.train(), longest=31, rows=6), ROWS, ONE)


def test_all_processes_take_the_way_of_the_one_that_found_most_against_it(tmp_path: Path) -> None:
    class Other(Group):
        def least(self, value: int) -> int:
            return min(value, -2)

    objective = Objective(loaded("llama", tmp_path).train(), longest=31, rows=6)
    agreement.settle(objective, ROWS, Other(0, 2, CPU))
    assert objective.apart is Apart.ALONE


def test_a_long_row_changes_no_angle_of_the_rows_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
    switch = {"original_max_position_embeddings": 24}
    monkeypatch.setitem(tiny_models.KINDS, "phi3", switch | {"rope_parameters": rope | switch})
    model = loaded("phi3", tmp_path)
    wanted = own_loss(model.eval())  # of 20, 31 and 7 tokens
    objective = Objective(model, longest=31, rows=6)
    agreement.settle(objective, ROWS, ONE)
    assert objective.apart is Apart.KERNEL
    passes = []
    plain = objective._pass
    monkeypatch.setattr(objective, "_pass", lambda ids, *more: passes.append(ids.shape[1]) or plain(ids, *more))
    assert objective(Batch.of(ROWS)).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert passes == [20, 31, 7]
    objective(Batch.of([ROWS[0], ROWS[2]]))
    objective(Batch.of([ROWS[1]]))
    assert passes[3:] == [27, 31]  # nothing to keep apart in one pass


def test_chunks_of_attention_shorter_than_a_row_are_the_models_own(tmp_path: Path) -> None:
    model = loaded("llama", tmp_path)
    model.get_base_model().config.attention_chunk_size = 30
    assert Objective(model.train(), longest=30, rows=6).ways[0] is Apart.KERNEL
    assert Objective(model.train(), longest=31, rows=6).ways[0] is Apart.MASK


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bloom"])
def test_layers_are_compiled_where_they_are_found(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **_: compiled.append(layer))
    compile_layers(loaded(kind, tmp_path))
    assert len(compiled) == (4 if kind == "llama" else 0)


def test_layers_that_kernels_read_past_have_no_lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixer = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 16, "num_local_experts": 0}
    layers = {"layer_types": ["mamba", "attention"] * 2, "shared_intermediate_size": 48}
    monkeypatch.setitem(tiny_models.KINDS, "granitemoehybrid", mixer | layers)
    model = loaded("granitemoehybrid", tmp_path)
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert any("in_proj" in name for name in names)
    assert not any("out_proj" in name for name in names)


def test_one_short_row_is_enough_to_find_out(tmp_path: Path) -> None:
    objective = Objective(loaded("lfm2", tmp_path).train(), longest=31, rows=6)
    agreement.settle(objective, [row(6, 1)], ONE)
    assert objective.apart is Apart.ALONE


@pytest.mark.parametrize(("kind", "key"), [("gpt_oss", None), ("mixtral", "recipe.dropout")])
def test_lora_with_dropout_on_experts(
    kind: str, key: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiny_models.KINDS, "mixtral", {"num_local_experts": 2})
    recipe = Recipe(**RECIPE.to_json() | {"dropout": 0.1})
    if key is None:
        loaded(kind, tmp_path, recipe)
        return
    with pytest.raises(ConfigError, match=key):
        loaded(kind, tmp_path, recipe)


def test_the_rules_own_command_trains_a_model_with_states(root: Path, tmp_path: Path) -> None:
    from fledgling.embedded import world
    from fledgling.models import checkpoint as manifest

    folder = tiny_models.save("lfm2", tmp_path / "model/checkpoint")
    manifest.write(tmp_path / "model/manifest.json", manifest.describe(folder, source="path"))
    for name, seed, rows in (("train", 1, 24), ("val", 2, 4)):
        lines = (json.dumps(each) + "\n" for each in world.generate("structured", rows, seed))
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    settings = {
        "recipe": RECIPE.to_json() | {"max_length": 4096, "learning_rate": 1e-2, "epochs": 3},
        "track": {},
        "seed": 0,
    }
    done = subprocess.run(
        [
            *(sys.executable, root / "scripts/train.py", "--track", "t", "--settings", json.dumps(settings)),
            *("--train", tmp_path / "train.jsonl", "--val", tmp_path / "val.jsonl"),
            *("--model", tmp_path / "model/manifest.json", "--out", tmp_path / "out/training.json"),
        ],
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "rows are kept apart one at a time (slower): what lies before a row changes" in done.stderr
    trained = json.loads((tmp_path / "out/training.json").read_text())
    assert trained["rows"] == 24
    assert trained["final_loss"] < trained["history"][0]["loss"]
