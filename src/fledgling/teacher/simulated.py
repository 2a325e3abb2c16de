"""A simulated teacher: the chat-completions protocol over loopback HTTP, answers from gold, mistakes at a stated rate."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

from fledgling.files import Object, digest
from fledgling.prompting.turns import messages, schema_place
from fledgling.records import Example, read_examples
from fledgling.teacher.prices import prompt_tokens
from fledgling.teacher.requests import with_ids
from fledgling.tokens import text_tokens

RETRY_AFTER_MS = 20
MOST_BYTES = 64 << 20  # of a request; a row can be long
NO_CALL = "None of the tools fits this request."


@dataclass(frozen=True, slots=True)
class Answered:
    """Status, JSON body and further headers of one reply."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str]


class Simulated:
    """Answers the requests of one data file.

    What it answers is a function of the request and the rates alone, so the order of calls and
    repetitions change nothing; only which calls are refused with 429 depends on how often they came.
    """

    def __init__(
        self, data: str | PathLike[str], settings: Mapping[str, Any], *, model: str, prompt: Mapping[str, object]
    ) -> None:
        self.model = model if "simulated" in model else f"{model}-simulated"
        self._settings = settings
        self._tries: dict[str, int] = {}
        self._gold: dict[str, Example] = {}
        for example in read_examples(data):
            self._gold[_question(with_ids(messages(example, schema_place(prompt))), example.tools)] = example

    async def answer(self, body: Mapping[str, Any]) -> Answered:
        """Answer the body of one chat completion."""
        question = _question(body["messages"], body.get("tools"))
        if question not in self._gold:
            return _refused("unknown_row", "the simulated teacher knows the rows of its data file only")
        await asyncio.sleep(self._settings.get("latency_s", 0))
        self._tries[question] = self._tries.get(question, 0) + 1
        if self._chance("rate_429", f"{question}:{self._tries[question]}"):
            error = {"code": "rate_limit_exceeded", "type": "requests", "message": "Rate limit reached."}
            return Answered(429, {"error": error}, {"retry-after": "1", "retry-after-ms": str(RETRY_AFTER_MS)})
        if self._chance("content_filter_rate", question):
            return _refused("content_filter", "The response was filtered.")
        row = self._gold[question]
        answer, tools, rng = row.answer, body.get("tools") or [], random.Random(question)
        if self._chance("error_rate", question):
            answer = wrong_value(answer, rng) if row.is_json else mistaken(answer, tools, rng)
        said = _text(answer) if row.is_json else _calls(answer, question, tools)
        return Answered(200, self._completion(body, question, said), {})

    def _chance(self, rate: str, what: str) -> bool:
        return random.Random(f"{rate}:{what}").random() < self._settings.get(rate, 0)

    def _completion(self, body: Mapping[str, Any], question: str, message: Object) -> Object:
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or 1 << 30
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


def mistaken(answer: Any, tools: list[Object], rng: random.Random) -> Any:
    """Believable wrong calls: a wrong value, a missing argument, another tool, a call too many or too few."""
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


def _wrong_object(value: Object, rng: random.Random) -> Object:
    if not value:
        return {"note": "unknown"}
    name = rng.choice(sorted(value))
    if rng.random() < 0.25:
        return {key: item for key, item in value.items() if key != name}
    return {**value, name: wrong_value(value[name], rng)}


def wrong_value(value: Any, rng: random.Random) -> Any:
    """A believable wrong JSON value in the place of another."""
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


def _text(answer: Any) -> Object:
    return {"role": "assistant", "content": json.dumps(answer, ensure_ascii=False)}


def _calls(answer: Any, question: str, tools: list[Object]) -> Object:
    if answer is None:
        answer = [{"name": tool["function"]["name"], "arguments": {}} for tool in tools[:1]]
    if answer and not tools:
        return _text(answer)
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


def _refused(code: str, message: str) -> Answered:
    return Answered(400, {"error": {"code": code, "type": "invalid_request_error", "message": message}}, {})


@asynccontextmanager
async def serve(simulated: Simulated, port: int = 0) -> AsyncIterator[str]:
    """Serve HTTP on 127.0.0.1 while the block runs; gives the base address for an OpenAI client."""
    from aiohttp import web

    async def completion(request: web.Request) -> web.Response:
        answered = await simulated.answer(await request.json())
        text = json.dumps(answered.body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return web.Response(
            status=answered.status, body=text, content_type="application/json", headers=answered.headers
        )

    application = web.Application(client_max_size=MOST_BYTES)
    application.router.add_post("/v1/chat/completions", completion)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
