"""The token stays where it is, and an upload takes only what it may."""

import json
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.console.conftest import put, write_adapter
from tests.servers.hub import READER, TOKEN

SECRET = "hf_QwErTyUiOpAsDfGhJkLzXcVbNm123456"
ADAPTER = "results/adapters/toolcall"


def upload(console, **changes):
    body = {"repoId": "org/slm-adapters", "paths": [ADAPTER], "private": True, "autoSubdir": True} | changes
    return console.ask("POST", "/api/hf/upload", body)


def test_a_token_is_set_replaced_and_deleted(own):
    own.start()
    assert own.get("/api/hf/token").json == {"hasToken": False, "updatedAt": None}
    reply = own.ask("POST", "/api/hf/token", {"token": SECRET})
    assert reply.json.keys() == {"ok", "updatedAt"}
    file = own.folder / ".fledgling/secrets/hf_token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert own.get("/api/hf/token").json == {"hasToken": True, "updatedAt": reply.json["updatedAt"]}
    own.ask("POST", "/api/hf/token", {"token": "hf_another"})
    assert file.read_text() == "hf_another\n"
    assert own.ask("DELETE", "/api/hf/token").json == {"ok": True}
    assert not file.exists()


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "ä", "x" * 513, "a\x00b"])
def test_what_is_no_token(own, token):
    own.start()
    assert own.ask("POST", "/api/hf/token", {"token": token}).status == 422
    assert own.get("/api/hf/token").json["hasToken"] is False


def test_the_token_is_nowhere_but_in_its_file(own, hub):
    """Every page and call, the log, the processes and all files, after an upload that failed and one that did not."""
    own.start()
    hub.users[SECRET] = ("org", True)
    try:
        assert own.ask("POST", "/api/hf/token", {"token": SECRET}).status == 200
        hub.fail("POST", "/preupload/", status=403, times=1)
        assert upload(own, repoId="org/nowhere").status == 403
        seen = [upload(own, repoId="org/somewhere").body]
        assert b'"ok":true' in seen[0]
        for path in (
            "/",
            "/hub",
            "/plan",
            "/runs",
            "/models",
            "/spend",
            "/training",
            "/nothing",
            "/api/hf/token",
            "/api/hf/account",
            "/api/hf/uploads",
            "/api/runs",
            "/api/spend",
            "/api/slm/models",
            "/static/app.js",
        ):
            reply = own.get(path)
            seen.append(reply.body + repr(reply.headers).encode())
        seen.append(own.log.read_bytes())
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if process.name != str(os.getpid()):
                    seen.append((process / "cmdline").read_bytes() + (process / "environ").read_bytes())
            except OSError:
                continue
        slices = [SECRET[n : n + 8].encode() for n in range(3, len(SECRET) - 7)]
        assert not [part for text in seen for part in slices if part in text]
        holding = [
            str(file.relative_to(own.folder))
            for file in own.folder.rglob("*")
            if file.is_file() and any(part in file.read_bytes() for part in slices)
        ]
        assert holding == [".fledgling/secrets/hf_token"]
    finally:
        del hub.users[SECRET]


def test_the_token_is_not_written_through_a_link(own, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (own.folder / ".fledgling").mkdir()
    (own.folder / ".fledgling/secrets").symlink_to(elsewhere)
    own.start()
    assert own.ask("POST", "/api/hf/token", {"token": SECRET}).status == 409
    assert list(elsewhere.iterdir()) == []
    (own.folder / ".fledgling/secrets").unlink()
    (own.folder / ".fledgling/secrets").mkdir(mode=0o700)
    put(elsewhere / "target", "old")
    (own.folder / ".fledgling/secrets/hf_token").symlink_to(elsewhere / "target")
    assert upload(own).status == 409  # nor read through one
    assert own.ask("POST", "/api/hf/token", {"token": SECRET}).status == 200
    assert (elsewhere / "target").read_text() == "old"
    assert not (own.folder / ".fledgling/secrets/hf_token").is_symlink()


def test_a_token_that_git_tracks_is_refused(own):
    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=own.folder,
            check=True,
            capture_output=True,
        )

    git("init")
    put(own.folder / ".fledgling/secrets/hf_token", "old")
    git("add", "-f", ".fledgling/secrets/hf_token")
    own.start()
    reply = own.ask("POST", "/api/hf/token", {"token": SECRET})
    assert reply.status == 409
    assert "git" in reply.json["message"]


