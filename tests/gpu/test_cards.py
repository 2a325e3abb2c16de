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
from tests.unit import tiny_models

pytestmark = pytest.mark.gpu
torch = pytest.importorskip("torch")
CARDS = torch.cuda.device_count()
if not CARDS:
    pytest.skip("no CUDA card", allow_module_level=True)

RECIPE = {
    "backend": "auto",
    "quantization": "nf4",
    "rank": 8,
    "alpha": 16,
    "dropout": 0.0,
    "learning_rate": 0.005,
    "epochs": 2,
    "max_length": 512,
    "scheduler": "cosine",
    "warmup_ratio": 0.05,
    "global_batch": 8,
    "gradient_checkpointing": True,
    "save_steps": 10,
}


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=os.environ | environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded checkpoint, trained on this machine."""
    from fledgling.fetch import embedded
    from fledgling.models import checkpoint as manifest

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
    lines = (json.dumps(row) + "\n" for row in world.generate("structured", 64, 3))
    (folder / "structured.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def predict(
    root: Path, model: Path, data: Path, out: Path, *, cards: int = 1, adapter: Path | None = None, **slm: Any
) -> list[Any]:
    """The predictions that one job of the graph writes for one file of rows, or for test.jsonl in a folder."""
    settings = {
        "slm": {"engine": "transformers", "precision": "bf16", "batch_size": 8, "max_prompt_tokens": 1024} | slm,
        "track": {"max_new_tokens": 64},
        "seed": 0,
    }
    log = run(
        "-m",
        "fledgling.gpus",
        str(cards),
        sys.executable,
        root / "scripts/answer.py",
        "--track",
        "t",
        "--contender",
        "slm",
        "--data",
        data / "test.jsonl" if data.is_dir() else data,
        "--model",
        model,
        "--settings",
        json.dumps(settings),
        *(["--adapter", adapter] if adapter else []),
        "--journal",
        out.parent / f"journal-{out.name}",
        "--out",
        out,
    )
    assert log.count("was ready after") == (cards if slm.get("engine") == "vllm" else 0)
    return list(read_predictions(out))


def agreement(some: list[Any], others: list[Any]) -> float:
    """Share of rows with the same text; both answered the same requests."""
    assert [row.request for row in some] == [row.request for row in others]
    return sum(a.raw == b.raw for a, b in zip(some, others, strict=True)) / len(some)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "nf4", "int8"])
def test_every_precision_answers(root: Path, model: Path, data: Path, tmp_path: Path, precision: str) -> None:
    rows = predict(root, model, data, tmp_path / "p.jsonl", precision=precision)
    assert sum(row.outcome == "ok" for row in rows) > 0.9 * len(rows)


def test_engines_agree(root: Path, model: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    one = predict(root, model, data, tmp_path / "one.jsonl")
    other = predict(root, model, data, tmp_path / "other.jsonl", engine="vllm")
    assert agreement(one, other) > 0.9  # bf16 sums in another order flip near ties


def test_engines_agree_under_an_adapter(root: Path, model: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    train(root, model, data, tmp_path / "adapter", 1, backend="peft")
    adapter = tmp_path / "adapter/1/manifest.json"
    plain = predict(root, model, data, tmp_path / "plain.jsonl")
    one = predict(root, model, data, tmp_path / "one.jsonl", adapter=adapter)
    other = predict(root, model, data, tmp_path / "other.jsonl", adapter=adapter, engine="vllm")
    assert agreement(one, other) > 0.9
    assert agreement(plain, one) < 0.9


def test_vllm_keeps_to_the_schema(root: Path, model: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    from jsonschema import validate

    rows = data / "structured.jsonl"
    asked = [json.loads(line)["schema"] for line in rows.read_text().splitlines()]
    found = predict(root, model, rows, tmp_path / "p.jsonl", engine="vllm", schema_guided=True)
    whole = [(row, schema) for row, schema in zip(found, asked, strict=True) if row.outcome == "ok"]
    assert len(whole) > 0.5 * len(found)  # the others ran out of tokens
    for row, schema in whole:
        validate(json.loads(row.raw), schema)


@pytest.mark.skipif(CARDS < 2, reason="needs two cards")
def test_two_replicas_share_the_rows(root: Path, model: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    one = predict(root, model, data, tmp_path / "one.jsonl", engine="vllm")
    two = predict(root, model, data, tmp_path / "two.jsonl", engine="vllm", cards=2)
    assert agreement(one, two) > 0.9


@pytest.mark.skipif(CARDS < 2, reason="needs two cards")
def test_two_jobs_of_one_card_use_two_cards() -> None:
    code = "import os, time, torch; time.sleep(5); print(os.environ['CUDA_VISIBLE_DEVICES'], torch.cuda.device_count())"
    command = [sys.executable, "-m", "fledgling.gpus", "1", sys.executable, "-c", code]
    jobs = [subprocess.Popen(command, text=True, stdout=subprocess.PIPE) for _ in range(2)]
    said = [job.communicate(timeout=120)[0].split() for job in jobs]
    assert said[0][0] != said[1][0]
    assert [count for _, count in said] == ["1", "1"]


Command = tuple[list[str], dict[str, str]]


def training(root: Path, model: Path, data: Path, out: Path, processes: int, **given: Any) -> Command:
    """The rule's own command, and what its environment adds: claimed GPUs, the launcher, the script."""
    where = {"micro_batch_tokens": 1024, "deepspeed": given.pop("deepspeed", False)}
    settings = {"recipe": RECIPE | given, "track": {}, "seed": 0}
    return [
        *("-m", "fledgling.gpus", str(processes), sys.executable, "-m", "fledgling.training.launch"),
        *(str(root / "scripts/train.py"), "--track", "t"),
        *("--train", str(data / "train.jsonl"), "--val", str(data / "test.jsonl"), "--model", str(model)),
        *("--settings", json.dumps(settings), "--out", str(out / "training.json")),
    ], {"FLEDGLING_WHERE": json.dumps({"training": where})}


