"""Digests that tell checkpoints apart whatever they are called: what an adapter's base is known by."""

import hashlib
import re
from pathlib import Path

from fledgling.errors import DataError
from fledgling.files import Object, digest, read_json, sha256_file
from fledgling.models import tensors

# Keys of config.json that say who wrote the file and how to run it, not what the model computes.
BYSTANDERS = frozenset(
    {
        "_name_or_path",
        "_attn_implementation",
        "_attn_implementation_autoset",
        "auto_map",
        "dtype",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "return_dict",
        "output_attentions",
        "output_hidden_states",
    }
)
ROTARY = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt")


def base(checkpoint: Path) -> str:
    """The fingerprint of a checkpoint as the base of adapters: a sha256 (hex).

    Of what config.json means, of the tokenizer, and of every tensor outside the middle layers: the
    embedding, the first and the last layer, the final norm and the head. The same for the same
    weights under another name, in other shards or in another folder; another for fewer layers,
    another revision, another family. Reads those tensors only.

    Raises:
        DataError: a file is missing or damaged.
    """
    found = tensors.of_checkpoint(checkpoint)
    layers = [int(match[1]) for name in found if (match := LAYER.search(name))]
    ends = {min(layers), max(layers)} if layers else set()

    def counts(name: str) -> bool:
        match = LAYER.search(name)
        return match is None or int(match[1]) in ends

    return digest(
        {
            "config": _meaning(read_json(checkpoint / "config.json")),
            "layers": len(set(layers)),
            "tensors": {
                name: [tensor.dtype, list(tensor.shape), tensors.sha256(tensor)]
                for name, tensor in found.items()
                if counts(name)
            },
            "tokenizer": _tokenizer(checkpoint),
        }
    )


def chat_template(checkpoint: Path) -> str | None:
    """sha256 (hex) of the text of the chat template; None where the checkpoint has none.

    The same whether the template lies in its own file or inside tokenizer_config.json.

    Raises:
        DataError: tokenizer_config.json is not JSON.
    """
    own = checkpoint / "chat_template.jinja"
    if own.is_file():
        return hashlib.sha256(own.read_bytes()).hexdigest()
    config = checkpoint / "tokenizer_config.json"
    template = read_json(config).get("chat_template") if config.is_file() else None
    if isinstance(template, list):  # several, by name
        template = next((entry["template"] for entry in template if entry.get("name") == "default"), digest(template))
    return hashlib.sha256(template.encode()).hexdigest() if template else None


def _meaning(config: Object) -> Object:
    """config.json without bystanders and nulls, the rotary settings in one place (transformers 5 moved them)."""
    meaning = {key: value for key, value in config.items() if key not in BYSTANDERS and value is not None}
    rotary = {**(meaning.pop("rope_scaling", None) or {}), **(meaning.pop("rope_parameters", None) or {})}
    rotary["rope_type"] = rotary.pop("type", None) or rotary.get("rope_type", "default")
    for key in ROTARY:
        if key in meaning:
            rotary.setdefault(key, meaning.pop(key))
            meaning.pop(key, None)
    return {**meaning, "rotary": rotary}


def _tokenizer(checkpoint: Path) -> dict[str, str]:
    """Digests of the files that say how text becomes tokens, without how batches are padded and cut."""
    core = checkpoint / TOKENIZER[0]
    if core.is_file():
        content = read_json(core)
        return {"tokenizer": digest({key: content[key] for key in content if key not in ("padding", "truncation")})}
    found = {name: sha256_file(checkpoint / name) for name in TOKENIZER if (checkpoint / name).is_file()}
    if not found:
        raise DataError(f"{checkpoint}: no tokenizer is there ({', '.join(TOKENIZER[:2])})")
    return found
