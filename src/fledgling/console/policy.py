"""Who may ask: host, origin, token, sizes, and the headers of every answer. Stands before everything else.

A browser sends requests to this machine for any page that asks it to. So the name in `Host` must be ours (a foreign
page that had its own name resolve to this machine is refused), and whatever a browser marks as coming from elsewhere
is refused, reads included.
"""

import base64
import binascii
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass

Scope = MutableMapping[str, object]
Message = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

LARGEST_BODY = 64 * 1024
LARGEST_HEADERS = 128 * 1024  # ten thousand ranges are answered like none, by the whole file
MOST_HEADERS = 100
LONGEST_PATH = 4096
METHODS = ("GET", "HEAD", "POST", "DELETE")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
ALWAYS: Headers = [
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
log = logging.getLogger(__name__)


class Refused(Exception):
    """A request that is answered with an error: {"ok": false, "error": code, "message": …}."""

    def __init__(self, status: int, code: str, message: str, **more: object) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.more = status, code, message, more

    @property
    def body(self) -> bytes:
        """The error as JSON; nothing that was sent is in it."""
        value = {"ok": False, "error": self.code, "message": self.message, **self.more}
        return json.dumps(value, ensure_ascii=True).encode()


FAULT = Refused(500, "fault", "the console failed; its log says where")


@dataclass(frozen=True)
class Policy:
    """What is allowed: `hosts` are the values of Host in lower case, `proxied` those that a proxy gives https.

    `token` is asked for where it is set.
    """

    hosts: frozenset[str]
    proxied: frozenset[str] = frozenset()
    token: str | None = None

    @classmethod
    def of(cls, names: Iterable[str], port: int, *, proxied: Iterable[str] = (), token: str | None = None) -> "Policy":
        """The policy of a server that is reached under these names, and behind a proxy under those."""
        behind = frozenset(name.lower() for name in proxied)
        return cls(frozenset(f"{name.lower()}:{port}" for name in names) | behind, behind, token)

    def check(self, scope: Scope) -> None:
        """Refuse a request by its first lines alone.

        Raises:
            Refused: 400 by its host or form, 401 by its token, 403 by its origin, 405, 414, 431.
        """
        headers = _headers(scope)
        if len(headers) > MOST_HEADERS or sum(len(name) + len(value) for name, value in headers) > LARGEST_HEADERS:
            raise Refused(431, "headers_too_large", "too many or too large headers")
        raw = scope.get("raw_path")
        path = raw if isinstance(raw, bytes) else b""
        query = scope.get("query_string")
        if len(path) + len(query if isinstance(query, bytes) else b"") > LONGEST_PATH:
            raise Refused(414, "address_too_long", f"an address has at most {LONGEST_PATH} characters")
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0].decode("latin-1").lower() not in self.hosts:
            raise Refused(400, "host", f"this console answers as {', '.join(sorted(self.hosts))} only")
        if scope.get("http_version") not in ("1.0", "1.1"):
            raise Refused(400, "request", "HTTP/1.1 is spoken here")
        if not path.startswith(b"/"):
            raise Refused(400, "address", "an address on this host is expected")
        if b"%" in path or b"\\" in path or b"//" in path or b"/." in path or b"\0" in path:
            raise Refused(404, "not_found", "no such page")
        self._check_origin(headers, hosts[0])
        if self.token is not None and not _authorised(headers, self.token):
            raise Refused(401, "token", "this console asks for its token (--auth-token)")
        if scope.get("method") not in METHODS:
            raise Refused(405, "method", f"methods are {', '.join(METHODS)}")

    def _check_origin(self, headers: Headers, host: bytes) -> None:
        origins = [value for name, value in headers if name == b"origin"]
        name = host.lower()
        ours = [b"https://" + name] if name.decode("latin-1") in self.proxied else [b"http://" + name]
        if origins and origins != ours:
            raise Refused(403, "origin", "requests from another site are refused")
        sites = [value for name, value in headers if name == b"sec-fetch-site"]
        if any(site not in (b"same-origin", b"none") for site in sites):
            raise Refused(403, "origin", "requests from another site are refused")


def _headers(scope: Scope) -> Headers:
    found = scope.get("headers")
    return list(found) if isinstance(found, (list, tuple)) else []


def _authorised(headers: Headers, token: str) -> bool:
    """`Authorization: Bearer TOKEN`, or Basic with the token as password, which browsers ask their user for."""
    sent = [value for name, value in headers if name == b"authorization"]
    if len(sent) != 1:
        return False
    kind, _, given = sent[0].partition(b" ")
    if kind.lower() == b"basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
    elif kind.lower() != b"bearer":
        return False
    return hmac.compare_digest(given.strip(), token.encode())


class Guard:
    """The ASGI application around the real one: policy first, then our headers on whatever it answers."""

    def __init__(self, app: App, policy: Policy) -> None:
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                given = message.get("headers")
                own: Headers = list(given) if isinstance(given, list) else []
                names = {name.lower() for name, _ in own}  # a report brings a policy of its own
                message["headers"] = [*own, *(header for header in ALWAYS if header[0] not in names)]
            await send(message)

        try:
            self._policy.check(scope)
            await self._app(scope, receive, guarded)
        except Refused as refused:
            await answer(guarded, refused)
        except Exception as error:
            # The kind and the place alone: the text of an exception may hold what was sent.
            trace = error.__traceback__
            while trace and trace.tb_next:
                trace = trace.tb_next
            place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
            log.error("%s at %s", type(error).__name__, place)
            if not started:
                await answer(guarded, FAULT)


async def answer(send: Send, refused: Refused) -> None:
    """Send an error. What is still on its way of a body is thrown away by the server, for as long as it waits."""
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(refused.body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if refused.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="fledgling", charset="UTF-8"'))
    if refused.status == 405:
        headers.append((b"allow", ", ".join(METHODS).encode()))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": refused.body})
