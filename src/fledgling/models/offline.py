"""How the model libraries behave in Fledgling's stages: no network, no noise in the log."""

import logging
import os


def offline_and_quiet() -> None:
    """Call this before transformers is imported; it and huggingface_hub read these once."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # warns once a layer that it casts its input
