"""The stage that tunes the slm on one track."""

import logging
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fledgling import artefacts
from fledgling.artefacts import Training
from fledgling.config import SLM
from fledgling.errors import ConfigError, DataError
from fledgling.files import Object, copy_file, digest, read_json, sha256_file
from fledgling.gpus import die_with_launcher
from fledgling.models import adapter, checkpoint, memory, tensors
from fledgling.models.offline import importing, offline_and_quiet
from fledgling.prompting import template
from fledgling.prompting.turns import Place, schema_place
from fledgling.records import read_examples
from fledgling.sealing import verify_rows
from fledgling.training import tokens as token_rows
from fledgling.training.recipe import (
    CPU_TOKENS,
    Recipe,
    choose_backend,
    compiles,
    kept_after,
    layout,
    no_replays,
    pack,
    replays,
)

if TYPE_CHECKING:
    from fledgling.training.updates import Group

log = logging.getLogger(__name__)


def train(*, track: str, train_data: Path, val_data: Path, model: Path, settings: Object, out: Path) -> None:
    """Tune the slm on a track: write the adapters to choose from to 1/, 2/, … beside `out`, which gets the history.

    There are `recipe.candidates`, kept at even distances, the last one at the end: weights, configuration and
    manifest each. Runs in every process of a launch (accelerate, torchrun) or alone; the first one writes. Killed
    and started again, it goes on from its newest sealed checkpoint.

    Raises:
        DataError: nothing to train on, a damaged base, or a loss that is not finite.
        ConfigError: the recipe asks for what this machine cannot do.
    """
    offline_and_quiet()
    die_with_launcher()
    recipe = Recipe.of(settings)
    where = settings.get("training", {})
    base = checkpoint.load(model, verify=True)
    deepspeed = bool(where.get("deepspeed")) or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    if deepspeed and find_spec("deepspeed") is None:
        raise ConfigError(
            "training.deepspeed is true and deepspeed is not installed: pip install fledgling[gpu], or set it to false"
        )
    backend = choose_backend(recipe.backend, unsloth=find_spec("unsloth") is not None, cards=_cards())
    with importing():
        load = _loader(backend)  # unsloth comes before torch's libraries
        from transformers import AutoTokenizer

        from fledgling.training import loop, objective

    group = loop.join(deepspeed=deepspeed)
    tokenizer = AutoTokenizer.from_pretrained(base.checkpoint.resolve(), local_files_only=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows = _rows(train_data, tokenizer, settings, recipe)
    token_rows.check(rows, train_data, recipe.max_length)
    val = _rows(val_data, tokenizer, settings, recipe)
    if rows.too_long:
        log.warning("%d rows are longer than recipe.max_length %d and left out", rows.too_long, recipe.max_length)
    lengths = [len(row.input_ids) for row in rows.rows]
    weights = sum(tensor.numbers for tensor in tensors.of_checkpoint(base.checkpoint).values())
    pays = compiles(where.get("compile", "auto"), weights=weights, tokens=sum(lengths) * recipe.epochs)
    compiled = backend == "peft" and pays and objective.can_compile()
    given = where.get("micro_batch_tokens", "auto")
    try:
        fitting = _tokens_at_once(recipe, base.checkpoint, "unsloth" if compiled else backend, group, deepspeed)
    except DataError:  # a shape that no formula covers
        if given == "auto":
            raise
        fitting = 0
    tokens = fitting if given == "auto" else int(given)
    plan = layout(lengths, recipe, world=group.world, tokens=tokens, even=deepspeed)
    largest = max(tokens for step in plan.most_tokens(lengths) for tokens in step)
    data = {"train": sha256_file(train_data), "val": sha256_file(val_data)}
    run = digest(
        [recipe.to_json(), data, base.fingerprint, base.chat_template_sha256, list(_prompting(settings)), backend, 3]
        + ([group.world] if deepspeed else [])  # DeepSpeed's checkpoints hold one part a process
    )
    folder = out.parent / "checkpoints"
    kept = kept_after(plan.steps, recipe.candidates)
    candidates = {step: folder / f"candidates-{run[:16]}" / f"{step}.safetensors" for step in kept}
    work = loop.Work(
        rows=rows.rows,
        val=[
            [val.rows[place] for place in places]
            for places in pack(range(len(val.rows)), [len(row.input_ids) for row in val.rows], tokens)
        ],
        recipe=recipe,
        layout=plan,
        weights=weights,
        folder=folder,
        run=run,
        deepspeed=deepspeed,
        cuda_graphs=_replayed(where.get("cuda_graphs", "auto"), recipe, deepspeed, tokens=largest, fitting=fitting),
        candidates=candidates,
    )
    with importing():
        slm = load(base.checkpoint, recipe, device=group.device)
    if compiled:
        objective.compile_layers(slm)
    result = loop.fit(slm, work, group)
    loop.leave()
    if not group.first:
        return
    for number, step in enumerate(kept, 1):
        place = out.parent / str(number)
        (place / adapter.MANIFEST).unlink(missing_ok=True)  # until the new files are whole, none is vouched for
        copy_file(candidates[step], place / adapter.WEIGHTS)
        adapter.write_config(result.model, adapter.name_of(base), place / adapter.CONFIG)
        adapter.seal(place, track=track, model=base, data=data, recipe=recipe.to_json(), backend=backend)
    artefacts.write(
        Training,
        out,
        {
            "format": "fledgling/training/1",
            "made_from": artefacts.digests(train_data, val_data, model),
            "track": track,
            "recipe": recipe.to_json(),
            "history": result.history,
            "rows": len(rows.rows),
            "left_out": {"too_long": rows.too_long, "no_answer": rows.no_answer, "refused": rows.refused},
            "steps": result.steps,
            "candidates": kept,
            "final_loss": result.final_loss,
            "eval_loss": result.eval_loss,
            "seconds": result.seconds,
            "world_size": group.world,
            "micro_batch_tokens": tokens,
            "accumulation": plan.accumulation,
            "base_fingerprint": base.fingerprint,
            "backend": backend,
        },
    )
    shutil.rmtree(folder, ignore_errors=True)  # the adapters are whole; nothing resumes from here any more


def _replayed(
    setting: str | bool, recipe: Recipe, deepspeed: bool, *, tokens: int, fitting: int
) -> 'bool | Literal["auto"]':
    """`setting` of training.cuda_graphs where it has an effect, False where not."""
    against = no_replays(setting, deepspeed=deepspeed, checkpointing=recipe.gradient_checkpointing)
    if against and setting is True:
        log.warning("training.cuda_graphs is true and has no effect under %s", against)
    if against or not replays(setting, tokens=tokens, fitting=fitting):
        return False
    return True if setting is True else "auto"


def _tokens_at_once(recipe: Recipe, checkpoint: Path, backend: str, group: "Group", deepspeed: bool) -> int:
    """What the smallest free memory of the group's GPUs holds by the formulas."""
    import torch

    if not torch.cuda.is_available():
        return CPU_TOKENS
    free = group.least(torch.cuda.mem_get_info(group.device)[0])
    tied = "lm_head.weight" not in tensors.of_checkpoint(checkpoint)
    return memory.tokens_at_once(
        memory.Shape.of(read_json(checkpoint / "config.json"), tied=tied),
        int(memory.USABLE * free),
        rank=recipe.rank,
        quantization=recipe.quantization,
        backend=backend,
        checkpointing=recipe.gradient_checkpointing,
        dropout=recipe.dropout > 0,
        world=group.world,
        deepspeed=deepspeed,
    )


def _prompting(settings: Object) -> tuple[str, Place]:
    return settings.get(SLM, {}).get("tool_dialect", "auto"), schema_place(settings["track"].get("prompt", {}))


def _rows(path: Path, tokenizer: Any, settings: Object, recipe: Recipe) -> token_rows.Rows:
    verify_rows(path)
    choice, schema = _prompting(settings)
    return token_rows.encode(
        read_examples(path),
        tokenizer,
        chat=template.chat(tokenizer, choice),
        schema=schema,
        max_length=recipe.max_length,
    )


def _cards() -> int:
    import torch

    return torch.cuda.device_count()


def _loader(backend: str) -> Any:
    if backend == "unsloth":
        from fledgling.training import unsloth_backend

        return unsloth_backend.load
    from fledgling.training import peft_backend

    return peft_backend.load
