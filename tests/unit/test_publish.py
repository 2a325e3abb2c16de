"""Uploads through the real huggingface_hub, against a local server that speaks the Hub's protocol."""

import base64
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import huggingface_hub
import huggingface_hub.constants
import huggingface_hub.utils._http
import pytest

from fledgling.errors import ConfigError, DataError, FledglingError, Unavailable, UsageError
from fledgling.publishing import upload as uploading
from fledgling.publishing.files import File, generated_file, select
from fledgling.publishing.upload import Target, upload
from tests.servers.hub import READER, TOKEN, Hub
from tests.unit.test_secrets import FORMS, SECRETS

ROOT = Path(__file__).resolve().parents[2]
REPO = "org/calls-slm"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    for name in list(os.environ):
        if name.startswith("HF_") or name.endswith(("_KEY", "_TOKEN")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-login"))
    monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda seconds: None)
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)  # read once, at the first import
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
    huggingface_hub.utils._http.close_session()


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "PAUSE_S", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "calls"
    (made / "sub").mkdir(parents=True)
    (made / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 40)
    (made / "adapter_config.json").write_text('{"r": 64}\n')
    (made / "sub" / "notes.md").write_text("notes\n")
    return made


def files_of(folder: Path) -> tuple[File, ...]:
    return select([folder]).files


