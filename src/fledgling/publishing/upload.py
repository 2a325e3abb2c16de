"""One atomic commit on the Hugging Face Hub, made only where something is missing."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx
from huggingface_hub import CommitOperationAdd, HfApi, get_token, set_client_factory
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._http import default_client_factory
from huggingface_hub.utils.tqdm import disable_progress_bars

from fledgling import redaction
from fledgling.artefacts import HubMarker, MadeFrom
from fledgling.errors import ConfigError, DataError, FledglingError, Unavailable
from fledgling.publishing import token as tokens
from fledgling.publishing.files import File, copied, records
from fledgling.secrets import scan

MOVED = frozenset({409, 412})  # somebody else committed
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
TIMEOUT = httpx.Timeout(300, connect=15)  # huggingface_hub's own client waits for ever
PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
PATHS_A_REQUEST = 500  # the Hub refuses more than 1,000
T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """Where an upload goes. `repo_id` is owner/name; without an owner, the token's user."""

    repo_id: str
    repo_type: str = "model"
    private: bool = True
    revision: str | None = None


@dataclass(frozen=True)
class Landed:
    """What is on the Hub: a commit that holds every file, and the names that this call sent (none: a no-op)."""

    repo_id: str
    commit: str
    private: bool
    sent: tuple[str, ...]


def upload(files: Sequence[File], target: Target, message: str, *, token: str | None = None) -> Landed:
    """Bring files to the Hub in one commit; what is there already is not sent again.

    Each file is opened once and copied to a place without a name; the copy is looked through for credentials, and the
    copy is what is sent, whatever happens to the file meanwhile. The token is the one given, HF_TOKEN, the one that the console keeps for this folder, or the stored login; the
    endpoint is HF_ENDPOINT. A repository that does not
    exist is created. A commit whose reply is lost, or that meets somebody else's, is looked for
    before it is tried once more.

    Raises:
        ConfigError: no token or a refused one, no right to write, or the repository is public and
            `target.private`; unless it turned public during the upload, nothing was sent.
        DataError: a file holds a credential (nothing was sent), or did not arrive as it is here.
        Unavailable: the Hub cannot be reached, is overloaded or full; the same call goes on from there.
    """
    token = token or os.environ.get("HF_TOKEN") or tokens.read(Path.cwd()) or get_token()
    values = {**redaction.in_environment(os.environ), **({"the Hub login": token} if token else {})}
    with ExitStack() as stack:
        copies = [copied(file, stack) for file in files]
        refuse_secrets(copies, values)
        if token is None:
            raise ConfigError("no Hub token: set HF_TOKEN, set one in the console, or log in with: hf auth login")
        return _upload(copies, target, message, token)


def _upload(files: Sequence[File], target: Target, message: str, token: str) -> Landed:
    with _explained(target, token):
        api = _connect(token)
        if "/" not in target.repo_id:
            target = Target(
                f"{api.whoami()['name']}/{target.repo_id}", target.repo_type, target.private, target.revision
            )
        _ensure_repository(api, target)
        commit, sent = _land(api, target, files, message)
        private = _visibility(api, target)
    if target.private and not private:
        raise ConfigError(f"{target.repo_id} turned public during the upload; {_make_private(target)} now")
    return Landed(target.repo_id, commit, private, tuple(file.name for file in sent))


def refuse_secrets(files: Sequence[File], values: Mapping[str, str]) -> None:
    """Look for credentials in what would be sent.

    Raises:
        DataError: names file, line and kind of every credential (up to ten), never its value.
    """
    found = [finding for file in files for finding in scan(file.content, values, _origin(file))]
    if found:
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        raise DataError(
            f"credentials in files to upload, nothing was sent: {'; '.join(map(str, found[:10]))}{more}. "
            "Remove them (and revoke what was exposed), then run the same command"
        )


def marker(
    landed: Landed,
    target: Target,
    files: Sequence[File],
    *,
    path_in_repo: str | None,
    manifest: str | None,
    made_from: MadeFrom,
) -> HubMarker:
    """The record of an upload; `manifest` is the sha256 of the adapter's manifest."""
    return {
        "format": "fledgling/hub/1",
        "made_from": made_from,
        "repo_id": landed.repo_id,
        "repo_type": target.repo_type,
        "path_in_repo": path_in_repo,
        "commit": landed.commit,
        "manifest_sha256": manifest,
        "files": records(files),
        "private": landed.private,
    }


def _origin(file: File) -> str:
    if isinstance(file.content, bytes):
        return f"{file.name} (generated)"
    return os.path.relpath(file.origin or file.content)


def _connect(token: str) -> HfApi:
    def client() -> httpx.Client:
        made = default_client_factory()
        made.timeout = TIMEOUT
        hooks = made.event_hooks
        made.event_hooks = {**hooks, "response": [*hooks.get("response", []), _stay]}
        return made

    set_client_factory(client)
    if not sys.stderr.isatty():
        disable_progress_bars()
    return HfApi(endpoint=_endpoint(), token=token, library_name="fledgling")


