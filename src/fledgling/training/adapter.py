"""An adapter's manifest: what it was trained on, and the refusal to load it on anything else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledgling.errors import DataError
from fledgling.files import digest, read_json, sha256_file, write_json
from fledgling.models.manifest import Model

FORMAT = "fledgling/adapter/1"
MANIFEST = "manifest.json"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
TRAINING = "training.json"


@dataclass(frozen=True, slots=True)
class Adapter:
    """A verified adapter: its folder, and a digest of the files that decide what it answers."""

    folder: Path
    digest: str


def name_of(model: Model) -> str:
    """What a checkpoint is called in predictions and manifests: its Hub repository, or its folder's name."""
    return model.repo_id or ("embedded" if model.generated else model.checkpoint.resolve().name)


def seal(folder: Path, *, track: str, model: Model, data: dict[str, str], recipe: dict[str, Any], backend: str) -> None:
    """Write the manifest of a finished adapter, the last of its files."""
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
        for name in (WEIGHTS, CONFIG, TRAINING)
    }
    manifest = {
        "format": FORMAT,
        "track": track,
        "files": files,
        "base": {
            "name": name_of(model),
            "fingerprint": model.fingerprint,
            "chat_template_sha256": model.chat_template_sha256,
        },
        "data": data,
        "recipe": recipe,
        "backend": backend,
    }
    write_json(folder / MANIFEST, manifest)


def load(path: Path, model: Model) -> Adapter:
    """The adapter of a manifest (results/adapters/{track}/manifest.json), for the model that it was trained on.

    Nothing is looked up on the network.

    Raises:
        DataError: no adapter's manifest; a file is missing or damaged; it was trained on another base or with
            another chat template.
    """
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path}: not the manifest of an adapter ({FORMAT}); train it again")
    folder = path.parent
    for name, known in manifest["files"].items():
        file = folder / name
        if not file.is_file():
            raise DataError(f"{file}: missing, though {path.name} lists it; train the adapter again")
        if file.stat().st_size != known["bytes"] or sha256_file(file) != known["sha256"]:
            raise DataError(f"{file}: damaged, its sha256 is not the one in {path.name}; train the adapter again")
    base = manifest["base"]
    if base["fingerprint"] != model.fingerprint:
        raise DataError(
            f"{path}: the adapter was trained on {base['name']} (fingerprint {base['fingerprint'][:12]}) and does not "
            f"fit {name_of(model)} (fingerprint {model.fingerprint[:12]}); train it again on this base"
        )
    if base["chat_template_sha256"] != model.chat_template_sha256:
        raise DataError(
            f"{path}: the adapter was trained with another chat template (sha256 "
            f"{str(base['chat_template_sha256'])[:12]}) than {name_of(model)} has now "
            f"({str(model.chat_template_sha256)[:12]}); restore the template, or train it again"
        )
    return Adapter(folder=folder, digest=digest([manifest["files"][name]["sha256"] for name in (WEIGHTS, CONFIG)]))
