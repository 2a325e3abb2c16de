"""The provider's batch endpoint: many calls in one file, at a lower price, through the same journal.

Before anything is sent, each call's intent names the batch (a token of ours), and the batch itself carries
the token in its metadata. So a run that was killed finds its batch again, even where the provider's answer to
its creation was lost, and no other run asks those rows meanwhile.
"""

import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fledgling.errors import Unavailable
from fledgling.failpoints import failpoint
from fledgling.files import Object, digest
from fledgling.journal import Journal
from fledgling.journal.line import decode, is_kind, key_of
from fledgling.portions import portions
from fledgling.teacher.address import Address
from fledgling.teacher.answers import Digits, written
from fledgling.teacher.client import Client
from fledgling.teacher.limiter import backoff_s
from fledgling.teacher.requests import Request
from fledgling.teacher.taxonomy import Reply, judge

log = logging.getLogger(__name__)

MOST_ROWS = 10_000
MOST_BYTES = 90 << 20
ENDED = ("completed", "failed", "expired", "cancelled")
METADATA = "fledgling"
FIRST_POLL_S, LAST_POLL_S = 1.0, 60.0


class OpenBatches:
    """Which keys lie in a batch that has not been collected, as far as the journal was read."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The journal is read again from its start."""
        self.token: dict[str, str] = {}  # of a key
        self.batch: dict[str, str] = {}  # the provider's id, of a token

    def observe(self, line: bytes) -> None:
        """Follow a line of the journal, whoever wrote it."""
        if b'"batch":"' in line:
            entry = decode(line)
            if entry.kind == "intent" and "batch" in entry.record:
                self.token[entry.key] = entry.record["batch"]
            elif entry.kind == "intent" and "created" in entry.record:
                self.batch[entry.key] = entry.record["created"]
        elif self.token and not is_kind(line, "intent"):
            self.token.pop(key_of(line), None)

    def keys(self, token: str) -> list[str]:
        """The keys of one batch that have no result yet."""
        return [key for key, of in self.token.items() if of == token]


