"""What fits where: the formulas against real models, the command on machines that are made up."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fledgling.config import load
from fledgling.forecast import fit, pace
from fledgling.forecast.checkpoint import Checkpoint
from fledgling.forecast.fit import Report, check
from fledgling.forecast.lengths import row_lengths
from fledgling.forecast.machine import Gpu, Machine
from fledgling.forecast.table import text
from fledgling.models import memory
from fledgling.models.memory import GIB, Shape
from tests.project import write_sealed

from .scored_rows import training

ROOT = Path(__file__).parents[2]
PHI4_MINI = Shape(
    hidden=3072, layers=32, heads=24, kv_heads=8, head_size=128, intermediate=8192, vocabulary=200064, tied=True
)
BASE = {"torch": "2.13.0", "bitsandbytes": "0.50.2"}
ALL = BASE | {"vllm": "0.30.0", "unsloth": "2026.10.7", "deepspeed": "0.19.8"}
H100 = Gpu("NVIDIA H100", 80 * GIB, 79 * GIB, (9, 0))
SMALL = Gpu("Small", 24 * GIB, 23 * GIB, (7, 5))


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_checkpoint, local_files_only=True)


@pytest.fixture(scope="module")
def shape(tiny_checkpoint: Path) -> Shape:
    return Shape.of(json.loads((tiny_checkpoint / "config.json").read_text()))


# The formulas


def test_weights_are_those_of_the_model(tiny: Any, shape: Shape) -> None:
    weights = list(tiny.parameters())
    assert memory.parameters(shape) == sum(p.numel() for p in weights)
    assert memory.weight_bytes(shape, "fp32") == sum(p.numel() * 4 for p in weights)
    assert memory.weight_bytes(shape, "bf16") == sum(p.bfloat16().nbytes for p in weights)
    assert memory.parameters(PHI4_MINI) == 3_836_021_760, "Phi-4-mini-instruct's own count"


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("tied", [True, False])
def test_other_families_and_heads(family: str, tied: bool) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "head_dim": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": tied,
    }
    config = AutoConfig.for_model(family, **sizes)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert memory.parameters(Shape.of(config.to_dict())) == model.num_parameters()


def test_a_config_without_sizes_or_with_experts_is_refused() -> None:
    with pytest.raises(memory.DataError, match="num_attention_heads"):
        Shape.of({"hidden_size": 3})
    with pytest.raises(memory.DataError, match="8 experts"):
        Shape.of({"num_local_experts": 8})


def test_quantised_bytes_are_those_of_bitsandbytes(shape: Shape) -> None:
    import torch
    from bitsandbytes.functional import int8_vectorwise_quant, quantize_4bit

    nf4 = int8 = 0
    for inputs, outputs in memory.projections(shape).values():
        weight = torch.randn(outputs, inputs)
        packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
        kept = (packed, state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)
        assert memory.nf4_bytes(weight.numel()) == sum(tensor.nbytes for tensor in kept)
        nf4 += sum(tensor.nbytes for tensor in kept)
        int8 += sum(tensor.nbytes for tensor in int8_vectorwise_quant(weight.half())[:2])
    other = memory.other_weights(shape)
    assert memory.weight_bytes(shape, "nf4") == shape.layers * nf4 + 2 * other
    assert memory.weight_bytes(shape, "int8") == shape.layers * int8 + 2 * other
    assert memory.weight_bytes(shape, "nf4", cuda=False) == shape.layers * nf4 + 4 * other


@pytest.mark.parametrize("rank", [4, 8])
def test_lora_is_that_of_peft_and_adam(tiny_checkpoint: Path, shape: Shape, rank: int) -> None:
    import torch

    from fledgling.training.peft_backend import load
    from fledgling.training.recipe import Recipe

    recipe = Recipe(
        learning_rate=1e-3,
        epochs=1,
        max_length=64,
        global_batch=1,
        rank=rank,
        alpha=8,
        dropout=0.0,
        quantization="none",
    )
    model = load(tiny_checkpoint, recipe, device="cpu")
    trained = [p for p in model.parameters() if p.requires_grad]
    assert memory.lora_parameters(shape, rank) == sum(p.numel() for p in trained)
    optimizer = torch.optim.AdamW(trained)
    model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
    optimizer.step()
    states = [s for state in optimizer.state.values() for s in state.values() if s.numel() > 1]
    held = sum(t.nbytes for t in [*trained, *(p.grad for p in trained if p.grad is not None), *states])
    assert memory.lora_training_bytes(shape, rank) == held
    assert memory.lora_training_bytes(shape, rank, world=2) == held + sum(p.nbytes for p in trained)
    assert memory.lora_training_bytes(shape, rank, world=4, deepspeed=True) == held * 7 // 16


def test_the_cache_is_that_of_transformers(tiny: Any, shape: Shape) -> None:
    import torch

    cache = tiny(input_ids=torch.tensor([[1, 2, 3, 4, 5]] * 2), use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert memory.kv_bytes(shape, 4) * 5 * 2 == held
    assert memory.kv_bytes(PHI4_MINI) == 131_072


def test_activations_are_what_autograd_keeps(tiny: Any, shape: Shape) -> None:
    """The formula of transformers' own modules, in fp32 and so with twice the bytes, against autograd's tensors."""
    import torch

    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr() for p in tiny.parameters()}
    tokens = 512
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = tiny.model(input_ids=torch.randint(0, shape.vocabulary, (1, tokens))).last_hidden_state
    held = sum(size for place, size in kept.items() if place not in weights)
    assert hidden.requires_grad
    formula = 2 * tokens * shape.layers * memory.layer_bytes(shape, 0, backend="peft", dropout=False)
    assert 0.9 * formula < held < 1.05 * formula


@pytest.mark.parametrize(("checkpointing", "measured"), [(False, 25.5), (True, 5.2)])
def test_training_agrees_with_what_was_measured(checkpointing: bool, measured: float) -> None:
    """docs/performance.md: unsloth, NF4, rank 64, 8 rows on the card, the longest of 818 tokens."""
    parts = memory.training_parts(
        PHI4_MINI,
        tokens=8 * 818,
        rank=64,
        quantization="nf4",
        backend="unsloth",
        checkpointing=checkpointing,
        dropout=False,
    )
    assert sum(parts.values()) / GIB == pytest.approx(measured, rel=0.03)


def test_logits_that_are_not_fused_dominate() -> None:
    assert memory.loss_bytes(PHI4_MINI, 1000, fused=False) == 1000 * 200_064 * 4 * 4
    assert memory.loss_bytes(PHI4_MINI, 1000) < memory.loss_bytes(PHI4_MINI, 1000, fused=False) / 20


def test_each_setting_moves_memory_as_it_should() -> None:
    def train(**changed: Any) -> int:
        given: dict[str, Any] = {
            "tokens": 4096,
            "rank": 64,
            "quantization": "nf4",
            "backend": "peft",
            "checkpointing": False,
            "dropout": False,
        }
        return sum(memory.training_parts(PHI4_MINI, **(given | changed)).values())

    assert train() < train(dropout=True) < train(dropout=True, tokens=8192)
    assert train(checkpointing=True) < train(backend="unsloth") < train()
    assert train() < train(quantization="none") < train(quantization="none", cuda=False)

    def predict(**changed: Any) -> int:
        given: dict[str, Any] = {"precision": "bf16", "rows": 8, "prompt": 1000, "answer": 50}
        return sum(memory.prediction_parts(PHI4_MINI, **(given | changed)).values())

    assert predict(precision="nf4") < predict(precision="int8") < predict() < predict(precision="fp32")
    assert predict(cards=2) < predict() < predict(lora_rank=64) < predict(lora_rank=64, rows=9)


# The command


def config(tmp: Path, *, model: Path | None = None, **sections: Any) -> dict[str, Any]:
    given = load(ROOT / "config/config.yaml", root=ROOT)
    given = given | {"tracks": {"toolcall": given["tracks"]["toolcall"] | {"recipe": {}}}}
    if model is not None:
        given["models"] = {"slm": {"source": "path", "path": str(model)}}
    return given | {name: given[name] | changed for name, changed in sections.items()}


def asked(tmp: Path, machine: Machine, model: Path | None = None, **sections: Any) -> Report:
    return check(config(tmp, model=model, **sections), results=tmp, machine=machine)


def built(tmp: Path, manifest: Path) -> None:
    folder = tmp / "models" / "slm"
    folder.mkdir(parents=True)
    row = json.loads(manifest.read_text())
    write_sealed(folder / "manifest.json", row | {"path": str(manifest.parent / "checkpoint")})


def sized(monkeypatch: pytest.MonkeyPatch, shape: Shape = PHI4_MINI) -> None:
    found = Checkpoint("made up", shape=shape)
    monkeypatch.setattr(fit, "find_checkpoint", lambda config, model, results: found)


def test_what_is_not_fetched_is_unknown_and_never_0(tmp_path: Path) -> None:
    report = asked(tmp_path, Machine([], BASE), tracks={})
    whole = ["slm on val", "slm", "sft", "tuned on val", "tuned"]
    assert [stage.who for stage in report.stages] == whole
    assert [stage.bytes for stage in report.stages] == [None] * 5
    assert (report.refusals, report.stages[0].engine, report.stages[2].engine) == ([], "transformers", "peft")
    said = text(report)
    assert "not built yet" in said
    assert said.count("memory  unknown") == said.count("unknown until it has run once") == 5
    assert "0.00 GiB" not in said
    assert "none is visible: everything runs on the CPU" in said
    assert "vllm not installed" in said


def test_a_checkpoint_is_found_by_its_path_or_manifest(
    tmp_path: Path, tiny_model: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for report in (
        asked(tmp_path, Machine([], BASE), model=tiny_checkpoint),
        built(tmp_path, tiny_model) or asked(tmp_path, Machine([], BASE), model=tiny_checkpoint),
    ):
        assert report.checkpoints["slm"].shape
        assert all(stage.bytes and stage.verdict == "CPU: not checked" for stage in report.stages)
    assert report.checkpoints["slm"].model is not None
    assert asked(tmp_path, Machine([], BASE)).checkpoints["slm"].shape is None, "what is built is another one"
    assert "no such folder" in asked(tmp_path, Machine([], BASE), model=tmp_path / "x").checkpoints["slm"].text
    monkeypatch.setenv("SLM_MODEL_PATH", str(tiny_checkpoint))
    assert asked(tmp_path, Machine([], BASE)).checkpoints["slm"].shape


def test_a_checkpoint_of_another_shape_is_unknown(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(tiny_checkpoint / "model.safetensors")
    sizes = json.loads((tiny_checkpoint / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(sizes | {"intermediate_size": 128}))
    report = asked(tmp_path, Machine([], BASE), model=folder)
    assert "memory is unknown" in report.checkpoints["slm"].text
    assert report.stages[0].bytes is None
    (folder / "config.json").write_text("{}")
    assert "has no 'num_attention_heads'" in asked(tmp_path, Machine([], BASE), model=folder).checkpoints["slm"].text


REAL = {
    "slm": {"engine": "auto", "precision": "bf16", "gpus": 1, "batch_size": 8, "max_prompt_tokens": 4096},
    "recipe": {"backend": "auto", "gradient_checkpointing": True, "global_batch": 32, "dropout": 0.0}
    | {"rank": 64, "candidates": 2},
    "training": {"gpus": 1, "micro_batch_tokens": 8192},
}


def real(**changed: dict[str, Any]) -> dict[str, Any]:
    return {name: REAL[name] | changed.get(name, {}) for name in REAL}


def test_a_large_card_fits_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fledgling.slm.engine.find_spec", lambda name: name == "vllm")
    sized(monkeypatch)
    report = asked(tmp_path, Machine([H100], ALL, "13.0"), **real())
    assert {stage.who: (stage.engine, stage.verdict) for stage in report.stages} == {
        "slm on val": ("vllm", "fits"),
        "slm": ("vllm", "fits"),
        "sft": ("unsloth", "fits"),
        "sft.1 on val": ("vllm", "fits"),
        "sft.2 on val": ("vllm", "fits"),
        "tuned on val": ("vllm", "fits"),
        "tuned": ("vllm", "fits"),
    }
    assert report.refusals == []
    said = text(report)
    assert "0: NVIDIA H100, 80.0 GiB (79.0 free), compute capability 9.0, bf16 yes" in said
    assert "recipe.backend auto, training.gpus 1, training.deepspeed false; unsloth 2026.10.7, 1 GPU" in said
    busy = replace(H100, free=GIB)
    report = asked(tmp_path, Machine([busy], ALL), **real())
    assert report.stages[0].verdict.startswith("fits once others on the GPU end")


def test_the_remedy_is_one_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sized(monkeypatch)
    machine = Machine([SMALL], BASE | {"unsloth": "2026.10.7"})

    def verdict(rule: str, machine: Machine = machine, **changed: dict[str, Any]) -> str:
        stages = asked(tmp_path, machine, **real(**changed)).stages
        return next(stage.verdict for stage in stages if stage.rule == rule)

    assert verdict("train") == "fits"
    plain = {"gradient_checkpointing": False}
    assert verdict("train", recipe=plain) == "does not fit: set recipe.gradient_checkpointing to true"
    wide = {"backend": "peft", "dropout": 0.1, "quantization": "none"}
    assert verdict("train", recipe=wide, training={"micro_batch_tokens": 32768, "compile": False}).startswith(
        "does not fit: set training."
    )
    remedied = int(
        verdict("train", recipe=wide, training={"micro_batch_tokens": 32768, "compile": False}).rpartition(" ")[2]
    )
    assert verdict("train", recipe=wide, training={"micro_batch_tokens": remedied, "compile": False}) == "fits"
    assert "slm.batch_size to 8" in verdict("answer", slm={"batch_size": 64})
    assert verdict("answer", slm={"batch_size": 8}) == "fits"
    assert "slm.precision to bf16" in verdict(
        "answer", Machine([replace(SMALL, total=15 * GIB)], BASE), slm={"precision": "fp32"}
    )
    assert verdict("train", Machine([replace(SMALL, total=GIB)], BASE)).endswith("a GPU with more memory is needed")


@pytest.mark.parametrize(
    ("machine", "changed", "named"),
    [
        (Machine([], BASE), {"slm": {"gpus": 1}}, "slm.gpus asks for 1 GPU, of which 0 are visible; set it to 0"),
        (Machine([H100], BASE), {"training": {"gpus": 4}}, "training.gpus asks for 4 GPUs, of which 1 are visible"),
        (Machine([H100], BASE), {"slm": {"gpus": 1, "engine": "vllm", "precision": "bf16"}}, "slm.engine vllm cannot"),
        (Machine([H100], ALL), {"slm": {"gpus": 0, "engine": "vllm", "precision": "bf16"}}, "slm.gpus gives it none"),
        (Machine([H100], ALL), {"slm": {"engine": "vllm", "precision": "nf4"}}, "does not run slm.precision nf4"),
        (Machine([], {}), {"slm": {"precision": "int8"}}, "slm.precision int8"),
        (Machine([], {}), {}, "recipe.quantization nf4"),
        (Machine([], ALL), {"recipe": {"backend": "unsloth"}}, "recipe.backend unsloth cannot run here"),
        (Machine([H100], BASE), {"recipe": {"backend": "unsloth"}, "training": {"gpus": 1}}, "not installed"),
        (Machine([H100], BASE), {"training": {"gpus": 1, "deepspeed": True}}, "training.deepspeed cannot be true"),
    ],
)
def test_each_refusal_names_its_key(
    tmp_path: Path, machine: Machine, changed: dict[str, dict[str, Any]], named: str
) -> None:
    report = asked(tmp_path, machine, **changed)
    assert any(named in refusal for refusal in report.refusals), report.refusals
    assert len(report.stages) == 5, "the rest is said all the same"
    assert text(report)


def test_prepared_rows_and_earlier_runs_count(tmp_path: Path, tiny_model: Path, tiny_rows: Path) -> None:
    built(tmp_path, tiny_model)
    checkpoint = tiny_model.parent / "checkpoint"
    before = asked(tmp_path, Machine([], BASE), model=checkpoint)
    for split in ("train", "val", "test"):
        data = tmp_path / "data" / "toolcall" / f"{split}.jsonl"
        data.parent.mkdir(parents=True, exist_ok=True)
        data.write_text(tiny_rows.read_text())
    predictions = tmp_path / "predictions/toolcall/slm.jsonl"
    predictions.parent.mkdir(parents=True)
    row = {"id": "r0", "outcome": "ok", "latency_s": 5.0, "fingerprint": "transformers-fp32-ab", "model": "checkpoint"}
    other = row | {"id": "r1", "latency_s": 900.0, "fingerprint": "vllm-bf16-ab"}
    predictions.write_text(json.dumps(row) + "\n" + json.dumps(other) + "\n")
    adapter = tmp_path / "adapters/toolcall/sft"
    adapter.mkdir(parents=True)
    fingerprint = json.loads(tiny_model.read_text())["fingerprint"]
    summary = training(seconds=90, base_fingerprint=fingerprint)
    write_sealed(adapter / "training.json", summary)
    after = asked(tmp_path, Machine([], BASE), model=checkpoint)
    assert [stage.seconds for stage in after.stages] == [24 * 5.0, 24 * 5.0, 90, *[None] * 2]
    for rough, exact in zip(before.stages, after.stages, strict=True):
        assert rough.bytes
        assert exact.bytes
        assert exact.bytes < rough.bytes
        assert "the longest of" in exact.notes[-1]
    assert "2.0 min last time" in text(after)
    write_sealed(adapter / "training.json", summary | {"world_size": 4})
    assert asked(tmp_path, Machine([], BASE), model=checkpoint).stages[2].seconds is None


def test_row_lengths_are_those_of_the_stages(tmp_path: Path, tiny_checkpoint: Path, tiny_rows: Path) -> None:
    given = config(tmp_path)
    prompts = row_lengths(tiny_rows, tiny_checkpoint, given, "toolcall", "test")
    whole = row_lengths(tiny_rows, tiny_checkpoint, given, "toolcall", "train")
    assert len(prompts) == len(whole) == 24
    assert all(long > short for long, short in zip(whole, prompts, strict=True))


@pytest.mark.parametrize(("files", "code"), [(("config",), 0), (("config", "phi4-mini"), 3)])
def test_the_command_without_a_card(tmp_path: Path, files: tuple[str, ...], code: int) -> None:
    command = [sys.executable, "-m", "fledgling", "check", "--results", str(tmp_path), "--config"]
    done = subprocess.run(
        [*command, *(f"config/{name}.yaml" for name in files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == code, done.stderr
    assert "everything runs on the CPU" in done.stdout
    assert "answer structured tuned" in done.stdout
    assert ("training.gpus asks for 4 GPUs" in done.stderr) == (code == 3)
    assert list(tmp_path.iterdir()) == [], "a check writes nothing"


def test_the_path_says_how_fast_it_is_and_what_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fledgling.slm.engine.find_spec", lambda name: name == "vllm")
    sized(monkeypatch)
    card = Machine([H100], ALL, "13.0")

    def path(machine: Machine = card, **slm: Any) -> str:
        report = asked(tmp_path, machine, **real(slm=slm))
        assert f"path    {report.stages[0].path}\n" in text(report)
        return report.stages[0].path

    assert path() == "vllm in bf16 on a GPU, about 160 rows a second after a start of 85 s"
    assert path(precision="int8") == (
        "transformers in int8 on a GPU, about 1.1 rows a second after a start of 20 s (slow): "
        "set slm.engine to auto and slm.precision to bf16, about 145 times as fast"
    )
    assert "(slow): set slm.precision to bf16 where the memory suffices" in path(precision="fp8")
    assert "on the CPU (slow): set slm.gpus to 1: about 160 rows a second" in path(gpus=0)
    monkeypatch.setattr("fledgling.slm.engine.find_spec", lambda name: None)
    without = Machine([H100], {name: version for name, version in ALL.items() if name != "vllm"}, "13.0")
    assert "(slow): install vLLM (pip install 'fledgling[gpu]') and set slm.engine to auto" in path(without)


def test_a_training_says_how_fast_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sized(monkeypatch)

    def path(cards: int, **recipe: Any) -> str:
        sections = real(recipe=recipe, training={"gpus": cards})
        stages = asked(tmp_path, Machine([H100] * cards, ALL, "13.0"), **sections).stages
        return next(stage.path for stage in stages if stage.rule == "train")

    one = path(1, gradient_checkpointing=False)
    assert one == "unsloth on a GPU, about 28,029 tokens a second after a start of 100 s"
    assert "unsloth on 2 GPUs, about 53,255 tokens" in path(2, gradient_checkpointing=False)
    assert [round(pace.times(gpus), 2) for gpus in (1, 2, 3, 4, 8)] == [1.0, 1.9, 2.67, 3.4, 6.08]
    assert [round(pace.times(gpus, replayed=False), 2) for gpus in (1, 2, 3, 4, 8)] == [1.0, 1.9, 2.18, 2.4, 3.03]
    assert pace.replays({"deepspeed": False}, checkpointing=False)
    assert pace.replays({"deepspeed": False, "cuda_graphs": "auto"}, checkpointing=False)
    assert not pace.replays({"deepspeed": True}, checkpointing=False)
    assert not pace.replays({"deepspeed": False, "cuda_graphs": False}, checkpointing=False)
    assert not pace.replays({"deepspeed": False}, checkpointing=True)
    assert "(slow): set it to false" in path(1, gradient_checkpointing=True)
    assert "peft on the CPU (slow)" in path(0)


def test_fp8_under_a_vllm_that_computes_it_wrongly_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fledgling.slm.engine.find_spec", lambda name: name == "vllm")
    sized(monkeypatch)
    old = Machine([H100], ALL | {"vllm": "0.20.0"}, "13.0")
    assert asked(tmp_path, old, **real()).refusals == []
    (refusal,) = asked(tmp_path, old, **real(slm={"precision": "fp8"})).refusals
    assert "vLLM 0.20.0 transposes square layers" in refusal
    assert "set slm.precision to bf16" in refusal


def test_trainings_that_wait_for_each_other_are_named() -> None:
    said = pace.side_by_side(2, 4, 4)
    assert said
    assert "training.gpus: 2 runs 2 side by side" in said
    assert pace.side_by_side(2, 2, 4) is None
    assert pace.side_by_side(1, 4, 4) is None
    assert pace.side_by_side(2, 1, 1) is None


def test_fp8_weights_take_a_byte_each_in_the_linear_layers() -> None:
    fp8, int8, bf16, nf4 = (memory.weight_bytes(PHI4_MINI, name) for name in ("fp8", "int8", "bf16", "nf4"))
    assert nf4 < fp8 < int8 < 1.001 * fp8
    assert bf16 - fp8 == pytest.approx(memory.linear_weights(PHI4_MINI), rel=1e-6)
