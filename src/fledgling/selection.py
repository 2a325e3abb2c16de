"""Which small model a folder works on: the catalog of models, the choice among them, and what it does to the configuration.

Both files lie in the folder of the project: config/model_catalog.json is written by people, model_selection.json by
whoever chooses. Without a selection the configuration stands as it is.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypedDict, cast, get_args

from fledgling import strict_json
from fledgling.errors import ConfigError, DataError
from fledgling.files import copy_file, sha256_file, write_json

MODEL = "slm"  # the model that contenders have unless they name another, and the section on how they answer
CATALOG = Path("config/model_catalog.json")
SELECTION = Path("model_selection.json")
LAST = Path(".fledgling/model_selection.json")  # the last selection that was whole
BASES = Path(".fledgling/bases")  # adapters that were selected, as they were then: training writes over the others

Source = Literal["huggingface", "local_adapter", "local"]
KEYS = {"id", "label", "source", "modelId", "revision", "path", "base", "steps", "description", "default"}
NEEDED = {"huggingface": ("modelId", "revision"), "local_adapter": ("path", "base"), "local": ()}
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
COMMIT = re.compile(r"[0-9a-f]{40}")
LONGEST = {"label": 200, "description": 2000, "path": 500}
MOST = 1000  # entries that are read
LARGEST = 4 << 20  # bytes of either file
ADAPTER = ("adapter_model.safetensors", "adapter_config.json", "manifest.json")
FURTHER = ("training.json",)  # kept with it where it is there


class Choice(TypedDict):
    """model_selection.json: what was chosen, and when."""

    modelId: str
    selectedAt: str


@dataclass(frozen=True)
class Entry:
    """One model of the catalog. `problem` says why it cannot be chosen; empty where it can."""

    id: str
    label: str
    source: Source
    model_id: str | None = None
    """Hub repository, owner/name."""
    revision: str | None = None
    """Its commit."""
    path: str | None = None
    """Folder of a checkpoint or an adapter, inside the project."""
    base: str | None = None
    """Id of the entry that an adapter was trained on."""
    steps: int | None = None
    """Training steps of the embedded checkpoint; an entry of source `local` without a path is the embedded one."""
    description: str | None = None
    default: bool = False
    problem: str = ""

    @property
    def location(self) -> str:
        """Where the model is."""
        if self.source == "huggingface":
            return f"{self.model_id}@{(self.revision or '')[:12]}"
        return self.path or "made by this project (embedded)"


@dataclass(frozen=True)
class Catalog:
    """The models that can be chosen, and what is wrong with the file."""

    entries: dict[str, Entry] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selected:
    """The choice in force, and what is wrong with the file; no choice leaves the configuration as it is."""

    choice: Choice | None = None
    problem: str = ""


def read_catalog(root: Path) -> Catalog:
    """The catalog of a folder; entries that cannot be used are kept with their problem, a broken file has none.

    Raises:
        ConfigError: the file is no JSON array.
    """
    if not (root / CATALOG).exists():
        return Catalog()
    value = _read(root / CATALOG)
    if isinstance(value, dict) and isinstance(value.get("models"), list):
        value = value["models"]
    if not isinstance(value, list):
        raise ConfigError(f"{CATALOG}: a list of models is expected; see docs/console.md for an entry")
    entries: dict[str, Entry] = {}
    problems: list[str] = []
    for number, item in enumerate(value[:MOST], start=1):
        if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not ID.fullmatch(item["id"]):
            problems.append(f"entry {number}: no usable id (letters, digits, . _ -, at most 80)")
        elif item["id"] in entries:
            problems.append(f"entry {number}: the id {item['id']} is taken by an entry above; this one is left out")
        else:
            entries[item["id"]] = _entry(item)
    if len(value) > MOST:
        problems.append(f"{len(value):,} entries; the first {MOST:,} are read")
    checked = {name: _checked(entry, entries, root) for name, entry in entries.items()}
    return Catalog(checked, tuple(problems))


def _entry(item: Mapping[str, object]) -> Entry:
    problems = [f"unknown key {str(key)[:40]!r}" for key in item if key not in KEYS]

    def text(key: str) -> str | None:
        value = item.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            problems.append(f"{key} must be a text")
            return None
        most = LONGEST.get(key, 200)
        if len(value) > most:
            problems.append(f"{key} is longer than {most} characters")
        return value[:most]

    name = str(item["id"])
    source = item.get("source")
    if source not in get_args(Source):
        problems.append(f"source must be one of {', '.join(get_args(Source))}")
        source = "local"
    steps = item.get("steps")
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
        problems.append("steps must be a whole number from 1")
        steps = None
    if not isinstance(item.get("default", False), bool):
        problems.append("default must be true or false")
    for key in NEEDED[str(source)]:
        if not item.get(key):
            problems.append(f"{key} is missing")
    made = Entry(
        name,
        text("label") or name,
        cast("Source", source),
        text("modelId"),
        text("revision"),
        text("path"),
        text("base"),
        steps,
        text("description"),
        item.get("default") is True,
    )
    if made.source == "huggingface" and made.model_id and not REPO.fullmatch(made.model_id):
        problems.append("modelId must be owner/name")
    if made.source == "huggingface" and made.revision and not COMMIT.fullmatch(made.revision):
        problems.append("revision must be a commit (40 hexadecimal digits); a branch moves")
    return _with(made, "; ".join(problems))


def _with(entry: Entry, problem: str) -> Entry:
    return Entry(**{**entry.__dict__, "problem": problem})


def _checked(entry: Entry, entries: Mapping[str, Entry], root: Path) -> Entry:
    """The entry with what this folder has to say about it."""
    if entry.problem or entry.source == "huggingface" or not entry.path:
        return entry
    if entry.source == "local":
        found = inside(root, entry.path)
        there = found is not None and found.is_dir()
        return entry if there else _with(entry, f"{entry.path}: no such folder in this project")
    base = entries.get(entry.base or "")
    if base is None or base.source == "local_adapter" or base.problem:
        return _with(entry, f"base {entry.base!r} is no usable checkpoint of this catalog")
    try:
        check_adapter(adapter_folder(root, entry.path), base, root)
    except (ConfigError, DataError) as error:
        return _with(entry, str(error))
    return entry


def inside(root: Path, path: str) -> Path | None:
    """A path of the project, resolved; None where it leads out of the folder, also through a link."""
    try:
        found = (root / path).resolve()
        found.relative_to(root.resolve())
    except (ValueError, OSError, RuntimeError):
        return None
    return None if os.path.isabs(path) else found


def adapter_folder(root: Path, path: str) -> Path:
    """The folder that holds an adapter's files: `path`, or the one folder in it that does.

    Raises:
        ConfigError: there is none yet, or it lies elsewhere.
    """
    folder = inside(root, path)
    if folder is None:
        raise ConfigError(f"{path}: leads out of this project")
    if not (folder / ADAPTER[-1]).is_file():
        below = sorted(place.parent for place in folder.glob(f"*/{ADAPTER[-1]}"))
        if len(below) > 1:
            named = ", ".join(place.name for place in below)
            raise ConfigError(f"{path}: several adapters are there ({named}); name one of them in {CATALOG}")
        if not below:
            raise ConfigError(f"{path}: no adapter is there yet; train it first")
        folder = below[0]
    return folder


def check_adapter(folder: Path, base: Entry, root: Path) -> None:
    """Refuse an adapter that is not whole, or not of this base.

    Raises:
        ConfigError: a file is missing.
        DataError: it is of another base.
    """
    for name in ADAPTER:
        if not (folder / name).is_file():
            raise ConfigError(f"{folder.name}: {name} is missing; train the adapter again")
    named = _text(_read(folder / "adapter_config.json"), "base_model_name_or_path")
    block = _read(folder / "manifest.json")
    trained = block.get("base") if isinstance(block, dict) else None
    expected = (
        {base.model_id} if base.source == "huggingface" else {"embedded" if not base.path else Path(base.path).name}
    )
    if named not in expected or _text(trained, "name") not in expected:
        raise DataError(f"the adapter was trained on {str(named)[:80]!r}, not on {base.id} ({base.location})")


def _text(value: object, key: str) -> str | None:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def read_selection(root: Path) -> Selected:
    """The selection of a folder; where its file is broken, the last one that was whole, with the problem."""
    try:
        return Selected(_choice(root / SELECTION))
    except FileNotFoundError:
        return Selected()
    except (ConfigError, OSError) as error:
        problem = f"{error}; the last whole selection stays in force"
    try:
        return Selected(_choice(root / LAST), problem)
    except (ConfigError, OSError):
        return Selected(None, problem.replace("the last whole selection stays in force", "there is no earlier one"))


def _choice(path: Path) -> Choice:
    if not path.exists():
        raise FileNotFoundError(path)
    value = _read(path)
    if not isinstance(value, dict):
        raise ConfigError(f'{path.name}: expected {{"modelId": …, "selectedAt": …}}')
    model, at = value.get("modelId"), value.get("selectedAt")
    if not isinstance(model, str) or not ID.fullmatch(model):
        raise ConfigError(f"{path.name}: modelId is not the id of a model")
    return Choice(modelId=model, selectedAt=at if isinstance(at, str) else "")


def select(root: Path, model_id: str) -> Choice:
    """Choose a model of the catalog: written whole or not at all, and kept as the last good one.

    An adapter's files are copied aside first, so that training may write over the ones it was chosen from.

    Raises:
        KeyError: no such model in the catalog.
        ConfigError: it cannot be chosen now; the selection stays.
    """
    catalog = read_catalog(root)
    entry = catalog.entries[model_id]
    if entry.problem:
        raise ConfigError(entry.problem)
    if entry.source == "local_adapter":
        _keep_adapter(root, entry)
    choice = Choice(modelId=model_id, selectedAt=datetime.now(UTC).isoformat(timespec="milliseconds"))
    write_json(root / LAST, choice)
    write_json(root / SELECTION, choice)
    return choice


def _keep_adapter(root: Path, entry: Entry) -> None:
    """Copy the adapter aside, to .fledgling/bases/{id}-{digest}, and note the chain of adapters that make its model.

    The chain is the adapter alone, or, where it was trained on a model into which others were merged, those before it.
    """
    source = adapter_folder(root, entry.path or "")
    kept = BASES / f"{entry.id}-{sha256_file(source / ADAPTER[0])[:12]}"
    if not (root / kept / ADAPTER[-1]).is_file():
        (root / kept).mkdir(parents=True, exist_ok=True)
        for name in (*(name for name in FURTHER if (source / name).is_file()), *ADAPTER):  # the manifest comes last
            copy_file(source / name, root / kept / name)
    now = _merged_now(root) if _trained_on_now(root, source) else []
    chain = [place for place in now if place != str(kept)] + [str(kept)]
    write_json(root / BASES / f"{entry.id}.json", {"merge": chain})


def _merged_now(root: Path) -> list[str]:
    """The adapters that are merged into the model that is selected now."""
    choice = read_selection(root).choice
    return _chain(root, choice["modelId"]) if choice else []


def _chain(root: Path, model_id: str) -> list[str]:
    try:
        found = _read(root / BASES / f"{model_id}.json")
    except ConfigError:
        return []
    chain = found.get("merge") if isinstance(found, dict) else None
    return [str(place) for place in chain] if isinstance(chain, list) else []


def _trained_on_now(root: Path, adapter: Path) -> bool:
    """Whether an adapter was trained on the very model that lies in results/models/slm."""
    try:
        model = _read(root / "results/models/slm/manifest.json")
        block = _read(adapter / ADAPTER[-1])
    except ConfigError:
        return False
    trained = _text(block.get("base"), "fingerprint") if isinstance(block, dict) else None
    return trained is not None and trained == _text(model, "fingerprint")


def model_block(entry: Entry, entries: Mapping[str, Entry], root: Path) -> dict[str, object]:
    """The block `models.slm` of the configuration that an entry stands for.

    Raises:
        ConfigError: the copy of a selected adapter is gone.
    """
    if entry.source == "huggingface":
        return {"source": "hub", "repo_id": entry.model_id, "revision": entry.revision}
    if entry.source == "local_adapter":
        chain = _chain(root, entry.id)
        if not chain or not all((root / place / ADAPTER[-1]).is_file() for place in chain):
            raise ConfigError(f"{SELECTION}: the copy of {entry.id} in {BASES} is gone; choose it again")
        return {**model_block(entries[entry.base or ""], entries, root), "merge": chain}
    if entry.path:
        return {"source": "path", "path": entry.path}
    return {"source": "embedded", **({"steps": entry.steps} if entry.steps else {})}


def apply(config: Mapping[str, object], root: Path) -> dict[str, object]:
    """The configuration with the selected model as `models.slm`; as it is where nothing was selected.

    Raises:
        ConfigError: the selection or the catalog cannot be used; says what to do.
    """
    chosen = read_selection(root)
    if chosen.choice is None:
        return dict(config)
    catalog = read_catalog(root)
    name = chosen.choice["modelId"]
    entry = catalog.entries.get(name)
    if entry is None:
        raise ConfigError(f"{SELECTION}: no model {name!r} in {CATALOG}; choose another, or delete the file")
    if entry.problem and entry.source != "local_adapter":  # the copy of an adapter outlives what it was made from
        raise ConfigError(f"{SELECTION}: {name} cannot be used: {entry.problem}; choose another, or delete the file")
    models = config.get("models")
    block = model_block(entry, catalog.entries, root)
    return {**config, "models": {**(models if isinstance(models, dict) else {}), MODEL: block}}


def matching(config: Mapping[str, object], catalog: Catalog, root: Path) -> str | None:
    """The id of the entry that the configuration itself names; None where none does."""
    models = config.get("models")
    block = models.get(MODEL) if isinstance(models, dict) else None
    for entry in catalog.entries.values():
        if not entry.problem and entry.source != "local_adapter" and model_block(entry, catalog.entries, root) == block:
            return entry.id
    return None


def _read(path: Path) -> object:
    """A JSON file, read strictly.

    Raises:
        ConfigError: it is missing, too large, or no JSON.
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path.name}: {error.strerror}") from None
    if len(data) > LARGEST:
        raise ConfigError(f"{path.name}: larger than {LARGEST >> 20} MiB")
    try:
        return strict_json.loads(data.decode("utf-8"))
    except (ValueError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path.name}: not JSON ({error})") from None
