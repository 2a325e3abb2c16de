"""What a machine has, what a run would use of it, and whether each stage fits: asked once, before the first run."""

import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fledgling.errors import ConfigError, DataError, FledglingError
from fledgling.files import read_json
from fledgling.forecast import earlier
from fledgling.gpus import gpus as gpus_of_nvidia_smi
from fledgling.models import checkpoint as manifest
from fledgling.models import tensors
from fledgling.models.adapter import name_of
from fledgling.models.memory import GIB, Shape, parameters, prediction_parts, training_parts, vllm_parts
from fledgling.prompting.turns import schema_place
from fledgling.records import read_examples
from fledgling.slm.engine import choose
from fledgling.training.recipe import Recipe, choose_backend

PACKAGES = ("torch", "transformers", "bitsandbytes", "peft", "trl", "vllm", "unsloth", "deepspeed")
USABLE = 0.9  # share of a card that a stage may plan with: CUDA's context and fragmentation take the rest


@dataclass(frozen=True, slots=True)
class Card:
    """One visible card; memory in bytes."""

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
    """The visible cards, the versions of packages that are installed, and cards that torch does not see."""

    cards: Sequence[Card]
    versions: Mapping[str, str]
    cuda: str | None = None
    unseen: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The configured checkpoint; without a shape, `text` says why nothing is known of its size."""

    text: str
    folder: Path | None = None
    shape: Shape | None = None
    model: manifest.Model | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: what runs it and why, bytes a card by what they are for ({}: unknown), what to do about them.

    `seconds` is None where it has not run yet.
    """

    rule: str
    track: str
    cards: int
    engine: str | None
    reason: str
    parts: dict[str, int] = field(default_factory=dict)
    verdict: str = "unknown"
    seconds: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int | None:
        """Memory at the peak on one card; None is unknown."""
        return sum(self.parts.values()) if self.parts else None


@dataclass(frozen=True, slots=True)
class Report:
    """All that is said; `refusals` are why a run could not start here."""

    machine: Machine
    checkpoint: Checkpoint
    stages: list[Stage]
    refusals: list[str]


def visible_cards() -> list[Card]:
    """The cards that torch sees."""
    import torch

    found = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name, capability = torch.cuda.get_device_name(number), torch.cuda.get_device_capability(number)
        found.append(Card(name, total, free, capability))
    return found


def this_machine() -> Machine:
    """The machine that this runs on."""
    import torch

    found = visible_cards()
    return Machine(found, installed(), torch.version.cuda, max(0, len(gpus_of_nvidia_smi()) - len(found)))


