"""The prompts of a file of rows, as the predict stage puts them to the slm."""

from pathlib import Path

from fledgling.slm.engine import Decoding


def prompts(model: Path, data: Path, new_tokens: int) -> tuple[list[list[int]], Decoding]:
    """Token ids of every row, and how the checkpoint's answers end."""
    from transformers import AutoTokenizer

    from fledgling.models import checkpoint as manifest
    from fledgling.records import read_examples
    from fledgling.slm import answer as stage

    checkpoint = manifest.load(model).checkpoint
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.resolve(), local_files_only=True)
    stops = stage.stop_tokens(tokenizer, checkpoint)
    decoding = Decoding(max_new_tokens=new_tokens, stops=stops, pad=tokenizer.pad_token_id)
    rows = stage.ask(list(read_examples(data)), tokenizer, decoding, {"slm": {}, "track": {}})
    return [row.request.prompt for row in rows], decoding
