"""The HTTP server: uvicorn, with the deadlines and the number of connections that it lacks.

Stock uvicorn waits for ever for the rest of a request. Here a request's lines and its body have a time to arrive,
whatever trickles in, and a connection that is beyond the number of connections is closed at once.
"""

import asyncio
import logging
import re
import socket
from typing import Any, ClassVar

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fledgling.console.policy import ALWAYS, App, Refused
from fledgling.errors import ConfigError

ARRIVE_S = 10.0  # for the lines of a request, from the connection's start or the last answer's end
BODY_S = 10.0  # for its body
MOST = 1000  # connections
LONE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")  # an end of line that is none in HTTP
MOST_IDLE = 200  # connections that have not sent a whole request yet
log = logging.getLogger(__name__)


class Deadlines(H11Protocol):
    """One connection: closed where a request does not arrive in time."""

    _waiting: ClassVar["set[Deadlines]"] = set()  # connections that owe us a request
    _timer: asyncio.TimerHandle | None = None
    _last = b""  # byte that came before what comes now

    def connection_made(self, transport: Any) -> None:
        """A client has connected; it has some seconds to say what it wants."""
        super().connection_made(transport)
        if len(self.connections) > MOST or len(Deadlines._waiting) >= MOST_IDLE:
            self._close_one()
        self._await_request(ARRIVE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Lines end in CR LF here: where a proxy before us reads one line, a lone LF must not make two."""
        if self.conn.their_state is h11.IDLE:
            seen = self._last + data
            head, end, _ = seen.partition(b"\r\n\r\n")
            self._last = b"" if end else data[-1:]
            if LONE.search(head):
                self.send_400_response("")
                return
        super().data_received(data)

    def handle_events(self) -> None:
        """Bytes have come: a whole request stops the clock, a half one does not."""
        before = self.cycle
        super().handle_events()
        cycle = self.cycle
        if cycle is None:
            return
        if cycle is not before and cycle.more_body:
            self._await_request(BODY_S)
        elif not cycle.more_body:
            self._arrived()

    def on_response_complete(self) -> None:
        """Answered: the next request on this connection has its own time."""
        super().on_response_complete()
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self._await_request(ARRIVE_S)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered as everything else is, in JSON and with our headers."""
        body = Refused(400, "request", "not a valid HTTP request").body
        lines = [
            b"HTTP/1.1 400 Bad Request",
            b"content-type: application/json",
            b"content-length: " + str(len(body)).encode(),
            b"connection: close",
            b"cache-control: no-store",
            *(name + b": " + value for name, value in ALWAYS),
        ]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.transport.close()

    def _await_request(self, seconds: float) -> None:
        self._arrived()
        Deadlines._waiting.add(self)
        self._timer = self.loop.call_later(seconds, self._too_late)

    def _arrived(self) -> None:
        Deadlines._waiting.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._timer = None
        Deadlines._waiting.discard(self)
        if not self.transport.is_closing():
            self.transport.abort()

    @staticmethod
    def _close_one() -> None:
        """Whoever has waited, unheard, makes room for who comes now."""
        if Deadlines._waiting:
            oldest = min(Deadlines._waiting, key=lambda one: one._timer.when() if one._timer else 0.0)
            oldest._too_late()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: the port is taken or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{host}:{port} cannot be used ({error.strerror}); another console may run there: stop it, or take --port"
        ) from None
    return listener


def serve(app: App, listener: socket.socket) -> None:
    """Answer until the process is told to end."""
    config = uvicorn.Config(
        app,
        http=Deadlines,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        h11_max_incomplete_event_size=128 * 1024,
        timeout_keep_alive=int(ARRIVE_S),
        timeout_graceful_shutdown=3,
        backlog=1024,
    )
    uvicorn.Server(config).run(sockets=[listener])
