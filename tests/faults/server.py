"""A chat-completions server that fails on demand: one fault by name, real sockets, and a count of everything.

By hand: python -m tests.faults.server '{"fault": "reset", "times": 1}' (prints its port)
GET /counts gives what it has seen; POST /fault replaces the fault.
"""

import asyncio
import email.policy
import json
import math
import random
import socket
import ssl
import struct
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FILTERED = {"code": "content_filter", "message": "filtered", "innererror": {"code": "ResponsibleAIPolicyViolation"}}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request, read whole."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


async def read_request(reader: asyncio.StreamReader) -> HttpRequest | None:
    """Read one HTTP/1.1 request with a Content-Length; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    return HttpRequest(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


class FaultServer:
    """`fault` is {"fault": name, "share": of the questions, "times": tries of one question, "only": one question, …}."""

    def __init__(self, fault: dict[str, Any] | None = None) -> None:
        self.fault = fault or {}
        self.reset()

    def reset(self) -> None:
        self.received = 0
        self.answered = 0
        self.tries: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self.tokens = [0, 0]
        self.times: list[float] = []
        self.refused: list[float] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.polls = 0
        self.window = (0.0, 0)  # until when, and how many requests remain

    def counts(self) -> dict[str, Any]:
        return {
            "received": self.received,
            "answered": self.answered,
            "questions": len(self.tries),
            "most_tries": max(self.tries.values(), default=0),
            "most_in_flight": self.most_in_flight,
            "tokens": self.tokens,
            "first_s": min(self.times, default=0),
            "last_s": max(self.times, default=0),
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await read_request(reader):
                if request.path.endswith("/counts"):
                    writer.write(http(200, json.dumps(self.counts())))
                elif "/files" in request.path or "/batches" in request.path:
                    await self.batch(request, writer)
                elif request.path.endswith("/fault"):
                    self.fault = json.loads(request.body)
                    writer.write(http(200, "{}"))
                else:
                    await self.answer(request, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        body = json.loads(request.body)
        question = str(body["messages"][-1]["content"])
        self.received += 1
        self.tries[question] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.times.append(asyncio.get_running_loop().time())
        if len(self.bodies) < 10:
            self.bodies.append(body)
            self.headers.append(dict(request.headers))
            self.paths.append(request.path)
        try:
            await asyncio.sleep(self.fault.get("latency_s", 0))
            name = self.fault.get("fault", "ok") if self._strikes(question) else "ok"
            await getattr(self, f"_{name}")(writer, body, question)
        finally:
            self.in_flight -= 1

    def _strikes(self, question: str) -> bool:
        if self.fault.get("only", question) != question:
            return False
        lot = random.Random(f"{self.fault.get('seed', 0)}:{question!a}").random()
        return lot < self.fault.get("share", 1) and self.tries[question] <= self.fault.get("times", 1 << 30)

    def completion(self, body: dict[str, Any], question: str, **message: Any) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": self.fault.get("model", "bench-1"),
            "system_fingerprint": "fp_1",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": f"answer to {question}"} | message,
                }
            ],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        }

    async def batch(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        """The files and batches endpoints; a batch is answered at the poll that `polls` names."""
        path = request.path.partition("?")[0]
        self.paths.append(f"{request.method} {request.path}")
        if request.method == "POST" and path.endswith("/files"):
            fields = form(request)
            assert fields["purpose"] == "batch"
            name = f"file-{len(self.files)}"
            self.files[name] = fields["file"]
            writer.write(http(200, json.dumps({"id": name, "object": "file", "purpose": "batch"})))
        elif request.method == "POST":
            value = json.loads(request.body)
            name = f"batch-{len(self.batches)}"
            self.batches[name] = value | {"id": name, "object": "batch", "status": "in_progress"}
            self.received += len(self.files[value["input_file_id"]].splitlines())
            if self.fault.get("create") == "lost":
                raise ConnectionError
            writer.write(http(200, json.dumps(self.batches[name])))
        elif path.endswith("/content"):
            writer.write(http(200, self.files[path.split("/")[-2]]))
        elif path.endswith("/batches"):
            writer.write(http(200, json.dumps({"data": list(self.batches.values())[::-1], "has_more": False})))
        else:
            self.polls += 1
            batch = self.batches[path.split("/")[-1]]
            if self.polls >= self.fault.get("polls", 1) and batch["status"] == "in_progress":
                self._complete(batch)
            writer.write(http(200, json.dumps(batch)))

    def _complete(self, batch: dict[str, Any]) -> None:
        rows = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        good, bad = [], []
        for row in rows[:: self.fault.get("every", 1)]:
            question = str(row["body"]["messages"][-1]["content"])
            status = self.fault.get("row_status", 200) if self._strikes(question) else 200
            body = (
                self.completion(row["body"], question) if status == 200 else {"error": {"code": self.fault.get("code")}}
            )
            line = json.dumps(
                {"custom_id": row["custom_id"], "response": {"status_code": status, "body": body}, "error": None}
            )
            (good if status == 200 else bad).append(line)
        self.answered += len(good)
        for key, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines:
                batch[key] = f"file-{len(self.files)}"
                self.files[batch[key]] = "\n".join(lines[::-1]) + "\n"
        batch["status"] = self.fault.get("end", "completed")

    async def _ok(self, writer: asyncio.StreamWriter, body: dict[str, Any], question: str) -> None:
        self._send(writer, self.completion(body, question))

    def _send(self, writer: asyncio.StreamWriter, value: Any, headers: dict[str, str] | None = None) -> None:
        self.answered += 1
        usage = value.get("usage") if isinstance(value, dict) else None
        for index, name in enumerate(("prompt_tokens", "completion_tokens")):
            self.tokens[index] += usage[name] if usage else 0
        writer.write(http(200, json.dumps(value), headers))

    async def _status(self, writer: asyncio.StreamWriter, body: dict[str, Any], question: str) -> None:
        self.refused.append(asyncio.get_running_loop().time())
        given = self.fault.get("body", {"error": {"message": "fault", "type": "fault", "code": self.fault.get("code")}})
        text = given if isinstance(given, str) else json.dumps(given)
        writer.write(http(self.fault["status"], text, self.fault.get("headers", {})))

    async def _crowd(self, writer: asyncio.StreamWriter, body: dict[str, Any], question: str) -> None:
        if self.in_flight > self.fault["limit"]:
            writer.write(http(429, "{}", self.fault.get("headers", {})))
        else:
            await asyncio.sleep(self.fault.get("work_s", 0))
            await self._ok(writer, body, question)

    async def _allowance(self, writer: asyncio.StreamWriter, body: dict[str, Any], question: str) -> None:
        """`limit` requests in each window of `window_s` that a request opens; every reply says what remains."""
        now = asyncio.get_running_loop().time()
        if now >= self.window[0]:
            self.window = (now + self.fault["window_s"], self.fault["limit"])
        end, remaining = self.window
        self.window = (end, max(0, remaining - 1))
        headers = {
            "x-ratelimit-remaining-requests": str(self.window[1]),
            "x-ratelimit-reset-requests": f"{math.ceil(1000 * (end - now))}ms",
        }
        if remaining:
            self._send(writer, self.completion(body, question), headers)
        else:
            self.refused.append(now)
            writer.write(http(429, "{}", headers))

    async def _body(self, writer: asyncio.StreamWriter, body: dict[str, Any], question: str) -> None:
        self.answered += 1
        text = self.fault["body"]
        writer.write(http(200, text.encode("latin-1") if self.fault.get("latin") else text))

    async def _flood(self, writer: asyncio.StreamWriter, body: dict[str, Any], question: str) -> None:
        """A reply that never ends."""
        writer.write(b"HTTP/1.1 200 -\r\ncontent-type: application/json\r\n\r\n")
        while True:
            writer.write(b" " * (1 << 20))
            await writer.drain()

    async def _choice(self, writer: asyncio.StreamWriter, body: dict[str, Any], question: str) -> None:
        value = self.completion(body, question, **self.fault.get("message", {}))
        value["choices"][0].update(self.fault.get("choice", {}))
        if self.fault.get("usage") == "missing":
            del value["usage"]
        if "tokens" in self.fault:
            names = ("prompt_tokens", "completion_tokens")
            value["usage"] = dict(zip(names, self.fault["tokens"], strict=True))
        value["choices"] *= self.fault.get("copies", 1)
        self._send(writer, value)

    async def _hang(self, writer: asyncio.StreamWriter, body: dict[str, Any], question: str) -> None:
        await asyncio.sleep(600)

    async def _hang_in_body(self, writer: asyncio.StreamWriter, body: dict[str, Any], question: str) -> None:
        writer.write(http(200, json.dumps(self.completion(body, question)))[:-40])
        await writer.drain()
        await asyncio.sleep(600)

    async def _drip(self, writer: asyncio.StreamWriter, body: dict[str, Any], question: str) -> None:
        for byte in http(200, json.dumps(self.completion(body, question))):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    async def _reset(self, writer: asyncio.StreamWriter, body: dict[str, Any], question: str) -> None:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        raise ConnectionError

    async def _short(self, writer: asyncio.StreamWriter, body: dict[str, Any], question: str) -> None:
        writer.write(http(200, json.dumps(self.completion(body, question)))[:-40])
        await writer.drain()
        raise ConnectionError

    async def _model_switch(self, writer: asyncio.StreamWriter, body: dict[str, Any], question: str) -> None:
        self._send(writer, self.completion(body, question) | {"model": "bench-2"})


def http(status: int, body: str | bytes, headers: dict[str, str] | None = None) -> bytes:
    data = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return (
        f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\n{extra}content-length: {len(data)}\r\n\r\n".encode()
        + data
    )


def form(request: HttpRequest) -> dict[str, str]:
    """The fields of a multipart form (RFC 7578)."""
    kind = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(kind + request.body, policy=email.policy.HTTP)
    return {
        str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True).decode()
        for part in message.iter_parts()
    }


class Background:
    """The server on its own thread, for tests that ask within the process."""

    def __init__(self, fault: dict[str, Any] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.server = FaultServer(fault)
        self._tls = tls
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def __enter__(self) -> "Background":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()

    async def _main(self) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        listener = await asyncio.start_server(self.server.serve, "127.0.0.1", 0, limit=1 << 20, ssl=self._tls)
        self.port = listener.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._ready.set()
        await self._done.wait()
        listener.close()


async def main() -> None:
    server = FaultServer(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=1 << 20)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
