"""The slm and its training on real cards; the same code as on a CPU, with what only a card can run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fledgling.records import read_predictions

pytestmark = pytest.mark.gpu
torch = pytest.importorskip("torch")
CARDS = torch.cuda.device_count()
if not CARDS:
    pytest.skip("no CUDA card", allow_module_level=True)

RECIPE = {
    "backend": "auto", "quantization": "nf4", "rank": 8, "alpha": 16, "dropout": 0.0, "learning_rate": 0.005, "epochs": 2,
    "max_length": 512, "scheduler": "cosine", "warmup_ratio": 0.05, "global_batch": 8, "gradient_checkpointing": True,
    "save_steps": 10,
}  # fmt: skip


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=os.environ | environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded checkpoint, trained on this machine."""
    from fledgling.models import manifest
    from fledgling.models.fetch import embedded

    folder = tmp_path_factory.mktemp("model")
    manifest.write(folder / "manifest.json", embedded(folder / "checkpoint", seed=0))
    return folder / "manifest.json"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fledgling.embedded import world

    folder = tmp_path_factory.mktemp("data")
    for name, seed, rows in (("train", 1, 200), ("test", 2, 128)):
        lines = (json.dumps(row) + "\n" for row in world.generate("toolcall", rows, seed))
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def predict(root: Path, model: Path, data: Path, out: Path, **slm: Any) -> list[Any]:
    settings = {
        "slm": {"engine": "transformers", "precision": "bf16", "batch_size": 8, "max_prompt_tokens": 1024} | slm,
        "track": {"max_new_tokens": 64},
        "seed": 0,
    }
    run(
        root / "scripts/predict.py", "--track", "t", "--data", data / "test.jsonl", "--model", model,
        "--settings", json.dumps(settings), "--journal", out.parent / f"journal-{out.name}", "--out", out,
    )  # fmt: skip
    return list(read_predictions(out))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "nf4", "int8"])
def test_every_precision_answers(root: Path, model: Path, data: Path, tmp_path: Path, precision: str) -> None:
    rows = predict(root, model, data, tmp_path / "p.jsonl", precision=precision)
    assert sum(row.outcome == "ok" for row in rows) > 0.9 * len(rows)


def test_engines_agree(root: Path, model: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    one = predict(root, model, data, tmp_path / "one.jsonl")
    other = predict(root, model, data, tmp_path / "other.jsonl", engine="vllm")
    assert [row.request for row in one] == [row.request for row in other]
    same = sum(a.raw == b.raw for a, b in zip(one, other, strict=True))
    assert same > 0.9 * len(one)  # bf16 sums in another order flip near ties


def training(root: Path, model: Path, data: Path, out: Path, **given: Any) -> list[str | Path]:
    """The script and its arguments, to be started by python or by a launcher."""
    where = {"micro_batch_tokens": 1024, "deepspeed": given.pop("deepspeed", False)}
    settings = {"recipe": RECIPE | given, "training": where, "track": {}, "seed": 0}
    return [
        root / "scripts/train.py",
        "--track", "t", "--train", data / "train.jsonl", "--val", data / "test.jsonl", "--model", model,
        "--settings", json.dumps(settings), "--out", out / "adapter_model.safetensors",
    ]  # fmt: skip


def train(root: Path, model: Path, data: Path, out: Path, processes: int, **given: Any) -> dict[str, Any]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    run(*launcher, *training(root, model, data, out, **given))
    return json.loads((out / "training.json").read_text())


@pytest.mark.parametrize("backend", ["peft", "unsloth"])
def test_one_card_trains(root: Path, model: Path, data: Path, tmp_path: Path, backend: str) -> None:
    if backend == "unsloth":
        pytest.importorskip("unsloth")
    summary = train(root, model, data, tmp_path, 1, backend=backend)
    assert summary["backend"] == backend
    assert summary["final_loss"] < 0.7 * summary["history"][0]["loss"]


@pytest.mark.skipif(CARDS < 2, reason="needs two cards")
@pytest.mark.parametrize("deepspeed", [False, True])
def test_two_cards_train_the_same_model(root: Path, model: Path, data: Path, tmp_path: Path, deepspeed: bool) -> None:
    if deepspeed:
        pytest.importorskip("deepspeed")
    alone = train(root, model, data, tmp_path / "one", 1, backend="peft")
    two = train(root, model, data, tmp_path / "two", 2, backend="peft", deepspeed=deepspeed)
    assert two["world_size"] == 2
    assert two["final_loss"] == pytest.approx(alone["final_loss"], abs=1e-2)


def test_a_killed_training_ends_where_the_undisturbed_one_does(
    root: Path, model: Path, data: Path, tmp_path: Path
) -> None:
    alone = train(root, model, data, tmp_path / "alone", 1, backend="peft")
    out = tmp_path / "killed"
    command = [sys.executable, *training(root, model, data, out, backend="peft")]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not list(out.glob("checkpoints/checkpoint-*/seal.json")):
        assert first.poll() is None, "it ended before it had sealed a checkpoint"
        time.sleep(0.05)
    first.kill()
    first.wait()
    resumed = train(root, model, data, out, 1, backend="peft")
    assert resumed["final_loss"] == pytest.approx(alone["final_loss"], abs=1e-3)
    assert len(resumed["history"]) == len(alone["history"])
