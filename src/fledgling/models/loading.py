"""The weights of an slm in memory."""

import logging
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "int8", "nf4"]


def load_model(checkpoint: Path, precision: Precision, *, device_map: Any = "auto") -> Any:
    """The checkpoint in memory, spread over the cards (or on the CPU), from local files only.

    On a CPU the parts that are not quantised compute in fp32; there is nothing to gain from bf16.
    """
    cuda = torch.cuda.is_available()
    if precision == "bf16" and not cuda:
        log.warning("slm.precision is bf16 and there is no card: slow, and no better than fp32")
    dtype = torch.float32 if precision == "fp32" or (precision != "bf16" and not cuda) else torch.bfloat16
    quantization = None
    if precision == "int8":
        quantization = BitsAndBytesConfig(load_in_8bit=True)
    elif precision == "nf4":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    transformers.logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(
        checkpoint.resolve(),
        dtype=dtype,
        device_map=device_map,
        quantization_config=quantization,
        local_files_only=True,
    )
