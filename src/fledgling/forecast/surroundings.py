"""What a run would find around it: variables, disk, folders that lock, before anything is asked."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fledgling.config import MODEL_PATH, Config
from fledgling.errors import ConfigError
from fledgling.forecast import start
from fledgling.locks import lock

# Variables that a provider reads: those without which nothing can be asked, and those that may be left out.
VARIABLES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "azure": (("AZURE_ENDPOINT", "AZURE_DEPLOYMENT", "AZURE_API_KEY", "AZURE_API_VERSION"), ()),
    "openai": ((), ("OPENAI_API_KEY", "OPENAI_BASE_URL")),
    "simulated": ((), ()),
}
OTHERS = (MODEL_PATH, "HF_TOKEN", "HF_ENDPOINT", "CUDA_VISIBLE_DEVICES", "FLEDGLING_LOCKS")
SECRET = ("KEY", "TOKEN", "SECRET")
ROOM_BYTES = 2 << 30  # under this much free disk a run is warned about


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `problem` says what to do, None where all is well."""

    what: str
    said: str
    problem: str | None = None


def look(config: Config, *, results: Path) -> list[Finding]:
    """Everything around a run of this configuration."""
    return [*_variables(config), *_disks(config, results), *_locks(config, results)]


def masked(name: str, value: str) -> str:
    """A variable's value for people: of secrets only how long it is."""
    return f"set, {len(value)} characters" if any(part in name for part in SECRET) else value


def _variables(config: Config) -> Iterator[Finding]:
    provider = config["teacher"]["provider"]
    needed, optional = VARIABLES[provider]
    said = start.unset_variables(config)
    missing = [name for name in said if name]
    if "" in said:  # what is set is wrong, so that nobody knows yet what is missing
        yield Finding("teacher", "cannot be asked", said[""])
    for name in dict.fromkeys([*needed, *missing, *optional, *OTHERS]):
        value = os.environ.get(name)
        if not value:
            problem = f"set {', '.join(missing)} (teacher.provider is {provider})" if name in missing else None
            yield Finding(name, "not set", problem)
        elif not value.isascii() or value != value.strip():
            yield Finding(name, masked(name, value), f"{name} has spaces or quotes around it; set it again without")
        else:
            yield Finding(name, masked(name, value))


def _disks(config: Config, results: Path) -> Iterator[Finding]:
    for folder in dict.fromkeys([results, Path(config["journal"]), Path(tempfile.gettempdir())]):
        free = shutil.disk_usage(_existing(folder)).free
        problem = f"free some space for {folder}" if free < ROOM_BYTES else None
        yield Finding(f"disk of {folder}", f"{free / (1 << 30):.1f} GiB free", problem)


def _locks(config: Config, results: Path) -> Iterator[Finding]:
    for folder in dict.fromkeys([results, Path(config["journal"])]):
        yield _lock(folder)


def _lock(folder: Path) -> Finding:
    what, place = f"locks in {folder}", _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place) as stream:
            lock(stream.fileno(), place / "locks", f"put {folder} on a file system with locks (flock)")
    except PermissionError:
        return Finding(
            what, "cannot be written", f"make {place} writable for user {os.getuid()}, or use another folder"
        )
    except (ConfigError, OSError) as error:
        return Finding(what, "no", str(error))
    return Finding(what, "work")


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())
