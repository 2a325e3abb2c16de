"""What a machine has: GPUs, packages, and whether an engine or a back-end can run on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from fledgling.errors import ConfigError
from fledgling.gpus import gpus as claimable
from fledgling.slm.engine import require_sound
from fledgling.training.recipe import Recipe

PACKAGES = ("torch", "transformers", "bitsandbytes", "peft", "trl", "vllm", "unsloth", "deepspeed")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One visible GPU; memory in bytes."""

    name: str
    total: int
    free: int
    capability: tuple[int, int]

    @property
    def bf16(self) -> bool:
        """Whether it computes in bf16: from compute capability 8.0 (Ampere) on."""
        return self.capability >= (8, 0)


@dataclass(frozen=True, slots=True)
class Machine:
    """The visible GPUs, the versions of packages that are installed, and gpus that torch does not see."""

    gpus: Sequence[Gpu]
    versions: Mapping[str, str]
    cuda: str | None = None
    unseen: int = 0


def visible_gpus() -> list[Gpu]:
    """The gpus that torch sees."""
    import torch

    found = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name, capability = torch.cuda.get_device_name(number), torch.cuda.get_device_capability(number)
        found.append(Gpu(name, total, free, capability))
    return found


def this_machine() -> Machine:
    """The machine that this runs on."""
    import torch

    found = visible_gpus()
    return Machine(found, installed(), torch.version.cuda, max(0, len(claimable()) - len(found)))


def installed() -> dict[str, str]:
    """{package: version} of the packages that matter and are installed; nothing is imported."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def engine_runs(engine: str, precision: str, gpus: int, machine: Machine) -> None:
    """Refuse an engine that cannot run on a machine (ConfigError: says which key to change)."""
    if engine == "vllm" and "vllm" not in machine.versions:
        raise ConfigError(
            "slm.engine vllm cannot run here: it is not installed (pip install fledgling[gpu]), "
            "or set slm.engine to transformers"
        )
    if engine == "vllm" and not gpus:
        raise ConfigError(
            "slm.engine vllm cannot run here: it needs a CUDA gpu, and slm.gpus gives it none; "
            "set slm.engine to transformers"
        )
    if engine == "vllm":
        require_sound(precision, machine.versions["vllm"])
    if precision in ("int8", "nf4") and "bitsandbytes" not in machine.versions:
        raise ConfigError(
            f"slm.precision {precision} cannot run here: bitsandbytes is not installed; set it to bf16 or fp32"
        )


def training_runs(recipe: Recipe, deepspeed: bool, machine: Machine) -> None:
    """Refuse a training that cannot run on a machine (ConfigError: says which key to change)."""
    if deepspeed and "deepspeed" not in machine.versions:
        raise ConfigError(
            "training.deepspeed cannot be true here: deepspeed is not installed (pip install fledgling[gpu]); "
            "set it to false"
        )
    if recipe.quantization == "nf4" and "bitsandbytes" not in machine.versions:
        raise ConfigError("recipe.quantization nf4 cannot run here: bitsandbytes is not installed; set it to none")


def count(gpus: int) -> str:
    """A number of GPUs in words."""
    return "no GPU" if not gpus else f"{gpus} GPU{'s' if gpus > 1 else ''}"