def installed() -> dict[str, str]:
    """{package: version} of the packages that matter and are installed; nothing is imported."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def check(config: Mapping[str, Any], *, results: Path, machine: Machine) -> Report:
    """Every stage of the configuration against a machine."""
    checkpoint = find_checkpoint(config, results)
    refusals = list(_too_many(config, machine))
    stages = []
    for track, block in config["tracks"].items():
        policy = block.get("finetune", "auto")
        condition = () if policy == "always" else ("if the gate asks for it",)
        asked: list[tuple[str, tuple[str, ...]]] = [("predict", ())]
        if policy != "never":
            asked.append(("train", condition))
            if (candidates := _recipe(config, track).candidates) > 1:
                asked.append(("predict_candidate", (*condition, f"once for each of {candidates} adapters")))
            asked.append(("predict_tuned", condition))
        for rule, notes in asked:
            settle = _train if rule == "train" else _predict
            stages.append(settle(rule, track, config, results, machine, checkpoint, notes, refusals))
    return Report(machine, checkpoint, stages, list(dict.fromkeys(refusals)))


def _too_many(config: Mapping[str, Any], machine: Machine) -> Iterator[str]:
    for section in ("slm", "training"):
        wanted, here = config[section].get("gpus", 0), len(machine.cards)
        if wanted > here:
            remedy = f"at most {here}" if here else "0 for the CPU"
            yield f"{section}.gpus asks for {_cards(wanted)}, of which {here} are visible; set it to {remedy}"


def find_checkpoint(config: Mapping[str, Any], results: Path) -> Checkpoint:
    """The configured checkpoint where it lies already: built (its manifest exists), or a folder that is named."""
    given, path = config["models"]["slm"], results / "models" / "slm" / "manifest.json"
    override = os.environ.get("SLM_MODEL_PATH")
    folder = override or (given["path"] if given["source"] == "path" else None)
    try:
        if path.exists() and _is(model := manifest.load(path), given, folder):
            return _sized(path, model.checkpoint, model)
        if folder and Path(folder).is_dir():
            return _sized(Path(folder), Path(folder), None)
    except DataError as error:
        return Checkpoint(str(error))
    if folder:
        return Checkpoint(f"{folder}: no such folder; set {'SLM_MODEL_PATH' if override else 'models.slm.path'}")
    what = given["repo_id"] if given["source"] == "hub" else "the embedded checkpoint"
    verb = "fetched" if given["source"] == "hub" else "built"
    return Checkpoint(f"{what} is not {verb} yet: snakemake --cores 1 {path}, then ask again")


def _is(model: manifest.Model, given: Mapping[str, Any], folder: str | None) -> bool:
    """Whether a checkpoint that was built is the one that is configured now."""
    if folder:
        return model.source == "path" and model.checkpoint.resolve() == Path(folder).resolve()
    names = (given["source"], given.get("repo_id"), given.get("revision"))
    return (model.source, model.repo_id, model.revision) == names


def _sized(place: Path, folder: Path, model: manifest.Model | None) -> Checkpoint:
    found = tensors.of_checkpoint(folder)
    config, counted = read_json(folder / "config.json"), sum(tensor.numbers for tensor in found.values())
    name = (config.get("architectures") or ["unknown"])[0]
    text = f"{place}: {name}, {counted:,} parameters"
    try:
        shape = Shape.of(config, tied="lm_head.weight" not in found)
    except DataError as error:
        return Checkpoint(f"{text}; memory is unknown: {error}", folder, None, model)
    if abs(parameters(shape) - counted) > counted // 100:
        known = f"memory is unknown: a decoder of Llama's shape and these sizes has {parameters(shape):,}"
        return Checkpoint(f"{text}; {known}", folder, None, model)
    return Checkpoint(text, folder, shape, model)


def _predict(
    rule: str,
    track: str,
    config: Mapping[str, Any],
    results: Path,
    machine: Machine,
    checkpoint: Checkpoint,
    notes: tuple[str, ...],
    refusals: list[str],
) -> Stage:
    slm, block = config["slm"], config["tracks"][track]
    cards = min(slm.get("gpus", 0), len(machine.cards))
    precision, tuned = slm["precision"], rule != "predict"
    split = "val" if rule == "predict_candidate" else "test"
    reason = (
        f"slm.engine {slm['engine']}, slm.precision {precision}, slm.gpus {slm.get('gpus', 0)}; "
        f"vllm {machine.versions.get('vllm', 'not installed')}, {_cards(cards)}"
    )
    try:
        engine = choose(slm["engine"], precision, schema_guided=slm.get("schema_guided", False), cards=cards)
        _engine_runs(engine, precision, cards, machine)
    except ConfigError as error:
        refusals.append(str(error))
        return Stage(rule, track, cards, None, reason, notes=notes)
    stage = Stage(rule, track, cards, engine, reason, notes=notes)
    contender = "tuned" if tuned else "slm"
    rows, seconds = _predict_time(track, contender, split, engine, cards, config, results, checkpoint)
    stage = replace(stage, seconds=seconds)
    if checkpoint.shape is None:
        return stage
    shape, rank = checkpoint.shape, _recipe(config, track).rank if tuned else 0
    longest, why = _longest(split, track, config, results, checkpoint)
    answer = block["max_new_tokens"]

    def parts(batch: int, precision: str) -> dict[str, int]:
        if engine == "vllm":
            length = slm["max_prompt_tokens"] + answer
            return vllm_parts(shape, precision=precision, length=length, lora_rank=rank)
        together = min(batch, rows or batch)
        return prediction_parts(
            shape,
            precision=precision,
            rows=together,
            prompt=longest,
            answer=answer,
            cards=max(1, cards),
            lora_rank=rank,
            cuda=cards > 0,
        )

    def remedies() -> Iterator[tuple[str, dict[str, int]]]:
        if engine == "vllm":
            yield "slm.precision to bf16", parts(0, "bf16")
            alone = prediction_parts(
                shape, precision="nf4", rows=1, prompt=longest, answer=answer, cards=cards, lora_rank=rank
            )
            yield "slm.engine to transformers, slm.precision to nf4 and slm.batch_size to 1", alone
            return
        for batch in _halves(slm["batch_size"]):
            yield f"slm.batch_size to {batch}", parts(batch, precision)
        for smaller in ("bf16", "int8", "nf4"):
            yield f"slm.precision to {smaller} and slm.batch_size to 1", parts(1, smaller)

    now = parts(slm["batch_size"], precision)
    verdict = _verdict(now, machine.cards, cards, remedies())
    size = f"{min(slm['batch_size'], rows or slm['batch_size'])} rows of {longest:,} tokens ({why}) and {answer} new"
    assumed = "the least that a replica starts with; it takes 90 % of its card" if engine == "vllm" else size
    return replace(stage, parts=now, verdict=verdict, notes=(*notes, assumed))


def _engine_runs(engine: str, precision: str, cards: int, machine: Machine) -> None:
    if engine == "vllm" and "vllm" not in machine.versions:
        raise ConfigError(
            "slm.engine vllm cannot run here: it is not installed (pip install fledgling[gpu]), "
            "or set slm.engine to transformers"
        )
    if engine == "vllm" and not cards:
        raise ConfigError(
            "slm.engine vllm cannot run here: it needs a CUDA card, and slm.gpus gives it none; "
            "set slm.engine to transformers"
        )
    if precision in ("int8", "nf4") and "bitsandbytes" not in machine.versions:
        raise ConfigError(
            f"slm.precision {precision} cannot run here: bitsandbytes is not installed; set it to bf16 or fp32"
        )


def _predict_time(
    track: str,
    contender: str,
    split: str,
    engine: str,
    cards: int,
    config: Mapping[str, Any],
    results: Path,
    checkpoint: Checkpoint,
) -> tuple[int | None, float | None]:
    """(rows of a split, seconds that they take); vLLM's replicas share the rows."""
    rows = earlier.rows(results, track, split)
    if rows is None or checkpoint.model is None:
        return rows, None
    how = f"{engine}-{config['slm']['precision']}-"
    each = earlier.seconds_a_row(results, track, contender, how=how, model=name_of(checkpoint.model))
    return rows, None if each is None else rows * each / (max(1, cards) if engine == "vllm" else 1)


