"""What existing clients ask, who may start a console and where, and what it keeps when it is killed."""

import json
import os
import shlex
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.console.conftest import NASTY, Served, put, write_adapter
from tests.servers.hub import TOKEN

CURL = """\
curl http://localhost:4000/api/slm/models
curl -X POST http://localhost:4000/api/slm/select -H "Content-Type: application/json" -d '{"modelId":"hf-phi-4-mini"}'
curl -X POST http://localhost:4000/api/hf/token -H "Content-Type: application/json" -d '{"token":"hub-test-token-1"}'
curl -X POST http://localhost:4000/api/hf/upload -H "Content-Type: application/json" -d '{"repoId":"org/slm-adapters","paths":["results/adapters/toolcall"],"private":true,"autoSubdir":true,"commitMessage":"sync adapters via API"}'
curl http://localhost:4000/health
"""
TOKEN_OF_REQUESTS = "0123456789abcdef0123"


def test_the_five_lines_that_clients_use(own, hub):
    own.start()
    answers = []
    for line in CURL.splitlines():
        command = shlex.split(line.replace(":4000", f":{own.port}"))
        answers.append(json.loads(subprocess.run([*command, "-s", "-f"], capture_output=True, check=True).stdout))
    models, selected, kept, uploaded, health = answers
    assert models.keys() == {"models", "selectedModelId", "selectedAt"}
    for model in models["models"]:
        assert {"id", "label", "source", "available", "location"} <= model.keys()
        assert model.keys() <= {
            "id", "label", "source", "modelId", "path", "description", "default", "available", "location", "reason",
        }  # fmt: skip
        assert model["source"] in ("huggingface", "local_adapter", "local")
        assert model["available"] or model["reason"]
    assert {model["id"] for model in models["models"]} == {
        "hf-phi-4-mini", "adapter-structured", "adapter-toolcall", "embedded",
    }  # fmt: skip
    assert [model["id"] for model in models["models"] if model.get("default")] == ["hf-phi-4-mini"]
    assert (models["selectedModelId"], models["selectedAt"]) == ("embedded", None)
    assert selected["ok"] is True
    assert selected["selection"].keys() == {"modelId", "selectedAt"}
    assert selected["selection"]["modelId"] == "hf-phi-4-mini"
    assert json.loads((own.folder / "model_selection.json").read_text()) == selected["selection"]
    assert kept.keys() == {"ok", "updatedAt"}
    assert uploaded["ok"] is True
    assert uploaded["result"].keys() == {"repoId", "repoType", "private", "paths", "commit", "url", "durationMs"}
    assert health == {"status": "ok"}
    assert own.get("/api/slm/models").json["selectedModelId"] == "hf-phi-4-mini"


def test_what_cannot_be_chosen(own):
    own.start()
    for model, status in (("nothing", 404), ("adapter-structured", 409), ("../x", 404)):
        assert own.ask("POST", "/api/slm/select", {"modelId": model}).status == status
        assert own.selection() is None
    own.ask("POST", "/api/slm/select", {"modelId": "embedded"})
    own.ask("POST", "/api/slm/select", {"modelId": "nothing"})
    assert own.selection() == "embedded"


def test_an_adapter_that_is_chosen_is_kept_as_it_was(own):
    def kept():
        (place,) = json.loads((own.folder / ".fledgling/bases/adapter-toolcall.json").read_text())["merge"]
        return (own.folder / place / "adapter_model.safetensors").read_bytes()

    own.start()
    assert own.ask("POST", "/api/slm/select", {"modelId": "adapter-toolcall"}).status == 200
    before = kept()
    write_adapter(own.folder / "results/adapters/toolcall", weights=b"trained again")
    assert kept() == before
    own.ask("POST", "/api/slm/select", {"modelId": "adapter-toolcall"})
    assert kept() == b"trained again"


@pytest.mark.parametrize("base", ["http://evil.example/m", "../../x", "attacker/repo"])
def test_an_adapter_of_another_base_cannot_be_chosen(own, base):
    write_adapter(own.folder / "results/adapters/toolcall", base=base)
    own.start()
    reply = own.ask("POST", "/api/slm/select", {"modelId": "adapter-toolcall"})
    assert (reply.status, own.selection()) == (409, None)


