"""What every slm engine offers, and which one a machine gets."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

from fledgling.errors import ConfigError

Engine = Literal["transformers", "vllm"]
FP8_SOUND = (0, 30)  # the first version of vLLM whose fp8 weights are right


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt as token ids, what to decode within, if anything (see fledgling.slm.guides), and whose answer it is.

    `adapter` is the folder of the adapter that answers. Requests of several adapters, and of the model without one, may
    stand in one list: one started engine answers all.
    """

    prompt: list[int]
    guide: str | None = None
    adapter: Path | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the slm wrote: token ids up to and with the stop token, None where memory ran out for the row alone.

    `latency_s` is the time taken divided by the rows answered in it: what a row costs, not what a
    caller would wait.
    """

    tokens: list[int] | None
    latency_s: float


@dataclass(frozen=True, slots=True)
class Decoding:
    """How answers are written: greedily, up to a stop token or `max_new_tokens`."""

    max_new_tokens: int
    stops: tuple[int, ...]
    pad: int


Found = Callable[[list[Request]], list[Answer] | None]


class Slm(Protocol):
    """A loaded small local model.

    `unit` is what an answer is a function of: its own prompt (row; up to floating-point
    reassociation, since batches of other shapes add up in another order) or every prompt of its
    batch in order (batch; LLM.int8 finds its outlier columns over the whole batch).
    """

    unit: Literal["row", "batch"]

    def answers(self, requests: list[Request], found: Found) -> Iterator[tuple[list[int], list[Answer]]]:
        """Yield (positions in `requests`, their answers) as they are ready; each position comes once.

        `found` is asked for a batch before it is generated, where `unit` is batch, and may hold its answers.
        """
        ...


def choose(engine: str, precision: str, *, cards: int | None = None) -> Engine:
    """The engine that a setting means on this machine: auto takes vllm where it imports and a card is there.

    `cards` is how many the engine will see; torch is asked unless it is given.

    Raises:
        ConfigError: the engine cannot do what is asked; says which key to change.
    """
    if engine == "auto":
        seen = _cards() if cards is None else cards
        engine = "vllm" if precision in ("bf16", "fp8") and find_spec("vllm") and seen else "transformers"
    if engine == "vllm" and precision in ("int8", "nf4"):
        raise ConfigError(
            f"slm.engine vllm does not run slm.precision {precision}; set slm.precision to bf16 or fp8, "
            "or slm.engine to transformers"
        )
    if engine == "transformers" and precision == "fp8":
        raise ConfigError(
            "slm.precision fp8 needs slm.engine vllm with a CUDA GPU (pip install fledgling[gpu]); set it to bf16"
        )
    if engine not in ("transformers", "vllm"):
        raise ConfigError(f"slm.engine {engine!r} is none of auto, transformers, vllm")
    return "vllm" if engine == "vllm" else "transformers"


def require_sound(precision: str, vllm: str) -> None:
    """Refuse a precision that an installed version of vLLM computes wrongly, without a word.

    Before 0.30 its Marlin kernel for fp8 takes a square layer (o_proj of most models) transposed: every answer was
    another one (docs/performance.md).

    Raises:
        ConfigError: says what to install or to set.
    """
    if precision == "fp8" and tuple(int(part) for part in re.findall(r"\d+", vllm)[:2]) < FP8_SOUND:
        raise ConfigError(
            f"slm.precision fp8 cannot run here: vLLM {vllm} transposes square layers under it; install vLLM "
            f"{'.'.join(map(str, FP8_SOUND))} or later (pip install 'fledgling[gpu]'), or set slm.precision to bf16"
        )


def _cards() -> int:
    import torch

    return torch.cuda.device_count()