def train(root: Path, model: Path, data: Path, out: Path, processes: int, **given: Any) -> dict[str, Any]:
    command, environment = training(root, model, data, out, processes, **given)
    run(*command, **environment)
    return json.loads((out / "training.json").read_text())


@pytest.mark.parametrize("backend", ["peft", "unsloth"])
def test_one_card_trains(root: Path, model: Path, data: Path, tmp_path: Path, backend: str) -> None:
    if backend == "unsloth":
        pytest.importorskip("unsloth")
    summary = train(root, model, data, tmp_path, 1, backend=backend)
    assert summary["backend"] == backend
    assert summary["final_loss"] < 0.7 * summary["history"][0]["loss"]


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "granite", "lfm2"])
def test_other_families_learn_from_the_same_loss_through_unsloth(
    root: Path, data: Path, tmp_path: Path, kind: str
) -> None:
    pytest.importorskip("unsloth")
    from fledgling.models import checkpoint as manifest

    folder = tiny_models.save(kind, tmp_path / "model/checkpoint")
    manifest.write(tmp_path / "model/manifest.json", manifest.describe(folder, source="path"))
    how = {"max_length": 4096, "epochs": 1, "learning_rate": 1e-4}
    model = tmp_path / "model/manifest.json"
    peft, unsloth = (
        train(root, model, data, tmp_path / backend, 1, backend=backend, **how) for backend in ("peft", "unsloth")
    )
    assert unsloth["backend"] == "unsloth"
    assert unsloth["history"][0]["loss"] == pytest.approx(peft["history"][0]["loss"], rel=5e-3)  # LoRA adds nothing yet
    assert unsloth["eval_loss"] == pytest.approx(peft["eval_loss"], rel=2e-2)


@pytest.mark.skipif(CARDS < 2, reason="needs two cards")
@pytest.mark.parametrize("backend", ["peft", "unsloth"])
@pytest.mark.parametrize("deepspeed", [False, True])
def test_two_cards_train_the_same_model(
    root: Path, model: Path, data: Path, tmp_path: Path, backend: str, deepspeed: bool
) -> None:
    for package in ["deepspeed"] * deepspeed + ["unsloth"] * (backend == "unsloth"):
        pytest.importorskip(package)
    alone = train(root, model, data, tmp_path / "one", 1, backend=backend)
    two = train(root, model, data, tmp_path / "two", 2, backend=backend, deepspeed=deepspeed)
    assert two["world_size"] == 2
    assert two["final_loss"] == pytest.approx(alone["final_loss"], abs=1e-2)


@pytest.mark.parametrize(
    ("processes", "deepspeed"),
    [
        (1, False),
        *(
            pytest.param(2, deepspeed, marks=pytest.mark.skipif(CARDS < 2, reason="needs two cards"))
            for deepspeed in (False, True)
        ),
    ],
)
def test_a_killed_training_ends_where_the_undisturbed_one_does(
    root: Path, model: Path, data: Path, tmp_path: Path, processes: int, deepspeed: bool
) -> None:
    if deepspeed:
        pytest.importorskip("deepspeed")
    how = {"backend": "peft", "deepspeed": deepspeed}
    alone = train(root, model, data, tmp_path / "alone", processes, **how)
    out = tmp_path / "killed"
    command, environment = training(root, model, data, out, processes, **how)
    # The first process stops itself once it has sealed a checkpoint; the launcher ends the others.
    environment["FLEDGLING_FAILPOINT"] = "checkpoint.after_seal:1"
    started = time.monotonic()
    first = subprocess.run(
        [sys.executable, *command], check=False, env=os.environ | environment, stderr=subprocess.DEVNULL, timeout=300
    )
    assert first.returncode, time.monotonic() - started
    assert list(out.glob("checkpoints/checkpoint-*/seal.json"))
    resumed = train(root, model, data, out, processes, **how)
    assert resumed["final_loss"] == pytest.approx(alone["final_loss"], abs=1e-3)
    assert len(resumed["history"]) == len(alone["history"])


