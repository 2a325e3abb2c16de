"""How long rows are in tokens, as each stage makes them."""

import contextlib
from pathlib import Path

from fledgling.config import SLM, Config
from fledgling.errors import FledglingError
from fledgling.forecast.checkpoint import Checkpoint
from fledgling.prompting.turns import schema_place
from fledgling.records import read_examples


def longest(
    split: str, limit: int, key: str, track: str, config: Config, results: Path, checkpoint: Checkpoint
) -> tuple[int, str]:
    """(tokens of the longest row of train, or of the longest prompt of val or test, where that number is from).

    `limit` is the most that the stage takes, by the configuration's `key`.
    """
    data = results / "data" / track / f"{split}.jsonl"
    if checkpoint.model is None or not data.exists():
        return limit, f"{key}; {data} or the checkpoint is not built"
    try:
        lengths = [n for n in row_lengths(data, checkpoint.model.checkpoint, config, track, split) if n <= limit]
    except FledglingError as error:
        return limit, f"{key}, as {error}"
    return (max(lengths), f"the longest of {data}") if lengths else (limit, key)


def row_lengths(data: Path, folder: Path, config: Config, track: str, split: str) -> list[int]:
    """Tokens of each row as the stage makes them: prompts with their completions of train, prompts of val and test."""
    from fledgling.models.offline import importing, offline_and_quiet

    offline_and_quiet()
    with importing():
        from transformers import AutoTokenizer

    from fledgling.prompting import template
    from fledgling.training import tokens

    tokenizer = AutoTokenizer.from_pretrained(folder.resolve(), local_files_only=True)
    chat = template.chat(tokenizer, config[SLM].get("tool_dialect", "auto"))
    schema = schema_place(config["tracks"][track].get("prompt", {}))
    if split == "train":
        whole = tokens.encode(read_examples(data), tokenizer, chat=chat, schema=schema, max_length=10**9)
        return [len(row.input_ids) for row in whole.rows]
    texts = []
    for example in read_examples(data):
        with contextlib.suppress(template.Refused):  # an outcome of its own when it is asked
            texts.append(chat.prompt(example, schema=schema))
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []
