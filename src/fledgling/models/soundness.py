"""Whether a checkpoint can be used as it is: said when it enters the graph, with the file, and not by a stage later.

Files come from people who are not known. They are read inside their folder only, parsed as data, and nothing in
them is run; the chat template, which is a program, runs in its sandbox.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fledgling.errors import DataError, FledglingError
from fledgling.models import tensors

log = logging.getLogger(__name__)

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

JSON_LIMIT = 1 << 28  # bytes; the largest tokenizer.json known has 33 MB
OBJECTS = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json")
# What has to be of a type where config.json says it; the rest is the architecture's own to judge.
TYPES: dict[str, tuple[type, ...]] = {
    "model_type": (str,),
    "rope_scaling": (dict,),
    "rope_parameters": (dict,),
    "quantization_config": (dict,),
    "text_config": (dict,),
    "max_position_embeddings": (int,),
    "vocab_size": (int,),
    "hidden_size": (int,),
    "num_hidden_layers": (int,),
}


def require_inside(folder: Path, names: list[str]) -> None:
    """Refuse files that lie elsewhere: links are followed only within the folder, or a Hub cache's own store.

    Raises:
        DataError: a file leads out of the folder; names it and where it leads.
    """
    home = folder.resolve()
    roots = [home]
    if home.parent.name == "snapshots":  # huggingface_hub's cache: its snapshots link to the repository's blobs
        roots.append(home.parent.parent / "blobs")
    for name in names:
        try:
            place = (folder / name).resolve()
        except (OSError, RuntimeError):
            raise DataError(f"{folder / name}: a link that leads to itself; put the file itself there") from None
        if not any(place.is_relative_to(root) for root in roots):
            raise DataError(
                f"{folder / name}: leads out of the checkpoint's folder, to {place}; put the file itself there"
            )


def require_readable(folder: Path) -> None:
    """Refuse JSON of a checkpoint that is no JSON or of other types than anything could use.

    Raises:
        DataError: names the file and the key.
    """
    config = _object(folder / "config.json")
    for key, types in TYPES.items():
        value = config.get(key)
        if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
            raise DataError(
                f"{folder / 'config.json'}: {key} is {type(value).__name__}, not {types[0].__name__}; fetch it again"
            )
    named = config.get("architectures")
    if named is not None and not (isinstance(named, list) and named and all(isinstance(one, str) for one in named)):
        raise DataError(f"{folder / 'config.json'}: architectures is no list of names; fetch it again")
    for name in OBJECTS:
        if (folder / name).is_file():
            _object(folder / name)
    _require_templates(folder)


def require_matching(weights: Path, base: Path) -> None:
    """Refuse an adapter whose tensors do not fit into a base, or are not finite.

    Raises:
        DataError: names the file and the tensor.
    """
    modules = {name.rpartition(".")[0]: tensor.shape for name, tensor in tensors.of_checkpoint(base).items()}
    found = tensors.of_file(weights)
    if not found:
        raise DataError(f"{weights}: holds no tensor; train the adapter again")
    for tensor in found:
        if not tensors.is_finite(tensor):
            raise DataError(f"{weights}: tensor {tensor.name!r} holds infinite numbers or NaN; train the adapter again")
        module, _, part = tensor.name.removeprefix("base_model.model.").partition(".lora_")
        shape = next((modules[name] for name in _names(module) if name in modules), None)
        if not part or shape is None:
            raise DataError(
                f"{weights}: tensor {tensor.name!r} belongs to no module of {base}, so it would change nothing; train "
                "the adapter again on this base"
            )
        side = 1 if part.startswith("A") else 0
        if len(shape) == len(tensor.shape) == 2 and tensor.shape[side] != shape[side]:
            raise DataError(
                f"{weights}: tensor {tensor.name!r} is of shape {list(tensor.shape)} and does not fit "
                f"{list(shape)} of {base}; train the adapter again on this base"
            )


def _names(module: str) -> Iterator[str]:
    """The names under which a checkpoint may hold a module: models that were wrapped have more or fewer prefixes."""
    yield module
    yield module.removeprefix("model.")
    yield f"model.{module}"
    yield module.replace("model.", "model.language_model.", 1)


def _require_templates(folder: Path) -> None:
    own = folder / "chat_template.jinja"
    if own.is_file():
        try:
            own.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{own}: not UTF-8 at byte {error.start}; fetch it again") from None
        return
    config = folder / "tokenizer_config.json"
    template = _object(config).get("chat_template") if config.is_file() else None
    named = isinstance(template, list) and all(
        isinstance(one, dict) and isinstance(one.get("template"), str) and isinstance(one.get("name"), str)
        for one in template
    )
    if template is not None and not isinstance(template, str) and not named:
        raise DataError(f"{config}: chat_template is neither a text nor a list of named ones; fetch it again")


def _object(path: Path) -> dict[str, Json]:
    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        if (size := path.stat().st_size) > JSON_LIMIT:
            raise DataError(f"{path}: has {size:,} bytes, more than any that is known; fetch it again")
        value = json.loads(path.read_bytes().decode("utf-8"), parse_constant=constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{path}: not JSON ({reason}); fetch it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); fetch it again") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds {type(value).__name__}, not an object; fetch it again")
    return value


@contextmanager
def said(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a model library raises over damaged files into words; a panic of its Rust parts is no Exception."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, FledglingError, MemoryError):
        raise
    except BaseException as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise DataError(f"{path}: {what} ({reason}); fetch it again, or take another checkpoint") from None
