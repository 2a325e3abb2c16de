"""How the gradients of a step become new weights: on one process, summed over several, or through DeepSpeed's ZeRO-2.

Weights, gradients and Adam's moments of the LoRA lie in one flat tensor each. Gradients are summed over the processes
once a step, however many micro-batches a process took: no reducer hangs on the backward pass, so processes need not
take equally many, and none waits inside a step (torch's DDP does both, and crashes under unsloth 2026.10.7).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist

from fledgling.cores import PARTS, TwoAtATime

Loss = Callable[[], torch.Tensor]

MAX_NORM = 1.0
ZERO2 = {  # the only place where DeepSpeed is configured; weights stay fp32 and are computed in bf16 by autocast
    "zero_optimization": {"stage": 2, "overlap_comm": True, "contiguous_gradients": True},
    "zero_allow_untested_optimizer": True,
    "gradient_clipping": MAX_NORM,
    "train_micro_batch_size_per_gpu": 1,
    "gradient_accumulation_steps": 1,  # the loop says which backward pass is the last of a step
    "steps_per_print": 1_000_000_000,
}


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of one training; each has its place and a device of its own."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on once every process is here."""
        if self.world > 1:
            dist.barrier()

    def least(self, value: int) -> int:
        """The smallest `value` of all processes."""
        if self.world == 1:
            return value
        told = torch.tensor(value, device=self.device)
        dist.all_reduce(told, dist.ReduceOp.MIN)
        return int(told)

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """`value` summed over the processes, in place."""
        if self.world > 1:
            dist.all_reduce(value)
        return value


class Update(Protocol):
    """What the loop asks of it, in this order: backward for each micro-batch, then one step.

    `parts` is how many parts of a micro-batch it takes at a time.
    """

    parts: int

    def backward(self, losses: Sequence[Loss], *, last: bool) -> torch.Tensor:
        """Add the gradients of one micro-batch.

        `losses` compute those of its parts, as shares of the step's mean over tokens; their sum comes back.
        """
        ...

    def forget(self) -> bool:
        """Drop the gradients of the step so far, so that it can be taken again; says whether that is possible."""
        ...

    def step(self, rate: float, loss: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Change the weights; (the gradient's norm before clipping, `loss` summed over all processes)."""
        ...

    def save(self, folder: Path) -> None:
        """Write what `load` needs. Every process calls it."""
        ...

    def load(self, folder: Path) -> None:
        """Go back to what was saved. Every process calls it."""
        ...


class Summed:
    """Gradients summed over the processes, AdamW on each: all end with the same weights."""

    def __init__(
        self,
        parameters: Sequence[torch.nn.Parameter],
        group: Group,
        *,
        weight_decay: float,
        cores: TwoAtATime | None = None,
    ) -> None:
        self.parts = 1 if cores is None else PARTS
        self._cores = cores
        self._parameters = parameters
        self._group = group
        sizes = [parameter.numel() for parameter in parameters]
        self._weights = torch.nn.Parameter(torch.empty(sum(sizes), device=group.device, dtype=torch.float32))
        # The loss of the step travels behind the gradients, so that it costs no collective of its own.
        self._sums = torch.zeros(sum(sizes) + 1, device=group.device, dtype=torch.float32)
        self._weights.grad = self._sums[:-1]
        parts = zip(self._weights.data.split(sizes), self._sums[:-1].split(sizes), strict=True)
        for parameter, (weights, gradient) in zip(parameters, parts, strict=True):
            weights.copy_(parameter.data.flatten())
            parameter.data = weights.view_as(parameter)
            parameter.grad = gradient.view_as(parameter)  # autograd adds to it in place
        if group.world > 1:
            dist.broadcast(self._weights.data, 0)
        self._adam = torch.optim.AdamW(
            [self._weights], lr=0.0, weight_decay=weight_decay, fused=group.device.type == "cuda"
        )

    def backward(self, losses: Sequence[Loss], *, last: bool) -> torch.Tensor:
        """See Update. Parts are summed in their order, whoever comes first."""
        total = torch.zeros((), device=self._group.device)
        if self._cores is None:
            for compute in losses:
                loss = compute()
                loss.backward()
                total += loss.detach()
            return total
        for loss, gradients in self._cores.map(self._gradients, losses):
            total += loss
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                if gradient is not None:
                    assert parameter.grad is not None
                    parameter.grad += gradient
        return total

    def _gradients(self, compute: Loss) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
        loss = compute()
        return loss.detach(), torch.autograd.grad(loss, self._parameters, allow_unused=True)

    def forget(self) -> bool:
        """See Update."""
        self._sums.zero_()
        return True

    def step(self, rate: float, loss: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See Update."""
        self._sums[-1] = loss
        self._group.total(self._sums)
        total = self._sums[-1].clone()
        gradient = self._sums[:-1]
        norm = torch.linalg.vector_norm(gradient)
        gradient.mul_(
            (MAX_NORM / (norm + 1e-6)).clamp(max=1.0)
        )  # torch.nn.utils.clip_grad_norm_, without asking the card
        self._adam.param_groups[0]["lr"] = rate
        self._adam.step()
        self._sums.zero_()
        return norm, total

    def save(self, folder: Path) -> None:
        """See Update."""
        if self._group.first:
            from safetensors.torch import save_file

            state = self._adam.state[self._weights]
            folder.mkdir(parents=True, exist_ok=True)
            tensors = {"weights": self._weights.data} | {
                name: state[name] for name in ("exp_avg", "exp_avg_sq", "step")
            }
            save_file({name: tensor.cpu() for name, tensor in tensors.items()}, folder / "state.safetensors")

    def load(self, folder: Path) -> None:
        """See Update."""
        from safetensors.torch import load_file

        found = load_file(folder / "state.safetensors")
        self._weights.data.copy_(found.pop("weights"))
        steps = found["step"].to(self._group.device) if self._group.device.type == "cuda" else found["step"]
        moments = {name: found[name].to(self._group.device) for name in ("exp_avg", "exp_avg_sq")}
        self._adam.state[self._weights] = moments | {"step": steps}


class Zero2:
    """DeepSpeed: gradients and Adam's moments are spread over the processes (ZeRO-2; arXiv:1910.02054)."""

    def __init__(self, module: torch.nn.Module, group: Group, *, weight_decay: float) -> None:
        import deepspeed

        self.parts = 1
        self._group = group
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        adam = torch.optim.AdamW(trained, lr=0.0, weight_decay=weight_decay)
        self._engine: Any = deepspeed.initialize(
            model=module, optimizer=adam, model_parameters=trained, config=ZERO2, dist_init_required=False
        )[0]

    def backward(self, losses: Sequence[Loss], *, last: bool) -> torch.Tensor:
        """See Update."""
        (compute,) = losses
        loss = compute()
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * self._group.world)  # it takes the mean over the processes
        return loss.detach()

    def forget(self) -> bool:
        """See Update; parts of the gradients are with other processes already."""
        return False

    def step(self, rate: float, loss: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See Update."""
        for part in self._engine.optimizer.param_groups:
            part["lr"] = rate
        self._engine.step()
        norm = self._engine.get_global_grad_norm()
        return torch.as_tensor(0.0 if norm is None else norm), self._group.total(loss.clone())

    def save(self, folder: Path) -> None:
        """See Update."""
        self._engine.save_checkpoint(str(folder), tag="zero2", exclude_frozen_parameters=True)

    def load(self, folder: Path) -> None:
        """See Update."""
        self._engine.load_checkpoint(str(folder), tag="zero2", load_module_strict=False)
