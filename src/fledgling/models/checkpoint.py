"""A checkpoint's manifest: where it is, every file's size and digest, and what it is known by."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from fledgling import artefacts
from fledgling.errors import DataError
from fledgling.files import read_json, sha256_file
from fledgling.models import fingerprint, soundness, tensors

Source = Literal["embedded", "hub", "path"]
# What a model needs; no pickles, no code, nothing in folders.
PARTS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "*.jinja",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
# Weights in other layouts than the one that is loaded, and adapters.
OTHERS = ("consolidated*", "adapter_*", "optimizer*")


@dataclass(frozen=True, slots=True)
class File:
    """One file of a checkpoint: its name in the folder, its size in bytes, its sha256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint: the folder that holds it, where it came from, and what it is known by."""

    checkpoint: Path
    source: Source
    repo_id: str | None
    revision: str | None
    files: tuple[File, ...]
    architecture: str
    parameters: int
    chat_template_sha256: str | None
    fingerprint: str
    generated: bool


def parts(names: Iterable[str]) -> list[str]:
    """Which of the files in a checkpoint's folder belong to it, sorted."""
    return sorted(
        name
        for name in names
        if any(fnmatchcase(name, part) for part in PARTS)
        and "/" not in name
        and not any(fnmatchcase(name, other) for other in OTHERS)
    )


def describe(checkpoint: Path, *, source: Source, repo_id: str | None = None, revision: str | None = None) -> Model:
    """Read a whole checkpoint and say what it is.

    Raises:
        DataError: a file is missing, damaged, of other types or leads out of the folder, or a weight is infinite or
            NaN.
    """
    config = checkpoint / "config.json"
    if not config.is_file():
        raise DataError(f"{config}: no such file; a checkpoint has one (an adapter alone is none)")
    soundness.require_inside(checkpoint, parts(entry.name for entry in checkpoint.iterdir()))
    soundness.require_readable(checkpoint)
    found = tensors.of_checkpoint(checkpoint)
    for name, tensor in found.items():
        if not tensors.is_finite(tensor):
            raise DataError(f"{tensor.file}: tensor {name!r} holds infinite numbers or NaN; fetch it again")
    names = parts(entry.name for entry in checkpoint.iterdir() if entry.is_file())
    unused = {name for name in names if name.endswith(".safetensors")} - set(tensors.files(checkpoint))
    return Model(
        checkpoint=checkpoint,
        source=source,
        repo_id=repo_id,
        revision=revision,
        files=tuple(_file(checkpoint, name) for name in names if name not in unused),
        architecture=(read_json(config).get("architectures") or ["unknown"])[0],
        parameters=sum(tensor.numbers for tensor in found.values()),
        chat_template_sha256=fingerprint.chat_template(checkpoint),
        fingerprint=fingerprint.base(checkpoint),
        generated=source == "embedded",
    )


def write(path: Path, model: Model) -> None:
    """Publish the manifest; a checkpoint inside its folder is named relative to it, so both can move."""
    folder, checkpoint = path.parent.resolve(), model.checkpoint.resolve()
    inside = checkpoint.is_relative_to(folder)
    place = checkpoint.relative_to(folder) if inside else checkpoint
    row: artefacts.Model = {
        "format": "fledgling/model/1",
        "source": model.source,
        "repo_id": model.repo_id,
        "revision": model.revision,
        "files": [{"path": file.path, "bytes": file.bytes, "sha256": file.sha256} for file in model.files],
        "architecture": model.architecture,
        "parameters": model.parameters,
        "chat_template_sha256": model.chat_template_sha256,
        "fingerprint": model.fingerprint,
        "generated": model.generated,
        "path": place.as_posix(),
    }
    artefacts.write(artefacts.Model, path, row)


def load(path: Path, *, verify: bool = False) -> Model:
    """The checkpoint that a manifest describes; every file has its size, and with `verify` its sha256.

    Raises:
        DataError: this is no manifest, or a file is missing or not what it was; names it.
    """
    path = Path(path)
    model = _model(path.parent, artefacts.read(artefacts.Model, path))
    if odd := next((file.path for file in model.files if parts([file.path]) != [file.path]), None):
        raise DataError(f"{path}: names {odd!r}, which is no file of a checkpoint; {artefacts.remedy(path)}")
    soundness.require_inside(model.checkpoint, [file.path for file in model.files])
    for file in model.files:
        _check(path, model.checkpoint / file.path, file, verify)
    return model


def _model(folder: Path, row: artefacts.Model) -> Model:
    return Model(
        checkpoint=folder / row["path"],
        source=row["source"],
        repo_id=row["repo_id"],
        revision=row["revision"],
        files=tuple(File(**file) for file in row["files"]),
        architecture=row["architecture"],
        parameters=row["parameters"],
        chat_template_sha256=row["chat_template_sha256"],
        fingerprint=row["fingerprint"],
        generated=row["generated"],
    )


def _file(checkpoint: Path, name: str) -> File:
    path = checkpoint / name
    return File(name, path.stat().st_size, sha256_file(path))


def _check(manifest: Path, path: Path, file: File, verify: bool) -> None:
    remedy = f"delete {manifest} and build it again with: snakemake --cores all {manifest}"
    if not path.is_file():
        raise DataError(f"{path}: no such file, though {manifest} names it; {remedy}")
    if (size := path.stat().st_size) != file.bytes:
        raise DataError(f"{path}: has {size:,} bytes, not {file.bytes:,} as {manifest} says; {remedy}")
    if verify and sha256_file(path) != file.sha256:
        raise DataError(f"{path}: its bytes changed (sha256 is not what {manifest} says); {remedy}")