@pytest.mark.parametrize("backend", ["peft", "unsloth"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_replayed_micro_batches_train_the_same_model(
    root: Path, model: Path, data: Path, tmp_path: Path, backend: str, dropout: float
) -> None:
    if backend == "unsloth":
        pytest.importorskip("unsloth")
    how = {"backend": backend, "dropout": dropout, "gradient_checkpointing": False}
    ways = {}
    for graphs in (False, True):
        out = tmp_path / str(graphs)
        command, environment = training(root, model, data, out, 1, **how)
        where = json.loads(environment["FLEDGLING_WHERE"])
        where["training"]["cuda_graphs"] = graphs
        said = run(*command, FLEDGLING_WHERE=json.dumps(where))
        assert ("are replayed from CUDA graphs" in said) is graphs
        assert "not replayed" not in said
        ways[graphs] = json.loads((out / "training.json").read_text())
    assert ways[True]["final_loss"] == pytest.approx(ways[False]["final_loss"], abs=3e-2 if dropout else 1e-2)


def a_row(length: int, seed: int) -> Any:
    from fledgling.training.tokens import Row

    ids = torch.randint(5, 60, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return Row(input_ids=ids, labels=[-100] * (length // 2) + ids[length // 2 :])


def objective_of(model: Path, dropout: float) -> Any:
    from fledgling.training.objective import Objective
    from fledgling.training.peft_backend import load
    from fledgling.training.recipe import Recipe

    slm = load(
        model.parent / "checkpoint", Recipe(**RECIPE | {"dropout": dropout, "gradient_checkpointing": False}), device=0
    )
    trained = [parameter for parameter in slm.parameters() if parameter.requires_grad]
    for number, parameter in enumerate(trained):
        torch.manual_seed(number)
        parameter.data = torch.randn_like(parameter, dtype=torch.float32) * 0.02  # a fresh LoRA adds nothing
        parameter.grad = torch.zeros_like(parameter)
    return Objective(slm.train(), longest=300, rows=2)


def test_a_replay_adds_the_gradients_of_its_own_rows(model: Path) -> None:
    objective = objective_of(model, 0.0)
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    micro_batches = [[a_row(200 + 7 * seed, seed), a_row(90, seed + 50)] for seed in range(8)]

    def passes() -> list[tuple[float, Any]]:
        found = []
        for rows in micro_batches:
            loss = objective(objective.batch(rows, torch.device("cuda", 0)))
            loss.backward()
            said = loss.item()
            del loss  # nothing of a pass is alive in the next, as in a training
            found.append((said, torch.cat([parameter.grad.flatten() for parameter in trained])))
        for parameter in trained:
            parameter.grad.zero_()
        return found

    plain = passes()
    objective.replay([sum(len(row.input_ids) for row in rows) for rows in micro_batches] * 20, speed=10**6)
    passes()
    replayed = passes()
    assert any(objective._replays._graphs.values())
    for (loss, gradient), (wanted_loss, wanted) in zip(replayed, plain, strict=True):
        assert loss == pytest.approx(wanted_loss, rel=2e-3)
        assert float((gradient - wanted).norm() / wanted.norm()) < 2e-2


def test_a_model_that_cannot_be_captured_trains_on_and_draws_as_ever(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objective = objective_of(model, 0.5)
    states = objective._states

    def asks(batch: Any) -> Any:
        found = states(batch)
        float(found.sum())  # the host waits, which no graph can hold
        return found

    objective._states = asks
    rows = [a_row(200, 1), a_row(90, 2)]
    objective.replay([290] * 40, speed=10**6)
    losses = []
    for seed in (1, 1, 1, 2):
        torch.manual_seed(seed)
        losses.append(objective(objective.batch(rows, torch.device("cuda", 0))).item())
    assert sum("not replayed from CUDA graphs" in record.message for record in caplog.records) == 1
    assert not objective.replaying
    torch.empty(2**30, dtype=torch.uint8, device="cuda")  # freed at once, and kept for reuse
    reserved = torch.cuda.memory_reserved()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= reserved - 2**30, "no capture is under way any more"
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert losses[2] == pytest.approx(losses[1], rel=2e-2)
    assert losses[3] != losses[2]