def _stay(response: httpx.Response) -> None:
    """Nothing that was written to one host is written to another because of what a reply says.

    Raises:
        ConfigError: a redirect that would take a body along.
    """
    asked = response.request
    if response.has_redirect_location and asked.method not in ("GET", "HEAD"):
        to = asked.url.join(response.headers["Location"])
        if (to.host, to.scheme) != (asked.url.host, asked.url.scheme) or to.port != asked.url.port:
            raise ConfigError(
                f"{asked.url.host} answers a {asked.method} with a redirect to another host ({to.host}), which is not "
                "followed; check HF_ENDPOINT"
            )


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _ensure_repository(api: HfApi, target: Target) -> None:
    try:
        private = _visibility(api, target)
    except RepositoryNotFoundError as error:
        if error.response.status_code != 404:
            raise
        api.create_repo(
            target.repo_id,
            repo_type=target.repo_type,
            private=target.private,
            exist_ok=True,
            space_sdk="gradio" if target.repo_type == "space" else None,
        )
        private = _visibility(api, target)
    # Asking for a private repository does not change one that exists.
    if target.private and not private:
        raise ConfigError(
            f"{target.repo_id} exists and is public, and a private repository is wanted; nothing was uploaded. "
            f"{_make_private(target)}, choose another repo_id, or publish in public (publish.private: false, --public)"
        )
    if not target.private and private:
        log.warning("%s exists and is private; it stays private", target.repo_id)
    if target.revision is not None:
        try:
            api.repo_info(target.repo_id, repo_type=target.repo_type, revision=target.revision)
        except RevisionNotFoundError:
            api.create_branch(target.repo_id, repo_type=target.repo_type, branch=target.revision, exist_ok=True)


def _visibility(api: HfApi, target: Target) -> bool:
    return _patiently(lambda: api.repo_info(target.repo_id, repo_type=target.repo_type)).private is True


def _make_private(target: Target) -> str:
    kind = "" if target.repo_type == "model" else f" --type {target.repo_type}"
    return f"make it private (hf repos settings {target.repo_id}{kind} --private)"


def _land(api: HfApi, target: Target, files: Sequence[File], message: str) -> tuple[str, list[File]]:
    head, missing = _compare(api, target, files)
    sent = missing
    retried = False
    while missing:
        try:
            made = api.create_commit(
                target.repo_id,
                repo_type=target.repo_type,
                revision=target.revision,
                parent_commit=head,
                operations=[CommitOperationAdd(file.name, file.content) for file in missing],
                commit_message=message,
            )
        except (HfHubHTTPError, httpx.TransportError) as error:
            if not _at_commit(error) or _status(error) not in {*MOVED, *TRANSIENT, None}:
                raise
            time.sleep(_pause(error))
            head, missing = _compare(api, target, files)
            if missing and retried:
                raise
            retried = True
            continue
        except (RuntimeError, PermissionError, ConnectionError) as error:  # what upload threads and hf_xet raise
            raise explain(error, target, _endpoint()) from error
        if lost := _missing(api, target, files, made.oid):
            raise DataError(
                f"{', '.join(file.name for file in lost)}: not on {target.repo_id} after commit {made.oid[:10]} as it is "
                "here; the file changed during the upload (run the same command), or the repository's .gitignore leaves it out"
            )
        return made.oid, sent
    return head, sent


def _compare(api: HfApi, target: Target, files: Sequence[File]) -> tuple[str, list[File]]:
    info = _patiently(lambda: api.repo_info(target.repo_id, repo_type=target.repo_type, revision=target.revision))
    assert info.sha is not None
    return info.sha, _missing(api, target, files, info.sha)


def _missing(api: HfApi, target: Target, files: Sequence[File], commit: str) -> list[File]:
    there: dict[str, RepoFile] = {}
    names = [file.name for file in files]
    for start in range(0, len(names), PATHS_A_REQUEST):
        ask = partial(
            api.get_paths_info,
            target.repo_id,
            names[start : start + PATHS_A_REQUEST],
            repo_type=target.repo_type,
            revision=commit,
        )
        there |= {entry.path: entry for entry in _patiently(ask) if isinstance(entry, RepoFile)}
    return [file for file in files if not _same(file, there.get(file.name))]


def _same(file: File, entry: RepoFile | None) -> bool:
    if entry is None or entry.size != file.bytes:
        return False
    return entry.lfs.sha256 == file.sha256 if entry.lfs else entry.blob_id == file.git_oid


