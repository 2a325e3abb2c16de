"""Attention over a pack: each row sees the prefix and itself, so the rest of the square of all tokens is left out."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "pack"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tokens of a pack lie: `prefix` of them first, then rows of up to `width`.

    `padded` (rows * width,) names the tokens of each row, with any token behind a shorter one; `back` (tokens of all
    rows,) finds them again there. `visible` (width, prefix + width) is what a row's tokens see.
    """

    prefix: int
    width: int
    padded: torch.Tensor
    back: torch.Tensor
    visible: torch.Tensor

    @classmethod
    def of(cls, block: list[int]) -> "Layout":
        """`block` is 0 for a token of the prefix and counts the rows from 1."""
        prefix = block.count(0)
        sizes = [block.count(row) for row in range(1, block[-1] + 1)]
        width = max(sizes)
        padded: list[int] = []
        back: list[int] = []
        start = prefix
        for row, size in enumerate(sizes):
            padded += [*range(start, start + size), *[start] * (width - size)]
            back += range(row * width, row * width + size)
            start += size
        visible = torch.ones(width, prefix + width, dtype=torch.bool).tril(prefix)
        return cls(prefix, width, torch.tensor(padded), torch.tensor(back), visible)


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *, pack: Layout, scaling: float, **_: Any
) -> tuple[Any, None]:
    """transformers' interface of attention: query (1, heads, tokens, width), key and value with the heads of a grouped
    query. Returns (1, tokens, heads, width).
    """
    groups = query.shape[1] // key.shape[1]
    # In fp32, whatever the rest is in: on a CPU the fused kernel takes longer over bfloat16.
    with torch.autocast("cpu", enabled=False):
        q, k, v = (
            states[0].float().repeat_interleave(times, 0)
            for states, times in ((query, 1), (key, groups), (value, groups))
        )
        q_first, k_first, v_first = (states[None, :, : pack.prefix] for states in (q, k, v))
        first = scaled_dot_product_attention(q_first, k_first, v_first, is_causal=True, scale=scaling)
        q_rows, k_rows, v_rows = (
            states.index_select(1, pack.padded).unflatten(1, (-1, pack.width)) for states in (q, k, v)
        )
        k_seen, v_seen = (
            torch.cat([states[0, :, None].expand(-1, rows.shape[1], -1, -1), rows], 2)
            for states, rows in ((k_first, k_rows), (v_first, v_rows))
        )
        rows = scaled_dot_product_attention(q_rows, k_seen, v_seen, attn_mask=pack.visible, scale=scaling)
        found = torch.cat([first[0], rows.flatten(1, 2).index_select(1, pack.back)], 1)
    return found.transpose(0, 1)[None], None


AttentionInterface.register(NAME, attend)
