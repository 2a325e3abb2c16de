"""Attacks on what lies between requests and below files: framing, proxies' headers, watchers, links and pipes."""

import gzip
import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from fledgling.graph.driver import identity
from tests.console.conftest import exchange, lines, put, receive, write_track

SELECT = b'{"modelId":"embedded"}'


def conversation(port, data, seconds=4.0):
    """All that comes back for some bytes, until the other side closes or is silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        got = b""
        try:
            while part := connection.recv(65536):
                got += part
        except TimeoutError:
            pass
        return got


def head(served, method="POST", path="/api/slm/select", *more):
    first = [f"{method} {path} HTTP/1.1", f"Host: {served.host}", "Content-Type: application/json", *more]
    return ("\r\n".join(first) + "\r\n\r\n").encode("latin-1")


@pytest.mark.parametrize(
    "more",
    [
        ["Content-Length: 22", "Transfer-Encoding: chunked"],
        ["Content-Length: 22", "Content-Length: 23"],
        ["Content-Length: +22"],
        ["Content-Length: 0x16"],
        ["Content-Length: 22, 23"],
        ["Content-Length: -1"],
        ["Content-Length: 2 2"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding:\x0bchunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Content-Length : 22"],
        [" Content-Length: 22"],
        ["Content-Length: 22\x00"],
        ["X: a\nContent-Length: 22"],
        ["X\x00Y: a"],
    ],
    ids=range(17),
)
def test_framings_that_two_programs_read_differently_select_nothing(served, more):
    """A proxy that believes one length and a server that believes the other let a second request through."""
    smuggled = b"POST /api/slm/select HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n"
    got = conversation(served.port, head(served, "POST", "/api/slm/select", *more) + SELECT + smuggled)
    assert served.selection() is None
    assert b" 200 " not in got.split(b"\r\n", 1)[0]


@pytest.mark.parametrize("size", [b"0x5", b"-5", b"5;a=b\n", b"g", b"FFFFFFFFFFFFFFFFF", b""])
def test_chunks_of_no_size(served, size):
    data = head(served, "POST", "/api/slm/select", "Transfer-Encoding: chunked")
    got = conversation(served.port, data + size + b"\r\n" + SELECT + b"\r\n0\r\n\r\n")
    assert served.selection() is None
    assert b" 200 " not in got.split(b"\r\n", 1)[0]


def test_each_request_of_a_connection_is_judged_alone(served):
    ours = f"GET /health HTTP/1.1\r\nHost: {served.host}\r\n\r\n".encode()
    theirs = b"GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    got = conversation(served.port, ours + theirs)
    assert got.count(b"HTTP/1.1 200") == 1
    assert got.count(b"HTTP/1.1 400") == 1


def test_a_connection_is_used_again(served):
    ours = f"GET /health HTTP/1.1\r\nHost: {served.host}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        for cut in (0, 5, len(ours) - 3, len(ours) - 1):  # in two pieces, also between CR and LF
            connection.sendall(ours[:cut])
            time.sleep(0.1)
            connection.sendall(ours[cut:])
            assert receive(connection).status == 200, cut
        connection.sendall(ours.replace(b"\r\nHost", b"\nHost"))
        assert receive(connection).status == 400


@pytest.mark.parametrize("kind", ["text/plain", "application/json"])
def test_the_body_of_a_refused_request_is_no_request(served, kind):
    inner = f"POST /api/slm/select HTTP/1.1\r\nHost: {served.host}\r\nContent-Type: application/json\r\n".encode()
    inner += b"Content-Length: 22\r\nConnection: close\r\n\r\n" + SELECT
    outer = f"POST /api/slm/select HTTP/1.1\r\nHost: evil.example\r\nContent-Type: {kind}\r\n"
    got = conversation(served.port, f"{outer}Content-Length: {len(inner)}\r\n\r\n".encode() + inner)
    assert got.count(b"HTTP/1.1") == 1
    assert served.selection() is None
    get = f"GET /health HTTP/1.1\r\nHost: {served.host}\r\nContent-Length: {len(inner)}\r\n\r\n".encode()
    conversation(served.port, get + inner)
    assert served.selection() is None


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Host": "127.0.0.1:{port}", "Host": "evil.example"},
        {"Forwarded": "host=127.0.0.1:{port}", "Host": "evil.example"},
        {"X-Forwarded-Proto": "https", "Origin": "https://127.0.0.1:{port}"},
        {"X-Forwarded-For": "127.0.0.1", "Origin": "http://evil.example"},
        {"X-Real-IP": "127.0.0.1", "Origin": "null"},
    ],
    ids=range(5),
)
def test_what_a_proxy_would_say_counts_for_nothing(served, headers):
    sent = {name: value.format(port=served.port) for name, value in headers.items()}
    assert served.ask("POST", "/api/slm/select", {"modelId": "embedded"}, sent).status in (400, 403)
    assert served.selection() is None


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a_method_is_the_one_of_the_request(own, name):
    own.start()
    own.ask("POST", "/api/hf/token", {"token": "hf_kept"})
    assert own.ask("GET", "/api/hf/token", headers={name: "DELETE"}).json["hasToken"] is True
    assert own.ask("GET", "/api/hf/token?_method=DELETE").json["hasToken"] is True


@pytest.mark.parametrize("name", ["X-Original-URL", "X-Rewrite-URL", "X-Original-Uri", "Destination"])
def test_an_address_is_the_one_of_the_request(served, name):
    assert served.get("/health", **{name: "/api/hf/token"}).json == {"status": "ok"}
    assert served.get("/nothing", **{name: "/health"}).status == 404


@pytest.mark.parametrize(
    "host",
    [
        "[::1]",
        "::1:{port}",
        "[0:0:0:0:0:0:0:1]:{port}",
        "[::1%lo]:{port}",
        "[::1%25lo]:{port}",
        "[::]:{port}",
        "[::1]:{port}.evil.example",
        "[fe80::1]:{port}",
        "[::1]evil:{port}",
        "127.0.0.1:{port}#evil.example",
        "127.0.0.1:{port}/evil.example",
        "127.0.0.1:{port}\tx",
        "①②⑦.0.0.1:{port}",
        "127。0。0。1:{port}",
        "locaｌhost:{port}",
    ],
)
def test_names_that_only_look_like_ours(served, host):
    written = host.format(port=served.port).encode().decode("latin-1")
    assert served.get("/api/slm/models", Host=written).status == 400


def test_each_of_our_names_is_an_origin_of_its_own(served):
    """A page of one name that was rebound cannot speak for another."""
    for name, other in (("127.0.0.1", "localhost"), ("localhost", "[::1]"), ("[::1]", "127.0.0.1")):
        host, origin = f"{name}:{served.port}", f"http://{other}:{served.port}"
        assert served.get("/health", Host=host, Origin=origin).status == 403
        assert served.get("/health", Host=host, Origin=f"http://{name}:{served.port}").status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
        b"GET /health HTTP/9.9\r\nHost: {host}\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET  /health HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET /health HTTP/1.1 x\r\nHost: {host}\r\n\r\n",
        b"\r\n\r\n\r\nGET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /he\x00alth HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET /he\xffalth HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: {host}\r\n evil.example\r\n\r\n",
        b"GET /health HTTP/1.1\rHost: {host}\r\r",
    ],
    ids=range(11),
)
def test_first_lines_that_are_none(served, data):
    got = conversation(served.port, data.replace(b"{host}", served.host.encode()), 2)
    assert b'"status":"ok"' not in got.replace(b" ", b"")
    assert not got or got.startswith(b"HTTP/1.1 4"), got[:80]
    assert served.get("/health").status == 200


def test_another_protocol_is_not_switched_to(served):
    for protocol in ("h2c", "websocket", "TLS/1.0"):
        reply = served.get("/health", Connection="Upgrade, HTTP2-Settings", Upgrade=protocol)
        assert reply.status == 200


def test_nobody_is_asked_to_send_what_is_refused(served):
    expect = "Expect: 100-continue"
    foreign = head(served, "POST", "/api/slm/select", expect, "Content-Length: 22")
    foreign = foreign.replace(served.host.encode(), b"evil.example")
    assert b"100 Continue" not in conversation(served.port, foreign, 2)
    large = head(served, "POST", "/api/slm/select", expect, "Content-Length: 90000000")
    got = conversation(served.port, large, 2)
    assert b"100 Continue" not in got
    assert got.startswith(b"HTTP/1.1 413")


def test_compressed_bodies_are_not_unpacked(served):
    body = gzip.compress(b'{"modelId":"' + b"x" * 40_000_000 + b'"}')
    reply = served.ask("POST", "/api/slm/select", body, {"Content-Encoding": "gzip"})
    assert reply.status in (400, 415)
    assert served.selection() is None


def test_cookies_of_another_site_count_for_nothing(own):
    """Cookies know no port: any server on this machine can set some for ours."""
    own.env["FLEDGLING_CONSOLE_TOKEN"] = "s3cret-of-the-console"
    own.start()
    for cookie in ("token=s3cret-of-the-console", "Authorization=Bearer s3cret-of-the-console", "a=" + "b" * 8000):
        assert own.get("/api/slm/models", Cookie=cookie).status == 401
    for query in ("token", "auth-token", "access_token", "Authorization"):
        assert own.get(f"/api/slm/models?{query}=s3cret-of-the-console").status == 401
    reply = own.get("/", Authorization="Bearer s3cret-of-the-console", Cookie="lang=<script>")
    assert reply.status == 200
    assert b"s3cret" not in reply.body
    assert reply.header("set-cookie") is None


@pytest.mark.parametrize(
    "given",
    [
        "Bearer s3cret",
        "Bearer ",
        "Bearer s3cret-of-the-consoleX",
        "Bearer S3CRET-OF-THE-CONSOLE",
        "s3cret-of-the-console",
        "Digest s3cret-of-the-console",
        "Basic s3cret-of-the-console",
        "Basic Og==",
        "Bearer s3cret-of-the-console, Bearer x",
        "Bearer \xe9",
    ],
)
def test_what_is_not_the_token(own, given):
    own.env["FLEDGLING_CONSOLE_TOKEN"] = "s3cret-of-the-console"
    own.start()
    assert own.get("/", Authorization=given).status == 401


def run_of(served, name="20260101-000000-1", **fields):
    folder = served.folder / ".fledgling/runs" / name
    record = {"format": "fledgling/run/1", "run": name, "argv": ["snakemake"], "pid": 1, "driver": "1:1:x"}
    record["host"] = socket.gethostname()
    put(folder / "run.json", {**record, "start": "2026-01-01T00:00:00+00:00", **fields})
    return folder


@pytest.fixture
def watched(own):
    """A console over a run that goes on: this test's own process drives it."""
    own.start()
    folder = run_of(own, pid=os.getpid(), driver=identity(os.getpid()))
    put(folder / "events.jsonl", "")
    return own, folder


