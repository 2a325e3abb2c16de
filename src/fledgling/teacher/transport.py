"""What the openai package sends with: our certificates and proxy, no redirect, no cookie, no .netrc, bounded replies."""

import http.cookiejar
import logging
from collections.abc import AsyncIterator

import httpx2

from fledgling.teacher.address import certificates

for name in ("httpx2", "httpcore2"):
    logging.getLogger(name).setLevel(logging.WARNING)  # they log the address of every call

MOST_BYTES = 8 << 20  # of one reply; a completion of 100,000 tokens has about a megabyte
MOST_FILE_BYTES = 1 << 30  # of what a batch brings
MOST_PACKED_BYTES = 64 << 10  # of a reply that comes compressed although that was not asked for


class TooLargeError(httpx2.RequestError):
    """A reply has more bytes than anything that was asked for."""


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, most: int) -> None:
        self._stream = stream
        self._most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        count = 0
        async for part in self._stream:
            count += len(part)
            if count > self._most:
                raise TooLargeError(f"a reply of more than {self._most:,} bytes")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Transport(httpx2.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        most = MOST_FILE_BYTES if request.url.path.endswith("/content") else MOST_BYTES
        if response.headers.get("content-encoding", "identity") != "identity":
            most = MOST_PACKED_BYTES
        response.stream = _Bounded(response.stream, most)
        return response


def transport(proxy: str | None) -> httpx2.AsyncClient:
    """A client for one endpoint; a proxy is asked for nothing but what it is given here.

    Raises:
        ConfigError: a variable names no file of certificates.
    """
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=60)
    nobody = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    return httpx2.AsyncClient(
        transport=_Transport(verify=certificates(), proxy=proxy, limits=limits, trust_env=False),
        follow_redirects=False,
        timeout=None,
        cookies=nobody,
        headers={"Accept-Encoding": "identity"},
        trust_env=False,  # it would look for a .netrc, whose password would go over the key
    )
