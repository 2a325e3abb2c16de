"""Checkpoints from a Hub (a local server that speaks its protocol), from a folder, and made on the spot."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fledgling.errors import ConfigError, DataError, FledglingError, Unavailable
from fledgling.fetch import fetch
from fledgling.models import checkpoint
from tests.servers.hub import TOKEN, Hub, Repo

REPO = "org/small"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
        yield server


@pytest.fixture
def repo(hub: Hub, tiny_checkpoint: Path) -> Repo:
    extra = {
        "README.md": b"# small",
        "pytorch_model.bin": b"pickle",
        "modeling.py": b"import os",
        "onnx/m.safetensors": b"x",
    }
    return hub.create(REPO, files={path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()} | extra)


def revision(repo: Repo) -> str:
    return repo.branches["main"][-1].oid


def settings(repo: Repo) -> dict[str, Any]:
    return {"source": "hub", "repo_id": REPO, "revision": revision(repo)}


def downloads(hub: Hub) -> int:
    return hub.count("GET", "/resolve/")


def test_a_commit_arrives_whole_and_nothing_else(hub: Hub, repo: Repo, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "slm/manifest.json"
    fetch(settings(repo), out, seed=0)
    model = checkpoint.load(out, verify=True)
    assert (model.source, model.repo_id, model.revision, model.generated) == ("hub", REPO, revision(repo), False)
    arrived = {path.name for path in (tmp_path / "slm/checkpoint").iterdir() if path.is_file()}
    assert arrived == {path.name for path in tiny_checkpoint.iterdir()} == {file.path for file in model.files}
    assert model.fingerprint == checkpoint.describe(tiny_checkpoint, source="path").fingerprint


def test_again_downloads_nothing_and_writes_the_same_manifest(hub: Hub, repo: Repo, tmp_path: Path) -> None:
    out = tmp_path / "slm/manifest.json"
    fetch(settings(repo), out, seed=0)
    first, count = out.read_bytes(), downloads(hub)
    out.unlink()
    fetch(settings(repo), out, seed=0)
    assert (out.read_bytes(), downloads(hub)) == (first, count)


def test_a_broken_download_goes_on(hub: Hub, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection ends in the middle of the weights and nothing more comes; later the Hub is back."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    base: Any = hub._server.RequestHandlerClass
    broken = [True]
    ranges: list[str] = []

    class Cut(base):
        def _send(self, reply: Any) -> None:
            if self.command == "GET" and self.path.endswith("model.safetensors"):
                ranges.append(self.headers.get("Range", ""))
                if broken[0]:
                    part = b"" if len(ranges) > 1 else reply.body[: len(reply.body) // 2]
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(part)
                    self.close_connection = True
                    return
            super()._send(reply)

    hub._server.RequestHandlerClass = Cut
    out = tmp_path / "slm/manifest.json"
    with pytest.raises(Unavailable, match="goes on"):
        fetch(settings(repo), out, seed=0)
    assert not out.exists()
    broken[0] = False
    first_try = len(ranges)
    run = tmp_path / "events.jsonl"
    run.touch()
    monkeypatch.setenv("FLEDGLING_EVENTS", str(run))
    fetch(settings(repo), out, seed=0)
    events = [json.loads(line) for line in run.read_text().splitlines()]
    assert [event["message"] for event in events if event["event"] == "note"] == [
        f"model.safetensors: goes on at {len(repo.files['model.safetensors']) // 2 // 1000 * 1000 / 1e6:,.1f} of "
        f"{len(repo.files['model.safetensors']) / 1e6:,.1f} MB"
    ]
    loaded = [event for event in events if event["event"] == "progress" and event["what"] == "model.safetensors"]
    assert loaded[-1]["done"] == loaded[-1]["total"] == len(repo.files["model.safetensors"])
    checkpoint.load(out, verify=True)
    assert ranges[0] == ""
    size = len(repo.files["model.safetensors"])
    assert ranges[first_try:] == [f"bytes={size // 2 // 1000 * 1000}-"]


def test_a_file_damaged_on_disk_is_downloaded_again(hub: Hub, repo: Repo, tmp_path: Path) -> None:
    out = tmp_path / "slm/manifest.json"
    fetch(settings(repo), out, seed=0)
    for name in ("model.safetensors", "config.json"):
        path = out.parent / "checkpoint" / name
        before = path.stat()
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    fetch(settings(repo), out, seed=0)
    checkpoint.load(out, verify=True)
    assert (out.parent / "checkpoint/config.json").read_bytes() == repo.files["config.json"]


def test_a_file_that_arrives_damaged_is_refused(hub: Hub, repo: Repo, tmp_path: Path) -> None:
    content = repo.files["model.safetensors"]
    hub.fail(
        "GET",
        "/resolve/.*model.safetensors",
        status=200,
        body=content[:-1] + b"\x99",
        headers={"ETag": '"x"', "X-Repo-Commit": revision(repo)},
    )
    with pytest.raises(DataError, match=r"model\.safetensors: arrives damaged"):
        fetch(settings(repo), tmp_path / "slm/manifest.json", seed=0)
    assert not (tmp_path / "slm/manifest.json").exists()


def test_another_commit_leaves_nothing_of_the_first(hub: Hub, repo: Repo, tmp_path: Path) -> None:
    out = tmp_path / "slm/manifest.json"
    fetch(settings(repo), out, seed=0)
    tree = {name: blob for name, blob in repo.branches["main"][-1].tree.items() if name != "generation_config.json"}
    repo.commit("main", "no generation", tree)
    fetch(settings(repo), out, seed=0)
    assert "generation_config.json" not in {file.path for file in checkpoint.load(out).files}
    assert not (out.parent / "checkpoint/generation_config.json").exists()


@pytest.mark.parametrize(
    ("status", "code", "error", "says"),
    [
        (401, None, ConfigError, "HF_TOKEN"),
        (403, None, ConfigError, "HF_TOKEN"),
        (403, "GatedRepo", ConfigError, "gated; accept its terms"),
        (404, "RepoNotFound", ConfigError, "no such repository"),
        (404, "RevisionNotFound", ConfigError, "no such commit"),
        (404, None, ConfigError, "refuses"),
        (429, None, Unavailable, "answered 429"),
        (503, None, Unavailable, "answered 503"),
    ],
)
@pytest.mark.parametrize("path", ["/api/models/", "/resolve/"])
def test_a_refusal_says_what_to_do(
    hub: Hub,
    repo: Repo,
    tmp_path: Path,
    path: str,
    status: int,
    code: str | None,
    error: type[FledglingError],
    says: str,
) -> None:
    headers = {"X-Error-Code": code} if code else {}
    for method in ("GET", "HEAD"):
        hub.fail(method, path, status, headers=headers)
    with pytest.raises(error, match=says) as raised:
        fetch(settings(repo), tmp_path / "slm/manifest.json", seed=0)
    assert REPO in str(raised.value)
    assert TOKEN not in str(raised.value)


def test_a_private_repository_needs_a_token(hub: Hub, repo: Repo, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="or a private one"):
        fetch(settings(repo), tmp_path / "slm/manifest.json", seed=0)


def test_a_hub_that_does_not_answer(tmp_path: Path, hub: Hub, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="does not answer"):
        fetch(settings(repo), tmp_path / "slm/manifest.json", seed=0)


def test_offline_says_so(tmp_path: Path, hub: Hub, repo: Repo) -> None:
    done = script(tmp_path, settings(repo), HF_HUB_OFFLINE="1", HF_ENDPOINT=hub.url)
    assert done.returncode == 4
    assert "HF_HUB_OFFLINE is set" in done.stderr


def test_a_branch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'main' of org/small moves"):
        fetch({"source": "hub", "repo_id": REPO, "revision": "main"}, tmp_path / "manifest.json", seed=0)


def test_pickles_are_not_downloaded(hub: Hub, tmp_path: Path) -> None:
    repo = hub.create(REPO, files={"pytorch_model.bin": b"x", "config.json": b"{}"})
    with pytest.raises(DataError, match="not as safetensors"):
        fetch(settings(repo), tmp_path / "slm/manifest.json", seed=0)
    assert downloads(hub) == 0


def test_a_folder_is_described_where_it_lies(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "manifest.json"
    fetch({"source": "path", "path": str(tiny_checkpoint)}, out, seed=0)
    assert checkpoint.load(out, verify=True).checkpoint == tiny_checkpoint.resolve()
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("config.json", "config.json: no such file"),
        ("model.safetensors", "no weights"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_a_folder_without_a_part_is_refused(tiny_checkpoint: Path, tmp_path: Path, missing: str, says: str) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "c"))
    (folder / missing).unlink()
    with pytest.raises(DataError, match=says):
        fetch({"source": "path", "path": str(folder)}, tmp_path / "manifest.json", seed=0)
    assert not (tmp_path / "manifest.json").exists()


def test_a_folder_of_pickles_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "c"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(DataError, match="not as safetensors"):
        fetch({"source": "path", "path": str(folder)}, tmp_path / "manifest.json", seed=0)


def test_no_folder_is_a_matter_of_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SLM_MODEL_PATH"):
        fetch({"source": "path", "path": str(tmp_path / "none")}, tmp_path / "manifest.json", seed=0)


def script(out: Path, model: dict[str, Any], name: str = "slm", **environment: str) -> Any:
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [
            sys.executable,
            root / "scripts/fetch.py",
            "--model",
            name,
            "--settings",
            json.dumps({"model": model, "seed": 5}),
            "--out",
            out / "manifest.json",
        ],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_the_script_makes_the_embedded_one(tmp_path: Path) -> None:
    done = script(tmp_path, {"source": "embedded", "steps": 1}, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    model = checkpoint.load(tmp_path / "manifest.json", verify=True)
    assert (model.source, model.generated, model.checkpoint) == ("embedded", True, tmp_path / "checkpoint")


def test_a_checkpoint_without_a_chat_template_is_refused_when_it_enters(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "c"))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="no chat template"):
        fetch({"source": "path", "path": str(folder)}, tmp_path / "manifest.json", seed=0)
    assert not (tmp_path / "manifest.json").exists()


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = script(tmp_path, {"source": "path", "path": "nowhere"}, "other")
    assert done.returncode == 3
    assert "nowhere: no such folder" in done.stderr
