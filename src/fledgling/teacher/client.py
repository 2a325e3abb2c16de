"""One call to the teacher over HTTP: what OpenAI, Azure and everything compatible understand."""

import asyncio
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import getproxies, proxy_bypass

from fledgling.errors import ConfigError
from fledgling.files import json_line
from fledgling.teacher.requests import Endpoint, Teacher
from fledgling.teacher.taxonomy import Names, Reply, Trouble

LOOPBACK = ("localhost", "127.0.0.1", "::1")
FILE_TIMES = 10  # files may take so many times longer than a call
OPENAI = "https://api.openai.com/v1"
HEADER_BYTES = 65536  # of one header; gateways add long ones
JSON = {"Content-Type": "application/json"}


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


def proxy(base_url: str) -> str | None:
    """The proxy that the environment names for an address (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY).

    Calls to this machine have none.

    Raises:
        ConfigError: it is of a kind that is not spoken.
    """
    parts = urlsplit(base_url)
    if parts.hostname in LOOPBACK or not parts.hostname or proxy_bypass(parts.hostname):
        return None
    known = getproxies()
    found = known.get(parts.scheme) or known.get("all")
    if found and urlsplit(found).scheme != "http":
        raise ConfigError(
            f"the proxy for {parts.hostname} is no http:// address; set {parts.scheme.upper()}_PROXY to one, "
            f"or NO_PROXY to {parts.hostname}"
        )
    return found


class Client:
    """Sends one body at a time to one endpoint; every reply comes back as a value, also the failed ones.

    Speaks OpenAI's HTTP API (chat completions, files, batches) with one header for the key and Azure's api-version in
    the query. Nothing is retried, redirected or kept in cookies here: each request is one call.
    """

    def __init__(self, place: Address, key: str, *, timeout_s: float) -> None:
        self._key = key
        self._timeout_s = timeout_s
        azure = place.names.key == "AZURE_API_KEY"
        self._headers = {"api-key": key} if azure else {"Authorization": f"Bearer {key}"}
        version = place.endpoint.api_version
        self._query = {"api-version": version} if version else None
        self._calls = place.base_url.rstrip("/")
        self._files = self._calls  # files and batches belong to the resource, not to a deployment
        if place.azure:
            self._files = self._calls.partition("/deployments/")[0]
        self._proxy = proxy(place.base_url)

    async def __aenter__(self) -> "Client":
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context()),
            timeout=aiohttp.ClientTimeout(),  # none: the deadline is the wall clock's, around the whole call
            headers={"Accept": "application/json", "User-Agent": "fledgling", **self._headers},
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self._proxy,
            trust_env=False,  # it would look for a proxy at each call, and put a .netrc's password over the key
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def send(self, body: dict[str, Any]) -> Reply:
        """Post one chat completion and read the whole reply, within the deadline."""
        return await self._post(self._calls + "/chat/completions", body)

    async def get(self, path: str) -> Reply:
        """Read one address of files or batches."""
        return await self._request("GET", self._files + path, FILE_TIMES * self._timeout_s)

    async def post(self, path: str, body: dict[str, Any]) -> Reply:
        """Post JSON to one address of files or batches."""
        return await self._post(self._files + path, body)

    async def upload(self, name: str, content: bytes) -> Reply:
        """Upload the input file of a batch."""
        import aiohttp

        form = aiohttp.FormData({"purpose": "batch"})
        form.add_field("file", content, filename=name, content_type="application/jsonl")
        return await self._request("POST", self._files + "/files", FILE_TIMES * self._timeout_s, form)

    async def _post(self, url: str, body: dict[str, Any]) -> Reply:
        return await self._request("POST", url, self._timeout_s, json_line(body).encode(), JSON)

    async def _request(
        self, method: str, url: str, timeout_s: float, data: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        import aiohttp

        start = time.monotonic()
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(
                    method, url, params=self._query, data=data, headers=headers, allow_redirects=False
                ) as response,
            ):
                content = await response.read()
        except TimeoutError:
            return self._failed(start, "timeout", f"no whole reply within {timeout_s:g} s")
        except aiohttp.ClientError as error:
            unsent = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.InvalidURL)
            trouble: Trouble = "connect" if isinstance(error, unsent) else "broken"
            return self._failed(start, trouble, f"{type(error).__name__}: {error}")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            return self._failed(start, "broken", "the reply is not UTF-8")
        if response.status != 200 and len(self._key) > 8:  # some endpoints quote the key that they refuse
            text = text.replace(self._key, "[key]")
        return Reply(_seconds(start), response.status, text, response.headers)

    @staticmethod
    def _failed(start: float, trouble: Trouble, detail: str) -> Reply:
        return Reply(_seconds(start), trouble=trouble, detail=detail)


def _seconds(start: float) -> float:
    return round(time.monotonic() - start, 4)
