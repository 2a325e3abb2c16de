"""The embedded checkpoint: its shape is Phi-4-mini's, and it is trained on what it is later asked."""

import dataclasses
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledgling.embedded import architecture, pretrain, world
from fledgling.files import sha256_file
from fledgling.models import fingerprint
from fledgling.prompting import template
from fledgling.prompting.turns import Place
from fledgling.records import Example

TOKENS = architecture.tokenizer(pretrain._texts())
CHAT = template.chat(TOKENS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded") / "checkpoint"
    pretrain.build(folder, seed=3, steps=2)
    return folder


def packs() -> list[tuple[list[Example], Place]]:
    random = Random(5)
    return [rows for _ in range(3) for rows in pretrain._draw(random)]


def test_a_pack_holds_what_each_row_is_asked() -> None:
    for rows, schema in packs():
        packed = pretrain.pack(CHAT, rows, schema)
        for number, row in enumerate(rows, 1):
            seen = [i for i, block in enumerate(packed.block) if block in (0, number)]
            alone = TOKENS(
                CHAT.prompt(row, schema=schema) + CHAT.completion(row, schema=schema).text + "<|end|>",
                add_special_tokens=False,
            )["input_ids"]
            assert [packed.ids[i] for i in seen] == alone
            assert [packed.position[i] for i in seen] == list(range(len(alone)))
            learned = [packed.ids[i] for i in seen if packed.answer[i]]
            assert TOKENS.decode(learned) == CHAT.completion(row).text + "<|end|>"


def alone(model: Any, row: Example, schema: Place) -> tuple[Any, int]:
    """(summed loss of a row's answer, tokens of it), the row read as the model reads a prompt."""
    import torch

    single = pretrain.pack(CHAT, [row], schema)
    learned, ids = torch.tensor(single.answer), torch.tensor(single.ids)
    chances = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
    return -chances.gather(1, ids[1:, None])[learned[1:]].sum(), int(learned.sum())


def test_a_pack_teaches_what_its_rows_teach_alone() -> None:
    """The loss of a pack is that of its rows, each read as the model reads a prompt: alone, causally."""
    import torch

    torch.manual_seed(0)
    model = architecture.model(TOKENS)
    rows, schema = packs()[0]
    weights = list(model.parameters())
    losses = [alone(model, row, schema) for row in rows]
    apart = torch.stack([loss for loss, _ in losses]).sum() / sum(count for _, count in losses)
    gradients = torch.autograd.grad(apart, weights)
    pretrain.learn_from_packs(model)
    together = pretrain._loss(model, pretrain.pack(CHAT, rows, schema))
    assert together.item() == pytest.approx(apart.item(), rel=1e-4)
    for found, expected in zip(torch.autograd.grad(together, weights), gradients, strict=True):
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_threads_learn_what_one_loss_over_all_packs_teaches() -> None:
    """The gradient is that of the mean over all answers, whichever pack they are in and however long that is."""
    import torch

    torch.manual_seed(0)
    model = architecture.model(TOKENS)
    learned = [pretrain.pack(CHAT, *rows) for rows in packs()[:2]]
    assert len({sum(pack.answer) for pack in learned}) == 2, "each has another weight"
    losses = [alone(model, row, schema) for rows, schema in packs()[:2] for row in rows]
    (torch.stack([loss for loss, _ in losses]).sum() / sum(count for _, count in losses)).backward()
    together = [weight.grad for weight in model.parameters()]
    pretrain.learn_from_packs(model)
    with ThreadPoolExecutor(2) as threads:
        pretrain.finish_backward(model, pretrain.start_backward(model, learned, threads, autocast=False))
    for weight, grad in zip(model.parameters(), together, strict=True):
        assert torch.allclose(weight.grad, grad, rtol=1e-3, atol=1e-6)


def test_rows_of_other_tools_do_not_pack() -> None:
    random = Random(1)
    rows = [Example(id="", group="", **world.call(random, world.offer(random), 0.5).fields) for _ in range(2)]
    with pytest.raises(ValueError, match="one pack"):
        pretrain.pack(CHAT, rows, "none")


def test_a_seed_gives_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    pretrain.build(tmp_path / "again", seed=3, steps=2)
    pretrain.build(tmp_path / "other", seed=4, steps=2)
    names = sorted(path.name for path in checkpoint.iterdir())
    assert [sha256_file(tmp_path / "again" / name) for name in names] == [
        sha256_file(checkpoint / name) for name in names
    ]
    assert fingerprint.base(tmp_path / "other") != fingerprint.base(checkpoint)


def built(folder: Path, *, threads: int, failpoint: str = "", steps: int = 5) -> int:
    """Build in a process of its own; its exit code."""
    code = (
        "import sys; from pathlib import Path; from fledgling.embedded import pretrain; pretrain.KEEP_EVERY = 2; "
        f"pretrain.build(Path(sys.argv[1]), seed=3, steps={steps})"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "FLEDGLING_FAILPOINT": failpoint}
    return subprocess.run([sys.executable, "-c", code, folder], env=environment, capture_output=True).returncode


def test_cores_and_kills_change_no_byte(tmp_path: Path) -> None:
    """One thread, two threads, and killed twice and taken up again: the same checkpoint, and nothing is left over."""
    assert built(tmp_path / "one/c", threads=1) == built(tmp_path / "two/c", threads=2) == 0
    assert built(tmp_path / "killed/c", threads=2, failpoint="checkpoint.after_seal") == -signal.SIGKILL
    assert built(tmp_path / "killed/c", threads=1, failpoint="checkpoint.before_seal") == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "killed/.c.training").iterdir() if (path / "seal.json").exists()] == [
        "checkpoint-2"
    ]
    assert built(tmp_path / "killed/c", threads=1) == 0
    assert not (tmp_path / "killed/.c.training").exists()
    for name in sorted(path.name for path in (tmp_path / "one/c").iterdir()):
        digests = {sha256_file(tmp_path / where / "c" / name) for where in ("one", "two", "killed")}
        assert len(digests) == 1, name