def _train(
    rule: str,
    track: str,
    config: Mapping[str, Any],
    results: Path,
    machine: Machine,
    checkpoint: Checkpoint,
    notes: tuple[str, ...],
    refusals: list[str],
) -> Stage:
    recipe, where = _recipe(config, track), config["training"]
    cards = min(where["gpus"], len(machine.cards))
    world, deepspeed = max(1, cards), where["deepspeed"]
    unsloth = "unsloth" in machine.versions
    reason = (
        f"recipe.backend {recipe.backend}, training.gpus {where['gpus']}, training.deepspeed {str(deepspeed).lower()}; "
        f"unsloth {machine.versions.get('unsloth', 'not installed')}, {_cards(cards)}"
    )
    try:
        backend = choose_backend(recipe.backend, unsloth=unsloth, cards=cards, world=world, deepspeed=deepspeed)
        _training_runs(recipe, deepspeed, machine)
    except ConfigError as error:
        refusals.append(str(error))
        return Stage(rule, track, cards, None, reason, notes=notes)
    before = earlier.training(results, track)
    if before and checkpoint.model and before.get("base_fingerprint") == checkpoint.model.fingerprint:
        told = (before.get("backend"), before.get("world_size"))
        seconds = before.get("seconds") if told == (backend, world) else None
    else:
        seconds = None
    stage = Stage(rule, track, cards, backend, reason, seconds=seconds, notes=notes)
    if checkpoint.shape is None:
        return stage
    shape = checkpoint.shape
    longest, why = _longest("train", track, config, results, checkpoint)
    setting = where["micro_batch_tokens"]

    def at_once(setting: int) -> int:
        return max(longest, min(setting, math.ceil(recipe.global_batch / world) * longest))

    def parts(setting: int, recipe: Recipe) -> dict[str, int]:
        return training_parts(
            shape,
            tokens=at_once(setting),
            rank=recipe.rank,
            quantization=recipe.quantization,
            backend=backend,
            checkpointing=recipe.gradient_checkpointing,
            dropout=recipe.dropout > 0,
            world=world,
            deepspeed=deepspeed,
            cuda=cards > 0,
        )

    def remedies() -> Iterator[tuple[str, dict[str, int]]]:
        checkpointed = replace(recipe, gradient_checkpointing=True)
        small = replace(checkpointed, quantization="nf4")
        if not recipe.gradient_checkpointing:
            yield "recipe.gradient_checkpointing to true", parts(setting, checkpointed)
        for fewer in _halves(setting):
            yield f"training.micro_batch_tokens to {fewer}", parts(fewer, recipe)
        yield "recipe.gradient_checkpointing to true and training.micro_batch_tokens to 1", parts(1, checkpointed)
        if recipe.quantization != "nf4":
            yield "recipe.quantization to nf4 (and training.micro_batch_tokens to 1)", parts(1, small)

    now = parts(setting, recipe)
    size = f"at most {at_once(setting):,} tokens on a card at once, rows of {longest:,} ({why})"
    if recipe.dropout or backend == "peft":
        size += "; never measured with " + ("LoRA dropout" if backend == "unsloth" else "peft")
    verdict = _verdict(now, machine.cards, cards, remedies())
    return replace(stage, parts=now, verdict=verdict, notes=(*notes, size))


