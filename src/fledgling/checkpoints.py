"""Training checkpoints that are sealed when they are whole, and resumed only when they still are."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

from fledgling.errors import DataError
from fledgling.failpoints import failpoint
from fledgling.files import fsync_dir, read_json, sha256_file, write_json

log = logging.getLogger(__name__)

SEAL = "seal.json"
FORMAT = "fledgling/checkpoint/1"


def seal(folder: Path, run: str) -> None:
    """Make a checkpoint count: every file on disk first, then the seal with their digests.

    `run` names the training (its recipe, data, base and layout), so that no other one resumes from here.
    """
    failpoint("checkpoint.before_seal")
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL):
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        fsync_dir(path.parent)
    write_json(folder / SEAL, {"format": FORMAT, "run": run, "files": files})
    failpoint("checkpoint.after_seal")


def newest(folder: Path, run: str) -> Path | None:
    """The newest checkpoint of this training that verifies, or None.

    Torn ones (killed while they were written, or damaged since) are set aside under the name
    torn-…, where nothing reads them; those of another training are removed.
    """
    for path in sorted(folder.glob("checkpoint-*"), key=step, reverse=True):
        try:
            found = verify(path)
        except DataError as error:
            aside = path.with_name(f"torn-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            log.warning("%s; set aside as %s", error, aside.name)
            continue
        if found["run"] == run:
            return path
        log.info("%s is of another recipe, data or base; removed", path)
        shutil.rmtree(path)
    return None


def drop_older(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` sealed checkpoints."""
    sealed = sorted((path.parent for path in folder.glob(f"checkpoint-*/{SEAL}")), key=step, reverse=True)
    for path in sealed[keep:]:
        shutil.rmtree(path)


def verify(folder: Path) -> dict[str, Any]:
    """The seal of a whole checkpoint.

    Raises:
        DataError: no seal, or a file is missing or is not what was sealed.
    """
    if not (folder / SEAL).is_file():
        raise DataError(f"{folder}: not sealed, so it was never finished")
    manifest = read_json(folder / SEAL)
    for name, known in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != known["bytes"] or sha256_file(path) != known["sha256"]:
            raise DataError(f"{path}: missing or damaged since it was sealed")
    return manifest


def step(path: Path) -> int:
    """The step after which a checkpoint was written, by its name; -1 where it names none."""
    number = path.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1
