"""What is trained, apart from where: the recipe, and what follows from it on a given number of cards."""

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
    packing: bool = False
    save_steps: int = 100
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
    """How the rows of one optimizer step lie on the cards: `world` cards × `accumulation` × `micro` rows."""

    world: int
    micro: int
    accumulation: int

    @property
    def slots(self) -> int:
        """Places for rows in one step; at least the global batch."""
        return self.world * self.micro * self.accumulation


def layout(global_batch: int, *, world: int, micro_batch: int) -> Layout:
    """Accumulation and rows on a card at once for a global batch, with at most `micro_batch` rows on a card.

    Slots beyond the global batch stay without a row, so any number of cards trains the same model.
    """
    share = math.ceil(global_batch / world)
    accumulation = math.ceil(share / micro_batch)
    return Layout(world=world, micro=math.ceil(share / accumulation), accumulation=accumulation)


def steps(rows: int, recipe: Recipe) -> int:
    """Optimizer steps of the whole training; the last one is filled up from the next pass over the rows."""
    return max(1, math.ceil(rows * recipe.epochs / recipe.global_batch))


def order(lengths: Sequence[int], recipe: Recipe, layout: Layout) -> list[int | None]:
    """Which row (position) lies in which slot, step after step; None is an empty slot.

    A step holds the same rows whatever the layout: seeded permutations of all rows, one after
    another, cut into global batches. Within a step the longest rows come first, so that rows of like
    length share a micro-batch and little is padded; the loss is a mean over the step's tokens, so
    their order does not matter.
    """
    shuffler = random.Random(recipe.seed)
    total = steps(len(lengths), recipe)
    stream: list[int] = []
    while len(stream) < total * recipe.global_batch:
        stream += shuffler.sample(range(len(lengths)), len(lengths))
    slots: list[int | None] = []
    for start in range(0, total * recipe.global_batch, recipe.global_batch):
        batch = sorted(stream[start : start + recipe.global_batch], key=lambda i: (-lengths[i], i))
        slots += batch
        slots += [None] * (layout.slots - len(batch))
    return slots


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
            "it is not installed (pip install fledgling[gpu])" if not unsloth
            else "it needs a CUDA card" if cards == 0
            else "it crashes under DDP; set training.deepspeed to true"
        )  # fmt: skip
        raise ConfigError(f"recipe.backend unsloth cannot run here: {reason}, or set recipe.backend to peft")
    return "unsloth"
