"""Micro-batches replayed from CUDA graphs: a small one is thousands of kernels, each over before the host has the next.

A graph holds the kernels of one shape and the addresses that they read and write. So micro-batches are padded to few
lengths, what differs from one to the next is copied into the graph's own tensors, and gradients are added where
autograd adds them. The first micro-batch of a length runs as ever, which compiles what there is to compile; the second
is captured. The loss is outside: how many targets a micro-batch has is its own.
"""

import bisect
import contextlib
import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from fledgling.training.batch import Batch

log = logging.getLogger(__name__)

MOST = 12  # lengths, so as many graphs
MULTIPLE = 64  # of tokens, for kernels
# Seconds a layer, forward and backward, on hosts of H100s (docs/performance.md): what the host takes to launch its
# kernels, and to have it captured.
LAUNCH_S, CAPTURE_S = 0.0041, 0.0063
# Of the speed of a GPU's matrix products, what a training has; a weight is multiplied and added forward and backward.
SHARE, OPERATIONS = 0.55, 4

States = Callable[[Batch], torch.Tensor]


def tokens_a_second(weights: int, device: torch.device, *, side: int = 8192) -> int:
    """About how many tokens a training of a model of so many weights takes on this GPU; 0 where there is none.

    Measured on a product of two bf16 matrices of `side` rows and columns, for some milliseconds.
    """
    if device.type != "cuda":
        return 0
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    matrix = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    times = 5
    for number in range(2 * times):
        if number == times:  # warm
            start.record()
        torch.mm(matrix, matrix)
    end.record()
    end.synchronize()
    a_second = times * 2 * side**3 / (start.elapsed_time(end) / 1e3)
    return int(SHARE * a_second / (OPERATIONS * weights))


def lengths_for(tokens: Iterable[int], *, launch: float, capture: float) -> list[int]:
    """The lengths that micro-batches of so many `tokens` are padded to, ascending, so that all take the least time.

    `launch` is what the host takes for one that is not replayed, `capture` what one more length costs, both in tokens
    that the GPU takes as long for. A GPU that has more to do in a micro-batch than its host gains nothing from a replay.
    A micro-batch that is longer than all lengths is not replayed; where too few are alike, none is.
    """
    counts = sorted(Counter(math.ceil(each / MULTIPLE) * MULTIPLE for each in tokens).items())
    before = [0, *itertools.accumulate(count for _, count in counts)]
    sums = [0, *itertools.accumulate(length * count for length, count in counts)]
    waits = [0, *itertools.accumulate(max(0.0, launch - length) * count for length, count in counts)]
    best: tuple[float, list[int]] = (waits[-1], [])
    # The least that the shortest micro-batches cost in so many lengths, the last of which holds the longest of them.
    least: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
    for _ in range(MOST):
        least = {
            end: min(
                (cost + capture + length * (before[end] - before[start]) - (sums[end] - sums[start]), [*chosen, length])
                for start, (cost, chosen) in least.items()
                if start < end
            )
            for end, (length, _) in enumerate(counts, 1)
            if min(least, default=end) < end
        }
        best = min([best, *((cost + waits[-1] - waits[end], chosen) for end, (cost, chosen) in least.items())])
    return best[1]


