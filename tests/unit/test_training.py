"""Training: the same rows on any layout, loss where it belongs, resume that changes nothing."""

import dataclasses
import gc
import itertools
import json
import logging
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledgling.cli import _terminate
from fledgling.errors import ConfigError, DataError
from fledgling.models import adapter
from fledgling.models import checkpoint as manifest
from fledgling.prompting.template import Chat
from fledgling.records import Example, read_examples
from fledgling.training import cpu_loss, recipe
from fledgling.training import select_adapter as selection
from fledgling.training import tokens as rows
from fledgling.training.told import Told
from fledgling.training.train import train
from tests.project import write_sealed

from .replays import Graph
from .scored_rows import metrics

SETTINGS: dict[str, Any] = {
    "recipe": {
        "backend": "peft",
        "quantization": "nf4",
        "rank": 4,
        "alpha": 8,
        "dropout": 0.1,
        "learning_rate": 0.01,
        "epochs": 1,
        "max_length": 256,
        "scheduler": "cosine",
        "warmup_ratio": 0.1,
        "global_batch": 4,
        "gradient_checkpointing": False,
        "save_steps": 2,
    },
    "training": {"gpus": 0, "micro_batch_tokens": 512, "deepspeed": False},
    "track": {"prompt": {"schema": "none"}},
    "seed": 3,
}


def settings_with(**changes: Any) -> dict[str, Any]:
    given = json.loads(json.dumps(SETTINGS))
    for section, values in changes.items():
        given[section] |= values
    return given


def a_recipe(**changes: Any) -> recipe.Recipe:
    return recipe.Recipe.of(settings_with(recipe=changes))


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_checkpoint)


# --- recipe and layout


