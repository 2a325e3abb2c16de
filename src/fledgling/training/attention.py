"""Attention over rows that lie one behind the other: kernels that keep each row to itself.

Otherwise the rows of a micro-batch are kept apart by a mask over all its tokens, for which no flash
kernel exists: its time grows with the square of the micro-batch, where this grows with that of each row.
"""

import inspect
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "rows_apart"
ONE_BY_ONE = "rows_one_by_one"
_GROUPS = "enable_gqa" in inspect.signature(varlen_attn).parameters  # torch 2.12


def install(model: Any, longest: int) -> bool:
    """Have the model attend to each row by itself; says whether it can. `longest` is the most tokens that a row has.

    On a GPU a kernel for all rows does it (from compute capability 8.0 on), on a CPU one row follows another.
    """
    if torch.cuda.is_available():
        if torch.cuda.get_device_capability() < (8, 0):
            return False
        name, function = NAME, attend
    else:
        window = getattr(model.get_base_model().config.get_text_config(), "sliding_window", None)
        if window is not None and window < longest:
            return False
        name, function = ONE_BY_ONE, attend_one_by_one
    AttentionInterface.register(name, function)
    model.get_base_model().set_attn_implementation(name)  # under it, no mask is made
    return True


def attend_one_by_one(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    cu_seq_lens_q: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Any, None]:
    """As `attend`, on a CPU and in any precision; a window of attention is at least as long as the rows."""
    _refuse(attention_mask, dropout)
    sizes = cu_seq_lens_q.diff().tolist()
    queries, keys, values = (states.split(sizes, dim=2) for states in (query, key, value))
    groups = query.shape[1] > key.shape[1]
    found = [
        scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=groups)
        for q, k, v in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(found, dim=2).transpose(1, 2), None


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    cu_seq_lens_q: Any,
    max_length_q: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """transformers' interface of attention: query (1, heads, tokens, width), key and value with the heads of a
    grouped query, in half precision; `cu_seq_lens_q` (rows + 1,) are the rows' bounds. Returns (1, tokens, heads, width).
    """
    _refuse(attention_mask, dropout)
    groups = query.shape[1] // key.shape[1]
    given: dict[str, Any] = {}
    if _GROUPS:
        given["enable_gqa"] = groups > 1
    else:
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    query, key, value = (states[0].transpose(0, 1).contiguous() for states in (query, key, value))
    reach = -1 if sliding_window is None or sliding_window >= max_length_q else sliding_window - 1
    bounds = cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q
    return varlen_attn(query, key, value, *bounds, scale=scaling, window_size=(reach, 0), **given)[None], None


def _refuse(mask: Any, dropout: float) -> None:
    if mask is not None or dropout:
        raise ValueError("neither masks nor dropout of attention are possible with rows that lie one behind the other")
