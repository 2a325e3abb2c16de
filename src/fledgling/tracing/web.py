"""One POST: sent without following anything, its reply bounded, every failure sorted by what to do about it."""

import email.utils
import gzip
import logging
import time
from collections.abc import Callable, Mapping

import httpx2

for name in ("httpx2", "httpcore2"):
    logging.getLogger(name).setLevel(logging.WARNING)  # they log the address of every call

ANSWER_S = 3.5  # until a part of a reply has to come
CONNECT_S = 3.0
MOST_BYTES = 1 << 20  # of a reply
SHOWN = 300  # characters of a reply that a message repeats
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
NOT_THERE = frozenset({301, 302, 303, 307, 308, 404, 405, 410, 501})


class Away(Exception):
    """A receiver takes nothing now. `final`: not before somebody does something; else after `wait_s` seconds."""

    def __init__(self, reason: str, *, final: bool = False, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.final, self.wait_s = reason, final, wait_s


class Refused(Exception):
    """A receiver is there and does not take this content."""


class Web:
    """Posts to one address. `says` masks what a reply says before anybody repeats it; `keys` names the variables of the
    credentials, for the message that they are wrong."""

    def __init__(
        self, base: str, headers: Mapping[str, str], keys: str, says: Callable[[str], str], verify: str | bool = True
    ) -> None:
        self.base = base
        self._keys, self._says = keys, says
        self.heard: Callable[[], None] = lambda: None  # called after every request that was taken
        timeout = httpx2.Timeout(ANSWER_S, connect=CONNECT_S)
        self._client = httpx2.Client(headers=dict(headers), timeout=timeout, follow_redirects=False, verify=verify)

    def post(self, path: str, body: bytes, kind: str, *, packed: bool = False) -> bytes:
        """Send a body, packed where the receiver can unpack it; returns the reply's.

        Raises:
            Away: nothing can be sent now. Refused: this content is not taken.
        """
        headers = {"Content-Type": kind, **({"Content-Encoding": "gzip"} if packed else {})}
        content = gzip.compress(body, compresslevel=1, mtime=0) if packed else body
        try:
            with self._client.stream("POST", self.base + path, content=content, headers=headers) as response:
                text = b""
                for part in response.iter_bytes():
                    text += part
                    if len(text) > MOST_BYTES:
                        raise Away(f"{self.base} answers with more than {MOST_BYTES:,} bytes", final=True)
        except httpx2.ConnectError as error:
            raise Away(f"{self.base} cannot be reached ({self._says(str(error))})", final=True) from None
        except httpx2.TimeoutException:
            raise Away(f"{self.base} does not answer") from None
        except httpx2.HTTPError as error:
            raise Away(f"{self.base}: {self._says(str(error)) or type(error).__name__}") from None
        self._check(response, text)
        self.heard()
        return text

    def _check(self, response: httpx2.Response, body: bytes) -> None:
        status = response.status_code
        if 200 <= status < 300:
            return
        said = " ".join(self._says(body.decode("utf-8", "replace")).split())[:SHOWN]
        what = f"{self.base} answers {status}"
        if status in (401, 403):
            raise Away(f"{what}: the credentials are refused; check {self._keys}", final=True)
        if status in NOT_THERE:
            raise Away(f"{what} for {response.request.url.path}; check the address ({self._keys})", final=True)
        if status in AGAIN:
            raise Away(f"{what}{': ' if said else ''}{said}", wait_s=_wait(response.headers.get("retry-after")))
        raise Refused(f"{status}: {said}")


def _wait(value: str | None) -> float | None:
    """Seconds that Retry-After asks for: a number, or a date."""
    if value is None:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return None