def _training_runs(recipe: Recipe, deepspeed: bool, machine: Machine) -> None:
    if deepspeed and "deepspeed" not in machine.versions:
        raise ConfigError(
            "training.deepspeed cannot be true here: deepspeed is not installed (pip install fledgling[gpu]); "
            "set it to false"
        )
    if recipe.quantization == "nf4" and "bitsandbytes" not in machine.versions:
        raise ConfigError("recipe.quantization nf4 cannot run here: bitsandbytes is not installed; set it to none")


def _recipe(config: Mapping[str, Any], track: str) -> Recipe:
    return Recipe.of({"recipe": config["recipe"] | config["tracks"][track].get("recipe", {}), "seed": config["seed"]})


def _longest(
    split: str, track: str, config: Mapping[str, Any], results: Path, checkpoint: Checkpoint
) -> tuple[int, str]:
    """(tokens of the longest row of train, or of the longest prompt of val or test, where that number is from)."""
    key = "recipe.max_length" if split == "train" else "slm.max_prompt_tokens"
    limit = _recipe(config, track).max_length if split == "train" else config["slm"]["max_prompt_tokens"]
    data = results / "data" / track / f"{split}.jsonl"
    if checkpoint.model is None or not data.exists():
        return limit, f"{key}; {data} or the checkpoint is not built"
    try:
        lengths = [n for n in row_lengths(data, checkpoint.model.checkpoint, config, track, split) if n <= limit]
    except FledglingError as error:
        return limit, f"{key}, as {error}"
    return (max(lengths), f"the longest of {data}") if lengths else (limit, key)


