"""An adapter's manifest: what it was trained on, and the refusal to load it on anything else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledgling import artefacts
from fledgling.artefacts import JsonObject
from fledgling.errors import DataError
from fledgling.files import digest, publish, sha256_file, write_json
from fledgling.models import soundness
from fledgling.models.checkpoint import Model

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


def write_weights(model: Any, path: Path) -> None:
    """The adapter's weights in PEFT's format, in fp32 and in one order.

    Raises:
        DataError: a weight is not finite.
    """
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    weights = {
        name: tensor.detach().float().cpu().contiguous() for name, tensor in get_peft_model_state_dict(model).items()
    }
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{name}: a weight is not finite; lower recipe.learning_rate")
    with publish(path, "wb") as stream:
        stream.write(save(dict(sorted(weights.items())), metadata={"format": "pt"}))


def write_config(model: Any, base: str, path: Path) -> None:
    """The adapter's configuration in PEFT's format, without this machine's paths and in one order."""
    config = model.peft_config["default"].to_dict()
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in sorted(config.items())}
    write_json(path, config | {"base_model_name_or_path": base, "inference_mode": True})


def seal(folder: Path, *, track: str, model: Model, data: dict[str, str], recipe: JsonObject, backend: str) -> None:
    """Write the manifest of weights and their configuration, after both."""
    manifest: artefacts.Adapter = {
        "format": "fledgling/adapter/1",
        "track": track,
        "files": _files(folder, WEIGHTS, CONFIG),
        "base": {
            "name": name_of(model),
            "fingerprint": model.fingerprint,
            "chat_template_sha256": model.chat_template_sha256,
        },
        "data": data,
        "recipe": recipe,
        "backend": backend,
    }
    artefacts.write(artefacts.Adapter, folder / MANIFEST, manifest)


def keep(folder: Path, manifest: artefacts.Adapter) -> None:
    """Write the manifest of an adapter that was chosen, after all its files: the candidate's, and training.json."""
    kept: artefacts.Adapter = {**manifest, "files": manifest["files"] | _files(folder, TRAINING)}
    artefacts.write(artefacts.Adapter, folder / MANIFEST, kept)


def _files(folder: Path, *names: str) -> dict[str, artefacts.AdapterFile]:
    return {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)} for name in names}


def verified(path: Path) -> artefacts.Adapter:
    """An adapter's manifest, all of whose files are there and undamaged.

    Raises:
        DataError: no adapter's manifest; a file is missing or damaged.
    """
    manifest = artefacts.read(artefacts.Adapter, path)
    for name, known in manifest["files"].items():
        file = path.parent / name
        if not file.is_file():
            raise DataError(f"{file}: missing, though {path.name} lists it; {artefacts.remedy(file)}")
        if file.stat().st_size != known["bytes"] or sha256_file(file) != known["sha256"]:
            raise DataError(
                f"{file}: edited or damaged, its sha256 is not the one in {path.name}; {artefacts.remedy(file)}"
            )
    return manifest


def load(path: Path, model: Model) -> Adapter:
    """The adapter of a manifest (results/adapters/{track}/manifest.json), for the model that it was trained on.

    Nothing is looked up on the network.

    Raises:
        DataError: no adapter's manifest; a file is missing or damaged; it was trained on another base or with
            another chat template; its tensors do not fit the base, or are not finite.
    """
    manifest = verified(path)
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
    soundness.require_inside(path.parent, [WEIGHTS, CONFIG])
    soundness.require_matching(path.parent / WEIGHTS, model.checkpoint)
    return Adapter(folder=path.parent, digest=digest([manifest["files"][name]["sha256"] for name in (WEIGHTS, CONFIG)]))
