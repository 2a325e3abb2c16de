"""Brings a checkpoint here: from the Hugging Face Hub, from a folder, or trained on the spot."""

import hashlib
import logging
import os
import re
from pathlib import Path
from typing import Any

from fledgling.errors import ConfigError, DataError, FledglingError, Unavailable
from fledgling.files import sha256_file
from fledgling.models import checkpoint
from fledgling.models.checkpoint import Model
from fledgling.models.offline import importing, offline_and_quiet
from fledgling.models.soundness import said
from fledgling.progress import ByteBar, emit
from fledgling.prompting.template import Chat

log = logging.getLogger(__name__)


def fetch(settings: dict[str, Any], out: Path, *, seed: int) -> Model:
    """Bring the checkpoint that a block `models.<name>` of the configuration describes, and publish its manifest.

    What is downloaded or trained goes to the folder `checkpoint` beside the manifest `out`; a
    download that was broken off goes on. Adapters under `merge` are merged into it, in the folder `merged`.
    The manifest comes last, so its existence means that all is here.

    Raises:
        ConfigError: the folder or the repository does not exist, or access is refused.
        Unavailable: the Hub does not answer; the same command goes on.
        DataError: the checkpoint is incomplete, damaged, or has no safetensors.
    """
    folder = out.parent / "checkpoint"
    source = settings["source"]
    if source == "path":
        model = from_path(Path(settings["path"]))
    elif source == "hub":
        model = from_hub(settings["repo_id"], settings["revision"], folder)
    else:
        model = embedded(folder, seed=seed, steps=settings.get("steps"))
    if chain := settings.get("merge"):
        from fledgling.models.merge import merge

        model = merge(model, [Path(place) for place in chain], out.parent / "merged")
    checkpoint.write(out, model)
    return model


def embedded(folder: Path, *, seed: int, steps: int | None = None) -> Model:
    """Train the embedded checkpoint into a folder."""
    with importing():
        from fledgling.embedded import pretrain

    pretrain.build(folder, seed=seed, steps=steps or pretrain.STEPS)
    return checkpoint.describe(folder, source="embedded")


def from_path(folder: Path) -> Model:
    """Describe a checkpoint where it lies.

    Raises:
        ConfigError: there is no such folder.
        DataError: it holds no whole safetensors checkpoint.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; set models.slm.path or SLM_MODEL_PATH to a checkpoint's")
    names = [entry.name for entry in folder.iterdir()]
    _require_safetensors(str(folder), names)
    log.warning("%s: nothing vouches for these files; from now on the manifest does", folder)
    model = checkpoint.describe(folder, source="path")
    require_usable(folder)
    return model


def from_hub(repo_id: str, revision: str, folder: Path) -> Model:
    """Download one commit of a Hub repository into a folder, which then holds exactly its files.

    Goes on with files that were broken off. Every file is checked against the digest that the Hub
    gives; one that differs is downloaded once more. HF_ENDPOINT and HF_TOKEN are honoured.

    Raises:
        ConfigError: no such repository or commit, or access is refused.
        Unavailable: the Hub does not answer, or this process is offline.
        DataError: the repository has no safetensors, or a file arrives damaged twice.
    """
    import httpx
    from huggingface_hub import HfApi, errors, hf_hub_url
    from huggingface_hub.hf_api import RepoFile

    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ConfigError(f"models: revision {revision!r} of {repo_id} moves; give a commit (40 hexadecimal digits)")
    endpoint = os.environ.get("HF_ENDPOINT")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        tree = HfApi(endpoint=endpoint).list_repo_tree(repo_id, recursive=True, revision=revision)
        listed = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
        _require_safetensors(f"{repo_id} at {revision}", list(listed))
        wanted = checkpoint.parts(listed)
        for name in wanted:
            if not _is_whole(folder / name, listed[name]):
                _download(hf_hub_url(repo_id, name, revision=revision, endpoint=endpoint), listed[name], folder / name)
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, httpx.HTTPError) as error:
        raise _explain(error, f"{repo_id} at {revision}") from error
    for entry in folder.iterdir():
        if entry.is_file() and entry.name not in wanted:
            entry.unlink()  # left by another revision or source
    model = checkpoint.describe(folder, source="hub", repo_id=repo_id, revision=revision)
    require_usable(folder)
    return model


def _download(url: str, entry: Any, target: Path) -> None:
    """Bring one file here under its name once it is whole; what a killed download left is used.

    huggingface_hub's own download starts such a file again, and these are gigabytes.
    """
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    headers = build_hf_headers() | {"Accept-Encoding": "identity"}  # ranges count the file's own bytes
    part = target.with_name(f".{target.name}.{entry.blob_id}.part")
    for _ in range(2):
        with open(part, "ab") as stream:
            if stream.tell() > entry.size:
                stream.truncate(0)
            here = stream.tell()
            if 0 < here < entry.size:
                words = f"{target.name}: goes on at {here / 1e6:,.1f} of {entry.size / 1e6:,.1f} MB"
                log.info(words)
                emit("note", message=words)
            if here < entry.size:
                http_get(
                    url,
                    stream,
                    resume_size=here,
                    headers=headers,
                    displayed_filename=target.name,
                    tqdm_class=ByteBar,  # type: ignore[arg-type]
                )
        if _is_whole(part, entry):
            part.replace(target)
            return
        words = f"{target.name}: not what the Hub lists, so it starts over"
        log.warning(words)
        part.unlink()
    raise DataError(f"{target}: arrives damaged from {url}; try again, or another HF_ENDPOINT")


def _require_safetensors(place: str, names: list[str]) -> None:
    if any(name.endswith(".safetensors") for name in checkpoint.parts(names)):
        return
    if any(name.endswith((".bin", ".pt", ".pth", ".gguf")) for name in names):
        raise DataError(f"{place}: has weights, but not as safetensors; other formats are not read, convert them")
    raise DataError(f"{place}: no weights (*.safetensors) are there")


def _is_whole(path: Path, entry: Any) -> bool:
    """Whether a file has the size and digest that the Hub lists: sha256 in LFS, else git's blob id."""
    if not path.is_file() or path.stat().st_size != entry.size:
        return False
    if entry.lfs is not None:
        return sha256_file(path) == entry.lfs.sha256
    blob = hashlib.sha1(b"blob %d\0" % entry.size + path.read_bytes(), usedforsecurity=False)
    return blob.hexdigest() == entry.blob_id


