"""A local server that speaks the Hugging Face Hub's protocol, with faults on demand.

It serves what huggingface_hub's client uses to create repositories, upload (preupload, LFS batch,
PUT, verify, commit as NDJSON), list and download. Repositories live in memory; every request is
recorded. `Hub.fail` makes chosen requests fail, before or after they took effect; `Hub.hold` stops
one until it is released, for tests that kill a client at a known point.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".bin", ".parquet", ".gguf", ".arrow")
TOKEN = "hub-test-token-1"  # of a user who may write
READER = "hub-test-token-2"  # of a user who may only read


@dataclass(frozen=True)
class Blob:
    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self) -> str:
        data = self.content
        if self.lfs:
            data = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(data)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Commit:
    oid: str
    title: str
    tree: dict[str, Blob]


@dataclass
class Repo:
    id: str
    type: str
    private: bool
    branches: dict[str, list[Commit]] = field(default_factory=dict)

    def commit(self, branch: str, title: str, tree: dict[str, Blob]) -> Commit:
        history = self.branches.setdefault(branch, [])
        seed = json.dumps([self.id, branch, len(history), title, {name: blob.oid for name, blob in tree.items()}])
        history.append(Commit(hashlib.sha1(seed.encode()).hexdigest(), title, tree))
        return history[-1]

    def find(self, revision: str) -> Commit | None:
        if revision in self.branches:
            return self.branches[revision][-1]
        commits = (commit for history in self.branches.values() for commit in history)
        return next((commit for commit in commits if commit.oid == revision), None)

    @property
    def files(self) -> dict[str, bytes]:
        return {name: blob.content for name, blob in self.branches["main"][-1].tree.items() if name != ".gitattributes"}

    @property
    def commits(self) -> list[str]:
        """Titles on main, oldest first, without the commit that created the repository."""
        return [commit.title for commit in self.branches["main"][1:]]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes
    authorization: str | None


@dataclass
class Fault:
    method: str
    path: re.Pattern[str]
    status: int
    times: int
    after: bool
    drop: bool
    headers: Mapping[str, str]
    error: str
    body: Any


class Reply(Exception):
    def __init__(self, status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, dict(headers or {})


def refusal(status: int, message: str, code: str | None = None) -> Reply:
    headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return Reply(status, {"error": message}, headers)


class Hub:
    """The server; `with Hub() as hub: hub.url`."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.users = {TOKEN: ("org", True), READER: ("reader", False)}
        self.ignored: set[str] = set()  # paths that the server's .gitignore leaves out
        self._faults: list[Fault] = []
        self._holds: list[tuple[str, re.Pattern[str], threading.Event, threading.Event]] = []
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for _, _, _, release in self._holds:
            release.set()
        self._server.shutdown()
        self._server.server_close()

    def create(self, repo_id: str, *, private: bool = True, repo_type: str = "model", files: Any = None) -> Repo:
        """Make a repository, as its first commit does on the Hub (with a .gitattributes)."""
        repo = self.repos[(repo_type, repo_id)] = Repo(repo_id, repo_type, private)
        tree = {".gitattributes": Blob(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", False)}
        repo.commit("main", "initial commit", tree)
        if files:
            blobs = {name: Blob(content, name.endswith(LFS_SUFFIXES)) for name, content in files.items()}
            repo.commit("main", "files", tree | blobs)
        return repo

    def repo(self, repo_id: str, repo_type: str = "model") -> Repo:
        return self.repos[(repo_type, repo_id)]

    def fail(
        self,
        method: str,
        path: str,
        status: int = 500,
        *,
        times: int = 1_000_000,
        after: bool = False,
        drop: bool = False,
        headers: Mapping[str, str] | None = None,
        error: str = "simulated fault",
        body: Any = None,
    ) -> None:
        """Answer requests whose path (with query) matches with `status`, or by closing the connection (`drop`).

        `body` is the reply's, bytes as they are; default is {"error": `error`}. `after`: only once the
        request has taken effect, as when a reply is lost.
        """
        self._faults.append(Fault(method, re.compile(path), status, times, after, drop, headers or {}, error, body))

    def recover(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def hold(self, method: str, path: str) -> tuple[threading.Event, threading.Event]:
        """Stop matching requests before they take effect; returns (reached, release)."""
        reached, release = threading.Event(), threading.Event()
        self._holds.append((method, re.compile(path), reached, release))
        return reached, release

    def count(self, method: str, path: str) -> int:
        """How many requests matched."""
        return sum(r.method == method and re.search(path, r.path) is not None for r in self.requests)

    @property
    def writes(self) -> list[Request]:
        """Requests that carry content or change something."""
        return [r for r in self.requests if r.method not in ("GET", "HEAD") and "paths-info" not in r.path]

    def _fault(self, method: str, path: str, after: bool) -> Fault | None:
        with self.lock:
            for fault in self._faults:
                if (
                    fault.times > 0
                    and fault.after == after
                    and fault.method == method
                    and (fault.path.search(path) is not None)
                ):
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _serve(self) -> None:
        try:
            self._answer_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _answer_request(self) -> None:
        body = self._body()
        self.hub.requests.append(Request(self.command, self.path, body, self.headers.get("Authorization")))
        for method, pattern, reached, release in self.hub._holds:
            if method == self.command and pattern.search(self.path):
                reached.set()
                release.wait(30)
        if (fault := self.hub._fault(self.command, self.path, after=False)) is not None:
            return self._break(fault)
        try:
            with self.hub.lock:
                reply = Reply(200, self._route(body))
        except Reply as raised:
            reply = raised
        if (fault := self.hub._fault(self.command, self.path, after=True)) is not None:
            return self._break(fault)
        return self._send(reply)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _break(self, fault: Fault) -> None:
        if fault.drop:
            self.close_connection = True
            return
        headers = {"X-Error-Message": fault.error, **fault.headers}
        body = {"error": fault.error} if fault.body is None else fault.body
        self._send(Reply(fault.status, body, headers))

    def _send(self, reply: Reply) -> None:
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in ({"Content-Type": "application/json"} | reply.headers).items():
            self.send_header(name, value)
        if "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # Who asks

    def _user(self) -> tuple[str, bool] | None:
        header = self.headers.get("Authorization")
        if header is None:
            return None
        user = self.hub.users.get(header.removeprefix("Bearer "))
        if user is None:
            raise refusal(401, "Invalid credentials in Authorization header")
        return user

    def _writer(self) -> None:
        user = self._user()
        if user is None:
            raise refusal(401, "Invalid username or password.")
        if not user[1]:
            raise refusal(403, "Forbidden: you must use a write token to write to this repository.")

    def _repo(self, kind: str, repo_id: str) -> Repo:
        user = self._user()
        repo = self.hub.repos.get((kind.removesuffix("s"), repo_id))
        if repo is None or (repo.private and user is None):
            raise refusal(401 if user is None else 404, "Repository not found", "RepoNotFound")
        return repo

    @staticmethod
    def _commit(repo: Repo, revision: str) -> Commit:
        commit = repo.find(unquote(revision))
        if commit is None:
            raise refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # What is asked

    def _route(self, body: bytes) -> Any:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        for method, pattern, action in ROUTES:
            match = pattern.fullmatch(url.path)
            if match and method == ("GET" if self.command == "HEAD" else self.command):
                return getattr(self, action)(body=body, query=query, **match.groupdict())
        raise refusal(404, f"No such route: {self.command} {self.path}")

    def counts(self, body: bytes, query: Any) -> Any:
        totals: dict[str, int] = {}
        for request in self.hub.requests:
            key = f"{request.method} {urlsplit(request.path).path}"
            totals[key] = totals.get(key, 0) + 1
        return totals

    def whoami(self, body: bytes, query: Any) -> Any:
        user = self._user()
        if user is None:
            raise refusal(401, "Invalid username or password.")
        role = "write" if user[1] else "read"
        return {"type": "user", "name": user[0], "orgs": [], "auth": {"accessToken": {"role": role}}}

    def validate_yaml(self, body: bytes, query: Any) -> Any:
        import yaml

        content = json.loads(body)["content"]
        block = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
        try:
            metadata = yaml.safe_load(block[1]) if block else {}
        except yaml.YAMLError as error:
            raise Reply(400, {"errors": [{"message": str(error)}], "warnings": []}) from None
        errors = [
            {"message": f'"model-index[0].results[{i}].{key}" is required'}
            for i, result in enumerate((metadata.get("model-index") or [{}])[0].get("results", []))
            for key in ("task", "dataset", "metrics")
            if key not in result
        ]
        if errors:
            raise Reply(400, {"errors": errors, "warnings": []})
        return {"errors": [], "warnings": []}

    def create_repo(self, body: bytes, query: Any) -> Any:
        self._writer()
        wanted = json.loads(body)
        user = self._user()
        assert user is not None
        repo_id = f"{wanted.get('organization') or user[0]}/{wanted['name']}"
        repo_type = wanted.get("type") or "model"
        url = f"{self.hub.url}/{'' if repo_type == 'model' else repo_type + 's/'}{repo_id}"
        if (repo_type, repo_id) in self.hub.repos:
            raise Reply(409, {"error": "You already created this repo", "url": url})
        self.hub.create(repo_id, private=wanted.get("visibility") == "private", repo_type=repo_type)
        return {"url": url, "name": repo_id}

    def repo_info(self, body: bytes, query: Any, kind: str, repo_id: str, revision: str = "main") -> Any:
        repo = self._repo(kind, repo_id)
        commit = self._commit(repo, revision)
        siblings = [
            {"rfilename": name}
            | ({"size": len(blob.content), "blobId": blob.oid} if "blobs" in query else {})
            | ({"lfs": _lfs(blob)} if "blobs" in query and blob.lfs else {})
            for name, blob in sorted(commit.tree.items())
        ]
        return {
            "_id": "0" * 24,
            "id": repo_id,
            "modelId": repo_id,
            "author": repo_id.split("/")[0],
            "sha": commit.oid,
            "private": repo.private,
            "disabled": False,
            "gated": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": siblings,
        }

    def tree(self, body: bytes, query: Any, kind: str, repo_id: str, revision: str, path: str | None) -> Any:
        commit = self._commit(self._repo(kind, repo_id), revision)
        prefix = unquote(path or "").strip("/")
        names = [name for name in sorted(commit.tree) if not prefix or name.startswith(prefix + "/")]
        if prefix and not names:
            raise refusal(404, f"{prefix} does not exist on {revision}", "EntryNotFound")
        depth = prefix.count("/") + 1 if prefix else 0
        folders = {"/".join(name.split("/")[:end]) for name in names for end in range(depth + 1, name.count("/") + 1)}
        if query.get("recursive", ["false"])[0].lower() != "true":
            names = [name for name in names if name.count("/") == depth]
            folders = {name for name in folders if name.count("/") == depth}
        listed = [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in sorted(folders)]
        return listed + [_entry(name, commit.tree[name]) for name in names]

    def paths_info(self, body: bytes, query: Any, kind: str, repo_id: str, revision: str) -> Any:
        commit = self._commit(self._repo(kind, repo_id), revision)
        paths = parse_qs(body.decode()).get("paths", [])
        return [_entry(name, commit.tree[name]) for name in paths if name in commit.tree]

    def branch(self, body: bytes, query: Any, kind: str, repo_id: str, branch: str) -> Any:
        repo = self._repo(kind, repo_id)
        self._writer()
        if unquote(branch) in repo.branches:
            raise refusal(409, "Reference already exists")
        repo.branches[unquote(branch)] = list(repo.branches["main"])
        return {}

    def preupload(self, body: bytes, query: Any, kind: str, repo_id: str, revision: str) -> Any:
        commit = self._commit(self._repo(kind, repo_id), revision)
        self._writer()
        files = []
        for file in json.loads(body)["files"]:
            lfs = file["path"].endswith(LFS_SUFFIXES) or file["size"] > 10_000_000
            known = commit.tree.get(file["path"])
            oid = None if known is None else known.sha256 if known.lfs else known.oid
            files.append(
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if lfs else "regular",
                    "shouldIgnore": file["path"] in self.hub.ignored,
                    "oid": oid,
                }
            )
        return {"files": files}

    def lfs_batch(self, body: bytes, query: Any, repo_id: str, kind: str | None) -> Any:
        self._repo(kind or "models", repo_id)
        self._writer()
        batch = json.loads(body)
        assert batch["operation"] == "upload"
        assert batch["hash_algo"] == "sha256"
        objects = []
        for wanted in batch["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.objects:
                entry["actions"] = {
                    "upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}", "header": {}},
                    "verify": {"href": f"{self.hub.url}/{repo_id}/lfs-verify"},
                }
            objects.append(entry)
        return {"transfer": "basic", "objects": objects}

    def lfs_put(self, body: bytes, query: Any, oid: str) -> Any:
        if hashlib.sha256(body).hexdigest() != oid:
            raise refusal(400, "The Content-SHA256 you specified did not match what we received")
        self.hub.objects[oid] = body
        return {}

    def lfs_verify(self, body: bytes, query: Any, repo_id: str) -> Any:
        wanted = json.loads(body)
        if len(self.hub.objects.get(wanted["oid"], b"")) != wanted["size"]:
            raise refusal(422, "LFS object is missing or has another size")
        return {"message": "ok"}

    def commit(self, body: bytes, query: Any, kind: str, repo_id: str, revision: str) -> Any:
        repo = self._repo(kind, repo_id)
        self._writer()
        branch = unquote(revision)
        head = self._commit(repo, revision)
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        assert lines[0]["key"] == "header"
        if header.get("parentCommit") not in (None, head.oid):
            raise refusal(412, "A commit has happened since. Please refresh and try again.")
        tree = dict(head.tree)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                tree[value["path"]] = Blob(base64.b64decode(value["content"], validate=True), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise refusal(400, f"LFS object {value['oid']} was never uploaded")
                tree[value["path"]] = Blob(self.hub.objects[value["oid"]], True)
            elif line["key"] == "deletedFile":
                tree.pop(value["path"], None)
            else:
                raise refusal(400, f"Unknown operation {line['key']}")
        made = repo.commit(branch, header["summary"], tree)
        return {"commitUrl": f"{self.hub.url}/{repo_id}/commit/{made.oid}", "commitOid": made.oid, "success": True}

    def resolve(self, body: bytes, query: Any, repo_id: str, revision: str, path: str, kind: str | None) -> Any:
        commit = self._commit(self._repo(kind or "models", repo_id), revision)
        blob = commit.tree.get(unquote(path))
        if blob is None:
            raise refusal(404, "Entry not found", "EntryNotFound")
        etag = f'"{blob.sha256 if blob.lfs else blob.oid}"'
        headers = {
            "ETag": etag,
            "X-Linked-Etag": etag,
            "X-Linked-Size": str(len(blob.content)),
            "X-Repo-Commit": commit.oid,
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        content, status = blob.content, 200
        if (span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))) is not None:
            start, stop = int(span[1]), int(span[2] or len(content) - 1) + 1
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            content, status = content[start:stop], 206
        raise Reply(status, content, headers | {"Content-Length": str(len(content))})


def _lfs(blob: Blob) -> dict[str, Any]:
    return {"oid": blob.sha256, "sha256": blob.sha256, "size": len(blob.content), "pointerSize": 134}


def _entry(name: str, blob: Blob) -> dict[str, Any]:
    entry = {"type": "file", "path": name, "oid": blob.oid, "size": len(blob.content)}
    return entry | ({"lfs": _lfs(blob)} if blob.lfs else {})


_API = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo_id>[^/]+/[^/]+)"
_GIT = r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo_id>[^/]+/[^/]+)"
ROUTES = [
    (method, re.compile(pattern), action)
    for method, pattern, action in [
        ("GET", r"/counts", "counts"),
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/validate-yaml", "validate_yaml"),
        ("POST", r"/api/repos/create", "create_repo"),
        ("GET", _API, "repo_info"),
        ("GET", _API + r"/revision/(?P<revision>[^/]+)", "repo_info"),
        ("GET", _API + r"/tree/(?P<revision>[^/]+)(?P<path>/.*)?", "tree"),
        ("POST", _API + r"/paths-info/(?P<revision>[^/]+)", "paths_info"),
        ("POST", _API + r"/branch/(?P<branch>[^/]+)", "branch"),
        ("POST", _API + r"/preupload/(?P<revision>[^/]+)", "preupload"),
        ("POST", _API + r"/commit/(?P<revision>[^/]+)", "commit"),
        ("POST", _GIT + r"\.git/info/lfs/objects/batch", "lfs_batch"),
        ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "lfs_put"),
        ("POST", r"/(?P<repo_id>[^/]+/[^/]+)/lfs-verify", "lfs_verify"),
        ("GET", _GIT + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    ]
]
