"""A simulated teacher: the chat-completions protocol over loopback HTTP, answers from gold, mistakes at a stated rate."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

from fledgling.files import digest
from fledgling.prompting.turns import messages, schema_place
from fledgling.records import read_examples
from fledgling.teacher.prices import prompt_tokens, text_tokens

RETRY_AFTER_MS = 20
NO_CALL = "None of the tools fits this request."


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request, read whole."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One HTTP response with a JSON body."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Simulated:
    """Answers the requests of one data file.

    What it answers is a function of the request and the rates alone, so the order of calls and
    repetitions change nothing; only which calls are refused with 429 depends on how often they came.
    """

    def __init__(
        self, data: str | PathLike[str], settings: Mapping[str, Any], *, model: str, prompt: Mapping[str, Any]
    ) -> None:
        self.model = model if "simulated" in model else f"{model}-simulated"
        self._settings = settings
        self._tries: dict[str, int] = {}
        self._gold: dict[str, Any] = {}
        for example in read_examples(data):
            self._gold[_question(messages(example, schema_place(prompt)), example.tools)] = example.answer

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer one HTTP request."""
        if request.method != "POST" or not request.path.partition("?")[0].endswith("/chat/completions"):
            return _error(404, "not_found", f"no such address: {request.path}")
        body = json.loads(request.body)
        question = _question(body["messages"], body.get("tools"))
        if question not in self._gold:
            return _error(400, "unknown_row", "the simulated teacher knows the rows of its data file only")
        await asyncio.sleep(self._settings.get("latency_s", 0))
        self._tries[question] = self._tries.get(question, 0) + 1
        if self._chance("rate_429", f"{question}:{self._tries[question]}"):
            return HttpResponse(
                429,
                {"error": {"code": "rate_limit_exceeded", "type": "requests", "message": "Rate limit reached."}},
                {"retry-after": "1", "retry-after-ms": str(RETRY_AFTER_MS)},
            )
        if self._chance("content_filter_rate", question):
            return _error(400, "content_filter", "The response was filtered.")
        answer = self._gold[question]
        if self._chance("error_rate", question):
            answer = mistaken(answer, body.get("tools") or [], random.Random(question))
        return HttpResponse(200, self._completion(body, question, answer), {})

    def _chance(self, rate: str, what: str) -> bool:
        return random.Random(f"{rate}:{what}").random() < self._settings.get(rate, 0)

    def _completion(self, body: Mapping[str, Any], question: str, answer: Any) -> dict[str, Any]:
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or 1 << 30
        message = _message(answer, question, body.get("tools") or [])
        calls = [call["function"] for call in message.get("tool_calls", [])]
        said = message["content"] or " ".join(f"{call['name']} {call['arguments']}" for call in calls)
        finish, tokens = "tool_calls" if calls else "stop", text_tokens(said)
        if tokens > limit:
            message, finish, tokens = {"role": "assistant", "content": said[: limit * 2]}, "length", limit
        prompt = prompt_tokens(body)
        return {
            "id": f"chatcmpl-{question[:24]}",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": self.model,
            "system_fingerprint": "fp_simulated",
            "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens},
        }


def mistaken(answer: Any, tools: list[dict[str, Any]], rng: random.Random) -> Any:
    """A believable wrong answer: a wrong value, a missing argument, another tool, a call too many or too few."""
    if isinstance(answer, dict):
        return _wrong_object(answer, rng)
    if not answer:
        names = [tool["function"]["name"] for tool in tools]
        return [{"name": rng.choice(names), "arguments": {}}] if names else [{"name": "unknown", "arguments": {}}]
    calls = [dict(call) for call in answer]
    index = rng.randrange(len(calls))
    others = [name for tool in tools if (name := tool["function"]["name"]) != calls[index]["name"]]
    kind = rng.choice(["value", "value", "value", "tool", "drop"])
    if kind == "drop" and len(calls) > 1:
        del calls[index]
    elif (kind == "tool" and others) or not calls[index]["arguments"]:
        calls[index]["name"] = rng.choice(others) if others else f"{calls[index]['name']}_2"
    else:
        calls[index]["arguments"] = _wrong_object(calls[index]["arguments"], rng)
    return calls


def _wrong_object(value: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    if not value:
        return {"note": "unknown"}
    name = rng.choice(sorted(value))
    if rng.random() < 0.25:
        return {key: item for key, item in value.items() if key != name}
    return {**value, name: _wrong_value(value[name], rng)}


def _wrong_value(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + rng.choice([-1, 1, 10])
    if isinstance(value, str):
        words = value.split()
        return " ".join(words[:-1]) if len(words) > 1 else f"{value}s" if value else "unknown"
    if isinstance(value, list):
        return value[:-1] if value else ["unknown"]
    return _wrong_object(value, rng) if isinstance(value, dict) else "unknown"


def _question(messages: Any, tools: Any) -> str:
    return digest([messages, tools or None])


def _message(answer: Any, question: str, tools: list[dict[str, Any]]) -> dict[str, Any]:
    if answer is None:
        answer = [{"name": tool["function"]["name"], "arguments": {}} for tool in tools[:1]]
    if not isinstance(answer, list) or (answer and not tools):
        return {"role": "assistant", "content": json.dumps(answer, ensure_ascii=False)}
    if not answer:
        return {"role": "assistant", "content": NO_CALL}
    calls = [
        {
            "id": f"call_{question[:16]}_{number}",
            "type": "function",
            "function": {
                "name": call["name"],
                "arguments": json.dumps(call["arguments"], ensure_ascii=False),
            },
        }
        for number, call in enumerate(answer)
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def _error(status: int, code: str, message: str) -> HttpResponse:
    return HttpResponse(status, {"error": {"code": code, "type": "invalid_request_error", "message": message}}, {})


Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


@asynccontextmanager
async def serve(handler: Handler, port: int = 0) -> AsyncIterator[str]:
    """Serve HTTP on 127.0.0.1 while the block runs; gives the base address for an OpenAI client."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await read_request(reader):
                writer.write(_wire(await handler(request)))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", port, limit=1 << 20)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


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


def _wire(response: HttpResponse) -> bytes:
    body = json.dumps(response.body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    extra = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    head = (
        f"HTTP/1.1 {response.status} -\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    )
    return head.encode() + body
