"""One call to the teacher: the openai package builds, authenticates and sends it; what came back is a value."""

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from fledgling.errors import ConfigError
from fledgling.files import Object, json_line
from fledgling.redaction import is_unmistakable, redacted
from fledgling.teacher.address import CALL, Address, proxy
from fledgling.teacher.answers import read
from fledgling.teacher.taxonomy import Reply, Trouble

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

FILE_TIMES = 10  # files may take so many times longer than a call
ENTRA_SCOPE = "https://cognitiveservices.azure.com/.default"
ENTRA_TOKEN = "AZURE_OPENAI_AD_TOKEN"  # the openai package's variable for a token that is at hand
Token = Callable[[], Awaitable[str]]


class _NoToken(Exception):
    """Entra ID gave no token."""


class Client:
    """Sends one body at a time to one endpoint; every reply comes back as a value, also the failed ones.

    Nothing is retried, redirected or kept in cookies: each request is one call, and what is kept is its raw body.
    """

    def __init__(
        self,
        place: Address,
        key: str | Token,
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._place = place
        self._key = key if isinstance(key, str) else self._noted(key)
        self._timeout_s = timeout_s
        self._headers = dict(headers or {})
        self._secrets = {*self._headers.values(), *([key] if isinstance(key, str) else [])}
        self._proxy = proxy(place.base_url)

    async def __aenter__(self) -> "Client":
        from fledgling.teacher.transport import transport

        self._openai = _openai(self._place, self._key, self._headers, transport(self._proxy))
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._openai.close()

    async def send(self, body: Mapping[str, object]) -> Reply:
        """Post one chat completion and read the whole reply, within the deadline."""
        return await self._post("/chat/completions", body)

    async def get(self, path: str) -> Reply:
        """Read one address of files or batches."""
        return await self._request(lambda kind: self._openai.get(path, cast_to=kind), FILE_TIMES * self._timeout_s)

    async def post(self, path: str, body: Mapping[str, object]) -> Reply:
        """Post JSON to one address of files or batches."""
        return await self._post(path, body)

    async def upload(self, name: str, content: bytes) -> Reply:
        """Upload the input file of a batch."""
        form = {"Content-Type": "multipart/form-data"}
        return await self._request(
            lambda kind: self._openai.post(
                "/files",
                cast_to=kind,
                body={"purpose": "batch"},
                files={"file": (name, content, "application/jsonl")},
                options={"headers": form},
            ),
            FILE_TIMES * self._timeout_s,
        )

    async def _post(self, path: str, body: Mapping[str, object]) -> Reply:
        content = json_line(body).encode()  # valid whatever the strings hold, which the package's own text is not
        json = {"Content-Type": "application/json"}
        return await self._request(
            lambda kind: self._openai.post(path, cast_to=kind, content=content, options={"headers": json}),
            self._timeout_s,
        )

    async def _request(
        self,
        call: Callable[["type[httpx2.Response]"], "Awaitable[httpx2.Response]"],
        timeout_s: float,
    ) -> Reply:
        import httpx2
        from openai import APIConnectionError, APIStatusError

        start = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                response = await call(httpx2.Response)
        except TimeoutError:
            return self._failed(start, "timeout", f"no whole reply within {timeout_s:g} s")
        except APIStatusError as error:
            response = error.response
        except APIConnectionError as error:
            cause = error.__cause__ or error
            return self._failed(start, *_trouble(cause))
        except _NoToken as error:
            return self._failed(start, "token", str(error))
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, OSError) as error:
            return self._failed(start, *_trouble(error))
        content = response.content
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("utf-8", "replace")  # it was paid for; what cannot be read shows as U+FFFD
        text = self._without_secrets(text, response)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(_seconds(start), response.status_code, text, headers, asked=response.request.url.path)

    def _without_secrets(self, text: str, response: "httpx2.Response") -> str:
        """A body without the key and the headers' values, which some endpoints quote where they refuse them.

        What a model says is not touched for a value that may be a word: a key like "anything", a team's name.
        """
        text = redacted(text, filter(is_unmistakable, self._secrets), "[key]", parts=False)
        ok, path = 200 <= response.status_code < 300, response.request.url.path
        if ok and (not path.endswith(CALL) or read(response.status_code, text) is not None):
            return text
        return redacted(text, self._secrets, "[key]")

    def _noted(self, key: Token) -> Token:
        """The same, and what it gives is a secret too."""

        async def noted() -> str:
            token = await key()
            self._secrets.add(token)
            return token

        return noted

    def _failed(self, start: float, trouble: Trouble, detail: str) -> Reply:
        return Reply(_seconds(start), trouble=trouble, detail=redacted(detail, self._secrets, "[key]"))


def entra(environment: Mapping[str, str] = os.environ) -> Token:
    """What gives a token of Entra ID before each call.

    Raises:
        ConfigError: azure-identity is not installed; says how to install it.
    """
    if at_hand := environment.get(ENTRA_TOKEN):
        token = at_hand.strip()

        async def same() -> str:
            return token

        return same
    try:
        from azure.identity import DefaultAzureCredential, get_bearer_token_provider
    except ImportError:
        raise ConfigError(
            "teacher.auth: entra needs the package azure-identity (pip install 'fledgling[azure]'), or a token in "
            f"{ENTRA_TOKEN}"
        ) from None
    provider = get_bearer_token_provider(DefaultAzureCredential(), ENTRA_SCOPE)

    async def fresh() -> str:
        try:
            return str(await asyncio.to_thread(provider))
        except Exception as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise _NoToken(first[:300]) from None

    return fresh


def _openai(
    place: Address, key: str | Token, headers: Mapping[str, str], transport: "httpx2.AsyncClient"
) -> "AsyncOpenAI":
    """The package's client for an address; its own retries and redirects are off."""
    import openai

    common: Object = {
        "max_retries": 0,
        "timeout": None,  # the deadline is the wall clock's, around the whole call
        "http_client": transport,
        "default_headers": {"User-Agent": "fledgling", **headers},
    }
    auth: Object = {"api_key": key} if isinstance(key, str) else {"azure_ad_token_provider": key}
    version = place.endpoint.api_version
    if place.form == "deployment":
        return openai.AsyncAzureOpenAI(
            azure_endpoint=place.resource,
            azure_deployment=place.endpoint.deployment,
            api_version=version,
            **auth,
            **common,
        )
    if place.form == "models" and version:
        return openai.AsyncAzureOpenAI(base_url=place.base_url, api_version=version, **auth, **common)
    if place.form == "models" and isinstance(key, str):
        common["default_headers"]["api-key"] = key  # Azure's own; a gateway may know no other
    return openai.AsyncOpenAI(base_url=place.base_url, api_key=key, **common)


def _trouble(error: BaseException) -> tuple[Trouble, str]:
    import httpx2

    from fledgling.teacher.transport import TooLargeError

    detail = f"{type(error).__name__}: {error}".rstrip(": ")
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return "certificate", detail
    if isinstance(error, TooLargeError):
        return "huge", str(error)
    unsent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol)
    if isinstance(error, (*unsent, httpx2.InvalidURL, ssl.SSLError)):
        return "connect", detail
    return "broken", detail


def _seconds(start: float) -> float:
    return round(time.monotonic() - start, 4)