@dataclass
class Batches:
    """Sends and collects batches for one run.

    `sleep` waits (and raises to end the run), `afford` says whether the budget has room for a call, `done`
    is told each key with a result, `failed` each key without one, why, and whether it may have been billed. `marks` go into the journal's lines.
    """

    kept: Journal
    client: Client
    place: Address
    opened: OpenBatches
    marks: dict[str, str]
    max_tries: int
    sleep: Callable[[float], Awaitable[None]]
    afford: Callable[[Request], bool]
    done: Callable[[str, Object], None]
    failed: Callable[[str, str, bool], None]

    async def collect(self, missing: Iterable[str]) -> None:
        """Collect what earlier runs have sent, except where their process still lives and does it itself."""
        for token in sorted({self.opened.token[key] for key in missing if key in self.opened.token}):
            if not self.kept.claim(token):
                continue
            try:
                batch = self.opened.batch.get(token) or await self._find(token)
                if batch is None:
                    self._close(token, "the batch was never created")
                else:
                    log.info("going on with batch %s of an earlier run", batch)
                    await self._finish(token, batch)
            finally:
                self.kept.release(token)

    async def ask(self, requests: Iterable[Request]) -> None:
        """Send all requests that no other process works on, and wait for their results."""
        tokens: dict[str, str | None] = {}
        try:
            for calls in portions(requests, _weight, most_bytes=MOST_BYTES, most=MOST_ROWS):
                token = digest(uuid.uuid4().hex)
                self.kept.claim(token)
                tokens[token] = None
                tokens[token] = await self._submit(token, calls)
            for token, batch in tokens.items():
                if batch is not None:
                    await self._finish(token, batch)
        finally:
            for token in tokens:
                self.kept.release(token)

    async def _submit(self, token: str, calls: list[Request]) -> str | None:
        free = [call for call in calls if self.kept.claim(call.key)]
        mine = [
            call
            for call in free
            if call.key not in self.kept and call.key not in self.opened.token and self.afford(call)
        ]
        record = {"host": self.place.endpoint.host, "batch": token, **self.marks}
        self.kept.append("intent", [(call.key, record) for call in mine])
        self.kept.sync()
        self.opened.token.update((call.key, token) for call in mine)
        for call in free:
            self.kept.release(call.key)
        if not mine:
            return None
        failpoint("batch.before_upload")
        content = b"".join(_line(call, self._endpoint()) for call in mine)
        file = await self._call(lambda: self.client.upload(f"fledgling-{token[:16]}.jsonl", content))
        body = {
            "input_file_id": file["id"],
            "endpoint": self._endpoint(),
            "completion_window": "24h",
            "metadata": {METADATA: token},
        }
        batch = await self._call(lambda: self.client.post("/batches", body), look=lambda: self._find(token))
        name = batch if isinstance(batch, str) else str(batch["id"])
        failpoint("batch.after_create")
        self.kept.append("intent", [(token, {"created": name, "batch": ""})])
        self.kept.sync()
        self.opened.batch[token] = name
        log.info(
            "batch %s holds %d rows; the provider answers within 24 hours, also while nobody waits", name, len(mine)
        )
        return name

    def _endpoint(self) -> str:
        return "/chat/completions" if self.place.form == "deployment" else "/v1/chat/completions"

    async def _finish(self, token: str, batch: str) -> None:
        pause = FIRST_POLL_S
        while (state := await self._call(lambda: self.client.get(f"/batches/{batch}")))["status"] not in ENDED:
            await self.sleep(pause)
            pause = min(LAST_POLL_S, pause * 1.5)
        for name in ("output_file_id", "error_file_id"):
            if state.get(name):
                text = await self._text(f"/files/{state[name]}/content")
                failpoint("batch.before_results")
                self._keep(token, text.split("\n"))
        why = f"batch {batch} ended as {state['status']} without this row"
        if state["status"] == "failed":
            why += f": {json.dumps(state.get('errors'))[:500]}"
        self._close(token, why)

    def _keep(self, token: str, lines: Iterable[str]) -> None:
        """Journal the results of one output file, with one fsync."""
        results: list[tuple[str, Object]] = []
        failures: list[tuple[str, Object]] = []
        waiting = set(self.opened.keys(token))
        for key, reply in filter(None, map(_result, filter(str.strip, lines))):
            if key not in waiting:
                continue
            waiting.discard(key)
            action = judge(reply, self.place.names)
            if action.kind == "finished":
                record = {"status": reply.status, "body": reply.text, "latency_s": None, "of": token, **self.marks}
                results.append((key, record))
            elif reply.status is not None:
                failure = {"status": reply.status, "billed": action.billed, "message": action.message, **self.marks}
                failures.append((key, failure))
        self.kept.append("result", results)
        self.kept.append("failure", failures)
        self.kept.sync()
        for key, record in results:
            self.opened.token.pop(key, None)
            self.done(key, record)
        for key, failure in failures:
            self.opened.token.pop(key, None)
            self.failed(key, str(failure["message"]), failure["billed"] != "no")

    def _close(self, token: str, why: str) -> None:
        """What has no result failed in this run and is free for the next."""
        left = self.opened.keys(token)
        failure = {"status": None, "billed": "no", "message": why, **self.marks}
        self.kept.append("failure", [(key, failure) for key in (*left, token)])
        self.kept.sync()
        for key in left:
            self.opened.token.pop(key)
            if token in self.opened.batch:
                self.failed(key, why, False)

    async def _find(self, token: str) -> str | None:
        """The provider's id of the batch that carries our token."""
        after = ""
        while True:
            page = await self._call(lambda after=after: self.client.get(f"/batches?limit=100{after}"))  # type: ignore[misc]
            for batch in page["data"]:
                if (batch.get("metadata") or {}).get(METADATA) == token:
                    return str(batch["id"])
            if not page.get("has_more") or not page["data"]:
                return None
            after = f"&after={page['data'][-1]['id']}"

    async def _text(self, path: str) -> str:
        return str(await self._call(lambda: self.client.get(path), as_json=False))

    async def _call(
        self,
        send: Callable[[], Awaitable[Reply]],
        look: Callable[[], Awaitable[Any]] | None = None,
        as_json: bool = True,
    ) -> Any:
        """One request to the batch or files endpoint, tried again where that may help.

        `look` finds out, before each further try, whether the lost one has arrived after all.

        Raises:
            ConfigError, Unavailable: as for a call.
        """
        for attempt in range(self.max_tries):
            if attempt and look and (found := await look()) is not None:
                return found
            reply = await send()
            if reply.status in (200, 201) and reply.text is not None:
                if not as_json:
                    return reply.text
                try:
                    return json.loads(reply.text)
                except ValueError:
                    reply = Reply(reply.latency_s, trouble="broken", detail="no JSON")
            action = judge(reply, self.place.names)
            if action.error:
                raise action.error
            if action.kind == "rejected":
                raise Unavailable(f"the batch endpoint refuses: {action.message}")
            await self.sleep(action.pause_s if action.pause_s is not None else backoff_s(attempt, 0.5))
        raise Unavailable(f"the batch endpoint does not answer: {action.message}; run the same command later")


def _result(text: str) -> tuple[str, Reply] | None:
    """The key and the reply of one line of an output file, numbers as they were written; None where it is no such line."""
    try:
        row = json.loads(text, parse_float=Digits, parse_int=Digits, parse_constant=Digits)
        response = row.get("response") or {}
        status = response.get("status_code")
        body = written(response["body"]) if "body" in response else None
        return str(row["custom_id"]), Reply(0.0, None if status is None else int(status), body)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _line(call: Request, endpoint: str) -> bytes:
    value = {"custom_id": call.key, "method": "POST", "url": endpoint, "body": call.body}
    return (json.dumps(value) + "\n").encode()


def _weight(call: Request) -> int:
    """Bytes of a call's line, about: its body, its id and its address."""
    return len(json.dumps(call.body)) + 200
