"""LoRA through unsloth: the fastest on CUDA cards. Import this before trl, peft and transformers."""

import os
import tempfile
from pathlib import Path
from typing import Any

# What it compiles for the installed versions, else left in the folder that it is started from.
os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(Path(tempfile.gettempdir()) / f"fledgling-unsloth-{os.getuid()}"))

import unsloth  # patches transformers, trl and peft, so it comes first  # noqa: F401
from unsloth import FastLanguageModel

import torch  # isort: skip

from fledgling.training.recipe import Recipe


def load(checkpoint: Path, recipe: Recipe, *, device: Any) -> Any:
    """The base on one card, quantised as the recipe says, with a fresh LoRA that is seeded by the recipe."""
    from fledgling.training.peft_backend import targets

    model, _ = FastLanguageModel.from_pretrained(
        str(checkpoint.resolve()),
        max_seq_length=recipe.max_length,
        load_in_4bit=recipe.quantization == "nf4",
        dtype=torch.bfloat16,
        device_map={"": device},
        local_files_only=True,
    )
    return FastLanguageModel.get_peft_model(
        model,
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        bias="none",
        target_modules=targets(model),
        use_gradient_checkpointing="unsloth" if recipe.gradient_checkpointing else False,
        random_state=recipe.seed,
    )
