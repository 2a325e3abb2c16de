"""Whether each stage of a configuration can run on a machine, with what, and whether it fits."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypedDict

from fledgling.config import SLM, Config, spelled
from fledgling.contenders import Job, adapter_model, answering, answers_as, jobs, ladder, limits, of
from fledgling.contenders import recipe as recipe_of
from fledgling.contenders import spelled as spelling
from fledgling.errors import ConfigError
from fledgling.forecast import earlier, pace
from fledgling.forecast.checkpoint import Checkpoint, find_checkpoint
from fledgling.forecast.lengths import longest
from fledgling.forecast.machine import Gpu, Machine, count, engine_runs, training_runs
from fledgling.forecast.plan import who
from fledgling.models.adapter import name_of
from fledgling.models.memory import (
    GIB,
    USABLE,
    Shape,
    parameters,
    prediction_parts,
    tokens_at_once,
    training_parts,
    vllm_parts,
)
from fledgling.slm.engine import choose
from fledgling.training.recipe import CPU_TOKENS, Recipe, choose_backend, compiles


@dataclass(frozen=True, slots=True)
class Stage:
    """One job of the graph: what runs it and why, bytes a GPU by what they are for ({}: unknown), what to do about them.

    `seconds` is None where it has not run yet. `path` says how fast it is by what was measured, and what to change where
    that is slow.
    """

    rule: str
    track: str
    who: str
    gpus: int
    engine: str | None
    reason: str
    parts: dict[str, int] = field(default_factory=dict)
    verdict: str = "unknown"
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    path: str = ""

    @property
    def bytes(self) -> int | None:
        """Memory at the peak on one GPU; None is unknown."""
        return sum(self.parts.values()) if self.parts else None


@dataclass(frozen=True, slots=True)
class Report:
    """All that is said; `refusals` are why a run could not start here."""

    machine: Machine
    checkpoints: Mapping[str, Checkpoint]
    stages: list[Stage]
    refusals: list[str]


class Answering(TypedDict):
    """The keys of `slm` that a stage's memory depends on."""

    engine: str
    precision: str
    batch_size: int
    max_prompt_tokens: int
    schema_guided: bool
    gpus: int


@dataclass(frozen=True, slots=True)
class _Work:
    """What every stage is held against."""

    config: Config
    results: Path
    machine: Machine
    checkpoints: Mapping[str, Checkpoint]


def check(config: Config, *, results: Path, machine: Machine) -> Report:
    """Every local job of the configuration against a machine."""
    models = dict.fromkeys(one.model for one in ladder(config))
    work = _Work(config, results, machine, {model: find_checkpoint(config, model, results) for model in models})
    refusals = list(_too_many(config, machine))
    stages = []
    for track in config["tracks"]:
        for job in jobs(config, track):
            if job.rule != "ask":
                stages.append(_train(job, work, refusals) if job.rule == "train" else _answer(job, work, refusals))
    return Report(machine, work.checkpoints, stages, list(dict.fromkeys(refusals)))


def _too_many(config: Config, machine: Machine) -> Iterator[str]:
    wanted_by = {"training.gpus": config["training"]["gpus"], "slm.gpus": config[SLM].get("gpus", 0)}
    for one in ladder(config):
        if "gpus" in config["contenders"][one.name]:
            wanted_by[f"contenders.{one.name}.gpus"] = config["contenders"][one.name]["gpus"]
    for key, wanted in wanted_by.items():
        here = len(machine.gpus)
        if wanted > here:
            remedy = f"at most {here}" if here else "0 for the CPU"
            yield f"{key} asks for {count(wanted)}, of which {here} are visible; set it to {remedy}"


def answering_keys(config: Config, contender: str) -> Answering:
    """The keys of `slm` as they are for a contender."""
    merged: Config = dict(answering(config, contender))
    return {
        "engine": merged["engine"],
        "precision": merged["precision"],
        "batch_size": merged["batch_size"],
        "max_prompt_tokens": merged["max_prompt_tokens"],
        "schema_guided": merged.get("schema_guided", False),
        "gpus": merged.get("gpus", 0),
    }