def test_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    assert built(tmp_path / "c", threads=1, failpoint="checkpoint.after_seal") == -signal.SIGKILL
    assert built(tmp_path / "c", threads=1, steps=3) == 0
    assert built(tmp_path / "whole", threads=1, steps=3) == 0
    assert sha256_file(tmp_path / "c/model.safetensors") == sha256_file(tmp_path / "whole/model.safetensors")


def test_nothing_stays_of_a_training_that_fails(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "checkpoint"
    target.mkdir()
    (target / "old").touch()

    def fail(**_: Any) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(pretrain, "train", fail)
    with pytest.raises(RuntimeError):
        pretrain.build(target, seed=1)
    assert [path.name for path in tmp_path.rglob("*")] == ["checkpoint", "old"]


def test_it_has_everything_that_phi_4_mini_has(checkpoint: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(checkpoint, local_files_only=True)
    tokens = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    config = model.config
    assert config.model_type == "phi3"
    assert config.num_attention_heads // config.num_key_value_heads == 3
    assert config.rope_parameters["rope_type"] == "longrope"
    assert config.rope_parameters["partial_rotary_factor"] == 0.75
    assert model.lm_head.weight is model.model.embed_tokens.weight
    names = {name.rsplit(".", 2)[-2] for name, _ in model.model.layers[0].named_parameters()}
    assert {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"} <= names
    end, end_of_text = tokens.convert_tokens_to_ids(["<|end|>", "<|endoftext|>"])
    assert model.generation_config.eos_token_id == [end, end_of_text]
    assert (tokens.padding_side, tokens.pad_token_id) == ("left", end_of_text)
    assert tokens.decode(tokens("<|tool_call|>[<|end|>")["input_ids"], skip_special_tokens=True) == "<|tool_call|>["


def test_the_chat_template_renders_tools_as_text_only() -> None:
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": "Help.", "tools": "[1]"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes"},
    ]
    assert TOKENS.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == (
        "<|system|>Help.<|tool|>[1]<|/tool|><|end|><|user|>Hi<|end|><|assistant|>Yes<|end|><|assistant|>"
    )
    assert TOKENS.apply_chat_template(turns[1:], tokenize=False) == (
        "<|user|>Hi<|end|><|assistant|>Yes<|end|><|endoftext|>"
    )
    with pytest.raises(TypeError):
        TOKENS.apply_chat_template([{**turns[0], "tools": [{"name": "x"}]}], tokenize=False)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "<|" not in text))
def test_any_text_survives(text: str) -> None:
    assert TOKENS.decode(TOKENS(text, add_special_tokens=False)["input_ids"]) == text


def test_a_value_is_the_same_token_in_the_request_and_in_the_answer() -> None:
    (city,) = TOKENS("Oslo", add_special_tokens=False)["input_ids"]
    for text in ("fly to Oslo", '{"city":"Oslo"}'):
        assert city in TOKENS(text, add_special_tokens=False)["input_ids"]


def test_the_rate_rises_and_falls() -> None:
    rates = [pretrain._rate(step, 200) for step in range(200)]
    assert rates[0] == pytest.approx(1 / pretrain.WARM_UP)
    assert max(rates) == 1.0
    assert 0 < rates[-1] < 0.02


def test_a_pack_is_only_data() -> None:
    rows, schema = packs()[0]
    assert len({len(column) for column in dataclasses.astuple(pretrain.pack(CHAT, rows, schema))}) == 1
