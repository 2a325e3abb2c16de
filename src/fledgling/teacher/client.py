"""One call to the teacher through openai's own clients, without their retries and redirects."""

import asyncio
import os
import time
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fledgling.errors import ConfigError
from fledgling.files import json_line
from fledgling.teacher.requests import Endpoint, Teacher
from fledgling.teacher.taxonomy import Names, Reply, Trouble

LOOPBACK = ("localhost", "127.0.0.1", "::1")
FILE_TIMES = 10  # files may take so many times longer than a call
OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the teacher lives and how the user names its parts. Holds no secret."""

    endpoint: Endpoint
    base_url: str
    azure: bool
    names: Names


def address(teacher: Teacher, environment: Mapping[str, str] = os.environ) -> Address:
    """Where a teacher lives, from the configuration and the AZURE_* variables; needs no key.

    AZURE_ENDPOINT is a resource (https://NAME.openai.azure.com), a deployment's address
    (…/openai/deployments/NAME[/chat/completions?api-version=…]), or a models address
    (…/models[/chat/completions?api-version=…] or …/openai/v1).

    Raises:
        ConfigError: a variable is missing, or it contradicts another; names it, never a value that is secret.
    """
    if teacher.provider == "simulated":
        names = Names("the simulated endpoint's key", "the simulated endpoint", "teacher.model", "the API version")
        return Address(Endpoint("simulated", teacher.model or "simulated"), "http://127.0.0.1", False, names)
    if teacher.provider == "azure":
        return _azure_address(teacher, environment)
    base_url = teacher.base_url or environment.get("OPENAI_BASE_URL") or OPENAI
    if not teacher.model:
        raise ConfigError("teacher.model: this key is missing; provider openai needs the name of a model")
    names = Names("OPENAI_API_KEY", "teacher.base_url", "teacher.model", "teacher.base_url")
    parts = _split("teacher.base_url", base_url)
    return Address(Endpoint(_host(parts) + parts.path.rstrip("/"), teacher.model), base_url, False, names)


def _azure_address(teacher: Teacher, environment: Mapping[str, str]) -> Address:
    url = environment.get("AZURE_ENDPOINT")
    if not url:
        raise ConfigError("AZURE_ENDPOINT is not set; it is the address of the Azure resource or deployment")
    names = Names("AZURE_API_KEY", "AZURE_ENDPOINT", "AZURE_DEPLOYMENT", "AZURE_API_VERSION")
    parts = _split("AZURE_ENDPOINT", url)
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    deployment, version = environment.get("AZURE_DEPLOYMENT"), environment.get("AZURE_API_VERSION")
    version = _agree("AZURE_API_VERSION", version, (parse_qs(parts.query).get("api-version") or [None])[0])
    before, marker, named = path.partition("/openai/deployments/")
    if marker:
        deployment = _agree("AZURE_DEPLOYMENT", deployment, named)
    deployment = deployment or teacher.model
    if not deployment:
        raise ConfigError("AZURE_DEPLOYMENT is not set; it is the name of the deployment to ask")
    if not version and not path.endswith("/openai/v1"):
        raise ConfigError("AZURE_API_VERSION is not set; for example 2024-10-21")
    root = f"{parts.scheme}://{parts.netloc}"
    if path.endswith(("/models", "/openai/v1")):
        return Address(Endpoint(_host(parts) + path, deployment, version), root + path, False, names)
    before = before.removesuffix("/openai")
    base_url = f"{root}{before}/openai/deployments/{deployment}"
    return Address(Endpoint(_host(parts) + before, deployment, version), base_url, True, names)


def _agree(name: str, variable: str | None, in_address: str | None) -> str | None:
    if variable and in_address and variable != in_address:
        raise ConfigError(f"{name} is {variable!r}, but AZURE_ENDPOINT names {in_address!r}; make them agree")
    return variable or in_address


def _split(name: str, url: str) -> Any:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{name} is no address; it looks like https://NAME.openai.azure.com")
    if parts.username or parts.password:
        raise ConfigError(f"{name} holds a user name or password; put the key into its own variable")
    return parts


def _host(parts: Any) -> str:
    return parts.hostname + (f":{parts.port}" if parts.port else "")


def secret(place: Address, environment: Mapping[str, str] = os.environ) -> str:
    """The key of an endpoint; endpoints on this machine need none.

    Raises:
        ConfigError: it is not set, or cannot be sent; names the variable.
    """
    name = place.names.key
    value = environment.get(name, "")
    if not value and urlsplit(place.base_url).hostname in LOOPBACK:
        return "none"
    if not value:
        raise ConfigError(f"{name} is not set; export the key of {place.endpoint.host}")
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise ConfigError(
            f"{name} holds characters that no key has (a space, a line feed, a quotation mark from a web page?)"
        )
    return value


class Client:
    """Sends one body at a time to one endpoint; every reply comes back as a value, also the failed ones."""

    def __init__(self, place: Address, key: str, *, timeout_s: float) -> None:
        import httpx2
        import openai

        self._place = place
        self._key = key
        self._timeout_s = timeout_s
        self._response = httpx2.Response
        self._options: Any = {}
        if not place.azure and place.names.key == "AZURE_API_KEY":
            self._options = {"headers": {"api-key": key, "Authorization": openai.Omit()}}
        self._tls = httpx2.create_ssl_context()
        self._all: list[openai.AsyncOpenAI] = []
        self._idle: list[openai.AsyncOpenAI] = []

    def _open(self) -> Any:
        """A client of openai's with one connection."""
        import httpx2
        import openai

        place, version = self._place, self._place.endpoint.api_version
        http = httpx2.AsyncClient(
            verify=self._tls,
            follow_redirects=False,
            timeout=None,  # the deadline is the wall clock's, around the whole call
            limits=httpx2.Limits(max_connections=1),
            trust_env=urlsplit(place.base_url).hostname not in LOOPBACK,  # no proxy sees calls to this machine
        )
        shared: Any = {"api_key": self._key, "max_retries": 0, "http_client": http}
        api: openai.AsyncOpenAI
        if place.azure:
            root, _, deployment = place.base_url.partition("/openai/deployments/")
            api = openai.AsyncAzureOpenAI(
                azure_endpoint=root, azure_deployment=deployment, api_version=version, **shared
            )
        else:
            query = {"api-version": version} if version else None
            api = openai.AsyncOpenAI(base_url=place.base_url, default_query=query, **shared)
        self._all.append(api)
        return api

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """Lend a client: a pool of connections per client would look at all of them for each call."""
        api = self._idle.pop() if self._idle else self._open()
        try:
            yield api
        finally:
            self._idle.append(api)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *exception: object) -> None:
        for api in self._all:
            await api.close()

    async def send(self, body: dict[str, Any]) -> Reply:
        """Post one chat completion and read the whole reply, within the deadline."""
        return await self.post("/chat/completions", body)

    async def get(self, path: str) -> Reply:
        """Read one address below the endpoint (files, batches)."""
        with self._client() as api:
            call = api.get(path, cast_to=self._response, options=self._options)
            return await self._reply(call, FILE_TIMES * self._timeout_s)

    async def post(self, path: str, body: dict[str, Any]) -> Reply:
        """Post JSON to one address below the endpoint."""
        with self._client() as api:
            call = api.post(path, cast_to=self._response, content=json_line(body).encode(), options=self._options)
            return await self._reply(call, self._timeout_s)

    async def upload(self, name: str, content: bytes) -> Reply:
        """Upload the input file of a batch."""
        with self._client() as api:
            headers = self._options.get("headers")
            call = api.files.with_raw_response.create(file=(name, content), purpose="batch", extra_headers=headers)
            return await self._reply(call, FILE_TIMES * self._timeout_s)

    async def _reply(self, call: Awaitable[Any], timeout_s: float) -> Reply:
        import openai

        start = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                response = await call
                response = getattr(response, "http_response", response)
        except openai.APIStatusError as error:
            response = error.response
        except TimeoutError:
            return self._failed(start, "timeout", f"no whole reply within {timeout_s:g} s")
        except openai.APIConnectionError as error:
            cause = error.__cause__
            connect = type(cause).__name__ in ("ConnectError", "ConnectTimeout", "UnsupportedProtocol")
            return self._failed(start, "connect" if connect else "broken", f"{type(cause).__name__}: {cause}")
        try:
            text = response.content.decode("utf-8")
        except UnicodeDecodeError:
            return self._failed(start, "broken", "the reply is not UTF-8")
        if response.status_code != 200 and len(self._key) > 8:  # some endpoints quote the key that they refuse
            text = text.replace(self._key, "[key]")
        return Reply(_seconds(start), response.status_code, text, dict(response.headers))

    @staticmethod
    def _failed(start: float, trouble: Trouble, detail: str) -> Reply:
        return Reply(_seconds(start), trouble=trouble, detail=detail)


def _seconds(start: float) -> float:
    return round(time.monotonic() - start, 4)