PATHS = [
    "/etc/passwd", "../x", "results/../../etc", "results/adapters/../../.fledgling/secrets/hf_token", "~/.ssh/id_rsa",
    "$HOME", "file:///etc", "\\\\host\\share", "C:\\x", "results/adapters/a\0b", "results/adapters/" + "a" * 5000, "", ".",
    "/", "*", "results/adapters/*", "results", "results/models/slm", ".fledgling", ".git", "config/config.yaml", "src",
    "results/adapters/../adapters/toolcall", "./results/adapters/toolcall", "results//adapters/toolcall",
    "results/adapters/toolcall/.", "-results/adapters", " results/adapters/toolcall", "results/adaptersx/toolcall",
    "results/adapters/tool\ncall", "résults/adapters",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_paths_outside_the_allowed_folders(with_token, hub, path):
    before = len(hub.writes)
    for paths in ([path], [ADAPTER, path]):
        reply = upload(with_token, paths=paths)
        assert reply.status in (400, 422)
        if reply.status == 400:
            assert reply.json["error"] == "outside"
    assert len(hub.writes) == before


def test_paths_that_are_many_or_none(with_token):
    assert upload(with_token, paths=[]).status == 422
    assert upload(with_token, paths=[ADAPTER] * 51).status == 422
    assert upload(with_token, paths=["results/adapters/nothing"]).json["error"] == "missing"


REPOS = [
    "a", "a/b/c", "../x", "a/..", "a//b", "a/b.git", "-a/b", "a/b\n", "a/b?x", "a/b#", "ａ/b", "--help/x", "a" * 60 + "/" + "b" * 36,
    "datasets/a/b", "https://huggingface.co/a/b", "a/b\0", "", "/", "a/", "/b", "a b/c", "a/b--c", "a/b..c", ".a/b", "a/b.",
]  # fmt: skip


@pytest.mark.parametrize("name", REPOS, ids=range(len(REPOS)))
def test_names_that_are_no_repository(with_token, hub, name):
    before = len(hub.writes)
    assert upload(with_token, repoId=name).status in (400, 422)
    assert len(hub.writes) == before


@pytest.fixture
def adapter(with_token):
    """An adapter of a test's own."""
    folder = with_token.folder / "results/adapters/mine"
    write_adapter(folder)
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)


def mine(console, **changes):
    return upload(console, paths=["results/adapters/mine"], **changes)


@pytest.mark.parametrize("kind", ["file", "secret", "folder", "loop", "dangling", "deep"])
def test_links_are_refused_and_named(with_token, hub, adapter, kind):
    before = len(hub.writes)
    place = adapter / "notes.txt"
    if kind == "deep":
        (adapter / "more").mkdir()
        place = adapter / "more/notes.txt"
    goals = {
        "file": "/etc/passwd", "secret": with_token.folder / ".fledgling/secrets/hf_token", "folder": "/etc",
        "loop": place, "dangling": "/nowhere", "deep": "/etc/passwd",
    }  # fmt: skip
    place.symlink_to(goals[kind])
    reply = mine(with_token)
    assert (reply.status, reply.json["error"]) == (400, "link")
    assert "notes.txt" in reply.json["message"]
    assert "/etc" not in reply.json["message"]
    assert len(hub.writes) == before


def test_a_folder_that_is_a_link_itself(with_token, adapter):
    linked = with_token.folder / "results/adapters/linked"
    linked.symlink_to(adapter)
    try:
        assert upload(with_token, paths=["results/adapters/linked"]).json["error"] == "link"
        assert upload(with_token, paths=["results/adapters/linked/training.json"]).json["error"] == "link"
    finally:
        linked.unlink()


def test_pipes_and_sockets_hang_nothing(with_token, adapter):
    os.mkfifo(adapter / "pipe.json")
    began = time.monotonic()
    assert mine(with_token).json["error"] == "link"
    (adapter / "pipe.json").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(adapter)
        server.bind("s.json")
        assert mine(with_token).json["error"] == "link"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("name", [".env", ".netrc", "server.pem", "id_rsa"])
def test_credentials_by_their_name(with_token, hub, adapter, name):
    before = len(hub.writes)
    put(adapter / name, "x")
    reply = mine(with_token)
    assert (reply.status, reply.json["error"]) == (400, "secrets")
    assert name in reply.json["message"]
    assert len(hub.writes) == before


@pytest.mark.parametrize(
    "value", [SECRET, "sk-abcdefghijklmnop1234567890", "sk-lf-12345678-1234-1234-1234-123456789012", TOKEN]
)
def test_credentials_by_their_text(with_token, hub, adapter, value):
    before = len(hub.writes)
    put(adapter / "README.md", f"the key is {value} here")
    os.utime(adapter / "README.md", (1, 1))
    reply = mine(with_token)
    assert (reply.status, reply.json["error"]) == (400, "secrets")
    assert "README.md:1" in reply.json["message"]
    assert value not in reply.json["message"]
    assert len(hub.writes) == before


def test_what_runs_code_stays_here(with_token, adapter):
    for name in ("a.bin", "b.pt", "c.pth", "d.pkl", "training_args.bin", "optimizer.pt", ".hidden.json"):
        put(adapter / name, "x")
    found = with_token.ask("POST", "/api/hf/files", {"repoId": "org/x", "paths": ["results/adapters/mine"]}).json
    assert {file["path"] for file in found["files"]} == {
        "adapter_config.json", "adapter_model.safetensors", "manifest.json", "training.json",
    }  # fmt: skip
    assert len(found["leftOut"]) == 7
    assert all(path.startswith("results/adapters/mine/") for path in found["leftOut"])


