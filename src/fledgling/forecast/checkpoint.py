"""A configured checkpoint as far as it is here already: its shape and size."""

from dataclasses import dataclass
from pathlib import Path

from fledgling.config import Config
from fledgling.errors import DataError
from fledgling.files import read_json
from fledgling.models import checkpoint, tensors
from fledgling.models.memory import Shape, parameters


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The configured checkpoint; without a shape, `text` says why nothing is known of its size."""

    text: str
    folder: Path | None = None
    shape: Shape | None = None
    model: checkpoint.Model | None = None


def find_checkpoint(config: Config, model: str, results: Path) -> Checkpoint:
    """A configured checkpoint where it lies already: built (its manifest exists), or a folder that is named."""
    given, path = config["models"][model], results / "models" / model / "manifest.json"
    folder = given["path"] if given["source"] == "path" else None
    try:
        if path.exists() and _is(built := checkpoint.load(path), given, folder):
            return _sized(path, built.checkpoint, built)
        if folder and Path(folder).is_dir():
            return _sized(Path(folder), Path(folder), None)
    except DataError as error:
        return Checkpoint(str(error))
    if folder:
        return Checkpoint(f"{folder}: no such folder; set models.{model}.path (SLM_MODEL_PATH for models.slm)")
    what = given["repo_id"] if given["source"] == "hub" else "the embedded checkpoint"
    verb = "fetched" if given["source"] == "hub" else "built"
    return Checkpoint(f"{what} is not {verb} yet: snakemake --cores 1 {path}, then ask again")


def _is(model: checkpoint.Model, given: Config, folder: str | None) -> bool:
    """Whether a checkpoint that was built is the one that is configured now."""
    if folder:
        return model.source == "path" and model.checkpoint.resolve() == Path(folder).resolve()
    names = (given["source"], given.get("repo_id"), given.get("revision"))
    return (model.source, model.repo_id, model.revision) == names


def _sized(place: Path, folder: Path, model: checkpoint.Model | None) -> Checkpoint:
    found = tensors.of_checkpoint(folder)
    config, counted = read_json(folder / "config.json"), sum(tensor.numbers for tensor in found.values())
    name = (config.get("architectures") or ["unknown"])[0]
    text = f"{place}: {name}, {counted:,} parameters"
    try:
        shape = Shape.of(config, tied="lm_head.weight" not in found)
    except DataError as error:
        return Checkpoint(f"{text}; memory is unknown: {error}", folder, None, model)
    if abs(parameters(shape) - counted) > counted // 100:
        known = f"memory is unknown: a decoder of Llama's shape and these sizes has {parameters(shape):,}"
        return Checkpoint(f"{text}; {known}", folder, None, model)
    return Checkpoint(text, folder, shape, model)
