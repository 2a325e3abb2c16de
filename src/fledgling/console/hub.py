"""Uploads to the Hub: what may go, what would go, and the background jobs that bring it there.

A job is a folder .fledgling/uploads/{job}/ and a process of its own, which reads the token from its file: the token
is in no command line, no environment and no log, and the console may end meanwhile.
"""

import os
import re
import stat
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from fledgling import redaction
from fledgling.console.bodies import Upload
from fledgling.console.policy import Refused
from fledgling.console.reading import Object, items, loaded, obj, text, whole
from fledgling.console.runs import Runs, spawn, state_of
from fledgling.errors import ConfigError, DataError, FledglingError, Unavailable, UsageError
from fledgling.files import write_json
from fledgling.publishing import token as tokens

UPLOADS = Path(".fledgling/uploads")
ROOTS = (
    "results/adapters",
    "results/candidates",
    "results/data",
    "results/metrics",
    "results/report",
    "results/verdict",
)
OWNER = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
REPO = re.compile(rf"{OWNER}/{OWNER}")
PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*/?")
MOST_FILES = 5000
DEEPEST = 12
SETTLED_S = 2.0  # a file that changed later than this ago is still being written
PATIENCE_S = 20.0  # how long a request waits for its upload before it is told where to ask
KEPT = 30  # jobs that are listed


