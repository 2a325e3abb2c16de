"""LoRA through unsloth: the fastest on CUDA cards. Import this before trl, peft and transformers."""

import os
import tempfile
from pathlib import Path
from typing import Any

# What it compiles for the installed versions, else left in the folder that it is started from.
os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(Path(tempfile.gettempdir()) / f"fledgling-unsloth-{os.getuid()}"))

# Its causal models leave the logits away otherwise, which agreement.settle holds the loss against.
os.environ["UNSLOTH_RETURN_LOGITS"] = "1"

import unsloth  # patches transformers, trl and peft, so it comes first  # noqa: F401
from unsloth import FastModel

import torch  # isort: skip
from transformers import AutoConfig

from fledgling.training.recipe import Recipe


def load(checkpoint: Path, recipe: Recipe, *, device: Any) -> Any:
    """The base on one card, quantised as the recipe says, with a fresh LoRA that is seeded by the recipe.

    Not FastLanguageModel: its own Llama, Mistral, Gemma and Qwen let rows that lie one behind the other see each other, and
    cut what is longer than `max_seq_length`.
    """
    from fledgling.training.peft_backend import targets

    model, _ = FastModel.from_pretrained(
        str(checkpoint.resolve()),
        max_seq_length=recipe.max_length,
        load_in_4bit=recipe.quantization == "nf4",
        dtype=torch.bfloat16,
        device_map={"": device},
        offload_embedding=False,  # it would be left on the host where one process thinks its memory tight
        local_files_only=True,
    )
    _restore(model, checkpoint)
    return FastModel.get_peft_model(
        model,
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        bias="none",
        target_modules=targets(model),
        use_gradient_checkpointing="unsloth" if recipe.gradient_checkpointing else False,
        random_state=recipe.seed,
    )


def _restore(model: Any, checkpoint: Path) -> None:
    """Undo what unsloth does to a checkpoint whose padding token ends texts, too: it gives it another one.

    That may have a row of its own in the embedding, which no other engine knows, made in inference mode, through which
    nothing can be trained.
    """
    words = AutoConfig.from_pretrained(checkpoint.resolve(), local_files_only=True).get_text_config().vocab_size
    if model.get_input_embeddings().weight.shape[0] > words:
        model.resize_token_embeddings(words)
    made: dict[int, torch.nn.Parameter] = {}  # weights may be tied
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_inference():
                made.setdefault(id(parameter), torch.nn.Parameter(parameter.clone(), requires_grad=False))
                setattr(module, name, made[id(parameter)])
