"""What is trained, apart from where: the recipe, and what follows from it on a given number of cards."""

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

from fledgling.errors import ConfigError
from fledgling.files import Object

Backend = Literal["unsloth", "peft"]
COMPILING_PAYS = 4e15  # weights times tokens: 80 s of compiling spare 77 µs a token of 3.84e9 weights on an H100
CPU_TOKENS = 2048  # at once on a CPU, where the configuration leaves it to us


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
    def of(cls, settings: Object) -> "Recipe":
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

    def to_json(self) -> Object:
        """The recipe as recorded beside an adapter."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a training's rows lie on the processes.

    `micro_batches[step][process]` holds the micro-batches that one process takes in one step, one after another: the
    positions of their rows.
    """

    micro_batches: list[list[list[list[int]]]]

    @property
    def world(self) -> int:
        """Processes."""
        return len(self.micro_batches[0])

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return len(self.micro_batches)

    @property
    def accumulation(self) -> int:
        """The most micro-batches that a process takes in a step."""
        return max(len(part) for step in self.micro_batches for part in step)

    def most_tokens(self, lengths: Sequence[int]) -> list[list[int]]:
        """For the first, second, … micro-batches of each step the most tokens that any process has in its own.

        `lengths` are those of the rows in tokens.
        """

        def most(step: list[list[list[int]]], number: int) -> int:
            return max(sum(lengths[row] for row in part[number]) for part in step if number < len(part))

        return [[most(step, number) for number in range(max(map(len, step)))] for step in self.micro_batches]


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


def layout(lengths: Sequence[int], recipe: Recipe, *, world: int, tokens: int, even: bool = False) -> Layout:
    """The rows, given by their lengths in tokens, in micro-batches of at most `tokens` on each of `world` processes.

    A longer row is alone. The rows of a step are spread evenly over the processes, so that none waits long for another,
    and each process takes its part in as few micro-batches as hold it, so that none is half empty. `even` gives every
    process equally many in a step (DeepSpeed's processes meet in each backward pass), an empty one where it has no
    row left. The loss is a mean over the tokens of a step, so every layout trains the same model.
    """
    steps = []
    for step in batches(len(lengths), recipe):
        parts = [pack(part, lengths, tokens) for part in spread(step, lengths, world)]
        most = max(map(len, parts))
        steps.append([part + [[]] * (most - len(part)) for part in parts] if even else parts)
    return Layout(steps)


def pack(rows: Sequence[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """The rows in as few micro-batches as are found to hold them: even ones where that many can be, else first fit.

    First fit of the longest first needs at most 11/9 of the fewest possible, and one (Johnson, 1973).
    """
    fewest = math.ceil(sum(lengths[row] for row in rows) / tokens)
    even = spread(rows, lengths, max(1, min(fewest, len(rows)))) if rows else []
    if all(len(part) == 1 or sum(lengths[row] for row in part) <= tokens for part in even):
        return even
    fitted: list[list[int]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        place = next((place for place, left in enumerate(room) if lengths[row] <= left), None)
        if place is None:
            fitted.append([row])
            room.append(tokens - lengths[row])
        else:
            fitted[place].append(row)
            room[place] -= lengths[row]
    again = spread(rows, lengths, len(fitted))
    fits = all(len(part) == 1 or sum(lengths[row] for row in part) <= tokens for part in again)
    return again if fits else fitted


def spread(rows: Sequence[int], lengths: Sequence[int], bins: int) -> list[list[int]]:
    """The rows in `bins` parts of like length in tokens: longest processing time first (Graham, 1969)."""
    parts: list[list[int]] = [[] for _ in range(bins)]
    loads = [(0, place) for place in range(bins)]
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        load, place = heapq.heappop(loads)
        parts[place].append(row)
        heapq.heappush(loads, (load + lengths[row], place))
    return parts


def rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of one step, counted from 0: from nothing to the peak over the warm-up, then as `scheduler` says."""
    warmup = math.ceil(recipe.warmup_ratio * steps)
    if step < warmup:
        return recipe.learning_rate * step / warmup
    if recipe.scheduler == "constant":
        return recipe.learning_rate
    gone = (step - warmup) / max(1, steps - warmup)
    if recipe.scheduler == "linear":
        return recipe.learning_rate * (1 - gone)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * gone))


def kept_after(steps: int, candidates: int) -> list[int]:
    """The step after which each candidate is kept: evenly spaced, the last one after the last step.

    With fewer steps than candidates some are kept after the same step.
    """
    return [-(-steps * part // candidates) for part in range(1, candidates + 1)]


def compiles(setting: str | bool, *, weights: int, tokens: float) -> bool:
    """Whether layers are compiled: as training.compile says, or for "auto" where it spares more time than it takes.

    `weights` are those of the model, `tokens` those of the whole training.
    """
    return setting if isinstance(setting, bool) else weights * tokens >= COMPILING_PAYS


def replays(setting: str | bool, *, tokens: int, fitting: int) -> bool:
    """Whether micro-batches are replayed from CUDA graphs: as training.cuda_graphs says, or for "auto" where it pays.

    That is where the largest, of `tokens`, is small, so that a GPU waits for its host, and fits twice into what the
    GPU's memory holds (`fitting` tokens): once in the graphs, once beside them.
    """
    return setting if isinstance(setting, bool) else 2 * tokens <= fitting


def no_replays(setting: str | bool, *, deepspeed: bool, checkpointing: bool) -> str | None:
    """The key of the configuration under which no micro-batch is replayed from a CUDA graph, if there is one.

    `setting` is training.cuda_graphs.
    """
    if deepspeed:
        return "training.deepspeed"
    if checkpointing:
        return "recipe.gradient_checkpointing"
    return "training.cuda_graphs" if setting is False else None


def choose_backend(wanted: str, *, unsloth: bool, cards: int) -> Backend:
    """The back-end of a run; `unsloth` says whether it is installed, `cards` how many this machine shows.

    Raises:
        ConfigError: unsloth is asked for where it cannot run.
    """
    possible = unsloth and cards > 0
    if wanted == "auto":
        return "unsloth" if possible else "peft"
    if wanted == "peft":
        return "peft"
    if wanted != "unsloth":
        raise ConfigError(f"recipe.backend {wanted!r} is none of auto, unsloth, peft")
    if not possible:
        reason = "it is not installed (pip install fledgling[gpu])" if not unsloth else "it needs a CUDA GPU"
        raise ConfigError(f"recipe.backend unsloth cannot run here: {reason}, or set recipe.backend to peft")
    return "unsloth"