def _answer(job: Job, work: _Work, refusals: list[str]) -> Stage:
    contender, slm, machine = of(work.config, job.contender), answering_keys(work.config, job.contender), work.machine
    checkpoint = work.checkpoints[contender.model]
    gpus, notes = min(slm["gpus"], len(machine.gpus)), _notes(job)
    key = partial(spelling, spelled(work.config), job.contender, job.track)
    reason = (
        f"{key('engine')} {slm['engine']}, {key('precision')} {slm['precision']}, {key('gpus')} {slm['gpus']}; "
        f"vllm {machine.versions.get('vllm', 'not installed')}, {count(gpus)}"
    )
    try:
        engine = choose(slm["engine"], slm["precision"], cards=gpus)
        engine_runs(engine, slm["precision"], gpus, machine)
    except ConfigError as error:
        refusals.append(str(error))
        return Stage(job.rule, job.track, who(job), gpus, None, reason, notes=notes)
    rows, seconds = _answer_time(job, engine, gpus, work, checkpoint)
    stage = Stage(job.rule, job.track, who(job), gpus, engine, reason, seconds=seconds, notes=notes)
    if checkpoint.shape is None:
        return stage
    rank = _recipe(work.config, contender.adapter, job.track).rank if contender.adapter else 0
    limit, split = slm["max_prompt_tokens"], job.split or "test"
    prompt, why = (
        (limit, f"{key('max_prompt_tokens')}, as shots come before each row")
        if contender.shots
        else longest(split, limit, key("max_prompt_tokens"), job.track, work.config, work.results, checkpoint)
    )
    new = int(str(limits(work.config, job.contender, job.track)["max_new_tokens"]))
    memory = _Answers(checkpoint.shape, engine, slm, rows, prompt, new, gpus, rank, key)
    now = memory.parts(slm["batch_size"], slm["precision"])
    verdict = _verdict(now, machine.gpus, gpus, memory.remedies())
    together = min(slm["batch_size"], rows or slm["batch_size"])
    size = f"{together} rows of {prompt:,} tokens ({why}) and {new} new"
    assumed = "the least that a replica starts with; it takes 90 % of its GPU" if engine == "vllm" else size
    path = pace.answering(engine, slm["precision"], gpus, checkpoint.shape, machine, key).sentence(rows)
    return replace(stage, parts=now, verdict=verdict, path=path, notes=(*notes, assumed))


@dataclass(frozen=True, slots=True)
class _Answers:
    """The memory of one answering stage, by what could be changed about it."""

    shape: Shape
    engine: str
    slm: Answering
    rows: int | None
    prompt: int
    answer: int
    gpus: int
    rank: int
    key: Callable[[str], str]

    def parts(self, batch: int, precision: str) -> dict[str, int]:
        """Bytes a GPU by what they are for."""
        if self.engine == "vllm":
            length = self.slm["max_prompt_tokens"] + self.answer
            return vllm_parts(self.shape, precision=precision, length=length, lora_rank=self.rank)
        return self._transformers(min(batch, self.rows or batch), precision)

    def _transformers(self, rows: int, precision: str) -> dict[str, int]:
        return prediction_parts(
            self.shape,
            precision=precision,
            rows=rows,
            prompt=self.prompt,
            answer=self.answer,
            cards=max(1, self.gpus),
            lora_rank=self.rank,
            cuda=self.gpus > 0,
        )

    def remedies(self) -> Iterator[tuple[str, dict[str, int]]]:
        """What to set, mildest first, with the memory that it leads to."""
        if self.engine == "vllm":
            yield f"{self.key('precision')} to bf16", self.parts(0, "bf16")
            yield (
                f"{self.key('engine')} to transformers, {self.key('precision')} to nf4 and {self.key('batch_size')} to 1",
                self._transformers(1, "nf4"),
            )
            return
        for batch in _halves(self.slm["batch_size"]):
            yield f"{self.key('batch_size')} to {batch}", self.parts(batch, self.slm["precision"])
        for smaller in ("bf16", "int8", "nf4"):
            yield f"{self.key('precision')} to {smaller} and {self.key('batch_size')} to 1", self.parts(1, smaller)


def _answer_time(
    job: Job, engine: str, gpus: int, work: _Work, checkpoint: Checkpoint
) -> tuple[int | None, float | None]:
    """(rows of a split, seconds that they take); vLLM's replicas share the rows."""
    rows = earlier.rows(work.results, job.track, job.split or "test")
    if rows is None or checkpoint.model is None:
        return rows, None
    how = f"{engine}-{answering_keys(work.config, job.contender)['precision']}-"
    before = answers_as(work.config, job.contender)
    each = earlier.seconds_a_row(work.results, job.track, before, how=how, model=name_of(checkpoint.model))
    return rows, None if each is None else rows * each / (max(1, gpus) if engine == "vllm" else 1)