def row_lengths(data: Path, folder: Path, config: Mapping[str, Any], track: str, split: str) -> list[int]:
    """Tokens of each row as the stage makes them: prompts with their completions of train, prompts of val and test."""
    from fledgling.models.offline import offline_and_quiet

    offline_and_quiet()
    from transformers import AutoTokenizer

    from fledgling.prompting import template as prompts
    from fledgling.training import tokens as rows

    tokenizer = AutoTokenizer.from_pretrained(folder.resolve(), local_files_only=True)
    dialect = prompts.dialect_of(tokenizer, config["slm"].get("tool_dialect", "auto"))
    schema = schema_place(config["tracks"][track].get("prompt", {}))
    if split == "train":
        whole = rows.encode(read_examples(data), tokenizer, dialect=dialect, schema=schema, max_length=10**9)
        return [len(row.input_ids) for row in whole.rows]
    texts = [prompts.prompt(tokenizer, example, schema=schema, dialect=dialect) for example in read_examples(data)]
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []


def _halves(setting: int) -> Iterator[int]:
    while setting > 1:
        setting //= 2
        yield setting


def _verdict(
    parts: Mapping[str, int], cards: Sequence[Card], used: int, remedies: Iterable[tuple[str, dict[str, int]]]
) -> str:
    """Whether a stage fits the smallest card; where it does not, the first remedy that would."""
    if not used:
        return "CPU: not checked"
    room, free = min(card.total for card in cards), min(card.free for card in cards)
    needed = sum(parts.values())
    if needed <= USABLE * room:
        return "fits" if needed <= free else f"fits once others on the card end ({free / GIB:.1f} GiB are free)"
    for remedy, smaller in remedies:
        if sum(smaller.values()) <= USABLE * room:
            return f"does not fit: set {remedy}"
    return "does not fit: a card with more memory is needed"


def _cards(count: int) -> str:
    return "no card" if not count else f"{count} card{'s' if count > 1 else ''}"


def text(report: Report) -> str:
    """The report for people."""
    machine = report.machine
    lines = ["cards"]
    for number, card in enumerate(machine.cards):
        lines.append(
            f"  {number}: {card.name}, {card.total / GIB:.1f} GiB ({card.free / GIB:.1f} free), "
            f"compute capability {card.capability[0]}.{card.capability[1]}, bf16 {'yes' if card.bf16 else 'no (slow)'}"
        )
    if not machine.cards:
        lines.append("  none is visible: everything runs on the CPU")
    if machine.unseen:
        lines.append(f"  {machine.unseen} more are claimable, but this torch does not see them: install it for CUDA")
    lines += ["versions", f"  python {platform.python_version()}, CUDA of torch {machine.cuda or 'none'}"]
    lines += [f"  {name} {machine.versions.get(name, 'not installed')}" for name in PACKAGES]
    lines += ["checkpoint", f"  {report.checkpoint.text}", "stages"]
    for stage in report.stages:
        size = "unknown" if stage.bytes is None else f"{stage.bytes / GIB:.2f} GiB{' a card' if stage.cards else ''}"
        time = "unknown until it has run once" if stage.seconds is None else f"{stage.seconds / 60:.1f} min last time"
        lines += [
            f"  {stage.rule} {stage.track}: {stage.engine or 'cannot run here'} on {_cards(stage.cards) if stage.cards else 'the CPU'}",
            f"    why     {stage.reason}",
            f"    memory  {size} (estimate): {stage.verdict}" if stage.parts else "    memory  unknown",
        ]
        if stage.parts:
            lines.append("            " + " + ".join(f"{k} {v / GIB:.2f}" for k, v in stage.parts.items()))
        lines.append(f"    time    {time}")
        lines += [f"    note    {note}" for note in stage.notes]
    return "\n".join(lines)