def _explain(error: Exception, name: str) -> FledglingError:
    """The stop that a failure of the Hub means, for the repository of this name."""
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return Unavailable(
            f"{name}: HF_HUB_OFFLINE is set; unset it, or point SLM_MODEL_PATH to a folder that holds the checkpoint"
        )
    if isinstance(error, errors.GatedRepoError):
        return ConfigError(f"{name}: gated; accept its terms on its page and set HF_TOKEN to a token of that account")
    if isinstance(error, errors.RevisionNotFoundError):
        return ConfigError(f"{name}: no such commit; check models.slm.revision")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ConfigError(f"{name}: no such repository, or a private one; check models.slm.repo_id, or set HF_TOKEN")
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if status in (401, 403):
        return ConfigError(f"{name}: access refused ({status}); set HF_TOKEN to a token that may read it")
    if status is not None and status < 500 and status != 429:
        return ConfigError(f"{name}: the Hub refuses ({status}); check models.slm.repo_id and revision")
    said = f"answered {status}" if status else f"does not answer ({type(error).__name__}: {error})"
    return Unavailable(f"{name}: the Hub {said}; the same command goes on from here")


def require_usable(folder: Path) -> None:
    """Refuse a checkpoint that transformers cannot make a chat model of.

    Its tokenizer loads, its chat template renders a question and an answer within its sandbox, and its weights are
    those, all and of the shapes, that its config.json describes. No weight is read.

    Raises:
        DataError: names the file.
        ConfigError: there is no chat template.
    """
    offline_and_quiet()
    with importing():
        import transformers
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    where = folder.resolve()
    with said(folder / "config.json", "no configuration of a model that is known here"):
        AutoConfig.from_pretrained(where, local_files_only=True)
    with said(folder / "tokenizer.json", "no tokenizer that can be used"):
        tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=True)
        tokenizer("Hello", add_special_tokens=False)
    try:
        Chat(tokenizer)
    except DataError as error:
        raise DataError(f"{folder}: {error}; mend chat_template.jinja, or take another checkpoint") from None
    transformers.logging.disable_progress_bar()
    with said(folder / "config.json", "no model that these weights fit"):
        _, found = AutoModelForCausalLM.from_pretrained(
            where, device_map="meta", dtype="auto", local_files_only=True, output_loading_info=True
        )
    if missing := sorted(found["missing_keys"]):
        raise DataError(
            f"{folder}: {len(missing)} weights that config.json describes are in no file, {missing[0]} first; they "
            "would be drawn at random. Fetch it again, or take another checkpoint"
        )
    if unused := sorted(found["unexpected_keys"]):
        log.warning("%s: %d tensors are not used by the model, %s first", folder, len(unused), unused[0])
