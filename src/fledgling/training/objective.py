"""The loss of a micro-batch: rows one behind the other, the head only where there is loss, nothing that makes the host
wait for the card."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from fledgling.models import last_layer
from fledgling.training import attention, cpu_loss
from fledgling.training.batch import Batch
from fledgling.training.cuda_graphs import Replays, lengths_for
from fledgling.training.tokens import Row

TILE_WORDS = 32768  # logits held at once, with TRL's own tokens a tile (fledgling.models.memory)


class Objective(torch.nn.Module):
    """A model under LoRA as the summed loss of a batch. `longest` is the most tokens that any row has."""

    def __init__(self, model: Any, *, longest: int) -> None:
        super().__init__()
        self.model = model
        self._varlen = attention.install(model, longest)
        self._longest = 1 << (longest - 1).bit_length()  # one number for all batches, so that nothing compiles again
        self._replays: Replays | None = None
        self._asks = not tabulate_rope(model, longest)
        if not torch.cuda.is_available() and not model.is_gradient_checkpointing:  # it runs a layer again, later
            last_layer.install(model.get_base_model())

    def replay(self, tokens: Iterable[int], rows: int) -> str | None:
        """Have the model's passes replayed from CUDA graphs; why not, where they cannot or need not be.

        `tokens` are those of each micro-batch to come, `rows` the most rows that one has.
        """
        device = next(self.model.parameters()).device
        if device.type != "cuda":
            return "this is no GPU"
        if not self._varlen:
            return "this GPU is older than compute capability 8.0"
        if self._asks:
            return "rows reach beyond the switch of the model's RoPE, which asks the GPU after every pass"
        if not (lengths := lengths_for(tokens)):
            return "too few micro-batches are alike"
        self._replays = Replays(self._states, lengths, longest=self._longest, rows=rows, device=device)
        return None

    @property
    def replaying(self) -> bool:
        """Whether memory is kept for replays."""
        return self._replays is not None and self._replays.working

    def forget(self) -> None:
        """Give up what is kept for replays."""
        if self._replays is not None:
            self._replays.forget()

    def batch(self, rows: Sequence[Row], device: torch.device, least: int = 0) -> Batch:
        """The rows as a micro-batch to learn from; where it is padded, to at least so many tokens."""
        batch = Batch.of(rows)
        return (batch if self._replays is None else self._replays.pad(batch, least)).to(device)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy summed over the batch's targets, in fp32."""
        base = self.model.get_base_model()
        cuda = batch.ids.device.type == "cuda"
        states = self._states(batch) if self._replays is None else self._replays.states(batch)
        with torch.autocast("cuda", torch.bfloat16, enabled=cuda):
            hidden = states.index_select(0, batch.places)
            head = base.get_output_embeddings()
            kernel = _kernel(cuda)
            log_probs = kernel.apply(
                hidden, head.weight, head.bias, batch.targets, 1.0, TILE_WORDS, _cap(base), 1.0, ("log_probs",)
            )[0]
        return -log_probs.float().sum()

    def _states(self, batch: Batch) -> torch.Tensor:
        """(tokens, hidden): what the head reads."""
        base = self.model.get_base_model()
        bounds: dict[str, Any] = {}
        if self._varlen:
            bounds = {
                "cu_seq_lens_q": batch.starts,
                "cu_seq_lens_k": batch.starts,
                "max_length_q": self._longest,
                "max_length_k": self._longest,
            }
        cuda = batch.ids.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16, enabled=cuda), last_layer.read_at(batch.places):
            found = base.base_model(input_ids=batch.ids, position_ids=batch.positions, use_cache=False, **bounds)
        states: torch.Tensor = found.last_hidden_state[0]
        return states


def can_compile() -> bool:
    """Whether torch has a compiler for the GPU here (Triton)."""
    from torch.utils._triton import has_triton

    return torch.cuda.is_available() and bool(has_triton())


def compile_layers(model: Any) -> None:
    """Have each decoder layer run as few kernels: a step of many small ones is bound by the host.

    All layers share their compiled code, for any number of tokens.
    """
    torch._dynamo.config.recompile_limit = max(16, torch._dynamo.config.recompile_limit)
    base = model.get_base_model()
    # The first layer's input needs a gradient like those of the others, or it would be compiled apart: half a minute.
    base.get_input_embeddings().register_forward_hook(_needs_gradient)
    for layer in base.base_model.layers:
        layer.compile(dynamic=True)


def _needs_gradient(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
    return output.requires_grad_() if torch.is_grad_enabled() else output


def tabulate_rope(model: Any, longest: int) -> bool:
    """Have LongRoPE's angles looked up by position where no row goes beyond its switch; `longest` is the most tokens.

    transformers asks the card after every batch whether a position lies beyond it, and the host waits for the answer.
    Says whether nothing of the kind is left to be asked (by LongRoPE beyond its switch, or by a dynamic RoPE).
    """
    settled = True
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        if kinds == "longrope" and longest <= _switch(module):
            module.forward = _Table(module.forward, longest)
        else:
            every = kinds.values() if isinstance(kinds, dict) else [kinds]
            settled = settled and not any("dynamic" in str(kind) or kind == "longrope" for kind in every)
    return settled


def _switch(rotary: Any) -> int:
    """The tokens from which on LongRoPE has its long factors; 0 where its configuration does not say."""
    config = getattr(rotary, "config", None)
    given = getattr(config, "rope_parameters", None) or {}
    key = "original_max_position_embeddings"
    return given.get(key) or getattr(config, key, None) or 0


class _Table:
    """Cosines and sines of every position, as `compute` makes them: (1, tokens, width) each."""

    def __init__(self, compute: Callable[..., tuple[torch.Tensor, torch.Tensor]], longest: int) -> None:
        self._compute, self._longest = compute, longest
        self._made: dict[Any, list[torch.Tensor]] = {}

    def __call__(self, x: torch.Tensor, position_ids: torch.Tensor, *more: Any) -> tuple[torch.Tensor, ...]:
        key = (x.dtype, x.device, *more)
        if key not in self._made:
            with torch.no_grad():
                found = self._compute(x, torch.arange(self._longest, device=x.device)[None], *more)
            self._made[key] = [table[0] for table in found]
        return tuple(table[position_ids] for table in self._made[key])


def _kernel(cuda: bool) -> Any:
    if not cuda:
        return cpu_loss.LogProbs
    from trl.kernels import ChunkedLogProbFunction

    return ChunkedLogProbFunction


def _cap(base: Any) -> float | None:
    cap: float | None = getattr(base.config.get_text_config(), "final_logit_softcapping", None)
    return cap