def check_repo(name: str) -> None:
    """Refuse what is no owner/name of the Hub.

    Raises:
        Refused: 400.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    well = bool(REPO.fullmatch(name)) and len(name) <= 96 and not re.search(r"\.git$|--|\.\.", name)
    try:
        validate_repo_id(name if well else "-")
    except HFValidationError:
        well = False
    if not well:
        raise Refused(400, "repo_id", "repoId must be owner/name (letters, digits, . _ -), at most 96 characters")


def allowed(root: Path, paths: list[str]) -> list[Path]:
    """The files and folders that paths name, all of them plain and inside the allowed folders.

    Raises:
        Refused: 400 outside allowed folders, missing, or with a link or a device in it.
    """
    found: list[Path] = []
    for path in paths:
        parts = path.split("/")
        if len(path) > 500 or not PATH.fullmatch(path) or ".." in parts:
            raise Refused(400, "outside", f"outside allowed folders; these are {', '.join(ROOTS)}")
        clean = path.rstrip("/")
        if not any(clean == top or clean.startswith(f"{top}/") for top in ROOTS):
            raise Refused(400, "outside", f"outside allowed folders; these are {', '.join(ROOTS)}")
        place = root
        for part in clean.split("/"):
            place = place / part
            if place.is_symlink():
                raise Refused(400, "link", f"{place.relative_to(root)} is a link, which is not followed")
        if not place.exists():
            raise Refused(400, "missing", f"{clean} is not there")
        found.append(place)
    strange: list[str] = []
    count = 0
    for place in found:
        count += _look(place, root, strange, 0)
    if strange:
        named = ", ".join(sorted(strange)[:10])
        raise Refused(400, "link", f"links, pipes and devices are not uploaded; take them out: {named}")
    if count > MOST_FILES:
        raise Refused(400, "too_many", f"more than {MOST_FILES} files")
    return found


def _look(place: Path, root: Path, strange: list[str], depth: int) -> int:
    mode = os.lstat(place).st_mode
    if stat.S_ISDIR(mode):
        if depth > DEEPEST:
            raise Refused(400, "too_deep", f"folders are more than {DEEPEST} deep")
        return sum(_look(Path(entry.path), root, strange, depth + 1) for entry in os.scandir(place))
    if not stat.S_ISREG(mode):
        strange.append(str(place.relative_to(root)))
    return 1


class Hub:
    """Uploads of a folder."""

    def __init__(self, root: Path, runs: Runs) -> None:
        self._root, self._runs = root, runs
        self._lock = threading.Lock()
        self._account: tuple[str | None, Object] = (None, {})

    def files(self, wanted: Upload) -> Object:
        """Exactly what an upload would send, and what it would leave here.

        Raises:
            Refused: 400 for a path or repository that is not allowed, a credential in a file, an adapter of a strange base.
        """
        from fledgling.integrity import refuse_edited
        from fledgling.publishing.files import select
        from fledgling.publishing.upload import refuse_secrets

        check_repo(wanted.repoId)
        places = allowed(self._root, wanted.paths)
        self._check_adapters(places)
        try:
            chosen = select(
                places, path_in_repo=wanted.pathInRepo, auto_subdir=wanted.autoSubdir, repo_type=wanted.repoType
            )
            kept = tokens.read(self._root)
            values = {**redaction.in_environment(os.environ), **({"the Hub token": kept} if kept else {})}
            refuse_secrets(chosen.files, values)
            refuse_edited(
                [file.content for file in chosen.files if isinstance(file.content, Path)], self._root / "results"
            )
        except (DataError, UsageError) as error:
            code = "secrets" if "credential" in str(error) else "files"
            raise Refused(400, code, self._plain(str(error))) from None
        except ConfigError as error:
            raise Refused(409, "token", str(error)) from None
        return {
            "files": [{"path": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in chosen.files],
            "leftOut": [os.path.relpath(path, self._root) for path in chosen.left_out],
            "bytes": sum(file.bytes for file in chosen.files),
        }

    def _plain(self, message: str) -> str:
        return message.replace(f"{self._root}/", "")

    def _check_adapters(self, places: list[Path]) -> None:
        for place in places:
            for config in [*place.rglob("adapter_config.json")] if place.is_dir() else []:
                base = text(loaded(config).get("base_model_name_or_path"))
                trained = text(obj(loaded(config.parent / "manifest.json").get("base")).get("name"))
                if not base or base != trained:
                    where = config.parent.relative_to(self._root)
                    raise Refused(
                        400,
                        "base",
                        f"{where}: adapter_config.json names another base than its manifest; train it again",
                    )

    def start(self, wanted: Upload) -> str:
        """Start an upload; the job's name.

        Raises:
            Refused: see `files`; 409 without a token, while another upload goes on, or while a run writes there.
        """
        check_repo(wanted.repoId)
        places = allowed(self._root, wanted.paths)
        try:
            if tokens.read(self._root) is None and not os.environ.get("HF_TOKEN"):
                raise Refused(409, "no_token", "no Hub token is set; set one first (POST /api/hf/token)")
        except ConfigError as error:
            raise Refused(409, "token", str(error)) from None
        listed = self.files(wanted)
        self._check_settled(places)
        with self._lock:
            if busy := next((job for job in self.jobs() if job["state"] == "running"), None):
                raise Refused(409, "busy", f"the upload {busy['job']} goes on; wait until it has ended")
            name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.urandom(3).hex()}"
            folder = self._root / UPLOADS / name
            folder.mkdir(parents=True)
            write_json(folder / "request.json", {**wanted.model_dump(), "files": listed["files"]})
            with open(folder / "log", "wb") as output:
                process = spawn(
                    [sys.executable, "-m", "fledgling.console.upload_job", str(folder)],
                    self._root,
                    output,
                    **_environment(),
                )
            threading.Thread(target=process.wait, daemon=True).start()
            for _ in range(100):  # the job writes down who it is
                if (folder / "job.json").exists() or process.poll() is not None:
                    break
                time.sleep(0.05)
        return name

    def _check_settled(self, places: list[Path]) -> None:
        active = self._runs.active()
        jobs = active.get("jobs") if active else None
        written = [
            text(target)
            for job in items(jobs)
            if obj(job).get("state") == "running"
            for target in items(obj(job).get("targets"))
        ]
        for place in places:
            name = str(place.relative_to(self._root))
            if any(target == name or target.startswith(f"{name}/") for target in written):
                raise Refused(409, "changing", f"{name}: a run is writing there; wait for it or stop it")
            newest = max((file.lstat().st_mtime for file in [place, *place.rglob("*")] if file.is_file()), default=0.0)
            if time.time() - newest < SETTLED_S:
                raise Refused(409, "changing", f"{name}: a file changed a moment ago; try again in a few seconds")

    def job(self, name: str) -> Object:
        """One upload: state running, done, failed or interrupted, and its result or error.

        Raises:
            Refused: 404.
        """
        folder = self._root / UPLOADS / name
        if not re.fullmatch(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}", name) or not folder.is_dir():
            raise Refused(404, "not_found", "no such upload")
        request, job = loaded(folder / "request.json"), loaded(folder / "job.json")
        state = text(job.get("state")) or ("running" if state_of(job) == "running" else "interrupted")
        return {
            "job": name,
            "state": state,
            "repoId": request.get("repoId"),
            "paths": request.get("paths"),
            "files": len(items(request.get("files"))),
            "start": job.get("start"),
            "result": job.get("result"),
            "error": job.get("error"),
            "code": job.get("code"),
        }

    def jobs(self) -> list[Object]:
        """The last uploads, the newest first."""
        try:
            names = sorted((entry.name for entry in os.scandir(self._root / UPLOADS)), reverse=True)
        except OSError:
            return []
        return [self.job(name) for name in names[:KEPT] if re.fullmatch(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}", name)]

    def token(self) -> Object:
        """Whether a token is set, and when; never the token."""
        at = tokens.updated_at(self._root)
        return {"hasToken": at is not None, "updatedAt": at}

    def account(self) -> Object:
        """Who the token belongs to, as far as the Hub has answered; asked in the background, never waited for."""
        at = tokens.updated_at(self._root)
        if at is None:
            return {"state": "none"}
        if self._account[0] != at:
            self._account = (at, {"state": "asking"})
            threading.Thread(target=self._ask, args=(at,), daemon=True).start()
        return self._account[1]

    def _ask(self, at: str) -> None:
        try:
            from huggingface_hub import HfApi

            kept = tokens.read(self._root)
            found = obj(HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=kept).whoami())
            role = text(obj(obj(found.get("auth")).get("accessToken")).get("role"))
            said: Object = {"state": "known", "name": text(found.get("name")), "role": role}
        except Exception as error:
            said = {"state": "unknown", "reason": type(error).__name__}  # its text may hold the request
        self._account = (at, said)


def _environment() -> dict[str, str]:
    """What an upload's process gets: this package, no telemetry, and the plain protocol where the Hub is another one."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    plain = "huggingface.co" not in os.environ.get("HF_ENDPOINT", "huggingface.co")
    return {"PYTHONPATH": path, "HF_HUB_DISABLE_TELEMETRY": "1", **({"HF_HUB_DISABLE_XET": "1"} if plain else {})}


def refusal(job: Object) -> Refused:
    """An upload that failed, as the answer to the request that waited for it."""
    code = whole(job.get("code"))
    message = text(job.get("error")) or "the upload ended without a word; its log lies in .fledgling/uploads"
    status, name = {
        ConfigError.exit_code: (403, "refused"),
        DataError.exit_code: (400, "files"),
        UsageError.exit_code: (400, "files"),
        Unavailable.exit_code: (503, "hub_unavailable"),
    }.get(code or 0, (500, "upload_failed"))
    return Refused(status, name, message, job=job["job"])


def error_of(error: Exception) -> tuple[str, int]:
    """What an upload says of the exception that ended it, and its code."""
    if isinstance(error, FledglingError):
        return str(error), error.exit_code
    return f"{type(error).__name__}: a fault of Fledgling itself", 1