class Replays:
    """`states`, a function of a batch to (tokens, hidden) whose backward pass adds to gradients in place, replayed.

    Micro-batches are padded to `lengths`; none has more than `rows` rows, no row more than `longest` tokens.
    """

    def __init__(
        self, states: States, lengths: Sequence[int], *, longest: int, rows: int, device: torch.device
    ) -> None:
        self._compute = states
        self._lengths = lengths
        self._longest, self._device = longest, device
        self._bounds = rows + 1 + -(-lengths[-1] // longest)
        self._graphs: dict[int, _Graph | None] = {}
        log.info("micro-batches are replayed from CUDA graphs of %s tokens", ", ".join(map(str, lengths)))
        # One of each for all graphs: no two of them are between their passes at a time, so they share their memory,
        # which the allocator gives only to the stream that had it before.
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)
        # Autograd asks for a gradient only behind an input that needs one.
        self._anchor = torch.zeros((), device=device, requires_grad=True)

    @property
    def working(self) -> bool:
        """Whether they have not been given up."""
        return bool(self._lengths)

    def pad(self, batch: Batch, least: int = 0) -> Batch:
        """The batch, still on the host, with tokens of no row behind it, up to a length that graphs have if there is one.

        It has at least `least` tokens then, and as many bounds as all others, unless it is longer than all graphs.
        """
        if not self._lengths:
            return batch.bounded(self._bounds)
        tokens = math.ceil(max(least, batch.ids.shape[1]) / MULTIPLE) * MULTIPLE
        place = bisect.bisect_left(self._lengths, tokens)
        if place < len(self._lengths):
            tokens = self._lengths[place]
        return batch.padded(tokens, longest=self._longest).bounded(self._bounds)

    def states(self, batch: Batch) -> torch.Tensor:
        """What `states` says. A replay writes to the same tensor as the one before of that length."""
        tokens = batch.ids.shape[1]
        if tokens not in self._lengths or not torch.is_grad_enabled():
            return self._compute(batch)
        if tokens not in self._graphs:
            self._graphs[tokens] = None
            return self._compute(batch)
        graph = self._graphs[tokens]
        if graph is None:
            graph = self._graphs[tokens] = self._captured(batch)
            if graph is None:
                return self._compute(batch)
        states: torch.Tensor = _Replay.apply(self._anchor, graph, batch)
        return states

    def _captured(self, batch: Batch) -> "_Graph | None":
        if not any(self._graphs.values()):
            torch.cuda.empty_cache()  # what lies there for reuse is not used within a capture
        try:
            return _Graph(self._compute, batch, self._pool, self._stream)
        except Exception as error:  # memory that ran out is one of them; nothing has been computed
            reason = str(error.__context__ or error)  # what went wrong inside, not that the capture could not be ended
        # Outside the except block, so that the failed frames and their tensors are gone.
        self.forget()
        _mend(self._device, self._pool)
        torch.cuda.empty_cache()
        log.warning("micro-batches are not replayed from CUDA graphs (slower): %s", reason.partition("\n")[0])
        return None

    def forget(self) -> None:
        """Give up the graphs and their memory; from here on everything runs as ever."""
        self._lengths = []
        self._graphs.clear()


@contextlib.contextmanager
def _capturing(graph: torch.cuda.CUDAGraph, pool: Any, stream: torch.cuda.Stream) -> Iterator[None]:
    """torch.cuda.graph, which also gives the allocator's memory back each time: seconds, until all of it is taken again."""
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        # Others may go on meanwhile: NCCL's watchdog asks for its events.
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            yield
        finally:
            graph.capture_end()


def _mend(device: torch.device, pool: Any) -> None:
    """Undo what a capture that failed leaves behind (torch 2.11), or nothing could be drawn any more, nor memory freed."""
    generator = torch.cuda.default_generators[device.index]
    generator.graphsafe_set_state(generator.clone_state())
    with contextlib.suppress(RuntimeError):  # where the allocator knows already that no capture is under way
        torch._C._cuda_endAllocateToPool(device.index, pool)


class _Graph:
    """The passes over one batch, captured: nothing is computed yet, neither states nor gradients."""

    def __init__(self, compute: States, batch: Batch, pool: Any, stream: torch.cuda.Stream) -> None:
        self._batch = batch.cloned()
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with _capturing(self._forward, pool, stream):
            states = compute(self._batch)
        self._gradient = torch.zeros_like(states)
        with _capturing(self._backward, pool, stream):
            torch.autograd.backward(states, self._gradient)
        self._states = states.detach()

    def forward(self, batch: Batch) -> torch.Tensor:
        self._batch.take(batch)
        self._forward.replay()
        return self._states

    def backward(self, gradient: torch.Tensor) -> None:
        self._gradient.copy_(gradient)
        self._backward.replay()


class _Replay(torch.autograd.Function):
    """A graph's passes as autograd calls them."""

    @staticmethod
    def forward(ctx: Any, anchor: torch.Tensor, graph: _Graph, batch: Batch) -> torch.Tensor:
        ctx.graph = graph
        return graph.forward(batch).detach()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, None, None]:
        ctx.graph.backward(gradients[0])
        return None, None, None
