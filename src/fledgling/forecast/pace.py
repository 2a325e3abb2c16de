"""How fast a local model answers and trains, before it has: figures of docs/performance.md, scaled to a checkpoint's size."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fledgling.forecast.machine import Gpu, Machine
from fledgling.models.memory import Shape, parameters
from fledgling.training.recipe import no_replays

MEASURED_WEIGHTS = 3.84e9  # of the checkpoint that was measured (Phi-4-mini's shape)
LARGE = 5e8  # weights; rows of a smaller model take less time than its start
# Rows a second on one H100, of 300 tokens and 46 new ones; transformers in batches of 8.
ROWS_A_SECOND = {
    ("vllm", "bf16"): 160.0,
    ("vllm", "fp8"): 114.0,
    ("transformers", "bf16"): 1.8,
    ("transformers", "nf4"): 1.5,
    ("transformers", "int8"): 1.1,
}
START_S = {"vllm": 85, "transformers": 20}
# Tokens a second of a training on one H100 with the shipped recipe, its layers compiled, and what more GPUs make of it.
TOKENS_A_SECOND = {"unsloth": 28_000.0, "peft": 26_600.0}
TWO, FOUR = 1.9, {True: 3.4, False: 2.4}  # four: with micro-batches replayed from CUDA graphs, and without
TRAINING_START_S = 100
FAST = ROWS_A_SECOND["vllm", "bf16"]


@dataclass(frozen=True, slots=True)
class Pace:
    """Rows a second of one answering stage (None: not measured), and what to change where it is a slow one."""

    path: str
    rows_a_second: float | None
    start_s: int
    remedy: str | None = None

    def sentence(self, rows: int | None) -> str:
        """The same for people; `rows` are those of the split, where they are known."""
        if self.rows_a_second is None:
            return " ".join(filter(None, [self.path, self.remedy and f"(slow): {self.remedy}"]))
        said = f"{self.path}, about {self.rows_a_second:,.3g} rows a second after a start of {self.start_s} s"
        if rows:
            said += f"; {rows:,} rows in about {(self.start_s + rows / self.rows_a_second) / 60:.1f} min"
        return f"{said} (slow): {self.remedy}" if self.remedy else said


def answering(
    engine: str, precision: str, gpus: int, shape: Shape, machine: Machine, key: Callable[[str], str]
) -> Pace:
    """The path that a stage takes. `key` spells a key of `slm` as the configuration has it.

    Rows a second fall with the weights: reading prompts and writing answers both touch each weight once a token.
    """
    path = f"{engine} in {precision} on {'a GPU' if gpus == 1 else f'{gpus} GPUs' if gpus else 'the CPU'}"
    weights = parameters(shape)
    if weights < LARGE:
        return Pace(f"{path}: a small model, whose start takes most of the time", None, START_S[engine])
    if not gpus:
        here = f"set {key('gpus')} to 1" if machine.gpus else "it needs a GPU (README, Install)"
        return Pace(
            path, None, START_S[engine], f"{here}: about {FAST * MEASURED_WEIGHTS / weights:,.0f} rows a second"
        )
    measured = ROWS_A_SECOND.get((engine, precision))
    replicas = gpus if engine == "vllm" else 1
    each = None if measured is None else measured * replicas * MEASURED_WEIGHTS / weights
    if engine == "vllm":
        slow = f"set {key('precision')} to bf16 where the memory suffices" if precision == "fp8" else None
        return Pace(path, each, START_S[engine], slow)
    changes = [] if "vllm" in machine.versions else ["install vLLM (pip install 'fledgling[gpu]')"]
    changes.append(f"set {key('engine')} to auto and {key('precision')} to bf16")
    return Pace(
        path, each, START_S[engine], f"{' and '.join(changes)}, about {FAST / (measured or 2):,.0f} times as fast"
    )


def training(backend: str, gpus: int, shape: Shape, *, checkpointing: bool, replayed: bool = True) -> str:
    """The path that a training takes, its tokens a second, and what to change where that is slow."""
    where = "a GPU" if gpus == 1 else f"{gpus} GPUs" if gpus else "the CPU"
    weights = parameters(shape)
    if weights < LARGE:
        return f"{backend} on {where}: a small model, whose start takes most of the time"
    if not gpus:
        return f"{backend} on {where} (slow): training needs a GPU; set training.gpus"
    each = TOKENS_A_SECOND[backend] * times(gpus, replayed=replayed) * MEASURED_WEIGHTS / weights
    said = f"{backend} on {where}, about {each:,.0f} tokens a second after a start of {TRAINING_START_S} s"
    if checkpointing:
        return f"{said} without recipe.gradient_checkpointing, which makes it a half or less (slow): set it to false"
    return said


def times(gpus: int, *, replayed: bool = True) -> float:
    """How many times as fast as one so many GPUs train; beyond four as if each doubling did what the second one does."""
    return float(TWO ** math.log2(gpus) if gpus <= 2 else TWO * (FOUR[replayed] / TWO) ** math.log2(gpus / 2))


def replays(training: Mapping[str, Any], *, checkpointing: bool) -> bool:
    """Whether the section `training` of a configuration has micro-batches replayed from CUDA graphs where they are small."""
    setting = training.get("cuda_graphs", "auto")
    return no_replays(setting, deepspeed=bool(training.get("deepspeed")), checkpointing=checkpointing) is None


def side_by_side(trainings: int, gpus: int, cards: Sequence[Gpu] | int, *, replayed: bool = True) -> str | None:
    """What to set where equal trainings finish sooner side by side; None where there is nothing to gain.

    One after another on all GPUs each pays its start, and n GPUs are less than n times as fast as one; side by side
    neither is paid (docs/performance.md: starts of 100 s, two GPUs 1.9 times one, four 3.4 times, 2.4 without replays).
    """
    here = cards if isinstance(cards, int) else len(cards)
    together = min(trainings, max(1, here))
    share = max(1, here // together)
    if trainings < 2 or gpus < 2 or share >= gpus:
        return None
    return (
        f"{trainings} trainings on {gpus} GPUs each run one after another on {here} GPUs; training.gpus: {share} runs "
        f"{together} side by side, which is faster: their starts overlap, and {gpus} GPUs are about "
        f"{times(gpus, replayed=replayed):.1f} times one, {share} about {times(share, replayed=replayed):.1f} times"
    )
