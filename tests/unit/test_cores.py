"""Two parts at a time on a CPU, and the last layer's MLP only where it is read: the same results, sooner."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from fledgling.cores import PARTS, TwoAtATime
from fledgling.models import last_layer
from fledgling.training.updates import Group, Summed


def test_parts_are_taken_at_a_time_and_come_back_in_their_order() -> None:
    together = threading.Barrier(PARTS, timeout=60)

    def work(part: int) -> int:
        together.wait()  # for ever, if one part waited for the other
        time.sleep(0.05 * (PARTS - part))
        return part

    assert TwoAtATime().map(work, range(PARTS)) == list(range(PARTS))


def test_a_part_that_fails_does_not_leave_another_running() -> None:
    ended = []

    def work(part: int) -> None:
        if part == 0:
            raise MemoryError("the first")
        time.sleep(0.1)
        ended.append(part)

    with pytest.raises(MemoryError, match="the first"):
        TwoAtATime().map(work, [0, 1])
    assert ended == [1]


@pytest.mark.parametrize(("given", "each"), [(1, 1), (2, 1), (8, 4)])
def test_the_parts_share_the_threads_of_torch(given: int, each: int) -> None:
    said = subprocess.run(
        [
            *(sys.executable, "-c"),
            f"import torch; from fledgling.cores import TwoAtATime; torch.set_num_threads({given})\n"
            "TwoAtATime(); print(TwoAtATime().map(lambda _: torch.get_num_threads(), [0, 1]))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f"[{each}, {each}]\n"


def phi3(layers: int = 2) -> Any:
    from transformers import Phi3Config, Phi3ForCausalLM

    return tiny(Phi3ForCausalLM, Phi3Config, num_hidden_layers=layers, pad_token_id=0)


def qwen3() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return tiny(Qwen3ForCausalLM, Qwen3Config, head_dim=8)


def gemma3() -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    return tiny(Gemma3ForCausalLM, Gemma3TextConfig, head_dim=8)


def experts() -> Any:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    shape = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
    return tiny(Qwen3MoeForCausalLM, Qwen3MoeConfig, **shape)


def tiny(model: Any, config: Any, **more: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    return model(config(**{"vocab_size": 64, "num_hidden_layers": 2, **sizes, **more})).train()


def read(model: Any, ids: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
    """What is read at some places, and the gradients of a loss there."""
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state.index_select(1, places)
    loss = model.lm_head(hidden).logsumexp(-1).sum()
    weights = list(model.parameters())
    return hidden.detach(), torch.autograd.grad(loss, weights, allow_unused=True)


@pytest.mark.parametrize("build", [phi3, qwen3, gemma3, experts])
def test_what_is_read_and_learned_stays_the_same(build: Callable[[], Any]) -> None:
    model, ids, places = build(), torch.arange(3, 23).view(2, 10), torch.tensor([4, 9])
    expected, gradients = read(model, ids, places)
    last_layer.install(model)
    assert torch.equal(read(model, ids, places)[0], expected), "nothing changes where nobody says what is read"
    with last_layer.read_at(places):
        found, learned = read(model, ids, places)
        elsewhere = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, 0]
    assert torch.allclose(found, expected, atol=1e-5)
    for mine, other in zip(learned, gradients, strict=True):
        assert (mine is None) == (other is None)
        assert mine is None or other is None or torch.allclose(mine, other, atol=1e-4)
    plain = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, 0]
    assert not torch.allclose(elsewhere, plain, atol=1e-3), "the MLP ran where nothing is read"


def test_the_last_token_is_read_of_prompts_of_any_length() -> None:
    model = phi3().eval()
    last_layer.install(model)
    for length in (1, 2, 7):
        ids = torch.arange(length)[None]
        expected = model(input_ids=ids).logits[:, -1]
        with last_layer.read_last():
            assert torch.allclose(model(input_ids=ids).logits[:, -1], expected, atol=1e-5)


def test_each_thread_reads_its_own_places() -> None:
    model, ids = phi3(), torch.arange(40)[None]
    wanted = [torch.tensor([place]) for place in range(40)]
    expected = [read(model, ids, place)[0] for place in wanted]
    last_layer.install(model)

    def found(place: torch.Tensor) -> torch.Tensor:
        with last_layer.read_at(place):
            return read(model, ids, place)[0]

    with ThreadPoolExecutor(4) as threads:
        for mine, other in zip(threads.map(found, wanted), expected, strict=True):
            assert torch.allclose(mine, other, atol=1e-5)


def test_a_model_of_another_build_stays() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=16, n_embd=16, n_layer=1, n_head=2)).eval()
    ids = torch.arange(5)[None]
    expected = model(input_ids=ids).logits
    last_layer.install(model)
    with last_layer.read_last():
        assert torch.equal(model(input_ids=ids).logits, expected)


def test_an_mlp_that_returns_more_runs_whole_and_is_asked_once_in_part() -> None:
    model, asked = phi3(), []
    mlp = model.base_model.layers[-1].mlp
    plain = mlp.forward

    def scored(hidden: torch.Tensor) -> Any:
        asked.append(hidden.shape[1])
        return plain(hidden), "scores"

    mlp.forward = scored
    last_layer.install(model)
    hidden = torch.ones(1, 5, 32)
    with last_layer.read_last():
        whole = [mlp(hidden)[0] for _ in range(2)]
    assert [found.shape for found in whole] == [hidden.shape] * 2
    assert asked == [1, 5, 5]


@pytest.mark.parametrize("cores", [None, TwoAtATime()], ids=["one by one", "at a time"])
def test_an_update_sums_the_gradients_of_its_parts(cores: TwoAtATime | None) -> None:
    used, unused = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))
    update = Summed([used, unused], Group(0, 1, torch.device("cpu")), weight_decay=0.0, cores=cores)
    assert update.parts == (1 if cores is None else PARTS)
    losses = [lambda times=times: (used * times).sum() for times in (1.0, 2.0, 4.0)]
    assert float(update.backward(losses, last=True)) == 21.0
    assert used.grad is not None
    assert unused.grad is not None
    assert used.grad.tolist() == [7.0] * 3
    assert unused.grad.tolist() == [0.0] * 2
