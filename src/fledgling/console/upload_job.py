"""One upload in a process of its own: python -m fledgling.console.upload_job FOLDER, started by the console."""

import json
import os
import resource
import socket
import sys
import time
from pathlib import Path

from fledgling import artefacts
from fledgling.console.bodies import Upload
from fledgling.console.hub import allowed, error_of
from fledgling.console.reading import Object, obj
from fledgling.errors import ConfigError, DataError
from fledgling.files import write_json
from fledgling.graph.driver import identity
from fledgling.locks import lock as locked
from fledgling.progress import now
from fledgling.publishing import token as tokens


def main(folder: Path) -> int:
    """Upload what a job's folder asks for; its job.json says how it ended."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no memory of this process reaches a file
    os.environ.pop("HF_DEBUG", None)
    record: Object = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "driver": identity(os.getpid()),
        "start": now(),
    }
    write_json(folder / "job.json", record)
    began = time.monotonic()
    try:
        result = _upload(folder, began)
        write_json(folder / "job.json", {**record, "state": "done", "end": now(), "result": result})
    except Exception as error:
        message, code = error_of(error)
        write_json(folder / "job.json", {**record, "state": "failed", "end": now(), "error": message, "code": code})
        return code
    return 0


def _upload(folder: Path, began: float) -> Object:
    from fledgling.integrity import refuse_edited
    from fledgling.publishing.files import select
    from fledgling.publishing.upload import Target, marker, upload

    root = folder.parents[2]
    asked = obj(json.loads((folder / "request.json").read_bytes()))
    listed = asked.pop("files")
    request = Upload.model_validate(asked)
    lock = open(folder.parent / "lock", "a")  # noqa: SIM115, held until the process ends
    if not locked(lock.fileno(), folder.parent / "lock", "run the console in a folder on another disk"):
        raise ConfigError("another upload of this folder goes on; wait until it has ended")
    places = allowed(root, request.paths)
    chosen = select(places, path_in_repo=request.pathInRepo, auto_subdir=request.autoSubdir, repo_type=request.repoType)
    now_there = [{"path": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in chosen.files]
    if now_there != listed:
        raise DataError("the files changed after they were listed; nothing was sent, look at the list again")
    refuse_edited([file.content for file in chosen.files if isinstance(file.content, Path)], root / "results")
    target = Target(request.repoId, request.repoType, request.private, request.branch)
    landed = upload(chosen.files, target, request.commitMessage, token=tokens.read(root))
    made = marker(landed, target, chosen.files, path_in_repo=request.pathInRepo, manifest=None, made_from={})
    artefacts.write(artefacts.HubMarker, folder / "marker.json", made)
    kind = "datasets/" if request.repoType == "dataset" else ""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return {
        "repoId": landed.repo_id,
        "repoType": request.repoType,
        "private": landed.private,
        "paths": [file.name for file in chosen.files],
        "commit": landed.commit,
        "url": f"{endpoint}/{kind}{landed.repo_id}",
        "durationMs": round(1000 * (time.monotonic() - began)),
    }


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