def _train(job: Job, work: _Work, refusals: list[str]) -> Stage:
    recipe, where = _recipe(work.config, job.contender, job.track), work.config["training"]
    machine, checkpoint = work.machine, work.checkpoints[adapter_model(work.config, job.contender)]
    gpus, notes = min(where["gpus"], len(machine.gpus)), _notes(job)
    world, deepspeed = max(1, gpus), where["deepspeed"]
    unsloth = "unsloth" in machine.versions
    reason = (
        f"recipe.backend {recipe.backend}, training.gpus {where['gpus']}, training.deepspeed {str(deepspeed).lower()}; "
        f"unsloth {machine.versions.get('unsloth', 'not installed')}, {count(gpus)}"
    )
    try:
        backend = choose_backend(recipe.backend, unsloth=unsloth, cards=gpus)
        training_runs(recipe, deepspeed, machine)
    except ConfigError as error:
        refusals.append(str(error))
        return Stage(job.rule, job.track, who(job), gpus, None, reason, notes=notes)
    before, seconds = earlier.training(work.results, job.track, job.contender), None
    if before and checkpoint.model and before["base_fingerprint"] == checkpoint.model.fingerprint:
        seconds = before["seconds"] if (before["backend"], before["world_size"]) == (backend, world) else None
    stage = Stage(job.rule, job.track, who(job), gpus, backend, reason, seconds=seconds, notes=notes)
    if checkpoint.shape is None:
        return stage
    row, why = longest(
        "train", recipe.max_length, "recipe.max_length", job.track, work.config, work.results, checkpoint
    )
    tokens = row * recipe.epochs * (earlier.rows(work.results, job.track, "train") or 0)
    pays = compiles(where.get("compile", "auto"), weights=parameters(checkpoint.shape), tokens=tokens)
    layers = "unsloth" if gpus and pays else backend  # layers that are compiled keep as much as unsloth's
    setting = where["micro_batch_tokens"]
    if not isinstance(setting, int):
        setting = _fitting(checkpoint.shape, recipe, layers, world, deepspeed, machine.gpus[:gpus])
    memory = _Trains(checkpoint.shape, recipe, layers, row, setting, world, deepspeed, gpus)
    now = memory.parts(memory.setting, recipe)
    size = f"at most {memory.at_once(memory.setting):,} tokens on a GPU at once, rows of {row:,} ({why})"
    if recipe.dropout:
        size += "; recipe.dropout costs time and memory (docs/performance.md)"
    verdict = _verdict(now, machine.gpus, gpus, memory.remedies())
    checkpointing = recipe.gradient_checkpointing
    replayed = pace.replays(where, checkpointing=checkpointing)
    path = pace.training(backend, gpus, checkpoint.shape, checkpointing=checkpointing, replayed=replayed)
    return replace(stage, parts=now, verdict=verdict, path=path, notes=(*notes, size))


def _fitting(shape: Shape, recipe: Recipe, backend: str, world: int, deepspeed: bool, gpus: Sequence[Gpu]) -> int:
    """The tokens that training.micro_batch_tokens "auto" will put on the smallest GPU, or what it is on a CPU."""
    if not gpus:
        return CPU_TOKENS
    return tokens_at_once(
        shape,
        int(USABLE * min(gpu.free for gpu in gpus)),
        rank=recipe.rank,
        quantization=recipe.quantization,
        backend=backend,
        checkpointing=recipe.gradient_checkpointing,
        dropout=recipe.dropout > 0,
        world=world,
        deepspeed=deepspeed,
    )


@dataclass(frozen=True, slots=True)
class _Trains:
    """The memory of one training, by what could be changed about it."""

    shape: Shape
    recipe: Recipe
    backend: str
    longest: int
    setting: int
    world: int
    deepspeed: bool
    gpus: int

    def at_once(self, setting: int) -> int:
        """Tokens on one GPU at once."""
        return max(self.longest, min(setting, math.ceil(self.recipe.global_batch / self.world) * self.longest))

    def parts(self, setting: int, recipe: Recipe) -> dict[str, int]:
        """Bytes a GPU by what they are for."""
        return training_parts(
            self.shape,
            tokens=self.at_once(setting),
            rank=recipe.rank,
            quantization=recipe.quantization,
            backend=self.backend,
            checkpointing=recipe.gradient_checkpointing,
            dropout=recipe.dropout > 0,
            world=self.world,
            deepspeed=self.deepspeed,
            cuda=self.gpus > 0,
        )

    def remedies(self) -> Iterator[tuple[str, dict[str, int]]]:
        """What to set, mildest first, with the memory that it leads to."""
        checkpointed = replace(self.recipe, gradient_checkpointing=True)
        small = replace(checkpointed, quantization="nf4")
        if not self.recipe.gradient_checkpointing:
            yield "recipe.gradient_checkpointing to true", self.parts(self.setting, checkpointed)
        for fewer in _halves(self.setting):
            yield f"training.micro_batch_tokens to {fewer}", self.parts(fewer, self.recipe)
        yield (
            "recipe.gradient_checkpointing to true and training.micro_batch_tokens to 1",
            self.parts(1, checkpointed),
        )
        if self.recipe.quantization != "nf4":
            yield "recipe.quantization to nf4 (and training.micro_batch_tokens to 1)", self.parts(1, small)


def _recipe(config: Config, adapter: str, track: str) -> Recipe:
    return Recipe.of({"recipe": recipe_of(config, adapter, track), "seed": config["seed"]})


def _notes(job: Job) -> tuple[str, ...]:
    return (job.condition,) if job.condition else ()


def _halves(setting: int) -> Iterator[int]:
    while setting > 1:
        setting //= 2
        yield setting


def _verdict(
    parts: Mapping[str, int], gpus: Sequence[Gpu], used: int, remedies: Iterable[tuple[str, dict[str, int]]]
) -> str:
    """Whether a stage fits the smallest GPU; where it does not, the first remedy that would."""
    if not used:
        return "CPU: not checked"
    room, free = min(gpu.total for gpu in gpus), min(gpu.free for gpu in gpus)
    needed = sum(parts.values())
    if needed <= USABLE * room:
        return "fits" if needed <= free else f"fits once others on the GPU end ({free / GIB:.1f} GiB are free)"
    for remedy, smaller in remedies:
        if sum(smaller.values()) <= USABLE * room:
            return f"does not fit: set {remedy}"
    return "does not fit: a GPU with more memory is needed"
