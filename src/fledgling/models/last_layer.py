"""The last layer's MLP only where its output is read: what it makes of other tokens reaches neither a loss nor an answer.

Attention needs every token of the layer's input, but behind it each token goes on alone. In a model of two layers the
second MLP is a third of the arithmetic, in one of 32 it is a fiftieth, so this is for CPUs, where tiny models run.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch

Places = Callable[[int], torch.Tensor]

_READ: ContextVar[Places | None] = ContextVar("read", default=None)


def install(model: Any) -> None:
    """Have `read_at` and `read_last` mean something to a causal model of transformers; one without such a layer stays."""
    layers = getattr(model.base_model, "layers", None)
    mlp = getattr(layers[-1], "mlp", None) if layers else None
    if mlp is None:
        return
    plain = mlp.forward

    def forward(hidden: torch.Tensor) -> Any:
        read, tokens = _READ.get(), hidden.shape[1]
        if read is None or tokens == 1:
            return plain(hidden)
        places = read(tokens)
        made = plain(hidden.index_select(1, places))
        if not isinstance(made, torch.Tensor):  # some mixtures of experts return their router's scores as well
            mlp.forward = plain
            return plain(hidden)
        return hidden.new_zeros(hidden.shape, dtype=made.dtype).index_copy(1, places, made)

    mlp.forward = forward


@contextlib.contextmanager
def read_at(places: torch.Tensor) -> Iterator[None]:
    """In this thread, a forward pass over (rows, tokens) is read at these tokens of every row; other ones are wrong."""
    with _reading(lambda _: places):
        yield


@contextlib.contextmanager
def read_last() -> Iterator[None]:
    """In this thread, a forward pass is read at its last token."""
    with _reading(lambda tokens: torch.tensor([tokens - 1])):
        yield


@contextlib.contextmanager
def _reading(places: Places) -> Iterator[None]:
    before = _READ.set(places)
    try:
        yield
    finally:
        _READ.reset(before)