@pytest.mark.slow
def test_200_selections_at_once_and_a_kill(own):
    own.start()
    stop = threading.Event()
    seen = set()

    def look():
        while not stop.is_set():
            try:
                seen.add(json.loads((own.folder / "model_selection.json").read_bytes())["modelId"])
            except FileNotFoundError:
                continue

    def choose(number):
        try:
            own.ask("POST", "/api/slm/select", {"modelId": ("embedded", "hf-phi-4-mini")[number % 2]})
        except OSError:
            pass  # killed

    watcher = threading.Thread(target=look)
    watcher.start()
    threads = [threading.Thread(target=choose, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    own.kill()
    for thread in threads:
        thread.join()
    stop.set()
    watcher.join()
    assert seen <= {"embedded", "hf-phi-4-mini"}
    own.start()
    assert own.get("/api/slm/models").json["selectedModelId"] in ("embedded", "hf-phi-4-mini")
    assert not [
        name for name in os.listdir(own.folder) if "model_selection" in name and name != "model_selection.json"
    ] or (own.ask("POST", "/api/slm/select", {"modelId": "embedded"}).status == 200)


BROKEN = [
    "",
    "{",
    "\ufeff{}",
    "[]",
    "null",
    '{"modelId": 7}',
    '{"modelId": "a", "modelId": "b"}',
    "\x00",
    '{"modelId":"<b>"}',
]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_selection_that_broke_leaves_the_last_good_one(own, content):
    own.start()
    own.ask("POST", "/api/slm/select", {"modelId": "hf-phi-4-mini"})
    put(own.folder / "model_selection.json", content)
    found = own.get("/api/slm/models").json
    assert found["selectedModelId"] == "hf-phi-4-mini"
    assert "model_selection.json" in found["problems"][0]
    assert own.get("/models").status == 200
    own.ask("POST", "/api/slm/select", {"modelId": "embedded"})
    assert own.get("/api/slm/models").json["selectedModelId"] == "embedded"


ENTRY = {"id": "a", "label": "A", "source": "local"}
CATALOGS = {
    "markup": [ENTRY | {"id": "x", "label": NASTY, "description": "javascript:alert(1)"}],
    "long label": [ENTRY | {"label": "L" * 100_000}],
    "right to left": [ENTRY | {"label": "\u202etxt.exe"}],
    "twice": [ENTRY, ENTRY],
    "extra keys": [ENTRY | {"trustRemoteCode": True}],
    "no id": [{"label": "x"}, 7, None, [], "x", {"id": 7}, {"id": "../x"}, ENTRY],
    "branch": [ENTRY | {"source": "huggingface", "modelId": "a/b", "revision": "main"}],
    "address": [ENTRY | {"source": "huggingface", "modelId": "http://evil/x", "revision": "0" * 40}],
    "outside": [ENTRY | {"path": "/etc"}, ENTRY | {"id": "b", "path": "../.."}],
    "adapter of nothing": [ENTRY | {"source": "local_adapter", "path": "results/adapters/toolcall", "base": "b"}],
    "its own base": [ENTRY | {"source": "local_adapter", "path": "results/adapters/toolcall", "base": "a"}],
    "steps": [ENTRY | {"steps": -1}, ENTRY | {"id": "b", "steps": True}],
    "many": [ENTRY | {"id": f"m{n}"} for n in range(10_000)],
}


@pytest.mark.parametrize("name", CATALOGS)
def test_catalogs_that_are_not_as_they_should_be(own, name):
    put(own.folder / "config/model_catalog.json", CATALOGS[name])
    own.start()
    found = own.get("/api/slm/models").json
    assert found["models"]
    page = own.get("/models")
    assert page.status == 200
    assert b"<img src=x" not in page.body
    assert len(page.body) < 500_000
    if name not in ("markup", "right to left", "many"):
        assert found.get("problems") or all(not model["available"] and model["reason"] for model in found["models"])


@pytest.mark.parametrize("content", ["{", '{"models": 7}', "7", "\ufeff[]", "", "[" * 5000])
def test_a_catalog_that_broke_leaves_the_last_good_one(own, content):
    own.start()
    before = own.get("/api/slm/models").json["models"]
    put(own.folder / "config/model_catalog.json", content)
    found = own.get("/api/slm/models").json
    assert found["models"] == before
    assert "model_catalog.json" in found["problems"][0]
    assert own.get("/models").status == own.get("/").status == 200


def refused(folder, *options, **env):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FLEDGLING_")}
    done = subprocess.run(
        [sys.executable, "-m", "fledgling.console", *options],
        cwd=folder,
        env=clean | env,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


def test_where_a_console_does_not_start(own):
    own.start()
    code, said = refused(own.folder, "--port", str(own.port))
    assert code == 3
    assert "cannot be used" in said
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        code, said = refused(own.folder, "--host", host, "--port", "0")
        assert code == 3
        assert "--auth-token-file" in said
    code, said = refused(own.folder, "--port", "0", FLEDGLING_CONSOLE_TOKEN="short")
    assert (code, "at least 16" in said) == (3, True)
    code, said = refused(own.folder / "results", "--port", "0")
    assert (code, "no Snakefile" in said) == (3, True)
    code, said = refused(own.folder, "--port", "0", "--allow-host", "console.example")
    assert (code, "needs" in said or "lets" in said) == (3, True)


def test_it_listens_on_this_machine_alone(served):
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [line[1] for line in listening if line[3] == "0A" and int(line[1].split(":")[1], 16) == served.port]
    assert ours == [f"0100007F:{served.port:04X}"]


def test_with_a_token_nothing_answers_without_it(own):
    own.env["FLEDGLING_CONSOLE_TOKEN"] = TOKEN_OF_REQUESTS
    own.start()
    for path in ("/", "/health", "/static/app.js", "/api/slm/models", "/nothing"):
        assert own.get(path).status == 401
    for wrong in ("Bearer x", "Bearer ", "Basic eDp5", "Basic !", TOKEN_OF_REQUESTS, f"Token {TOKEN_OF_REQUESTS}"):
        assert own.get("/health", Authorization=wrong).status == 401
    assert own.get("/health", Authorization=f"Bearer {TOKEN_OF_REQUESTS}").status == 200
    import base64

    basic = base64.b64encode(f"any:{TOKEN_OF_REQUESTS}".encode()).decode()
    assert own.get("/", Authorization=f"Basic {basic}").status == 200
    assert own.get("/", Host="evil.example", Authorization=f"Bearer {TOKEN_OF_REQUESTS}").status == 400
    assert TOKEN_OF_REQUESTS.encode() not in own.log.read_bytes()


def test_behind_a_proxy(own):
    own.env["FLEDGLING_CONSOLE_TOKEN"] = TOKEN_OF_REQUESTS
    own.options = ("--allow-host", "console.example")
    own.start()
    token = {"Authorization": f"Bearer {TOKEN_OF_REQUESTS}", "Host": "console.example"}
    assert own.get("/health", **token).status == 200
    assert own.get("/health", **token, Origin="https://console.example").status == 200
    assert own.get("/health", **token, Origin="http://console.example").status == 403
    assert own.get("/health", **token | {"Host": "console.example:4000"}).status == 400


def test_a_folder_that_everybody_can_write_is_said(own):
    own.folder.chmod(own.folder.stat().st_mode | stat.S_IWOTH)
    own.start()
    assert "can be written by everybody" in own.log.read_text()
    assert b"can be written by everybody" in own.get("/").body


def test_nothing_is_built_yet(root, tmp_path):
    import shutil

    shutil.copytree(root / "config", tmp_path / "config")
    (tmp_path / "Snakefile").write_text("rule all:\n")
    empty = Served(tmp_path).start()
    try:
        for path in ("/", "/runs", "/training", "/models", "/hub", "/spend", "/tracks/toolcall/rows"):
            assert empty.get(path).status == 200, path
        assert b"Not built yet" in empty.get("/").body
        assert b"no test rows are built yet" in empty.get("/tracks/toolcall/rows").body
        assert {card["state"] for card in empty.get("/api/verdicts").json["verdicts"]} == {"none"}
        put(tmp_path / "results/verdict/toolcall.json", "{half")
        assert b"cannot be read" in empty.get("/").body
        put(tmp_path / "config/config.yaml", "tracks: [")
        assert empty.get("/").status == 200
        assert b"config.yaml" in empty.get("/").body
    finally:
        empty.end()


def test_it_idles(own):
    own.start()
    own.get("/")
    usage = f"/proc/{own.process.pid}/stat"

    def ticks():
        fields = Path(usage).read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(5)
    assert (ticks() - before) / os.sysconf("SC_CLK_TCK") < 0.05


def test_vendored_files_are_what_they_were(root):
    import hashlib

    folder = root / "src/fledgling/console/static"
    digests = {line.split()[1]: line.split()[0] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert digests.keys() == {"uplot.js", "uplot.css", "uplot.LICENSE"}
    for name, digest in digests.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_port_4000_is_where_it_is_found(own):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 4000))
        except OSError:
            pytest.skip("port 4000 is in use on this machine")
    own.start(4000)
    assert own.port == 4000
    assert own.ask("POST", "/api/hf/token", {"token": TOKEN}).status == 200
    for host in ("127.0.0.1:4000", "localhost:4000", "[::1]:4000"):
        assert own.get("/health", Host=host).status == 200
