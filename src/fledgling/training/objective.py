"""The loss of a micro-batch: rows one behind the other, the head only where there is loss, nothing that makes the host
wait for the card."""

import contextlib
import enum
import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from fledgling.models import last_layer
from fledgling.training import attention, cpu_loss, cuda_graphs
from fledgling.training.batch import Batch
from fledgling.training.cuda_graphs import Replays, lengths_for
from fledgling.training.tokens import Row

log = logging.getLogger(__name__)

TILE_WORDS = 32768  # logits held at once, with TRL's own tokens a tile (fledgling.models.memory)


class Apart(enum.Enum):
    """How the rows of a micro-batch are kept to themselves, the fastest way first."""

    KERNEL = "by a kernel for rows one behind the other"
    MASK = "by the model's own attention and a mask"
    ALONE = "one at a time"


class Objective(torch.nn.Module):
    """A model under LoRA as the summed loss of a batch. No row has more than `longest` tokens, no micro-batch more than
    `rows` rows.

    Not every model can have its rows kept apart in every way: `agreement.settle` finds out.
    """

    def __init__(self, model: Any, *, longest: int, rows: int) -> None:
        super().__init__()
        self.model = model
        self._own = model.get_base_model().config._attn_implementation
        self._beyond = tabulate_rope(model, longest)
        self._implementations = {Apart.MASK: self._own, Apart.ALONE: self._own}
        if (kernel := attention.kernel(model, longest)) is not None:
            self._implementations = {Apart.KERNEL: kernel, **self._implementations}
        self._softcap, self._scale = _logits(model.get_base_model())
        self.keep(self.ways[0])
        # One number for all batches each, so that nothing compiles again.
        self._longest = 1 << (longest - 1).bit_length()
        self._rows = rows
        self._replays: Replays | None = None
        if not torch.cuda.is_available() and not model.is_gradient_checkpointing:  # it runs a layer again, later
            last_layer.install(model.get_base_model())

    @property
    def ways(self) -> list[Apart]:
        """What is possible on this device, the fastest first."""
        return list(self._implementations)

    @property
    def apart(self) -> Apart:
        """How rows are kept apart."""
        return self._apart

    def keep(self, apart: Apart) -> None:
        """Keep rows apart in this way, one of `ways`, from here on."""
        self._apart = apart
        self.model.get_base_model().set_attn_implementation(self._implementations[apart])

    def replay(self, tokens: Iterable[int], speed: int) -> str | None:
        """Have the model's passes replayed from CUDA graphs; why not, where they cannot or need not be.

        `tokens` are those of each micro-batch to come, `speed` is the tokens that this GPU takes a second, 0 where there
        is none.
        """
        if not speed:
            return "this is no GPU"
        if self._apart is not Apart.KERNEL:
            return f"rows are kept apart {self._apart.value}"
        if self._beyond is not None:
            return "rows reach beyond the switch of the model's RoPE, which asks the GPU after every pass"
        layers = self.model.get_base_model().config.get_text_config().num_hidden_layers
        launch, capture = (seconds * layers * speed for seconds in (cuda_graphs.LAUNCH_S, cuda_graphs.CAPTURE_S))
        if not (lengths := lengths_for(tokens, launch=launch, capture=capture)):
            return "they are so long that the GPU does not wait for its host, or too few are alike"
        device = next(self.model.parameters()).device
        self._replays = Replays(self._states, lengths, longest=self._longest, rows=self._rows, device=device)
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
        if self._replays is None:
            return batch.bounded(self._rows + 1).to(device)
        return self._replays.pad(batch, least).to(device)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy summed over the batch's targets, in fp32."""
        return -self.log_probs(batch).float().sum()

    def log_probs(self, batch: Batch) -> torch.Tensor:
        """(targets,): the log probability of each target."""
        cuda = batch.ids.device.type == "cuda"
        states = self._states(batch) if self._replays is None else self._replays.states(batch)
        with _autocast(batch.ids):
            hidden = states.index_select(0, batch.places)
            head = self.model.get_base_model().get_output_embeddings()
            kernel, only = _kernel(cuda), ("log_probs",)
            log_probs: torch.Tensor = kernel.apply(
                hidden, head.weight, head.bias, batch.targets, 1.0, TILE_WORDS, self._softcap, self._scale, only
            )[0]
        return log_probs

    def own_log_probs(self, row: Row, device: torch.device) -> torch.Tensor:
        """(targets,) of a row alone, by the model's own attention and its own logits."""
        batch = Batch.of([row]).to(device)
        base = self.model.get_base_model()
        base.set_attn_implementation(self._own)
        try:
            with _autocast(batch.ids):
                found = base(input_ids=batch.ids, position_ids=batch.positions, use_cache=False)
        finally:
            self.keep(self._apart)
        logits = found.logits[0].index_select(0, batch.places).float()
        return logits.log_softmax(-1).gather(-1, batch.targets[:, None]).squeeze(-1)

    def _states(self, batch: Batch) -> torch.Tensor:
        """(tokens, hidden): what the head reads."""
        if self._apart is Apart.ALONE or self._share_angles(batch):
            ends = batch.starts.tolist()
            rows = [slice(start, end) for start, end in itertools.pairwise(ends) if end > start]
            return torch.cat(
                [self._pass(batch.ids[:, row], batch.positions[:, row], _bounds(row, batch)) for row in rows]
            )
        with last_layer.read_at(batch.places):
            return self._pass(batch.ids, batch.positions, batch.starts)

    def _share_angles(self, batch: Batch) -> bool:
        """Whether RoPE would turn the rows of a batch by angles that one row among them asks for."""
        if self._beyond is None:
            return False
        return bool(batch.starts.diff().max() > self._beyond)

    def _pass(self, ids: torch.Tensor, positions: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        base = self.model.get_base_model()
        bounds: dict[str, Any] = {}
        if self._apart is Apart.KERNEL:
            bounds = {
                "cu_seq_lens_q": starts,
                "cu_seq_lens_k": starts,
                "max_length_q": self._longest,
                "max_length_k": self._longest,
            }
        with _autocast(ids):
            found = base.base_model(input_ids=ids, position_ids=positions, use_cache=False, **bounds)
        states: torch.Tensor = found.last_hidden_state[0]
        return states


def _bounds(row: slice, batch: Batch) -> torch.Tensor:
    return torch.tensor([0, row.stop - row.start], dtype=batch.starts.dtype, device=batch.starts.device)


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
    layers = getattr(base.base_model, "layers", None)
    if layers is None:
        log.info("the model's layers are not compiled (slower): they have a name of their own")
        return
    # The first layer's input needs a gradient like those of the others, or it would be compiled apart: half a minute.
    base.get_input_embeddings().register_forward_hook(_needs_gradient)
    for layer in layers:
        layer.compile(dynamic=True)


def _needs_gradient(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
    return output.requires_grad_() if torch.is_grad_enabled() else output


def tabulate_rope(model: Any, longest: int) -> int | None:
    """Have LongRoPE's angles looked up by position where no row goes beyond its switch; `longest` is the most tokens.

    transformers asks the card after every batch whether a position lies beyond it, and the host waits for the answer.
    What comes back are the tokens beyond which a row has the angles of all in its batch changed (by LongRoPE, or by a
    dynamic RoPE), and None where no row has.
    """
    beyond: list[int] = []
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        every = [str(kind) for kind in (kinds.values() if isinstance(kinds, dict) else [kinds])]
        if not any(kind == "longrope" or "dynamic" in kind for kind in every):
            continue
        if kinds == "longrope" and longest <= _switch(module):
            module.forward = _Table(module.forward, longest)
        else:
            beyond.append(_switch(module) or getattr(module, "original_max_seq_len", None) or 0)
    return min(beyond, default=None)


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


def _autocast(on: torch.Tensor) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast("cuda", torch.bfloat16, enabled=on.device.type == "cuda")


def _logits(base: Any) -> tuple[float | None, float]:
    """(cap, scale) of a model's logits: it has cap · tanh(scale · head / cap), or scale · head without a cap.

    Families of models have names of their own for the scale, and Granite and MiniCPM3 divide by theirs.
    """
    config = base.config.get_text_config()
    scale = 1.0
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling"):
        given = getattr(config, name, None)
        if isinstance(given, int | float):
            divides = name == "logits_scaling" and config.model_type != "hyperclovax"
            scale = 1 / given if divides else float(given)
            break
    caps = (getattr(config, name, None) for name in ("final_logit_softcapping", "logits_soft_cap"))
    return next((cap for cap in caps if cap is not None), None), scale