def _patiently(read: Callable[[], T]) -> T:
    """Call something that only reads, which huggingface_hub tries once; up to three times while the Hub gives out."""
    for doubling in range(2):
        try:
            return read()
        except (HfHubHTTPError, httpx.TransportError) as error:
            if _status(error) not in {*TRANSIENT, None} or isinstance(error, httpx.UnsupportedProtocol):
                raise
            time.sleep(_pause(error) * 2**doubling)
    return read()


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def _status(error: BaseException) -> int | None:
    """HTTP status of a failure, None where no reply arrived; huggingface_hub wraps what an upload thread raised."""
    return next((e.response.status_code for e in _chain(error) if isinstance(e, HfHubHTTPError)), None)


def _at_commit(error: HfHubHTTPError | httpx.TransportError) -> bool:
    """Whether the commit itself failed; what comes before it, huggingface_hub has tried several times."""
    request = error.response.request if isinstance(error, HfHubHTTPError) else error.request
    return "/commit/" in request.url.path


def _pause(error: BaseException) -> float:
    status = _status(error)
    if status in MOVED:
        return 0.0
    for cause in _chain(error):
        if isinstance(cause, HfHubHTTPError) and (wait := cause.response.headers.get("Retry-After", "")).isdecimal():
            return min(float(wait), LONGEST_PAUSE_S)
    return PAUSE_S


@contextmanager
def _explained(target: Target, token: str) -> Iterator[None]:
    """Every failure as an error of one line, without the token, even where a reply quotes it whole, in part or coded."""
    try:
        yield
    except (
        FledglingError,
        httpx.HTTPError,
        httpx.InvalidURL,
        OfflineModeIsEnabled,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        AssertionError,
        RuntimeError,
    ) as error:
        told = error if isinstance(error, FledglingError) else explain(error, target, _endpoint(), token)
        words = redaction.redacted(str(told), [token], "<the token>")
        if told is error and words == str(told):
            raise
        raise type(told)(words) from None


def explain(error: Exception, target: Target, endpoint: str, token: str = "") -> FledglingError:
    """The one-line cause of a failed upload, and what to do, as the error to raise; foreign words lose the token first."""

    def line(text: str, most: int) -> str:
        return " ".join(redaction.redacted(text, [token], "<the token>").split())[:most]

    own = next((e for e in _chain(error) if isinstance(e, FledglingError)), None)
    if own is not None:
        return own
    status = _status(error)
    name = target.repo_id
    if status is not None:
        http = next(e for e in _chain(error) if isinstance(e, HfHubHTTPError))
        said = line((http.server_message or "").partition("\n")[0], 200).rstrip(".")
        reply = f"{status}: {said}" if said else str(status)
        if status == 401:
            return ConfigError(
                f"the Hub does not accept the token ({reply}): set HF_TOKEN to a valid one, or log in with: hf auth login"
            )
        if status in (402, 403) and any(word in said.lower() for word in ("storage", "quota", "limit")):
            return Unavailable(
                f"{name}: the Hub has no room for this upload ({reply}); free some, then run the same command"
            )
        if status in (402, 403):
            return ConfigError(
                f"{name}: this token may not write there ({reply}); set HF_TOKEN to one with write access"
            )
        if status == 404:
            where = f" at revision {target.revision}" if target.revision else ""
            return ConfigError(
                f"{name}: no such {target.repo_type} repository{where} for this token ({reply}); "
                "check repo_id, or the token's rights"
            )
        if status in MOVED:
            return Unavailable(
                f"{name}: somebody else keeps changing the repository ({reply}); run the same command again"
            )
        if status == 413:
            return DataError(f"{name}: too large for one commit ({reply}); publish fewer or smaller files")
        if status in TRANSIENT or status >= 500:
            return Unavailable(f"{name}: the Hub gives out ({reply}); the same command goes on from here")
        # create_commit has the Hub check a card first, and says why in its own words.
        why = line(str(error), 300) if str(error).startswith("Invalid metadata") else reply
        return DataError(f"{name}: the Hub refuses the upload ({why})")
    known = (OfflineModeIsEnabled, HFValidationError, httpx.HTTPError, httpx.InvalidURL, json.JSONDecodeError)
    cause = next((e for e in _chain(error) if isinstance(e, known)), error)
    first = line(str(cause).partition("\n")[0], 200) or type(cause).__name__
    if isinstance(cause, OfflineModeIsEnabled):
        return ConfigError("HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it")
    if isinstance(cause, HFValidationError):
        return ConfigError(f"repo_id {name}: {first}")
    if isinstance(cause, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return ConfigError(f"HF_ENDPOINT {endpoint}: {first}")
    if isinstance(cause, PermissionError):
        return ConfigError(f"{name}: this token may not write there ({first}); set HF_TOKEN to one with write access")
    broken = (httpx.HTTPError, json.JSONDecodeError, RuntimeError, KeyError, TypeError, AttributeError, AssertionError)
    if isinstance(cause, (*broken, OSError)):
        return Unavailable(
            f"{endpoint}: no usable reply ({type(cause).__name__}: {first}); the same command goes on from here"
        )
    return DataError(f"{name}: {line(str(cause), 300)}")
