"""Attention over rows that lie one behind the other: kernels that keep each row to itself.

Otherwise the rows of a micro-batch are kept apart by a mask over all its tokens, for which no flash
kernel exists: its time grows with the square of the micro-batch, where this grows with that of each row.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "rows_apart"
ONE_BY_ONE = "rows_one_by_one"
# What transformers hands to an attention that changes what comes out, and that the kernels here do not have.
CHANGING = ("softcap", "s_aux", "position_bias", "indices", "block_indices")
_GROUPS = "enable_gqa" in inspect.signature(varlen_attn).parameters  # torch 2.12


def kernel(model: Any, longest: int) -> str | None:
    """The name of an attention that takes each row by itself, for `set_attn_implementation`; None where there is none.

    `longest` is the most tokens that a row has. On a GPU a kernel for all rows does it (from compute capability 8.0 on),
    on a CPU one row follows another. Under it, transformers makes no mask.
    """
    config = model.get_base_model().config.get_text_config()
    chunk, window = (getattr(config, key, None) for key in ("attention_chunk_size", "sliding_window"))
    if chunk is not None and chunk < longest:
        return None
    if torch.cuda.is_available():
        if torch.cuda.get_device_capability() < (8, 0):
            return None
        name, function = NAME, attend
    else:
        if window is not None and window < longest:
            return None
        name, function = ONE_BY_ONE, attend_one_by_one
    AttentionInterface.register(name, function)
    return name


def attend_one_by_one(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    cu_seq_lens_q: Any,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Any, None]:
    """As `attend`, on a CPU and in any precision; a window of attention is at least as long as the rows."""
    _refuse(attention_mask, more)
    sizes = [size for size in cu_seq_lens_q.diff().tolist() if size]
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
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[Any, None]:
    """transformers' interface of attention: query (1, heads, tokens, width), key and value with the heads of a
    grouped query; `cu_seq_lens_q` (rows + 1,) are the rows' bounds. Returns (1, tokens, heads, width).

    Raises:
        ValueError: the model's attention is more than that: it has a mask, dropout, a cap, sinks, a bias.
    """
    _refuse(attention_mask, more)
    dtype = query.dtype
    if dtype == torch.float32 and torch.is_autocast_enabled("cuda"):  # what a norm brings; the kernel is for less
        query, key, value = (states.to(torch.get_autocast_dtype("cuda")) for states in (query, key, value))
    groups = query.shape[1] // key.shape[1]
    given: dict[str, Any] = {}
    if _GROUPS:
        given["enable_gqa"] = groups > 1
    else:
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    query, key, value = (states[0].transpose(0, 1).contiguous() for states in (query, key, value))
    reach = -1 if sliding_window is None or sliding_window >= max_length_q else sliding_window - 1
    bounds = cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q
    found = varlen_attn(query, key, value, *bounds, scale=scaling, window_size=(reach, 0), **given)
    return found[None].to(dtype), None


def _refuse(mask: Any, more: Mapping[str, Any]) -> None:
    given = [name for name in CHANGING if more.get(name) is not None] + ["dropout"] * bool(more.get("dropout"))
    if mask is not None or given or more.get("is_causal") is False:
        what = "a mask" if mask is not None else ", ".join(given) or "tokens that see what comes behind them"
        raise ValueError(f"the model's attention has {what}, which its kernel for rows one behind the other has not")
