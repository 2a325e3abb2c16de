"""Micro-batches replayed without a GPU: what stands in for a CUDA graph computes its passes anew."""

from typing import Any

import pytest
import torch

from fledgling.models import last_layer
from fledgling.training import cuda_graphs
from fledgling.training.batch import Batch


class Graph:
    """Stands in for a captured pass: computes it when it is replayed, and says so."""

    made = 0
    fails: Exception | None = None

    def __init__(self, compute: Any, batch: Batch, *_: Any) -> None:
        type(self).made += 1
        if self.fails:
            raise self.fails
        self._compute, self._batch = compute, batch.cloned()
        self.replayed: list[str] = []

    def forward(self, batch: Batch) -> torch.Tensor:
        self._batch.take(batch)
        self.replayed.append("forward")
        with torch.enable_grad():
            self._states = self._compute(self._batch)
        return self._states.detach()

    def backward(self, gradient: torch.Tensor) -> None:
        self.replayed.append("backward")
        torch.autograd.backward(self._states, gradient)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[Graph]:
    """Have graphs stood in for; what comes back counts how many were captured."""
    mended: list[Any] = []
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(cuda_graphs, "_mend", lambda device, pool: mended.append(device))
    monkeypatch.setattr(last_layer, "install", lambda model: None)  # which no GPU has, and a graph could not follow
    kind = type("Graph", (Graph,), {"made": 0, "fails": None, "mended": mended})
    monkeypatch.setattr(cuda_graphs, "_Graph", kind)
    return kind
