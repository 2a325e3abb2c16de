"""What is trained, apart from where: the recipe, and what follows from it on a given number of cards."""

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from fledgling.errors import ConfigError

Backend = Literal["unsloth", "peft"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the slm is fine-tuned: config.yaml's `recipe` and the seed. The same everywhere it runs."""

    learning_rate: float
    epochs: float
    max_length: int
    global_batch: int
    rank: int
    alpha: float
    dropout: float
    backend: str = "auto"
    quantization: str = "nf4"
    scheduler: str = "cosine"
    warmup_ratio: float = 0.05
    weight_decay: float = 0.0
    gradient_checkpointing: bool = True
    save_steps: int = 100
    candidates: int = 1
    seed: int = 0

    @classmethod
    def of(cls, settings: dict[str, Any]) -> "Recipe":
        """The recipe in a stage's settings ({"recipe": {…}, "seed": …}).

        Raises:
            ConfigError: a key is missing or unknown.
        """
        given = {"seed": settings.get("seed", 0)} | settings["recipe"]
        if unknown := given.keys() - {field.name for field in fields(cls)}:
            raise ConfigError(f"recipe: unknown key {sorted(unknown)[0]!r}")
        try:
            return cls(**given)
        except TypeError as error:
            raise ConfigError(f"recipe: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """The recipe as recorded beside an adapter."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a training's rows lie on the cards.

    `micro_batches` holds the positions of the rows that one card takes at once, those of a step after
    those of the step before: `accumulation` for each of `world` cards, which take them in turn. One
    may be empty.
    """

    world: int
    accumulation: int
    micro_batches: list[list[int]]

    @property
    def slots(self) -> int:
        """Micro-batches in one step."""
        return self.world * self.accumulation

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return len(self.micro_batches) // self.slots


def batches(rows: int, recipe: Recipe) -> list[list[int]]:
    """The rows of each optimizer step, whatever it runs on: seeded permutations of all rows, one after
    another, cut into global batches; the last is filled up from the next pass over the rows.
    """
    size = recipe.global_batch
    total = size * max(1, math.ceil(rows * recipe.epochs / size))
    shuffler = random.Random(recipe.seed)
    stream: list[int] = []
    while len(stream) < total:
        stream += shuffler.sample(range(rows), rows)
    return [stream[start : start + size] for start in range(0, total, size)]


def layout(lengths: Sequence[int], recipe: Recipe, *, world: int, tokens: int) -> Layout:
    """The rows, given by their lengths in tokens, in micro-batches of at most `tokens` on each of `world` cards.

    A longer row is alone. All steps accumulate equally often, as seldom as the fullest allows, and
    within a step the rows are spread evenly (longest processing time first; Graham, 1969), so that no
    card waits long for another. The loss is a mean over the tokens of a step, so every layout trains
    the same model.
    """
    steps = batches(len(lengths), recipe)
    accumulation = 1
    while True:
        spread = [rows for step in steps for rows in _spread(step, lengths, world * accumulation)]
        if all(len(rows) == 1 or sum(lengths[row] for row in rows) <= tokens for rows in spread):
            return Layout(world=world, accumulation=accumulation, micro_batches=spread)
        accumulation += 1


def _spread(rows: list[int], lengths: Sequence[int], bins: int) -> list[list[int]]:
    spread: list[list[int]] = [[] for _ in range(bins)]
    loads = [(0, place) for place in range(bins)]
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        load, place = heapq.heappop(loads)
        spread[place].append(row)
        heapq.heappush(loads, (load + lengths[row], place))
    return spread


def kept_after(steps: int, candidates: int) -> list[int]:
    """The step after which each candidate is kept: evenly spaced, the last one after the last step.

    With fewer steps than candidates some are kept after the same step.
    """
    return [-(-steps * part // candidates) for part in range(1, candidates + 1)]


def choose_backend(wanted: str, *, unsloth: bool, cards: int, world: int, deepspeed: bool) -> Backend:
    """The back-end of a run; `unsloth` says whether it is installed, `cards` how many this machine shows.

    auto takes unsloth on one card, and on several with DeepSpeed: under DDP it crashes at the start
    (`!tensors.empty()` in c10d's reducer, unsloth 2026.10.7).

    Raises:
        ConfigError: unsloth is asked for where it cannot run.
    """
    possible = unsloth and cards > 0 and (world == 1 or deepspeed)
    if wanted == "auto":
        return "unsloth" if possible else "peft"
    if wanted == "peft":
        return "peft"
    if wanted != "unsloth":
        raise ConfigError(f"recipe.backend {wanted!r} is none of auto, unsloth, peft")
    if not possible:
        reason = (
            "it is not installed (pip install fledgling[gpu])"
            if not unsloth
            else "it needs a CUDA card"
            if cards == 0
            else "it crashes under DDP; set training.deepspeed to true"
        )
        raise ConfigError(f"recipe.backend unsloth cannot run here: {reason}, or set recipe.backend to peft")
    return "unsloth"
