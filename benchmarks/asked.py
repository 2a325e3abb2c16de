"""The prompts of a file of rows, as the predict stage puts them to the slm."""

from pathlib import Path

from fledgling.slm.engine import Decoding


def prompts(model: Path, data: Path, new_tokens: int) -> tuple[list[list[int]], Decoding]:
    """Token ids of every row, and how the checkpoint's answers end."""
    from transformers import AutoTokenizer

    from fledgling.models import checkpoint
    from fledgling.prompting import template
    from fledgling.records import read_examples
    from fledgling.slm import answer

    folder = checkpoint.load(model).checkpoint
    tokenizer = AutoTokenizer.from_pretrained(folder.resolve(), local_files_only=True)
    chat = template.chat(tokenizer)
    stops = answer.stop_tokens(chat, folder)
    decoding = Decoding(max_new_tokens=new_tokens, stops=stops, pad=tokenizer.pad_token_id)
    rows, _ = answer.ask(list(read_examples(data)), chat, decoding, {"slm": {}, "track": {}})
    return [row.request.prompt for row in rows if row.request], decoding
