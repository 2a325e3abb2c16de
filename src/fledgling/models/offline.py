"""How the model libraries behave in Fledgling's stages: no network, no noise in the log, a quick start."""

import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager


def offline_and_quiet() -> None:
    """Call this before transformers is imported; it and huggingface_hub read these once."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # warns once a layer that it casts its input


@contextmanager
def importing() -> Iterator[None]:
    """Import and load in here: the garbage collector is off, which takes a fifth of that time and finds nothing.

    Libraries make a million objects that stay, and it would look through them again and again.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