@given(
    total=st.integers(1, 64),
    world=st.integers(1, 9),
    tokens=st.integers(1, 300),
    length=st.integers(1, 60),
    epochs=st.floats(0.1, 3),
    seed=st.integers(0, 5),
    even=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_a_step_holds_the_same_rows_on_any_layout(
    total: int, world: int, tokens: int, length: int, epochs: float, seed: int, even: bool
) -> None:
    chosen = a_recipe(global_batch=total, epochs=epochs, seed=seed)
    lengths = [random.Random(seed + i).randrange(1, 100) for i in range(length)]
    plan = recipe.layout(lengths, chosen, world=world, tokens=tokens, even=even)
    assert plan.world == world
    steps = recipe.batches(length, chosen)
    assert plan.steps == len(steps) == max(1, math.ceil(length * epochs / total))
    by_step = [[i for part in step for rows in part for i in rows] for step in plan.micro_batches]
    assert [sorted(rows) for rows in by_step] == [sorted(step) for step in steps]
    for step in plan.micro_batches:
        for part in step:
            assert all(len(rows) <= 1 or sum(lengths[i] for i in rows) <= tokens for rows in part)
            held = sum(lengths[i] for rows in part for i in rows)
            assert len([rows for rows in part if rows]) <= max(1, math.ceil(11 * max(1, 2 * held / tokens) / 9) + 1)
        loads = [sum(lengths[i] for rows in part for i in rows) for part in step]
        assert max(loads) - min(loads) <= max(lengths)
        if even:
            assert len({len(part) for part in step}) == 1
    seen = [i for step in steps for i in step]
    assert max(seen.count(i) for i in range(length)) - min(seen.count(i) for i in range(length)) <= 1


def test_rows_are_spread_evenly_and_no_process_accumulates_for_nothing() -> None:
    chosen = a_recipe(global_batch=8)
    lengths = [10, 20, 30, 40, 50, 60, 70, 80]
    assert recipe.layout(lengths, chosen, world=1, tokens=360).accumulation == 1
    halves = recipe.layout(lengths, chosen, world=1, tokens=359)
    assert halves.accumulation == 2
    assert [sum(lengths[i] for i in rows) for rows in halves.micro_batches[0][0]] == [180, 180]
    spread = recipe.layout(lengths, chosen, world=2, tokens=359)
    assert [part[0] for part in spread.micro_batches[0]] == halves.micro_batches[0][0]
    few = recipe.layout([5, 7], a_recipe(global_batch=2), world=4, tokens=359)
    assert sorted(map(len, few.micro_batches[0])) == [0, 0, 1, 1]
    even = recipe.layout([5, 7], a_recipe(global_batch=2), world=4, tokens=359, even=True)
    assert sorted(len(part[0]) for part in even.micro_batches[0]) == [0, 0, 1, 1]
    # A fuller step makes the others accumulate no more often than they need to.
    uneven = recipe.layout([100, 100, 10, 10], a_recipe(global_batch=2, seed=0), world=1, tokens=100)
    counts = [len(step[0]) for step in uneven.micro_batches]
    assert counts == [
        len(recipe.pack(step, [100, 100, 10, 10], 100)) for step in recipe.batches(4, a_recipe(global_batch=2, seed=0))
    ]


@pytest.mark.parametrize("scheduler", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_the_rate_is_that_of_transformers(scheduler: str, steps: int) -> None:
    import torch
    from transformers import get_scheduler

    chosen = a_recipe(scheduler=scheduler, learning_rate=0.5)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    name = {"constant": "constant_with_warmup"}.get(scheduler, scheduler)
    theirs = get_scheduler(name, optimizer, num_warmup_steps=math.ceil(0.1 * steps), num_training_steps=steps)
    for step in range(steps):
        assert recipe.rate(chosen, step, steps) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_the_seed_orders_the_rows() -> None:
    orders = {str(recipe.batches(40, a_recipe(seed=seed))) for seed in range(3)}
    assert len(orders) == 3
    assert recipe.batches(40, a_recipe(seed=1)) == recipe.batches(40, a_recipe(seed=1))


def test_a_recipe_names_its_faults() -> None:
    assert a_recipe().seed == 3
    with pytest.raises(ConfigError, match="'learning_rat'"):
        a_recipe(learning_rat=1)
    with pytest.raises(ConfigError, match="rank"):
        recipe.Recipe.of({"recipe": {key: 1 for key in SETTINGS["recipe"] if key != "rank"}})


def test_choice_of_a_backend() -> None:
    def choose(wanted: str, **case: Any) -> str:
        return recipe.choose_backend(wanted, **({"unsloth": True, "cards": 1} | case))

    assert choose("auto") == choose("auto", cards=4) == "unsloth"
    assert choose("auto", cards=0) == choose("auto", unsloth=False) == choose("peft") == "peft"
    for case, reason in (({"cards": 0}, "CUDA"), ({"unsloth": False}, "not installed")):
        with pytest.raises(ConfigError, match=reason):
            choose("unsloth", **case)


# --- rows


def test_loss_is_on_the_completion_and_the_end_of_the_turn(tokenizer: Any, tiny_rows: Path) -> None:
    found = rows.encode(
        read_examples(tiny_rows), tokenizer, chat=Chat(tokenizer, "phi4"), schema="none", max_length=256
    )
    assert len(found.rows) == 24
    for row, example in zip(found.rows, read_examples(tiny_rows), strict=True):
        learned = [i for i in row.labels if i != rows.IGNORED]
        assert row.labels[-len(learned) :] == learned == row.input_ids[-len(learned) :]
        call = json.dumps(example.answer, separators=(",", ":"))
        assert tokenizer.decode(learned) == f"<|tool_call|>{call}<|/tool_call|><|end|>"
        assert tokenizer.decode(row.input_ids[: -len(learned)]).endswith("<|end|><|assistant|>")


def test_an_end_token_that_is_also_pad_is_learned(tiny_checkpoint: Path, tiny_rows: Path) -> None:
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(tiny_checkpoint)
    other.pad_token = "<|end|>"
    found = rows.encode(read_examples(tiny_rows), other, chat=Chat(other, "phi4"), schema="none", max_length=256)
    assert all(row.labels[-1] == other.pad_token_id for row in found.rows)


def test_rows_are_left_out_whole_and_counted(tokenizer: Any, tiny_rows: Path) -> None:
    examples = [*read_examples(tiny_rows), Example(id="x", group="x", messages=[{"role": "user"}], answer=None)]
    whole = rows.encode(examples, tokenizer, chat=Chat(tokenizer, "phi4"), schema="none", max_length=256)
    limit = sorted(len(row.input_ids) for row in whole.rows)[10]
    cut = rows.encode(examples, tokenizer, chat=Chat(tokenizer, "phi4"), schema="none", max_length=limit)
    assert (whole.too_long, whole.no_answer) == (0, 1)
    assert [row for row in whole.rows if len(row.input_ids) <= limit] == cut.rows
    assert cut.too_long == 24 - len(cut.rows) > 0
    with pytest.raises(DataError, match=r"3 longer than recipe.max_length 9, 1 without"):
        rows.check(rows.Rows([], too_long=3, no_answer=1), "train.jsonl", 9)


# --- the loss on a CPU


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_stand_in_loss_is_cross_entropy(seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(7, 5, generator=generator, requires_grad=True)
    weight = torch.randn(11, 5, generator=generator)
    targets = torch.randint(0, 11, (7,), generator=generator)
    log_probs, entropy, squares, mean, top = cpu_loss.LogProbs.apply(
        hidden, weight, None, targets, 1.0, 0, None, 1.0, ("entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
    )
    logits = hidden @ weight.T
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    assert torch.allclose(-log_probs, expected, atol=1e-5)
    gradient = torch.autograd.grad(log_probs.sum(), hidden, retain_graph=True)[0]
    assert torch.allclose(gradient, torch.autograd.grad(-expected.sum(), hidden)[0], atol=1e-5)
    probabilities = torch.distributions.Categorical(logits=logits)
    assert torch.allclose(entropy, probabilities.entropy(), atol=1e-5)
    assert torch.allclose(squares, probabilities.probs.pow(2).sum(-1).log(), atol=1e-5)
    assert torch.allclose(mean, logits.mean(-1), atol=1e-5)
    assert top.tolist() == (logits.argmax(-1) == targets).tolist()


# --- whole trainings


class Runner:
    """Trains on the tiny rows, in this process or in a fork of it."""

    def __init__(self, folder: Path, model: Path, data: Path) -> None:
        self.folder, self.model, self.data = folder, model, data

    def __call__(self, name: str, given: dict[str, Any] = SETTINGS) -> str:
        train(
            track="t",
            train_data=self.data,
            val_data=self.data,
            model=self.model,
            settings=given,
            out=self.folder / name / adapter.TRAINING,
        )
        return name

    def killed(self, name: str, failpoint: str, given: dict[str, Any] = SETTINGS) -> None:
        """Train in a process that is killed at a failpoint."""
        child = os.fork()
        if child == 0:
            os.environ["FLEDGLING_FAILPOINT"] = failpoint
            try:
                self(name, given)
            except BaseException:
                traceback.print_exc()  # nobody else would say why it was not killed
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert not self.weights(name).exists()

    def weights(self, name: str, candidate: int = 1) -> Path:
        return self.folder / name / str(candidate) / adapter.WEIGHTS

    def summary(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name / adapter.TRAINING).read_text())

    def losses(self, name: str) -> list[float]:
        return [entry["loss"] for entry in self.summary(name)["history"]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_rows: Path) -> Iterator[Runner]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a fork has no other threads
    yield Runner(tmp_path_factory.mktemp("train"), tiny_model, tiny_rows)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(trained: Runner) -> str:
    return trained("whole")


def test_the_adapter_is_whole_and_fits_its_base(trained: Runner, whole: str, tiny_model: Path) -> None:
    from safetensors.torch import load_file

    folder = trained.folder / whole
    assert sorted(path.name for path in folder.iterdir()) == ["1", adapter.TRAINING]
    assert sorted(path.name for path in (folder / "1").iterdir()) == sorted(
        [adapter.WEIGHTS, adapter.CONFIG, adapter.MANIFEST]
    )
    assert adapter.load(folder / "1" / adapter.MANIFEST, manifest.load(tiny_model))
    weights = load_file(trained.weights(whole))
    assert {name.split(".")[-3] for name in weights} == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    assert {str(tensor.dtype) for tensor in weights.values()} == {"torch.float32"}
    assert any(bool(tensor.abs().sum() > 0) for name, tensor in weights.items() if "lora_B" in name)
    config = (folder / "1" / adapter.CONFIG).read_text()
    assert str(tiny_model.parent) not in config

    summary = trained.summary(whole)
    assert (summary["steps"], summary["rows"], summary["world_size"], summary["backend"]) == (6, 24, 1, "peft")
    assert (summary["micro_batch_tokens"], summary["accumulation"]) == (512, 2)
    assert [entry["step"] for entry in summary["history"]] == [1, 2, 3, 4, 5, 6]
    assert summary["history"][-1]["loss"] == summary["final_loss"] < summary["history"][0]["loss"]
    assert all(entry["tokens_per_s"] > 0 and entry["memory_gib"] > 0 for entry in summary["history"])
    assert 0 < summary["eval_loss"] < summary["history"][0]["loss"]


def test_the_same_training_writes_the_same_bytes(trained: Runner, whole: str) -> None:
    trained("twice")
    for name in (adapter.WEIGHTS, adapter.CONFIG):
        assert (trained.folder / "twice/1" / name).read_bytes() == (trained.folder / whole / "1" / name).read_bytes()


@pytest.mark.parametrize("point", ["checkpoint.after_seal:1", "checkpoint.before_seal:2"])
def test_killed_and_started_again_ends_the_same(
    trained: Runner, whole: str, point: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = point.replace(":", "-")
    trained.killed(name, point)
    if "before" in point:
        assert (trained.folder / name / "checkpoints" / "checkpoint-4").exists()  # not sealed
    with caplog.at_level("INFO"):
        trained(name)
    assert "going on from checkpoint-2" in caplog.text
    assert trained.weights(name).read_bytes() == trained.weights(whole).read_bytes()
    assert trained.losses(name) == trained.losses(whole)


PLAIN = {"dropout": 0.0, "quantization": "none"}


@pytest.mark.parametrize(
    ("chosen", "tokens"),
    [({}, 1), ({}, 300), ({"gradient_checkpointing": True}, 512)],
    ids=["one row at once", "a few rows at once", "gradient checkpointing"],
)
def test_layouts_train_the_same_model(trained: Runner, chosen: dict[str, Any], tokens: int) -> None:
    if not trained.weights("layout").exists():
        trained("layout", settings_with(recipe=PLAIN, training={"micro_batch_tokens": 4096}))
    name = f"layout-{tokens}"
    trained(name, settings_with(recipe=PLAIN | chosen, training={"micro_batch_tokens": tokens}))
    assert trained.summary(name)["accumulation"] > trained.summary("layout")["accumulation"] == 1
    assert trained.losses(name) == pytest.approx(trained.losses("layout"), abs=1e-4)
    assert trained.summary(name)["eval_loss"] == pytest.approx(trained.summary("layout")["eval_loss"], abs=1e-4)


def test_without_dropout_parts_are_learned_at_a_time_and_the_bytes_stay(
    trained: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fledgling.cores import TwoAtATime

    parts: list[int] = []
    plain = TwoAtATime.map

    def counted(cores: TwoAtATime, work: Any, given: Any) -> Any:
        parts.append(len(given))
        return plain(cores, work, given)

    monkeypatch.setattr(TwoAtATime, "map", counted)
    for name in ("apart", "apart-again"):
        trained(name, settings_with(recipe=PLAIN))
    assert parts.count(2) >= 2 * trained.summary("apart")["steps"]
    assert trained.weights("apart").read_bytes() == trained.weights("apart-again").read_bytes()
    parts.clear()
    trained("dropped", settings_with(recipe=PLAIN | {"dropout": 0.1}))
    assert len(parts) == 1, "val alone: dropout draws from one stream of random numbers"


def test_gradient_checkpointing_computes_layers_again(trained: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.phi3.modeling_phi3 import Phi3MLP

    calls: dict[bool, int] = {}
    forward = Phi3MLP.forward
    for checkpointing in (False, True):
        calls[checkpointing] = 0

        def counted(mlp: Any, hidden: Any, checkpointing: bool = checkpointing) -> Any:
            calls[checkpointing] += 1
            return forward(mlp, hidden)

        monkeypatch.setattr(Phi3MLP, "forward", counted)
        chosen = PLAIN | {"gradient_checkpointing": checkpointing}
        trained(f"counted-{checkpointing}", settings_with(recipe=chosen))
    assert calls[True] > 1.5 * calls[False] > 0


def test_the_model_is_loaded_without_the_garbage_collector_and_trained_with_it(
    trained: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fledgling.training import loop, peft_backend

    seen = []
    for module, name in ((peft_backend, "load"), (loop, "fit")):
        real = getattr(module, name)

        def noted(*args: Any, name: str = name, real: Any = real, **more: Any) -> Any:
            seen.append((name, gc.isenabled()))
            return real(*args, **more)

        monkeypatch.setattr(module, name, noted)
    trained("collected")
    assert seen == [("load", False), ("fit", True)]


def test_rows_of_a_micro_batch_lie_in_one_sequence(trained: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers.models.phi3.modeling_phi3 import Phi3Model

    forward, shapes = Phi3Model.forward, []

    def seen(model: Any, input_ids: Any = None, **rest: Any) -> Any:
        if torch.is_grad_enabled():
            shapes.append(tuple(input_ids.shape))
        return forward(model, input_ids=input_ids, **rest)

    monkeypatch.setattr(Phi3Model, "forward", seen)
    trained("packed", settings_with(recipe=PLAIN, training={"micro_batch_tokens": 4096}))
    assert {rows for rows, _ in shapes} == {1}
    assert min(tokens for _, tokens in shapes[:6]) > 256  # more than the longest row


class Launched:
    """Trainings that the rule's own command starts: so many claimed GPUs, one process each; here they compute on the CPU."""

    def __init__(self, trained: Runner, root: Path, folder: Path) -> None:
        self.trained, self.root, self.folder = trained, root, folder

    def start(self, name: str, processes: int, **more: str) -> "subprocess.Popen[str]":
        given = settings_with(recipe=PLAIN)
        command = [
            *(sys.executable, "-m", "fledgling.gpus", str(processes)),
            *(sys.executable, "-m", "fledgling.training.launch", "scripts/train.py", "--track", "t"),
            *("--train", str(self.trained.data), "--val", str(self.trained.data), "--model", str(self.trained.model)),
            *("--settings", json.dumps(given), "--out", str(self.trained.folder / name / adapter.TRAINING)),
        ]
        environment = {
            "FLEDGLING_GPUS": str(processes),
            "FLEDGLING_LOCKS": str(self.folder / name),
            "FLEDGLING_WHERE": json.dumps({"training": {"micro_batch_tokens": 256}}),
            "OMP_NUM_THREADS": "1",
        }
        visible = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
        return subprocess.Popen(
            command, cwd=self.root, env=visible | environment | more, text=True, stderr=subprocess.PIPE
        )

    def __call__(self, name: str, processes: int) -> dict[str, Any]:
        job = self.start(name, processes)
        said = job.communicate()[1]
        assert job.returncode == 0, said[-3000:]
        return self.trained.summary(name)


@pytest.fixture(scope="module")
def launched(trained: Runner, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Launched:
    return Launched(trained, root, tmp_path_factory.mktemp("locks"))


@pytest.fixture(scope="module")
def alone(launched: Launched) -> str:
    launched("on-1", 1)
    return "on-1"


def same_adapter(trained: Runner, one: str, other: str) -> None:
    from safetensors.torch import load_file

    first, second = (load_file(trained.weights(name)) for name in (one, other))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert float((tensor - second[name]).abs().max()) < 1e-4, name
    assert trained.losses(one) == pytest.approx(trained.losses(other), abs=1e-4)
    assert trained.summary(one)["eval_loss"] == pytest.approx(trained.summary(other)["eval_loss"], abs=1e-4)


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_any_number_of_processes_trains_the_same_model(
    trained: Runner, launched: Launched, alone: str, processes: int
) -> None:
    name = f"on-{processes}"
    assert launched(name, processes)["world_size"] == processes
    same_adapter(trained, alone, name)


def test_one_process_that_is_killed_ends_the_group_which_goes_on_from_its_checkpoint(
    trained: Runner, launched: Launched, alone: str
) -> None:
    # The first process stops itself after it sealed a checkpoint, while the other waits for it in the next step.
    job = launched.start("killed-on-2", 2, FLEDGLING_FAILPOINT="checkpoint.after_seal:1")
    said = job.communicate(timeout=240)[1]
    assert job.returncode not in (0, None), said[-2000:]
    folder = trained.folder / "killed-on-2"
    assert [path.parent.name for path in folder.glob("checkpoints/*/seal.json")] == ["checkpoint-2"]
    assert not trained.weights("killed-on-2").exists()
    again = launched.start("killed-on-2", 2)
    said = again.communicate(timeout=240)[1]
    assert again.returncode == 0, said[-3000:]
    assert "going on from checkpoint-2" in said
    same_adapter(trained, alone, "killed-on-2")


def test_term_ends_a_training_once_its_step_is_saved_and_the_next_start_goes_on_from_there(
    trained: Runner, whole: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    step, calls = torch.optim.AdamW.step, []

    def told(optimizer: Any, *args: Any, **rest: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(optimizer, *args, **rest)

    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(torch.optim.AdamW, "step", told)
            with pytest.raises(SystemExit) as ended:
                trained("told")
        assert signal.getsignal(signal.SIGTERM) is _terminate
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 128 + signal.SIGTERM
    sealed = (trained.folder / "told" / "checkpoints").glob("*/seal.json")
    assert "checkpoint-3" in [path.parent.name for path in sealed]
    caplog.set_level("INFO")
    trained("told")
    assert "going on from checkpoint-3" in caplog.text
    assert trained.weights("told").read_bytes() == trained.weights(whole).read_bytes()


def test_a_second_term_ends_it_at_once() -> None:
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        with Told() as told:
            os.kill(os.getpid(), signal.SIGTERM)
            assert told
            with pytest.raises(SystemExit):
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_loss_that_is_not_finite_stops(trained: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    trained.killed("nan", "checkpoint.after_seal:1")
    kept = trained.folder / "nan" / "checkpoints" / "checkpoint-2"
    before = (kept / "seal.json").read_bytes()
    apply, calls = cpu_loss.LogProbs.apply, []

    def broken(*args: Any) -> Any:
        calls.extend([1] * torch.is_grad_enabled())
        first, *rest = apply(*args)
        return (first * float("nan") if len(calls) == 4 else first, *rest)

    monkeypatch.setattr(cpu_loss.LogProbs, "apply", staticmethod(broken))
    with pytest.raises(DataError, match=r"the loss is nan at step 4; .*recipe\.learning_rate"):
        trained("nan")
    assert not trained.weights("nan").exists()
    assert (kept / "seal.json").read_bytes() == before
    assert sorted(path.name for path in kept.parent.iterdir()) == ["checkpoint-2"]


def test_a_gradient_without_a_norm_stops(trained: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else would tell: clipping makes zeros of it, and DeepSpeed leaves the step out."""
    from fledgling.training import updates

    step, calls = updates.Summed.step, []

    def huge(update: Any, rate: float, loss: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            update._sums[:-1] = 1e30
        return step(update, rate, loss)

    monkeypatch.setattr(updates.Summed, "step", huge)
    with pytest.raises(DataError, match="the norm of the gradient is inf at step 4; training stops"):
        trained("huge")
    assert not trained.weights("huge").exists()
    sealed = (trained.folder / "huge" / "checkpoints").glob("*/seal.json")
    assert [path.parent.name for path in sealed] == ["checkpoint-2"]


def test_a_loss_over_val_that_is_not_finite_is_said(trained: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    from fledgling.training.objective import Objective

    forward = Objective.forward
    monkeypatch.setattr(
        Objective, "forward", lambda self, batch: forward(self, batch) * (1.0 if self.training else math.inf)
    )
    with pytest.raises(DataError, match=r"the loss over val is inf after the last step; .*rows that make no sense"):
        trained("val-inf")
    assert not (trained.folder / "val-inf" / adapter.TRAINING).exists()


def test_a_resumed_training_pads_as_it_began(trained: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lengths that micro-batches are padded to follow a speed that no two starts measure alike."""
    from fledgling.training import loop

    speeds = []

    def replay(objective: Any, tokens: Any, speed: int) -> str:
        speeds.append(speed)
        return "this is a test"

    given = settings_with(training={"cuda_graphs": True})
    monkeypatch.setattr(loop.Objective, "replay", replay)
    monkeypatch.setattr(loop, "tokens_a_second", lambda *_: 111)
    trained.killed("paced", "checkpoint.after_seal:1", given)
    monkeypatch.setattr(loop, "tokens_a_second", lambda *_: 222)
    trained("paced", given)
    assert speeds == [111]
    trained("paced anew", given)
    assert speeds == [111, 222]


def test_a_weight_that_is_not_finite_is_never_sealed(trained: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    step = torch.optim.AdamW.step
    calls = []

    def broken(optimizer: Any, *args: Any, **rest: Any) -> Any:
        done = step(optimizer, *args, **rest)
        calls.append(1)
        if len(calls) == 4:
            optimizer.param_groups[0]["params"][0].data.fill_(float("inf"))
        return done

    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    with pytest.raises(DataError, match="a weight is not finite after step 4"):
        trained("inf")
    sealed = (trained.folder / "inf" / "checkpoints").glob("*/seal.json")
    assert [path.parent.name for path in sealed] == ["checkpoint-2"]


def test_another_recipe_starts_anew(trained: Runner, whole: str, caplog: pytest.LogCaptureFixture) -> None:
    trained.killed("anew", "checkpoint.after_seal:1")
    with caplog.at_level("INFO"):
        trained("anew", settings_with(recipe={"learning_rate": 0.02}))
    assert "going on" not in caplog.text
    assert trained.weights("anew").read_bytes() != trained.weights(whole).read_bytes()


# --- the choice of an adapter


@given(st.integers(1, 500), st.integers(1, 12))
def test_candidates_are_evenly_spaced_and_the_last_is_kept_at_the_end(steps: int, candidates: int) -> None:
    kept = recipe.kept_after(steps, candidates)
    assert len(kept) == candidates
    assert kept[-1] == steps
    gaps = [later - earlier for earlier, later in itertools.pairwise([0, *kept])]
    assert max(gaps) - min(gaps) <= 1


THREE = {"candidates": 3}


@pytest.fixture(scope="module")
def three(trained: Runner) -> str:
    """A training with three candidates that was killed between the first two."""
    given = settings_with(recipe=THREE)
    trained.killed("three", "checkpoint.before_seal:2", given)
    return trained("three", given)


def test_candidates_outlive_a_kill(trained: Runner, whole: str, three: str, tiny_model: Path) -> None:
    assert trained.summary(three)["candidates"] == [2, 4, 6]
    kept = [trained.weights(three, number).read_bytes() for number in (1, 2, 3)]
    assert kept[2] == trained.weights(whole).read_bytes()
    assert len(set(kept)) == 3
    for number in (1, 2, 3):
        assert adapter.load(trained.folder / three / str(number) / adapter.MANIFEST, manifest.load(tiny_model))
    assert not (trained.folder / three / "checkpoints").exists()


def test_a_lost_candidate_is_made_again(trained: Runner, three: str, caplog: pytest.LogCaptureFixture) -> None:
    given = settings_with(recipe=THREE)
    trained.killed("lost", "checkpoint.after_seal:2", given)
    (gone,) = (trained.folder / "lost/checkpoints").glob("candidates-*/2.safetensors")
    gone.unlink()
    trained("lost", given)
    assert "2.safetensors is missing; starting over instead of going on from checkpoint-4" in caplog.text
    for number in (1, 2, 3):
        assert trained.weights("lost", number).read_bytes() == trained.weights(three, number).read_bytes()


def choose(trained: Runner, name: str, out: Path, reached: list[dict[str, float]], rows: str = "x") -> None:
    paths = []
    for number, values in enumerate(reached, 1):
        paths.append(out.parent / f"{out.name}-{number}.json")
        rates = {
            name: {"value": value, "n": 40, "k": None, "low": 0, "high": 1, "level": 0.95, "method": "wilson"}
            for name, value in values.items()
        }
        write_sealed(paths[-1], metrics(40, rows or str(number), metrics=rates))
    folder = trained.folder / name
    manifests = [
        folder / str(number) / adapter.MANIFEST for number, _ in enumerate(trained.summary(name)["candidates"], 1)
    ]
    selection.select(
        candidates=manifests, metrics=paths, summary=folder / adapter.TRAINING, core=["exact", "f1"], out=out
    )


@pytest.mark.parametrize(
    ("reached", "number"),
    [
        ([(0.5, 0.9), (0.75, 0.6), (0.5, 1.0)], 2),
        ([(0.5, 0.9), (0.75, 0.6), (0.75, 0.5)], 2),
        ([(0.75, 0.6), (0.5, 0.9), (0.75, 0.6)], 3),
    ],
    ids=["the first metric counts first", "then the second", "of equals the last"],
)
def test_the_best_on_val_is_kept(
    trained: Runner, three: str, tiny_model: Path, tmp_path: Path, reached: list[tuple[float, float]], number: int
) -> None:
    out = tmp_path / "kept"
    choose(trained, three, out, [{"exact": exact, "f1": f1} for exact, f1 in reached])
    assert (out / adapter.WEIGHTS).read_bytes() == trained.weights(three, number).read_bytes()
    summary = json.loads((out / adapter.TRAINING).read_text())
    assert summary["selection"]["step"] == 2 * number
    assert [each["metrics"]["exact"] for each in summary["selection"]["candidates"]] == [exact for exact, _ in reached]
    assert summary["history"] == trained.summary(three)["history"]
    assert adapter.load(out / adapter.MANIFEST, manifest.load(tiny_model))
    sealed = json.loads((out / adapter.MANIFEST).read_text())
    assert sorted(sealed["files"]) == sorted([adapter.WEIGHTS, adapter.CONFIG, adapter.TRAINING])


def test_one_candidate_needs_no_metrics(trained: Runner, whole: str, tmp_path: Path) -> None:
    choose(trained, whole, tmp_path / "kept", [])
    assert (tmp_path / "kept" / adapter.WEIGHTS).read_bytes() == trained.weights(whole).read_bytes()
    assert json.loads((tmp_path / "kept" / adapter.TRAINING).read_text())["selection"] is None


def test_a_choice_without_all_metrics_is_refused(trained: Runner, three: str, tmp_path: Path) -> None:
    one = {"exact": 0.5, "f1": 0.5}
    with pytest.raises(DataError, match="lists 3 candidates, given are 3 and metrics of 2"):
        choose(trained, three, tmp_path / "kept", [one, one])
    with pytest.raises(DataError, match="not of the same rows"):
        choose(trained, three, tmp_path / "kept", [one, one, one], rows="")
    assert not (tmp_path / "kept").exists()


def test_the_tuned_slm_answers_and_another_base_refuses_it(
    trained: Runner, whole: str, tiny_model: Path, tiny_rows: Path, tmp_path: Path
) -> None:
    from fledgling.slm.answer import answer

    given = {
        "slm": {"engine": "auto", "precision": "fp32", "batch_size": 8, "max_prompt_tokens": 512},
        "track": {"max_new_tokens": 4},
    }

    def ask(model: Path, out: Path, adapter_path: Path | None) -> list[dict[str, Any]]:
        answer(
            track="t",
            data=tiny_rows,
            model=model,
            adapter_path=adapter_path,
            settings=given,
            journal=tmp_path / "journal",
            out=out,
        )
        return [json.loads(line) for line in out.read_text().splitlines()]

    sealed = trained.folder / whole / "1" / adapter.MANIFEST
    plain, tuned = ask(tiny_model, tmp_path / "slm", None), ask(tiny_model, tmp_path / "tuned", sealed)
    assert [row["request"] for row in plain] == [row["request"] for row in tuned]
    assert plain[0]["fingerprint"] != tuned[0]["fingerprint"]
    assert [row["raw"] for row in plain] != [row["raw"] for row in tuned]

    copy = tmp_path / "other"
    shutil.copytree(tiny_model.parent / "checkpoint", copy / "checkpoint")
    template = copy / "checkpoint" / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    manifest.write(copy / "manifest.json", manifest.describe(copy / "checkpoint", source="path"))
    with pytest.raises(DataError, match="another chat template"):
        ask(copy / "manifest.json", tmp_path / "no", sealed)


def test_layers_are_compiled_where_that_spares_time() -> None:
    embedded, phi4_mini = 1_000_000, 3_840_000_000
    assert not recipe.compiles("auto", weights=embedded, tokens=300_000)
    assert not recipe.compiles("auto", weights=phi4_mini, tokens=500_000)
    assert recipe.compiles("auto", weights=phi4_mini, tokens=2_000_000)
    assert recipe.compiles(True, weights=embedded, tokens=1)
    assert not recipe.compiles(False, weights=phi4_mini, tokens=1e9)


def test_small_micro_batches_are_replayed_where_they_fit_twice() -> None:
    assert recipe.replays("auto", tokens=3000, fitting=6000)
    assert not recipe.replays("auto", tokens=3001, fitting=6000)
    assert recipe.replays(True, tokens=6000, fitting=6000)
    assert not recipe.replays(False, tokens=1, fitting=6000)


CHECKPOINTING = {"gradient_checkpointing": True}


class Enough(Exception):
    """What a test wanted to see has been seen."""


@pytest.mark.parametrize(
    ("fitting", "changes", "wanted"),
    [
        (2048, {}, "auto"),
        (256, {}, False),
        (256, {"training": {"cuda_graphs": True}}, True),
        (2048, {"training": {"cuda_graphs": False}}, False),
        (2048, {"training": {"cuda_graphs": True}, "recipe": CHECKPOINTING}, False),
    ],
)
def test_the_stage_says_what_is_replayed(
    trained: Runner,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fitting: int,
    changes: dict[str, Any],
    wanted: Any,
) -> None:
    from fledgling.training import loop
    from fledgling.training import train as stage

    def seen(model: Any, work: Any, group: Any) -> Any:
        assert work.cuda_graphs == wanted
        raise Enough

    monkeypatch.setattr(loop, "fit", seen)
    monkeypatch.setattr(stage, "CPU_TOKENS", fitting)
    with pytest.raises(Enough):
        trained("replayed", settings_with(**changes))
    ignored = "training.cuda_graphs is true and has no effect under recipe.gradient_checkpointing"
    assert (ignored in caplog.text) is (changes == {"training": {"cuda_graphs": True}, "recipe": CHECKPOINTING})


def test_attention_reaches_as_far_as_the_longest_row_of_val(trained: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    from fledgling.training import loop

    fit, lengths, most = loop.fit, [], []

    def with_a_long_row(model: Any, work: Any, group: Any) -> Any:
        most.append(max(len(batch) for step in work.layout.micro_batches for part in step for batch in part))
        row = work.val[0][0]
        long = dataclasses.replace(row, input_ids=row.input_ids * 9, labels=row.labels * 9)
        lengths.append(len(long.input_ids))
        assert lengths[0] > max(len(row.input_ids) for row in work.rows)
        return fit(model, dataclasses.replace(work, val=[[long], *work.val]), group)

    def seen(model: Any, *, longest: int, rows: int) -> Any:
        assert [longest] == lengths
        assert rows == most[0]
        raise Enough

    monkeypatch.setattr(loop, "fit", with_a_long_row)
    monkeypatch.setattr(loop, "Objective", seen)
    with pytest.raises(Enough):
        trained("long-val")


def test_a_micro_batch_is_told_the_most_tokens_that_any_process_has(
    trained: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fledgling.training.objective import Objective

    real, seen = Objective.batch, []

    def noted(self: Any, rows: Any, device: Any, *least: int) -> Any:
        if least:  # none of those that agreement.settle asks for
            seen.append((sum(len(row.input_ids) for row in rows), *least))
        return real(self, rows, device, *least)

    monkeypatch.setattr(Objective, "batch", noted)
    trained("told")
    assert seen
    assert all(tokens == least for tokens, least in seen)  # there is one process


def test_a_shape_without_a_formula_is_trained_where_the_tokens_are_given(
    trained: Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from fledgling.training import loop
    from fledgling.training import train as stage

    def no_formula(*_: Any) -> int:
        raise DataError("config.json has 8 experts a layer, which no formula here covers")

    def seen(model: Any, work: Any, group: Any) -> Any:
        assert work.cuda_graphs is False
        raise Enough

    monkeypatch.setattr(stage, "_tokens_at_once", no_formula)
    monkeypatch.setattr(loop, "fit", seen)
    with pytest.raises(Enough):
        trained("experts")
    with pytest.raises(DataError, match="8 experts a layer"):
        trained("experts", settings_with(training={"micro_batch_tokens": "auto"}))


def test_a_setting_without_effect_is_named(trained: Runner, whole: str, caplog: pytest.LogCaptureFixture) -> None:
    trained("insists", settings_with(training={"cuda_graphs": True}))
    assert "micro-batches are not replayed from CUDA graphs: this is no GPU" in caplog.text
    assert trained.weights("insists").read_bytes() == trained.weights(whole).read_bytes()


def test_a_training_learns_the_same_with_replays(
    trained: Runner, replaying: type[Graph], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from fledgling.training import loop

    plain = {"recipe": {"dropout": 0.0}, "training": {"micro_batch_tokens": 4096}}
    wanted = trained.summary(trained("computed", settings_with(**plain)))
    monkeypatch.setattr(loop, "tokens_a_second", lambda *_: 10**6)
    monkeypatch.setattr(loop, "TwoAtATime", lambda: None)  # a GPU has no two of them at a time
    plain["training"] |= {"cuda_graphs": True}
    with caplog.at_level(logging.INFO):
        found = trained.summary(trained("replayed-here", settings_with(**plain)))
    assert "micro-batches are replayed from CUDA graphs of" in caplog.text
    assert replaying.made
    for name in ("loss", "grad_norm"):
        assert [entry[name] for entry in found["history"]] == pytest.approx(
            [entry[name] for entry in wanted["history"]], rel=1e-4
        )
    assert found["eval_loss"] == pytest.approx(wanted["eval_loss"], rel=1e-4)


# --- memory that runs out


class Short:
    """A GPU that holds so many tokens at once, and fewer while something is kept for replays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tokens: int, *, keeps: bool = False) -> None:
        import torch

        from fledgling.training.objective import Objective

        self.forgot, self.refused = 0, 0
        self._keeps = keeps
        forward = Objective.forward

        def limited(objective: Any, batch: Any) -> Any:
            if objective.training and (self._keeps or batch.ids.shape[1] > tokens):
                self.refused += 1
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(objective, batch)

        def forget(objective: Any) -> None:
            self.forgot += 1
            self._keeps = False

        monkeypatch.setattr(Objective, "forward", limited)
        monkeypatch.setattr(Objective, "forget", forget)
        monkeypatch.setattr(Objective, "replaying", property(lambda objective: self._keeps))


def test_where_memory_runs_out_a_step_is_taken_in_smaller_parts(
    trained: Runner, whole: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = settings_with(recipe={"dropout": 0.0}, training={"micro_batch_tokens": 4096})
    wanted = trained.losses(trained("roomy", plain))
    short = Short(monkeypatch, 400)
    found = trained.losses(trained("short", plain))
    assert short.refused
    assert not short.forgot
    assert "memory ran out: this process takes the rows of step 1 in" in caplog.text
    assert found == pytest.approx(wanted, abs=1e-3)


def test_replays_are_given_up_before_a_micro_batch_of_one_row_is_too_much(
    trained: Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ones = settings_with(recipe={"dropout": 0.0}, training={"micro_batch_tokens": 1})
    wanted = trained.losses(trained("ones", ones))
    short = Short(monkeypatch, 4096, keeps=True)
    found = trained.losses(trained("ones-replayed", ones))
    assert (short.refused, short.forgot) == (1, 1)
    assert "memory ran out in step 1: micro-batches are no longer replayed" in caplog.text
    assert found == wanted


def test_memory_that_does_not_hold_one_row_ends_the_training(
    trained: Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    Short(monkeypatch, 10)
    with pytest.raises(torch.OutOfMemoryError):
        trained("none", settings_with(training={"micro_batch_tokens": 1}))
    assert "set training.micro_batch_tokens to less, or recipe.gradient_checkpointing to true" in caplog.text