def by_hand(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts/publish.py"), *map(str, arguments)],
        env={**os.environ, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


# One commit, and only what is missing


def test_first_upload_makes_a_private_repository_and_one_commit(hub: Hub, folder: Path) -> None:
    landed = upload(files_of(folder), Target(REPO), "first")
    repo = hub.repo(REPO)
    assert repo.private
    assert landed.private
    assert repo.commits == ["first"]
    assert landed.commit == repo.branches["main"][-1].oid
    assert repo.files == {
        "adapter_config.json": b'{"r": 64}\n',
        "adapter_model.safetensors": bytes(range(256)) * 40,
        "sub/notes.md": b"notes\n",
    }
    assert repo.branches["main"][-1].tree["adapter_model.safetensors"].lfs
    assert hub.count("PUT", "^/lfs/") == hub.count("POST", "/lfs-verify") == 1


def test_second_upload_sends_nothing(hub: Hub, folder: Path) -> None:
    first = upload(files_of(folder), Target(REPO), "first")
    hub.requests.clear()
    second = upload(files_of(folder), Target(REPO), "second")
    assert hub.writes == []
    assert (second.commit, second.sent) == (first.commit, ())
    assert hub.repo(REPO).commits == ["first"]


def test_only_what_changed_is_committed(hub: Hub, folder: Path) -> None:
    upload(files_of(folder), Target(REPO), "first")
    (folder / "adapter_config.json").write_text('{"r": 32}\n')
    hub.requests.clear()
    landed = upload(files_of(folder), Target(REPO), "second")
    assert landed.sent == ("adapter_config.json",)
    (commit,) = [r for r in hub.requests if "/commit/" in r.path]
    assert [json.loads(line)["key"] for line in commit.body.splitlines()] == ["header", "file"]
    assert hub.count("POST", "objects/batch") == 0  # weights that did not change are not even mentioned


def test_same_size_other_content_is_sent(hub: Hub, folder: Path) -> None:
    upload(files_of(folder), Target(REPO), "first")
    (folder / "adapter_model.safetensors").write_bytes(bytes(reversed(range(256))) * 40)
    (folder / "sub" / "notes.md").write_text("Notes\n")
    landed = upload(files_of(folder), Target(REPO), "second")
    assert landed.sent == ("adapter_model.safetensors", "sub/notes.md")


def test_other_files_of_the_repository_stay(hub: Hub, folder: Path) -> None:
    hub.create(REPO, files={"LICENSE": b"MIT"})
    upload(files_of(folder), Target(REPO), "first")
    assert hub.repo(REPO).files["LICENSE"] == b"MIT"


def test_killed_between_large_files_and_commit(hub: Hub, folder: Path, tmp_path: Path) -> None:
    reached, release = hub.hold("POST", "/commit/")
    command = [sys.executable, str(ROOT / "scripts/publish.py"), str(folder), "--repo-id", REPO]
    command += ["--out", str(tmp_path / "marker.json")]
    environment = {**os.environ, "HF_HUB_DISABLE_XET": "1"}
    killed = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert reached.wait(30)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    hub._holds.clear()
    # The commit of the killed run is never made: its connection is gone before the server goes on.
    hub.fail("POST", "/commit/", 500, times=1)
    release.set()
    assert hub.repo(REPO).commits == []
    assert not (tmp_path / "marker.json").exists()
    hub.recover()
    hub.requests.clear()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0, again.stderr
    assert hub.count("PUT", "^/lfs/") == 0  # it is there already
    assert len(hub.repo(REPO).commits) == 1
    marker = json.loads((tmp_path / "marker.json").read_text())
    assert marker["commit"] == hub.repo(REPO).branches["main"][-1].oid


def test_what_was_uploaded_can_be_downloaded(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    landed = upload(files_of(folder), Target(REPO), "first")
    fetched = huggingface_hub.snapshot_download(
        REPO, revision=landed.commit, local_dir=tmp_path / "down", endpoint=hub.url
    )
    for name, content in hub.repo(REPO).files.items():
        assert (Path(fetched) / name).read_bytes() == content == (folder / name).read_bytes()


# Replies that are lost, and other people


@pytest.mark.parametrize("lost", [{"status": 504}, {"status": 500}, {"drop": True}])
def test_commit_landed_but_reply_lost(hub: Hub, folder: Path, lost: dict[str, Any]) -> None:
    hub.fail("POST", "/commit/", times=1, after=True, **lost)
    landed = upload(files_of(folder), Target(REPO), "first")
    assert hub.repo(REPO).commits == ["first"]
    assert landed.commit == hub.repo(REPO).branches["main"][-1].oid


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_commit_that_did_not_land_is_tried_once_more(hub: Hub, folder: Path, status: int) -> None:
    hub.fail("POST", "/commit/", status, times=1)
    upload(files_of(folder), Target(REPO), "first")
    assert hub.repo(REPO).commits == ["first"]
    assert hub.count("POST", "/commit/") == 2


@pytest.mark.parametrize("status", [409, 412, 503])
def test_commit_is_not_tried_for_ever(hub: Hub, folder: Path, status: int) -> None:
    hub.fail("POST", "/commit/", status)
    with pytest.raises(Unavailable, match=rf"{status}"):
        upload(files_of(folder), Target(REPO), "first")
    assert hub.count("POST", "/commit/") == 2


def test_head_moved_meanwhile(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.create(REPO)
    first_look = uploading._compare

    def then_somebody_commits(*arguments: Any) -> Any:
        seen = first_look(*arguments)
        monkeypatch.setattr(uploading, "_compare", first_look)
        repo = hub.repo(REPO)
        repo.commit("main", "theirs", dict(repo.branches["main"][-1].tree))
        return seen

    monkeypatch.setattr(uploading, "_compare", then_somebody_commits)
    upload(files_of(folder), Target(REPO), "ours")
    assert hub.repo(REPO).commits == ["theirs", "ours"]
    assert hub.count("POST", "/commit/") == 2


def test_retry_after_is_honoured_within_reason() -> None:
    def wait(value: str) -> float:
        response = httpx.Response(
            429, headers={"Retry-After": value}, request=httpx.Request("POST", "http://x/commit/")
        )
        return uploading._pause(huggingface_hub.errors.HfHubHTTPError("no", response=response))

    assert wait("7") == 7
    assert wait("86400") == uploading.LONGEST_PAUSE_S
    assert wait("soon") == uploading.PAUSE_S


def test_file_that_the_server_ignores_is_reported(hub: Hub, folder: Path) -> None:
    hub.ignored.add("sub/notes.md")
    with pytest.raises(DataError, match=r"sub/notes\.md: not on org/calls-slm after commit"):
        upload(files_of(folder), Target(REPO), "first")


# Private


def test_existing_public_repository_is_refused_before_anything_is_sent(hub: Hub, folder: Path) -> None:
    hub.create(REPO, private=False)
    with pytest.raises(ConfigError, match=r"is public.*hf repos settings org/calls-slm --private"):
        upload(files_of(folder), Target(REPO), "first")
    assert hub.writes == []


def test_repository_that_turns_public_is_noticed(hub: Hub, folder: Path) -> None:
    hub.create(REPO)
    land = uploading._land

    def meanwhile(*arguments: Any) -> Any:
        hub.repo(REPO).private = False
        return land(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploading, "_land", meanwhile)
        with pytest.raises(ConfigError, match="turned public"):
            upload(files_of(folder), Target(REPO), "first")


def test_public_on_request(hub: Hub, folder: Path) -> None:
    landed = upload(files_of(folder), Target(REPO, private=False), "first")
    assert not landed.private
    assert not hub.repo(REPO).private


# Secrets


def test_secret_in_a_file_stops_before_the_first_request(hub: Hub, folder: Path) -> None:
    key = "hf_" + "Zz09" * 8
    (folder / "sub" / "notes.md").write_text(f"first line\ntoken: {key}\n")
    with pytest.raises(DataError, match=r"notes\.md:2: Hugging Face token") as raised:
        upload(files_of(folder), Target(REPO), "first")
    assert key not in str(raised.value)
    assert hub.requests == []


@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_a_secret_reaches_the_hub_or_a_log(
    hub: Hub, folder: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every secret, each in a note, in settings and among weights: nothing is sent, and no message repeats one."""
    said = []
    for number, secret in enumerate(SECRETS.values()):
        name = ("sub/notes.md", "adapter_config.json", "adapter_model.safetensors")[number % 3]
        clean, coded = (folder / name).read_bytes(), FORMS[form](secret)
        (folder / name).write_bytes(coded if "mark" in form else b"see " + coded + b" here")
        with pytest.raises(DataError) as raised:
            upload(files_of(folder), Target(f"org/r{number}"), "first")
        (folder / name).write_bytes(clean)
        said.append(str(raised.value))
    upload(files_of(folder), Target(REPO), "clean")
    sent = b"\n".join(str(request).encode() + request.body for request in hub.requests)
    told = "\n".join(said) + caplog.text
    assert len(said) == len(SECRETS) >= 60
    assert hub.repo(REPO).files
    for secret in SECRETS.values():
        assert FORMS[form](secret) not in sent
        assert secret.encode() not in sent
        assert secret not in told


def test_value_of_a_variable_in_weights(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_API_KEY", "0f1e2d3c4b5a")
    (folder / "adapter_model.safetensors").write_bytes(b"\0" * 64 + b"0f1e2d3c4b5a")
    with pytest.raises(DataError, match="value of AZURE_API_KEY") as raised:
        upload(files_of(folder), Target(REPO), "first")
    assert "0f1e2d3c4b5a" not in str(raised.value)
    assert hub.requests == []


def test_the_token_itself_from_the_stored_login(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    Path(huggingface_hub.constants.HF_TOKEN_PATH).write_text(TOKEN)
    (folder / "sub" / "notes.md").write_text(f"{TOKEN}\n")
    with pytest.raises(DataError, match="value of the Hub login"):
        upload(files_of(folder), Target(REPO), "first")
    (folder / "sub" / "notes.md").write_text("clean\n")
    upload(files_of(folder), Target(REPO), "first")


def test_generated_content_is_scanned(hub: Hub) -> None:
    with pytest.raises(DataError, match=r"README\.md \(generated\):1: AWS access key"):
        upload([generated_file("README.md", b"AKIA" + b"IOSFODNN7EXAMPLE")], Target(REPO), "first")


# What is taken


def test_allow_list(tmp_path: Path, folder: Path) -> None:
    for name in ("model.bin", "optimizer.pt", "weights.pickle", "weights.pkl", "run.py", ".hidden.json"):
        (folder / name).write_bytes(b"x")
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    (folder / "link.json").symlink_to(outside)
    (folder / "linked").symlink_to(tmp_path)
    selection = select([folder])
    assert [f.name for f in selection.files] == ["adapter_config.json", "adapter_model.safetensors", "sub/notes.md"]
    assert {Path(p).name for p in selection.left_out} == {
        "model.bin",
        "optimizer.pt",
        "weights.pickle",
        "weights.pkl",
        "run.py",
        ".hidden.json",
        "link.json",
        "linked",
    }


@pytest.mark.parametrize("name", [".env", "id_rsa", "sub/server.key"])
def test_credential_files_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("x")
    with pytest.raises(DataError, match="credential"):
        select([folder])


@pytest.mark.parametrize("name", ["model.bin", "x.pt", "x.pickle", ".env"])
def test_named_outright(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match="not uploaded"):
        select([tmp_path / name])


def test_symbolic_link_as_path(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "latest").symlink_to(folder)
    with pytest.raises(DataError, match="symbolic link"):
        select([tmp_path / "latest"])


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        select([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="nothing to upload"):
        select([tmp_path])


def test_names_in_the_repository(tmp_path: Path) -> None:
    for track in ("a", "b"):
        (tmp_path / track).mkdir()
        (tmp_path / track / "c.json").write_text(track)
    one = tmp_path / "one.json"
    one.write_text("{}")
    paths = [tmp_path / "a", tmp_path / "b", one]

    def names(*chosen: Path, **options: Any) -> list[str]:
        return [f.name for f in select(chosen, **options).files]

    assert names(*paths, auto_subdir=True) == ["a/c.json", "b/c.json", "one.json"]
    assert names(*paths, auto_subdir=True, path_in_repo="/v1/") == ["v1/a/c.json", "v1/b/c.json", "v1/one.json"]
    assert names(tmp_path / "a", path_in_repo="x/y") == ["x/y/c.json"]
    with pytest.raises(UsageError, match=r"would both become c\.json"):
        names(*paths)
    with pytest.raises(UsageError, match="inside the repository"):
        names(tmp_path / "a", path_in_repo="x/../../y")


@pytest.mark.parametrize(
    "folder",
    [
        *(".git", ".GIT", "a/.Git/hooks", ".git.", ".git ", "git~1", "a/.. /b", "a/..", "．．/x"),
        *("a\\..\\b", "a\\b", "c:x", "a\0b", "a\nb", "\u202eb", "a/\u200b/b"),
    ],
)
def test_a_folder_that_another_system_reads_otherwise_is_refused(folder: str, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text("{}")
    with pytest.raises(UsageError, match="inside the repository"):
        select([tmp_path / "one.json"], path_in_repo=folder)
    for plain in ("a.b/c d", "v1.", ".gitattributes-kept", "模型"):
        assert select([tmp_path / "one.json"], path_in_repo=plain).files[0].name == f"{plain}/one.json"


def test_a_file_whose_name_another_system_reads_otherwise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a\\..\\b.json").write_text("{}")
    with pytest.raises(DataError, match="rename it"):
        select([tmp_path])


def test_code_only_in_spaces(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("print()")
    assert [f.name for f in select([tmp_path], repo_type="space").files] == ["app.py"]
    with pytest.raises(DataError):
        select([tmp_path], repo_type="model")


# What the Hub says, in one line

REPLIES: list[tuple[str, str, int, str, type[FledglingError], str]] = [
    ("GET", "/api/models/org", 401, "Invalid credentials", ConfigError, r"set HF_TOKEN"),
    ("GET", "/api/models/org", 403, "no", ConfigError, r"may not write.*write access"),
    ("GET", "/api/models/org", 429, "slow down", Unavailable, r"429: slow down"),
    ("GET", "/api/models/org", 503, "down", Unavailable, r"503"),
    ("POST", "/api/repos/create", 403, "no rights in org", ConfigError, r"no rights in org.*write access"),
    ("POST", "/api/repos/create", 409, "name taken", ConfigError, r"no such model repository"),
    ("POST", "/preupload/", 401, "expired", ConfigError, r"HF_TOKEN"),
    ("POST", "/preupload/", 404, "gone", ConfigError, r"no such model repository"),
    ("POST", "/preupload/", 500, "oops", Unavailable, r"500: oops"),
    ("POST", "objects/batch", 403, "Private repository storage limit reached", Unavailable, r"no room.*free some"),
    ("POST", "objects/batch", 413, "huge", DataError, r"too large"),
    ("PUT", "/lfs/", 403, "expired link", ConfigError, r"expired link"),
    ("POST", "/commit/", 400, "bad file name", DataError, r"bad file name"),
    ("POST", "/commit/", 401, "expired", ConfigError, r"HF_TOKEN"),
    ("POST", "/commit/", 403, "protected branch", ConfigError, r"protected branch"),
    ("GET", "/api/models/org", 403, f"{TOKEN} has no access", ConfigError, r"<the token> has no access"),
    ("POST", "/commit/", 404, "gone", ConfigError, r"no such model repository"),
    ("POST", "/commit/", 413, "payload", DataError, r"too large"),
]


@pytest.mark.parametrize(("method", "path", "status", "said", "kind", "message"), REPLIES)
def test_replies(
    hub: Hub, folder: Path, method: str, path: str, status: int, said: str, kind: type[FledglingError], message: str
) -> None:
    hub.fail(method, path, status, error=said, body={"error": said, "url": f"{hub.url}/{REPO}"})
    with pytest.raises(FledglingError, match=message) as raised:
        upload(files_of(folder), Target(REPO), "first")
    assert type(raised.value) is kind
    assert "\n" not in str(raised.value)
    assert TOKEN not in str(raised.value)
    assert str(status) in str(raised.value) or status == 409
    if status in (401, 403, 404, 413):
        assert hub.count(method, path) == 1


def test_refused_token(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hub-test-token-9")
    with pytest.raises(ConfigError, match="HF_TOKEN") as raised:
        upload(files_of(folder), Target(REPO), "first")
    assert "hub-test-token-9" not in str(raised.value)
    assert hub.writes == []


def test_token_without_write_access(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", READER)
    with pytest.raises(ConfigError, match="write"):
        upload(files_of(folder), Target(REPO), "first")
    assert hub.count("POST", "/api/repos/create") == 1


def test_no_token(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ConfigError, match="HF_TOKEN"):
        upload(files_of(folder), Target(REPO), "first")
    assert hub.requests == []


def test_nobody_there(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        upload(files_of(folder), Target(REPO), "first")


def test_endpoint_that_is_none(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "hub.example")
    with pytest.raises(ConfigError, match=r"HF_ENDPOINT hub\.example"):
        upload(files_of(folder), Target(REPO), "first")


@pytest.mark.parametrize("body", [b"<html>sign in</html>", {}])
def test_page_instead_of_an_answer(hub: Hub, folder: Path, body: Any) -> None:
    hub.fail("GET", "/api/models/org", 200, body=body)
    with pytest.raises(Unavailable, match="no usable reply"):
        upload(files_of(folder), Target(REPO), "first")


def test_bad_repository_name(hub: Hub, folder: Path) -> None:
    with pytest.raises(ConfigError, match="repo_id org/a b"):
        upload(files_of(folder), Target("org/a b"), "first")


def test_card_that_the_hub_refuses(hub: Hub) -> None:
    broken = generated_file("README.md", b"---\na: [\n---\n\ntext\n")
    with pytest.raises(DataError, match=r"Invalid metadata in README\.md"):
        upload([broken], Target(REPO), "first")
    assert hub.count("POST", "/commit/") == 0


def test_several_transient_faults_are_outlasted(hub: Hub, folder: Path) -> None:
    for method, path in [
        ("GET", "/api/models/org"),
        ("POST", "/paths-info/"),
        ("POST", "/preupload/"),
        ("PUT", "/lfs/"),
    ]:
        hub.fail(method, path, 503, times=2)
    upload(files_of(folder), Target(REPO), "first")
    assert hub.repo(REPO).commits == ["first"]


# By hand


def test_by_hand(hub: Hub, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "marker.json"
    arguments = [folder, "--repo-id", "rows", "--repo-type", "dataset", "--auto-subdir", "--path-in-repo", "v1"]
    done = by_hand(*arguments, "--commit-message", "rows of May", "--revision", "may", "--private", "--out", out)
    assert done.returncode == 0, done.stderr
    repo = hub.repo("org/rows", "dataset")
    assert repo.private
    assert [commit.title for commit in repo.branches["may"]] == ["initial commit", "rows of May"]
    assert set(repo.branches["may"][-1].tree) - {".gitattributes"} == {
        f"v1/calls/{name}" for name in ("adapter_config.json", "adapter_model.safetensors", "sub/notes.md")
    }
    marker = json.loads(out.read_text())
    assert (marker["format"], marker["repo_id"], marker["repo_type"]) == ("fledgling/hub/1", "org/rows", "dataset")
    assert (marker["path_in_repo"], marker["private"], marker["manifest_sha256"]) == ("v1", True, None)
    assert marker["commit"] == repo.branches["may"][-1].oid
    first = out.read_bytes()
    again = by_hand(*arguments, "--revision", "may", "--out", out)
    assert again.returncode == 0, again.stderr
    assert "0 of 3 files sent" in again.stdout
    assert out.read_bytes() == first


def test_by_hand_space_and_paths_as_options(hub: Hub, tmp_path: Path) -> None:
    app, page = tmp_path / "app.py", tmp_path / "index.html"
    app.write_text("print()")
    page.write_text("<p>")
    done = by_hand("--path", app, page, "--repo-id", "org/demo", "--repo-type", "space", "--public")
    assert done.returncode == 0, done.stderr
    assert set(hub.repo("org/demo", "space").files) == {"app.py", "index.html"}
    assert not hub.repo("org/demo", "space").private


def test_by_hand_exit_codes(hub: Hub, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "marker.json"
    assert by_hand(folder).returncode == 2
    assert by_hand("--verdict", folder / "manifest.json").returncode == 2
    assert by_hand(folder, "--repo-id", REPO, "--out", out, HF_TOKEN="hub-test-token-9").returncode == 3
    assert by_hand(folder, "--repo-id", REPO, "--out", out, HF_ENDPOINT="http://127.0.0.1:9").returncode == 4
    (folder / ".env").write_text("x")
    refused = by_hand(folder, "--repo-id", REPO, "--out", out)
    assert refused.returncode == 5
    assert refused.stderr.startswith("error: ")
    assert not out.exists()


# What a reply may hold of the token, and what a lying Hub may say

CODED = {
    "whole": TOKEN,
    "in an address": "https://hub/x?token=" + quote(TOKEN.replace("-", "%2D"), safe="") + "&token=" + TOKEN,
    "in base64": base64.b64encode(b"u:" + TOKEN.encode()).decode(),
    "in base64 for addresses": base64.urlsafe_b64encode(b"user:" + TOKEN.encode()).decode(),
    "in hex": TOKEN.encode().hex(),
    "escaped": "".join(f"%{byte:02x}" for byte in TOKEN.encode()),
}


@pytest.mark.parametrize("form", CODED)
def test_no_form_of_the_token_is_shown(hub: Hub, folder: Path, form: str) -> None:
    said = f"access of {CODED[form]} is refused"
    hub.fail("GET", "/api/models/org", 403, error=said, body={"error": said})
    with pytest.raises(ConfigError, match="<the token>") as raised:
        upload(files_of(folder), Target(REPO), "first")
    shown = str(raised.value)
    assert CODED[form] not in shown
    assert TOKEN[:10] not in shown
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("before", range(200 - len(TOKEN) - 2, 202))
def test_a_token_that_is_cut_short_is_not_shown(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    long = "hf_" + "QwErTyUiOpAsDfGhJkLz" * 2
    monkeypatch.setenv("HF_TOKEN", long)
    said = "x" * before + " " + long + " has no access"
    hub.fail("GET", "/api/models/org", 403, error=said, body={"error": said})
    with pytest.raises(ConfigError) as raised:
        upload(files_of(folder), Target(REPO), "first")
    assert long[:6] not in str(raised.value)


def test_a_file_that_changes_after_it_was_listed_is_not_sent(hub: Hub, folder: Path) -> None:
    files = files_of(folder)
    (folder / "sub/notes.md").write_text("other\n")
    with pytest.raises(DataError, match=r"notes\.md: changed after it was listed; nothing was sent"):
        upload(files, Target(REPO), "first")
    (folder / "sub/notes.md").unlink()
    (folder / "sub/notes.md").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match=r"notes\.md: cannot be read by now"):
        upload(files, Target(REPO), "first")
    assert hub.requests == []


def test_what_was_looked_through_is_what_is_sent(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is replaced, and written over in place, right after the search for credentials."""
    secret = b"-----BEGIN " + b"OPENSSH PRIVATE KEY-----"
    look = uploading.refuse_secrets

    def then_replace(*given: Any) -> None:
        look(*given)
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            (folder / name).write_bytes(secret * 300)
        with open(folder / "sub/notes.md", "r+b") as stream:
            stream.write(secret)

    monkeypatch.setattr(uploading, "refuse_secrets", then_replace)
    upload(files_of(folder), Target(REPO), "first")
    assert hub.repo(REPO).files["sub/notes.md"] == b"notes\n"
    assert hub.repo(REPO).files["adapter_model.safetensors"] == bytes(range(256)) * 40
    assert not any(secret in request.body for request in hub.requests)


def test_a_redirect_takes_no_body_to_another_host(hub: Hub, folder: Path) -> None:
    with Hub() as other:
        for number, path in enumerate(("/commit/", "/preupload/", "/api/repos/create", "objects/batch")):
            hub.recover()
            hub.fail("POST", path, 307, headers={"Location": f"{other.url}/api/models/x"})
            with pytest.raises(ConfigError, match="redirect to another host"):
                upload(files_of(folder), Target(f"org/r{number}"), "first")
        assert other.requests == []


ASKED = [
    ("GET", "/api/models/"),
    ("POST", "/paths-info/"),
    ("POST", "/preupload/"),
    ("POST", "/commit/"),
    ("POST", "objects/batch"),
    ("PUT", "/lfs/"),
    ("POST", "/api/repos/create"),
]
LIES: list[Any] = [None, [], {}, 0, "", "text", True, [None], {"sha": None}, {"id": 5}, {"siblings": None}, 10**400]


@pytest.mark.parametrize("seed", range(int(os.environ.get("FLEDGLING_FUZZ", "200")) // 10))
def test_whatever_the_hub_says_is_an_error_in_words(hub: Hub, folder: Path, seed: int) -> None:
    lots = random.Random(f"hub {seed}")
    for _ in range(3):
        hub.recover()
        method, path = lots.choice(ASKED)
        body: Any = lots.choice(LIES)
        if lots.random() < 0.3:
            body = lots.choice([b"", b"\xff\xfe", b"{", b"[" * 5000, b"<html>" + TOKEN.encode(), b"1e999", b"NaN"])
        status = lots.choice([200, 200, 200, 201, 204, 301, 307, 400, 401, 402, 404, 409, 412, 422, 429, 500, 504, 599])
        headers = {"Location": lots.choice(["", "/", "http://[", "ftp://x/", "/" + "y" * 3000])} if status < 400 else {}
        hub.fail(method, path, status, body=body, headers=headers, error=f"said {TOKEN}")
        said = ""
        try:
            upload(files_of(folder), Target(f"org/x{seed}"), "first")
        except FledglingError as error:
            said = str(error)
        assert TOKEN not in said
        assert "\n" not in said
        hub.recover()
        assert said or set(hub.repo(f"org/x{seed}").files) == {file.name for file in files_of(folder)}