def test_watchers_are_few_and_hinder_nobody(watched):
    own, folder = watched
    ask = f"GET /api/runs/{folder.name}/events HTTP/1.1\r\nHost: {own.host}\r\n\r\n".encode()
    held = [socket.create_connection(("127.0.0.1", own.port), timeout=20) for _ in range(120)]
    try:
        for connection in held:
            connection.sendall(ask)
        time.sleep(3)
        watching = 0
        for connection in held:
            first = connection.recv(65536)
            if first.startswith(b"HTTP/1.1 200"):
                more = first.partition(b"\r\n\r\n")[2] or connection.recv(65536)
                watching += b"data: {" in more
        assert 1 <= watching <= 20
        began = time.monotonic()
        assert own.get("/api/verdicts").status == 200
        assert time.monotonic() - began < 2
    finally:
        for connection in held:
            connection.close()
    deadline = time.monotonic() + 15
    while True:  # who has gone makes room
        with socket.create_connection(("127.0.0.1", own.port), timeout=20) as connection:
            connection.sendall(ask)
            if connection.recv(65536).startswith(b"HTTP/1.1 200"):
                break
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_many_plans_at_once_leave_the_pages_alone(own):
    own.start()
    answers = []

    def one():
        answers.append(own.get("/api/plan").status)

    threads = [threading.Thread(target=one) for _ in range(60)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    began = time.monotonic()
    assert own.get("/api/verdicts").status == 200
    took = time.monotonic() - began
    for thread in threads:
        thread.join()
    assert took < 3
    assert len(answers) == 60
    assert answers.count(503) >= 50


def test_a_log_is_read_in_the_folder_of_logs_alone(watched, tmp_path_factory):
    own, folder = watched
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.txt"
    secret.write_text("of-nobodys-business")
    put(own.folder / "logs/plain.log", "plain")
    (own.folder / "logs/link.log").symlink_to(secret)
    (own.folder / "logs/away").symlink_to(secret.parent)
    os.mkfifo(own.folder / "logs/pipe.log")
    named = ["logs/link.log", "logs/away/secret.txt", "logs/pipe.log", "logs/../config/config.yaml", str(secret)]
    for number, log in enumerate(named):
        event = {"at": "2026-01-01T00:00:00+00:00", "event": "job_started", "job": number, "rule": "ask", "logs": [log]}
        put(folder / "events.jsonl", json.dumps({**event, "wildcards": {}, "outputs": []}) + "\n")
        os.utime(folder / "events.jsonl", (number + 1, number + 1))
        reply = own.get(f"/api/runs/{folder.name}/log")
        assert reply.status == 200
        assert b"business" not in reply.body, log
        assert b"alpha" not in reply.body, log


def test_links_and_pipes_among_the_results_are_not_followed(own, tmp_path_factory):
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.json"
    secret.write_text(json.dumps({"deploy": "slm", "statement": "of-nobodys-business", "title": "of-nobodys-business"}))
    for track, make in (("linked", secret), ("piped", None)):
        write_track(own.folder, track, 3)
        for kind in ("verdict", "report"):
            place = own.folder / f"results/{kind}/{track}.{'html' if kind == 'report' else 'json'}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(make) if make else os.mkfifo(place)
    data = own.folder / "results/data/linked/test.jsonl"
    data.unlink()
    data.symlink_to(secret)
    own.start()
    for path in ("/", "/api/verdicts", "/report/linked.html", "/report/piped.html", "/tracks/linked/rows"):
        reply = own.get(path)
        assert reply.status in (200, 404), path
        assert b"business" not in reply.body, path


@pytest.mark.parametrize(
    "verdict",
    [
        '{"deploy": "slm", "statement": NaN, "title": Infinity}',
        "[" * 100_000,
        '{"deploy": ["slm"], "statement": {"a": 1}, "caveats": 7, "comparisons": []}',
        '{"deploy": "\\ud800", "statement": "\\u0000\\u202e", "title": null}',
        '{"title": "=HYPERLINK(\\"http://evil\\")", "statement": "%0d%0aSet-Cookie: a=b"}',
        "\xff\xfe",
    ],
    ids=range(6),
)
def test_a_verdict_of_any_content_is_shown_or_said_to_be_broken(own, verdict):
    put(own.folder / "results/verdict/structured.json", verdict.encode("latin-1"))
    own.start()
    page, api = own.get("/"), own.get("/api/verdicts")
    assert (page.status, api.status) == (200, 200)
    assert own.get("/tracks/structured/rows").status == 200
    json.loads(api.body, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert page.header("set-cookie") is None


def test_rows_of_any_content_are_text(own):
    """Formulas, terminal sequences, closed scripts and templates in rows and replies."""
    nasty = ['=cmd|"/c calc"!A1', "\x1b]0;x\x07", "</script><script>alert(1)</script>", "${7*7}#{7*7}", "\u2028\u2029"]
    write_track(own.folder, "structured", 5)
    rows = [
        {"id": text, "group": "g", "messages": [{"role": "user", "content": text}], "answer": {text: text}}
        for text in nasty
    ]
    put(own.folder / "results/data/structured/test.jsonl", lines(rows))
    own.start()
    page = own.get("/tracks/structured/rows")
    assert page.status == 200
    assert b"<script>alert" not in page.body
    api = own.get("/api/tracks/structured/rows/2")
    assert api.header("content-type").startswith("application/json")
    assert api.json["id"] == nasty[2]


def test_a_run_that_only_claims_to_be_one_is_not_stopped(own):
    """run.json is a file like any other: whoever writes one must not have us end his choice of processes."""
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True, cwd="/")
    try:
        own.start()
        for number, driver in enumerate(["", f"{victim.pid}:1:x", f"{victim.pid}::", "x", identity(victim.pid)]):
            folder = run_of(own, f"20260101-00000{number}-{victim.pid}", pid=victim.pid, driver=driver)
            put(folder / "events.jsonl", "")
            assert own.ask("POST", f"/api/runs/{folder.name}/stop", {}).status == 409, driver
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_answers_leak_nothing_to_who_measures(served):
    """The same refusal, whether a thing is there or not, for whoever may not ask."""
    there = served.ask("GET", "/report/structured.html", headers={"Origin": "http://evil.example"})
    gone = served.ask("GET", "/report/nothing.html", headers={"Origin": "http://evil.example"})
    assert (there.status, there.body) == (gone.status, gone.body)


def test_a_half_closed_connection_ends(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=15) as connection:
        connection.sendall(f"GET /health HTTP/1.1\r\nHost: {served.host}\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection).status == 200
        assert connection.recv(1) == b""


def test_it_answers_after_all_of_this(served):
    assert exchange(served.port, f"GET /health HTTP/1.1\r\nHost: {served.host}\r\n\r\n".encode()).status == 200
