"""The loss of a micro-batch: rows one behind the other, the head only where there is loss, nothing that makes the host
wait for the card."""

import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fledgling.models import last_layer
from fledgling.training import attention, cpu_loss
from fledgling.training.tokens import IGNORED, Row

TILE_WORDS = 32768  # logits held at once, with TRL's own tokens a tile (fledgling.models.memory)


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch: `starts` are the bounds of its rows; at `places` the next token is a target."""

    ids: torch.Tensor
    positions: torch.Tensor
    starts: torch.Tensor
    places: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Batch":
        """The rows one behind the other. Where the loss is, is found here: asking the card would make the host wait."""
        ids = [token for row in rows for token in row.input_ids]
        positions = [place for row in rows for place in range(len(row.input_ids))]
        starts, places, targets = [0], [], []
        for row in rows:
            learned = [place for place, label in enumerate(row.labels) if label != IGNORED and place]
            places += [starts[-1] + place - 1 for place in learned]
            targets += [row.labels[place] for place in learned]
            starts.append(starts[-1] + len(row.input_ids))
        return cls(
            ids=torch.tensor([ids]),
            positions=torch.tensor([positions]),
            starts=torch.tensor(starts, dtype=torch.int32),
            places=torch.tensor(places, dtype=torch.long),
            targets=torch.tensor(targets, dtype=torch.long),
        )

    def to(self, device: torch.device) -> "Batch":
        """The same on a device, on its way while the host goes on."""
        if device.type == "cpu":
            return self
        tensors = (self.ids, self.positions, self.starts, self.places, self.targets)
        return Batch(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors))


class Objective(torch.nn.Module):
    """A model under LoRA as the summed loss of a batch. `longest` is the most tokens that any row has."""

    def __init__(self, model: Any, *, longest: int) -> None:
        super().__init__()
        self.model = model
        self._varlen = attention.install(model, longest)
        self._longest = 1 << (longest - 1).bit_length()  # one number for all batches, so that nothing compiles again
        keep_rope(model, longest)
        if not torch.cuda.is_available() and not model.is_gradient_checkpointing:  # it runs a layer again, later
            last_layer.install(model.get_base_model())

    def forward(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy summed over the batch's targets, in fp32."""
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
            hidden = found.last_hidden_state[0].index_select(0, batch.places)
            head = base.get_output_embeddings()
            kernel = _kernel(cuda)
            log_probs = kernel.apply(
                hidden, head.weight, head.bias, batch.targets, 1.0, TILE_WORDS, _cap(base), 1.0, ("log_probs",)
            )[0]
        return -log_probs.float().sum()


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


def keep_rope(model: Any, longest: int) -> None:
    """Spare the host LongRoPE's question after every batch, whether a position lies beyond its switch, where none does.

    transformers asks the card (`max(position_ids)`) in every forward pass.
    """
    for module in model.modules():
        config = getattr(module, "config", None)
        if getattr(module, "rope_type", None) != "longrope" or config is None:
            continue
        given = getattr(config, "rope_parameters", None) or {}
        switch = given.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", 0)
        plain = type(module).forward
        while hasattr(plain, "__wrapped__"):
            plain = plain.__wrapped__
        if plain is not type(module).forward and longest <= (switch or 0):
            module.forward = types.MethodType(torch.no_grad()(plain), module)


def _kernel(cuda: bool) -> Any:
    if not cuda:
        return cpu_loss.LogProbs
    from trl.kernels import ChunkedLogProbFunction

    return ChunkedLogProbFunction


def _cap(base: Any) -> float | None:
    cap: float | None = getattr(base.config.get_text_config(), "final_logit_softcapping", None)
    return cap
