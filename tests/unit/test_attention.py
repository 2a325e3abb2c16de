"""Rows that lie one behind the other attend as if each were alone; the kernel itself runs in tests/gpu."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from fledgling.training import attention
from fledgling.training.batch import Batch
from fledgling.training.tokens import Row

LENGTHS = [5, 1, 9, 9, 3]


@pytest.fixture
def rows() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(5, 60, (length,), generator=generator) for length in LENGTHS]


@pytest.fixture
def model(tiny_checkpoint: Path) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    loaded = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    return get_peft_model(loaded, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear"))


def kernel(
    query: Any,
    key: Any,
    value: Any,
    starts: Any,
    _: Any,
    longest: int,
    __: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Any:
    """torch.nn.attention.varlen.varlen_attn in plain torch."""
    assert starts.dtype == torch.int32
    assert longest == max(starts.diff())
    groups = query.shape[1] // key.shape[1]
    assert enable_gqa == (groups > 1)
    bounds = starts.tolist()
    outputs = []
    for start, end in itertools.pairwise(bounds):
        places = torch.arange(end - start)
        mask = places[:, None] >= places
        if window_size[0] >= 0:
            mask &= places[:, None] - places <= window_size[0]
        states = [each[start:end].transpose(0, 1) for each in (query, key, value)]
        states[1:] = [each.repeat_interleave(groups, 0) for each in states[1:]]
        outputs.append(torch.nn.functional.scaled_dot_product_attention(*states, attn_mask=mask, scale=scale))
    return torch.cat(outputs, dim=1).transpose(0, 1)


def card(monkeypatch: pytest.MonkeyPatch, *capability: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(attention, "varlen_attn", kernel)


def batch_of(rows: list[torch.Tensor]) -> Batch:
    return Batch.of([Row(input_ids=row.tolist(), labels=[-100, *row.tolist()[1:]]) for row in rows])


def bounds(batch: Batch) -> dict[str, Any]:
    starts, longest = batch.starts, int(batch.starts.diff().max())
    return {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": longest, "max_length_k": longest}


def test_a_batch_names_the_bounds_of_its_rows_and_where_the_loss_is(rows: list[torch.Tensor]) -> None:
    batch = batch_of(rows)
    assert batch.starts.tolist() == [0, 5, 6, 15, 24, 27]
    assert batch.positions.tolist() == [[place for length in LENGTHS for place in range(length)]]
    ends = [4, 5, 14, 23, 26]  # no row's end foretells the next
    assert batch.places.tolist() == [place for place in range(27) if place not in ends]
    assert batch.targets.tolist() == [int(token) for row in rows for token in row[1:]]


@pytest.mark.parametrize(("on_card", "window"), [(True, None), (True, 4), (True, 100), (False, None), (False, 100)])
def test_every_row_is_answered_as_if_alone(
    monkeypatch: pytest.MonkeyPatch, model: Any, rows: list[torch.Tensor], on_card: bool, window: int | None
) -> None:
    model.config.sliding_window = window
    alone = [model(input_ids=row[None], use_cache=False).logits[0] for row in rows]
    if on_card:
        card(monkeypatch, 8, 0)
    model.get_base_model().set_attn_implementation(attention.kernel(model, max(LENGTHS)))
    batch = batch_of(rows)
    found = model(input_ids=batch.ids, position_ids=batch.positions, use_cache=False, **bounds(batch))
    assert torch.allclose(found.logits[0], torch.cat(alone), atol=1e-5)


def test_a_window_shorter_than_a_row_keeps_its_mask_on_a_cpu(model: Any) -> None:
    model.config.sliding_window = max(LENGTHS) - 1
    assert attention.kernel(model, max(LENGTHS)) is None


def test_an_older_card_keeps_the_attention_it_has(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    card(monkeypatch, 7, 5)
    assert attention.kernel(model, max(LENGTHS)) is None


@pytest.mark.parametrize("on_card", [True, False])
def test_a_mask_is_refused(
    monkeypatch: pytest.MonkeyPatch, model: Any, rows: list[torch.Tensor], on_card: bool
) -> None:
    if on_card:
        card(monkeypatch, 8, 0)
    model.get_base_model().set_attn_implementation(attention.kernel(model, max(LENGTHS)))
    mask = torch.ones(1, 1, 27, 27, dtype=torch.bool)
    with pytest.raises(ValueError, match="has a mask"):
        model(input_ids=batch_of(rows).ids, **bounds(batch_of(rows)), attention_mask=mask, use_cache=False)


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"dropout": 0.1}, "dropout"),
        ({"softcap": 50.0}, "softcap"),
        ({"s_aux": torch.zeros(4)}, "s_aux"),
        ({"is_causal": False}, "tokens that see what comes behind them"),
    ],
)
@pytest.mark.parametrize("attend", [attention.attend, attention.attend_one_by_one])
def test_an_attention_that_is_more_is_refused(attend: Any, more: dict[str, Any], name: str) -> None:
    states = torch.zeros(1, 4, 8, 16)
    starts = torch.tensor([0, 8], dtype=torch.int32)
    with pytest.raises(ValueError, match=name):
        attend(None, states, states, states, None, cu_seq_lens_q=starts, max_length_q=8, **more)


def test_single_precision_is_computed_in_half(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def half(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
        seen.append((query.dtype, key.dtype, value.dtype))
        return query

    monkeypatch.setattr(attention, "varlen_attn", half)
    states = torch.zeros(1, 4, 8, 16)
    starts = torch.tensor([0, 8], dtype=torch.int32)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda _: torch.bfloat16)
    found, _ = attention.attend(None, states, states, states, None, cu_seq_lens_q=starts, max_length_q=8)
    assert seen == [(torch.bfloat16,) * 3]
    assert found.dtype == torch.float32
    assert found.shape == (1, 8, 4, 16)
