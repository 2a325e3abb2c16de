"""The stage that tunes the slm on one track."""

import logging
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fledgling import artefacts
from fledgling.artefacts import Training
from fledgling.config import SLM
from fledgling.files import copy_file, digest, sha256_file
from fledgling.gpus import die_with_launcher
from fledgling.models import adapter, checkpoint
from fledgling.models.offline import offline_and_quiet
from fledgling.prompting import template
from fledgling.prompting.turns import Place, schema_place
from fledgling.records import read_examples
from fledgling.training import tokens as token_rows
from fledgling.training.recipe import Recipe, choose_backend, kept_after, layout

log = logging.getLogger(__name__)

MICRO_BATCH_TOKENS = 4096  # where the configuration does not say


def train(*, track: str, train_data: Path, val_data: Path, model: Path, settings: dict[str, Any], out: Path) -> None:
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
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    deepspeed = bool(where.get("deepspeed")) or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    backend = choose_backend(
        recipe.backend, unsloth=find_spec("unsloth") is not None, cards=_cards(), world=world, deepspeed=deepspeed
    )
    load, device = _loader(backend), local if _cards() else "cpu"

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.checkpoint.resolve(), local_files_only=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows = _rows(train_data, tokenizer, settings, recipe)
    token_rows.check(rows, train_data, recipe.max_length)
    val = _rows(val_data, tokenizer, settings, recipe)
    if rows.too_long:
        log.warning("%d rows are longer than recipe.max_length %d and left out", rows.too_long, recipe.max_length)
    tokens = where.get("micro_batch_tokens", MICRO_BATCH_TOKENS)
    plan = layout([len(row.input_ids) for row in rows.rows], recipe, world=world, tokens=tokens)

    from fledgling.training import cpu_loss, loop

    cpu_loss.install()
    data = {"train": sha256_file(train_data), "val": sha256_file(val_data)}
    run = digest(
        [recipe.to_json(), data, base.fingerprint, base.chat_template_sha256, list(_prompting(settings)), backend]
        + ([world] if deepspeed else [])  # DeepSpeed's checkpoints hold one part a process
    )
    folder = out.parent / "checkpoints"
    kept = kept_after(plan.steps, recipe.candidates)
    weights = {step: folder / f"candidates-{run[:16]}" / f"{step}.safetensors" for step in kept}
    work = loop.Work(
        micro_batches=token_rows.micro_batches(rows.rows, plan.micro_batches, tokenizer),
        val=val.rows,
        recipe=recipe,
        layout=plan,
        folder=folder,
        run=run,
        backend=backend,
        deepspeed=deepspeed,
        candidates=weights,
    )
    result = loop.fit(load(base.checkpoint, recipe, device=device), tokenizer, work)
    if int(os.environ.get("RANK", "0")) != 0:
        return
    for number, step in enumerate(kept, 1):
        place = out.parent / str(number)
        (place / adapter.MANIFEST).unlink(missing_ok=True)  # until the new files are whole, none is vouched for
        copy_file(weights[step], place / adapter.WEIGHTS)
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
            "world_size": world,
            "micro_batch_tokens": tokens,
            "accumulation": plan.accumulation,
            "base_fingerprint": base.fingerprint,
            "backend": backend,
        },
    )
    shutil.rmtree(folder, ignore_errors=True)  # the adapters are whole; nothing resumes from here any more


def _prompting(settings: dict[str, Any]) -> tuple[str, Place]:
    return settings.get(SLM, {}).get("tool_dialect", "auto"), schema_place(settings["track"].get("prompt", {}))


def _rows(path: Path, tokenizer: Any, settings: dict[str, Any], recipe: Recipe) -> token_rows.Rows:
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
