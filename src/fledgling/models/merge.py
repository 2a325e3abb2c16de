"""Merges adapters into the checkpoint that they were trained on: a selected adapter becomes a base like any other."""

import shutil
from dataclasses import replace
from pathlib import Path

from fledgling.models import adapter as adapters
from fledgling.models import checkpoint as manifest
from fledgling.models.checkpoint import Model


def merge(base: Model, chain: list[Path], folder: Path) -> Model:
    """The base with the adapters of `chain` (folders, in this order) merged in, as a checkpoint under `folder`.

    Each adapter is checked against what it was trained on, the result of the ones before it. What lies in between is
    removed.

    Raises:
        DataError: an adapter is damaged, or was trained on something else.
    """
    current = base
    for place in chain:
        found = adapters.load(place / adapters.MANIFEST, current)
        target = folder / place.name
        _merge_one(current, found.folder, target)
        if current is not base:
            shutil.rmtree(current.checkpoint)
        current = replace(manifest.describe(target, source="path"), generated=base.generated)
    return current


def _merge_one(base: Model, adapter: Path, target: Path) -> None:
    from fledgling.models.offline import importing, offline_and_quiet

    offline_and_quiet()
    with importing():
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    model = AutoModelForCausalLM.from_pretrained(base.checkpoint.resolve(), dtype="auto", local_files_only=True)
    merged = PeftModel.from_pretrained(model, adapter.resolve(), local_files_only=True).merge_and_unload()
    merged.save_pretrained(target, safe_serialization=True)
    for file in base.files:  # tokenizer and template as they were, byte by byte
        if not (target / file.path).exists() and not file.path.endswith((".safetensors", ".safetensors.index.json")):
            shutil.copyfile(base.checkpoint / file.path, target / file.path)
