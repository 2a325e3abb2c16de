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
from fledgling.training import agreement
from fledgling.training.batch import Batch
from fledgling.training.objective import Apart, Objective
from fledgling.training.peft_backend import load
from fledgling.training.recipe import Recipe
from fledgling.training.tokens import Row
from tests.unit import tiny_models

CPU = torch.device("cpu")
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
    objective = Objective(model.train(), longest=31)
    with caplog.at_level(logging.WARNING):
        agreement.settle(objective, ROWS, CPU)
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
    with pytest.raises(DataError, match=r"differ from the model's own by .* train another checkpoint"):
        agreement.settle(Objective(model.train(), longest=31), ROWS, CPU)


def test_one_short_row_is_enough_to_find_out(tmp_path: Path) -> None:
    objective = Objective(loaded("lfm2", tmp_path).train(), longest=31)
    agreement.settle(objective, [row(6, 1)], CPU)
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