@pytest.mark.parametrize("base", ["http://evil.example/x", "../../x", "attacker/model", ""])
def test_an_adapter_of_a_strange_base(with_token, adapter, base):
    put(adapter / "adapter_config.json", {"base_model_name_or_path": base})
    os.utime(adapter / "adapter_config.json", (1, 1))
    reply = mine(with_token)
    assert (reply.status, reply.json["error"]) == (400, "base")


@pytest.mark.parametrize(
    "message", ["<script>alert(1)</script>", "a\r\nX-Evil: 1", "--token=x", "a\u202eb", "done 🎉", "x" * 500]
)
def test_a_message_is_text(with_token, hub, message):
    reply = upload(with_token, repoId="org/messages", commitMessage=message, pathInRepo=f"m{abs(hash(message))}")
    assert reply.status == 200, reply.body
    assert hub.repo("org/messages").commits[-1].split("\n")[0].strip() == message.split("\r")[0].split("\n")[0].strip()
    assert upload(with_token, commitMessage="x" * 501).status == 422
    assert b"<script>alert" not in with_token.get("/hub").body


def test_an_upload_and_its_marker(with_token, hub):
    reply = upload(with_token, repoId="org/whole", commitMessage="sync adapters via API")
    assert reply.status == 200, reply.body
    result = reply.json["result"]
    assert result.keys() == {"repoId", "repoType", "private", "paths", "commit", "url", "durationMs"}
    assert result["url"] == f"{hub.url}/org/whole"
    assert set(hub.repo("org/whole").files) == {
        f"toolcall/{name}"
        for name in ("adapter_config.json", "adapter_model.safetensors", "manifest.json", "training.json")
    }
    assert hub.repo("org/whole").private
    marker = json.loads((with_token.folder / ".fledgling/uploads" / reply.json["job"] / "marker.json").read_text())
    assert (marker["format"], marker["commit"]) == ("fledgling/hub/1", result["commit"])
    again = upload(with_token, repoId="org/whole")
    assert again.json["result"]["commit"] == result["commit"]  # what is there is not sent again


def test_tokens_that_do_not_do(own, hub):
    own.start()
    assert upload(own).json["error"] == "no_token"
    for token, repo in ((READER, "org/x"), (TOKEN, "somebody/x"), ("hf_revoked", "org/x")):
        own.ask("POST", "/api/hf/token", {"token": token})
        if repo.startswith("somebody"):
            hub.fail("POST", "/api/repos/create", status=403, times=1)
        reply = upload(own, repoId=repo)
        assert reply.status in (403, 409), (token, reply.body)
        assert token not in reply.json["message"]


def test_a_hub_that_is_away_never_blocks_keeping_a_token(own):
    own.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
    own.start()
    began = time.monotonic()
    assert own.ask("POST", "/api/hf/token", {"token": SECRET}).status == 200
    assert time.monotonic() - began < 2
    assert own.get("/hub").status == 200


@pytest.fixture
def halfway(own, hub, request):
    """A console with an upload that the Hub holds in its middle: (thread, its reply, what lets it go on)."""
    own.start()
    own.ask("POST", "/api/hf/token", {"token": TOKEN})
    arrived, release = hub.hold("POST", "/commit/")
    first, repository = {}, "org/twice" if "two" in request.node.name else "org/killed"
    thread = threading.Thread(target=lambda: first.update(reply=upload(own, repoId=repository)))
    thread.start()
    assert arrived.wait(30)
    yield thread, first, release
    release.set()
    thread.join()


def test_two_uploads_at_once_and_a_kill_in_the_middle(own, halfway):
    thread, _, release = halfway
    busy = upload(own, repoId="org/twice")
    assert (busy.status, busy.json["error"]) == (409, "busy")
    (job,) = own.get("/api/hf/uploads").json["uploads"]
    assert job["state"] == "running"
    own.kill()
    thread.join()
    own.start()
    assert own.get(f"/api/hf/uploads/{job['job']}").json["state"] == "running"  # it outlived the console
    release.set()
    deadline = time.monotonic() + 30
    while (found := own.get(f"/api/hf/uploads/{job['job']}").json)["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found["state"] == "done"
    assert (own.folder / ".fledgling/uploads" / job["job"] / "marker.json").exists()


def test_an_upload_that_was_killed_is_called_so(own, halfway):
    thread, first, release = halfway
    (job,) = own.get("/api/hf/uploads").json["uploads"]
    record = json.loads((own.folder / ".fledgling/uploads" / job["job"] / "job.json").read_text())
    os.kill(record["pid"], signal.SIGKILL)
    thread.join()
    release.set()
    assert first["reply"].status == 500
    assert own.get(f"/api/hf/uploads/{job['job']}").json["state"] == "interrupted"


def test_a_folder_that_changes(with_token, adapter):
    put(adapter / "training.json", {"history": []})
    reply = mine(with_token)
    assert (reply.status, reply.json["error"]) == (409, "changing")
