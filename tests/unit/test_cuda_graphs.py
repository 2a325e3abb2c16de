"""Micro-batches that are replayed: padding, what is captured when, what a capture that fails leaves. Graphs themselves
run in tests/gpu."""

import itertools
import logging
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from fledgling.training.batch import Batch
from fledgling.training.cuda_graphs import MOST, MULTIPLE, Replays, lengths_for, tokens_a_second
from fledgling.training.objective import Apart, Objective, tabulate_rope
from fledgling.training.recipe import Layout
from fledgling.training.tokens import Row

from .replays import Graph


def rows_of(*lengths: int, seed: int = 0) -> list[Row]:
    rng = random.Random(seed)
    rows = []
    for length in lengths:
        ids = [rng.randrange(5, 60) for _ in range(length)]
        rows.append(Row(input_ids=ids, labels=[-100] * (length // 2) + ids[length // 2 :]))
    return rows


def lora(loaded: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        loaded, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear", init_lora_weights=False)
    )


@pytest.fixture
def model(tiny_checkpoint: Path) -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return lora(AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32)).train()


# --- lengths

H100 = {"launch": 3700.0, "capture": 5600.0}  # 28,000 tokens a second, 32 layers
SPEED = 28_000 * 32 // 2  # for the tests' model of two layers


def cost(tokens: list[int], lengths: list[int], *, launch: float, capture: float) -> float:
    """What a choice of lengths costs, in tokens: padding, captures, and hosts that micro-batches longer than all wait for."""
    least = [min((length for length in lengths if length >= each), default=None) for each in tokens]
    each_costs = (
        max(0.0, launch - each) if found is None else found - each for found, each in zip(least, tokens, strict=True)
    )
    return sum(each_costs) + capture * len(lengths)


def test_few_micro_batches_are_not_replayed() -> None:
    assert lengths_for([], **H100) == []
    assert lengths_for([3008] * 8, **H100) == []
    assert lengths_for([3008] * 9, **H100) == [3008]
    assert lengths_for([2900] * 20, **H100) == [2944]
    assert lengths_for([2900] * 20 + [1500] * 20, **H100) == [1536, 2944]


def test_long_micro_batches_are_not_replayed_as_their_gpu_does_not_wait() -> None:
    assert lengths_for([5800] * 1000, **H100) == []
    assert lengths_for([2900] * 20 + [5800] * 1000, **H100) == [2944]
    slow = {name: tokens / 12 for name, tokens in H100.items()}  # a GPU of a twelfth of the speed
    assert lengths_for([2900] * 1000, **slow) == []
    assert lengths_for([250] * 1000, **slow) == [256]


def test_a_gpus_speed_is_that_of_its_matrix_products(monkeypatch: pytest.MonkeyPatch) -> None:
    products: list[torch.Size] = []
    plain, randn = torch.mm, torch.randn

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.products = len(products)

        def synchronize(self) -> None:
            pass

        def elapsed_time(self, other: "Event") -> float:
            return 2.0 * (other.products - self.products)  # milliseconds

    def mm(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        products.append(one.shape)
        return plain(one, other)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(torch, "randn", lambda *shape, device, dtype: randn(*shape, dtype=dtype))
    found = tokens_a_second(1000, torch.device("cuda", 0), side=64)
    assert found == int(0.55 * 2 * 64**3 / 0.002 / 4000)
    assert set(products) == {torch.Size([64, 64])}
    assert tokens_a_second(1000, torch.device("cpu")) == 0


@pytest.mark.parametrize("seed", range(30))
def test_no_other_lengths_cost_less(seed: int) -> None:
    rng = random.Random(seed)
    values = [MULTIPLE * rng.randint(1, 60) for _ in range(7)]
    tokens = rng.choices(values, weights=[rng.random() ** 2 for _ in values], k=rng.randint(1, 120))
    costs = {"launch": rng.uniform(0, 5000), "capture": rng.uniform(0, 9000)}
    found = lengths_for(tokens, **costs)
    assert found == sorted(set(found))
    choices = (chosen for size in range(8) for chosen in itertools.combinations(sorted(set(tokens)), size))
    assert cost(tokens, found, **costs) == pytest.approx(min(cost(tokens, list(c), **costs) for c in choices))


@pytest.mark.parametrize("count", [64, 500, 5000])
@pytest.mark.parametrize("spread", [0.05, 0.1, 0.2, 0.6])
def test_lengths_are_few_and_close(count: int, spread: float) -> None:
    rng = random.Random(count)
    tokens = [max(2, round(rng.lognormvariate(8, spread))) for _ in range(count)]
    lengths = lengths_for(tokens, launch=3800.0, capture=5000.0)
    assert 1 <= len(lengths) <= MOST
    assert all(length % MULTIPLE == 0 for length in lengths)
    if count > 64 and spread <= 0.2:
        assert sum(min((n for n in lengths if n >= each), default=each) for each in tokens) < 1.04 * sum(tokens)


# --- padding


@pytest.mark.parametrize("lengths", [(5,), (7, 1, 30, 12), (40, 40, 17), (63,), (64,)])
def test_padding_changes_neither_loss_nor_gradients(model: Any, lengths: tuple[int, ...]) -> None:
    objective = Objective(model, longest=64, rows=6)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    batch = Batch.of(rows_of(*lengths))
    alone = objective(batch)
    wanted = torch.autograd.grad(alone, trained)
    for tokens in (sum(lengths), sum(lengths) + 1, 200):
        padded = batch.padded(tokens, longest=64).bounded(12)
        assert padded.ids.shape == padded.positions.shape == (1, tokens)
        assert int(padded.starts[-1]) == tokens
        assert int(padded.starts.diff().max()) <= 64
        assert int(padded.positions.max()) == max(lengths) - 1
        found = objective(padded)
        assert found.item() == pytest.approx(alone.item(), rel=1e-5)
        for one, other in zip(torch.autograd.grad(found, trained), wanted, strict=True):
            assert torch.allclose(one, other, atol=1e-4 * max(1.0, float(other.abs().max())))


# --- what is captured when


def replays(objective: Objective, tokens: list[int]) -> Replays:
    assert objective.replay(tokens, speed=SPEED) is None
    assert objective._replays is not None
    return objective._replays


def gradients(model: Any) -> list[torch.Tensor]:
    return [parameter.grad for parameter in model.parameters() if parameter.requires_grad]


def test_the_second_of_a_length_is_captured_and_replays_learn_the_same(model: Any, replaying: type[Graph]) -> None:
    objective = Objective(model, longest=64, rows=6)
    steps = [rows_of(30, 20, seed=seed) for seed in range(5)] + [rows_of(50, 60, 9, seed=9)]
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    wanted = []
    for rows in steps:
        loss = objective(Batch.of(rows))
        loss.backward()
        wanted.append((loss.item(), [gradient.clone() for gradient in gradients(model)]))
    for gradient in gradients(model):
        gradient.zero_()
    kept = replays(objective, [50] * 200 + [119] * 200)
    made = []
    for rows, (wanted_loss, wanted_gradients) in zip(steps, wanted, strict=True):
        loss = objective(objective.batch(rows, torch.device("cpu")))
        loss.backward()
        made.append(replaying.made)
        assert loss.item() == pytest.approx(wanted_loss, rel=1e-5)
        for one, other in zip(gradients(model), wanted_gradients, strict=True):  # they add up over the steps
            assert torch.allclose(one, other, atol=1e-4 * max(1.0, float(other.abs().max())))
    assert made == [0, 1, 1, 1, 1, 1]  # the last is the first of its length
    assert kept._graphs[64].replayed == ["forward", "backward"] * 4
    with torch.no_grad():
        objective(objective.batch(steps[0], torch.device("cpu")))
    assert kept._graphs[64].replayed == ["forward", "backward"] * 4


@pytest.mark.parametrize("fault", [RuntimeError, ValueError, torch.OutOfMemoryError])
def test_a_capture_that_fails_is_said_once_and_everything_runs_as_ever(
    model: Any, replaying: type[Graph], caplog: pytest.LogCaptureFixture, fault: type[Exception]
) -> None:
    replaying.fails = fault("the host waited\nSearch for …")
    objective = Objective(model, longest=64, rows=6)
    rows = rows_of(30, 20)
    wanted = objective(Batch.of(rows)).item()
    replays(objective, [50] * 40)
    with caplog.at_level(logging.WARNING):
        found = [objective(objective.batch(rows, torch.device("cpu"))).item() for _ in range(4)]
    assert found == pytest.approx([wanted] * 4, rel=1e-5)
    assert replaying.made == 1
    assert len(replaying.mended) == 1
    said = [record.message for record in caplog.records]
    assert said == ["micro-batches are not replayed from CUDA graphs (slower): the host waited"]
    assert objective.batch(rows, torch.device("cpu")).ids.shape == (1, 50)  # nor padded


def test_memory_that_ran_out_takes_the_graphs_along(model: Any, replaying: type[Graph]) -> None:
    objective = Objective(model, longest=64, rows=6)
    assert not objective.replaying
    kept = replays(objective, [50] * 40)
    for _ in range(3):
        objective(objective.batch(rows_of(30, 20), torch.device("cpu")))
    assert kept._graphs
    assert objective.replaying
    objective.forget()
    assert not kept._graphs
    assert not objective.replaying
    objective(objective.batch(rows_of(30, 20), torch.device("cpu")))
    assert not kept._graphs


def test_every_micro_batch_has_as_many_bounds_and_a_multiple_of_tokens(model: Any, replaying: type[Graph]) -> None:
    objective = Objective(model, longest=40, rows=6)
    tokens = [50] * 200 + [130] * 200
    replays(objective, tokens)
    shapes = {
        (batch.ids.shape[1], batch.positions.shape[1], len(batch.starts))
        for lengths in ((5,), (40, 24), (65, 4), (30, 9, 30, 1, 1, 1), (100,), (100, 92), (100, 93), (256,))
        for batch in [objective.batch(rows_of(*lengths), torch.device("cpu"))]
    }
    assert shapes == {(64, 64, 10), (192, 192, 10), (256, 256, 10)}  # the last is that of no graph


def test_what_was_compiled_for_one_micro_batch_holds_for_all(model: Any, replaying: type[Graph]) -> None:
    """Unsloth's compiled layers hold the number of bounds for a constant: another one took 8 to 14 s on an H100."""
    objective = Objective(model, longest=64, rows=6)

    def bounds() -> set[int]:
        given = [(5,), (40, 24), (30, 9, 30, 1, 1, 1)]
        return {len(objective.batch(rows_of(*lengths), torch.device("cpu")).starts) for lengths in given}

    assert bounds() == {7}
    wanted = objective(Batch.of(rows_of(40, 24))).item()
    assert objective(objective.batch(rows_of(40, 24), torch.device("cpu"))).item() == pytest.approx(wanted, rel=1e-6)
    replays(objective, [50] * 200 + [130] * 200)
    assert bounds() == {10}
    objective.forget()
    assert bounds() == {10}


def test_why_nothing_is_replayed(model: Any, far: Any, replaying: type[Graph]) -> None:
    objective = Objective(model, longest=64, rows=6)
    assert objective.replay([50] * 40, speed=0) == "this is no GPU"
    assert "too few are alike" in str(objective.replay([50], speed=SPEED))
    objective.keep(Apart.MASK)
    assert objective.replay([50] * 40, speed=SPEED) == f"rows are kept apart {Apart.MASK.value}"
    assert not objective.replaying
    reaching = Objective(lora(far), longest=SWITCH + 1, rows=6)
    assert "beyond the switch of the model's RoPE" in str(reaching.replay([50] * 40, speed=SPEED))
    assert not reaching.replaying


# --- LongRoPE


SWITCH = 64


@pytest.fixture
def far(tiny_checkpoint: Path) -> Any:
    """A model with LongRoPE whose long and short angles differ."""
    from transformers import AutoConfig, AutoModelForCausalLM

    given = AutoConfig.from_pretrained(tiny_checkpoint)
    width = given.hidden_size // given.num_attention_heads // 2
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
    factors = {"short_factor": [1.0] * width, "long_factor": [4.0] * width, "original_max_position_embeddings": SWITCH}
    changed = {
        "rope_parameters": rope | factors,
        "original_max_position_embeddings": SWITCH,
        "max_position_embeddings": 4 * SWITCH,
    }
    config = type(given)(**given.to_dict() | changed)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def rotary(model: Any) -> Any:
    (module,) = [each for each in model.modules() if getattr(each, "rope_type", None) == "longrope"]
    return module


def states(model: Any, length: int) -> torch.Tensor:
    ids = torch.arange(length)[None] % 50 + 5
    positions = torch.cat([torch.arange(length // 2), torch.arange(length - length // 2)])[None]
    with torch.no_grad():
        return model(input_ids=ids, position_ids=positions, use_cache=False).logits


def test_angles_that_are_looked_up_are_replayed(far: Any, replaying: type[Graph]) -> None:
    replays(Objective(lora(far), longest=SWITCH, rows=6), [50] * 40)


def test_angles_are_looked_up_and_asked_for_once(far: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [states(far, length) for length in (30, 64, 9)]
    asked = []
    own = rotary(far).forward
    monkeypatch.setattr(rotary(far), "forward", lambda *given: asked.append(1) or own(*given))
    assert tabulate_rope(far, SWITCH) is None
    found = [states(far, length) for length in (30, 64, 9)]
    assert len(asked) == 1
    for one, other in zip(found, plain, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_rows_beyond_its_switch_keep_longrope(far: Any) -> None:
    def angles(longest: int) -> torch.Tensor:
        cosines, _ = rotary(far)(torch.zeros(1, 1, 4), position_ids=torch.tensor([[1, 2, longest - 1]]))
        return cosines[:, :2]

    within, beyond = angles(20), angles(2 * SWITCH)
    assert not torch.allclose(within, beyond)
    assert tabulate_rope(far, SWITCH + 1) == SWITCH
    assert torch.equal(angles(20), within)
    assert torch.equal(angles(2 * SWITCH), beyond)


@pytest.mark.parametrize("longest", [40, 63, SWITCH])
def test_padding_reaches_no_further_than_the_table(far: Any, longest: int) -> None:
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear", init_lora_weights=False)
    objective = Objective(get_peft_model(far, lora).train(), longest=longest, rows=6)
    batch = Batch.of(rows_of(longest, 9))
    padded = batch.padded(longest + 9 + 3 * SWITCH, longest=objective._longest).bounded(12)
    assert objective(padded).item() == pytest.approx(objective(batch).item(), rel=1e-5)


@pytest.mark.parametrize(("kinds", "settled"), [("dynamic", False), ("default", True), ({"full": "longrope"}, False)])
def test_other_ropes_that_ask_are_named(model: Any, kinds: Any, settled: bool) -> None:
    (module,) = [each for each in model.modules() if type(each).__name__.endswith("RotaryEmbedding")]
    module.rope_type = kinds
    assert (tabulate_rope(model, 40) is None) is settled


# --- more processes than one


def test_all_processes_pad_to_the_one_that_has_most(model: Any, replaying: type[Graph]) -> None:
    lengths = [30, 20, 9, 40, 17, 33, 5, 12, 25]
    plan = Layout([[[[0, 1], [2]], [[3], [4, 5]]], [[[6]], [[7, 8], []]]])
    assert plan.most_tokens(lengths) == [[50, 50], [37, 0]]
    objective = Objective(model, longest=64, rows=6)
    replays(objective, [50] * 200 + [200] * 200)
    padded = [
        objective.batch(rows_of(*rows), torch.device("cpu"), 130).ids.shape[1] for rows in ((30, 20), (60, 60, 60))
    ]
    assert padded == [256, 256]
