"""LoRA through PEFT: any machine, any number of cards."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from fledgling.errors import ConfigError
from fledgling.models.loading import Precision, load_model
from fledgling.training.recipe import Recipe

# Their kernels read these weights without calling the layers, so LoRA would do nothing there; PEFT refuses it for most.
MAMBA = frozenset({"bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "mamba", "mamba2", "nemotron_h", "zamba2"})
READ_BY_KERNELS = ["out_proj", "conv1d"]
FUSED = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")  # the Phi-3 family; q_proj matches nothing there


def load(checkpoint: Path, recipe: Recipe, *, device: Any) -> Any:
    """The base on one device, quantised as the recipe says, with a fresh LoRA that is seeded by the recipe.

    Raises:
        ConfigError: PEFT cannot put this LoRA on this model.
    """
    precision: Precision = "nf4" if recipe.quantization == "nf4" else "bf16" if torch.cuda.is_available() else "fp32"
    model = load_model(checkpoint, precision, device_map={"": device})
    model.config.use_cache = False
    if recipe.quantization == "nf4" and str(device) == "cpu":
        train_on_cpu(model)
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    torch.manual_seed(recipe.seed)
    try:
        return get_peft_model(model, lora_config(model, recipe))
    except ValueError as error:  # PEFT has no LoRA with dropout for experts that lie in one tensor
        remedy = "set recipe.dropout to 0" if "lora_dropout" in str(error) else "train another checkpoint"
        raise ConfigError(f"{checkpoint}: PEFT cannot put LoRA on this model ({error}); {remedy}") from error


def lora_config(model: Any, recipe: Recipe) -> Any:
    """LoRA on every projection of the model."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        bias="none",
        target_modules=targets(model),
        exclude_modules=READ_BY_KERNELS if model.config.model_type in MAMBA else None,
    )


def targets(model: Any) -> list[str] | str:
    """The fused projections where the model has them, otherwise all its linear layers."""
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return list(FUSED) if set(FUSED) <= names else "all-linear"


def train_on_cpu(model: Any) -> None:
    """Keep bitsandbytes from repacking 4-bit weights for its inference kernel, which has no backward pass."""
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
