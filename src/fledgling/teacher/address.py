"""Where the teacher lives, how its parts are named, and what opens its door: addresses, keys, proxies, certificates."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit
from urllib.request import getproxies, proxy_bypass

from fledgling.errors import ConfigError
from fledgling.teacher.requests import Endpoint, Teacher
from fledgling.teacher.taxonomy import Names

LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPENAI = "https://api.openai.com/v1"
CALL = "/chat/completions"
DEPLOYMENTS = "/openai/deployments/"
SERVERLESS = ".models.ai.azure.com"  # one model a host, no deployments
UNSET = "unset.openai.azure.com"  # stands for an address while what else is missing is looked for
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
Form = Literal["openai", "deployment", "models"]


class Unset(ConfigError):
    """A variable of the environment is not set; `variable` names it."""

    def __init__(self, variable: str, message: str) -> None:
        super().__init__(message)
        self.variable = variable


@dataclass(frozen=True, slots=True)
class Address:
    """Where the teacher lives and how the user names its parts. Holds no secret.

    `form`: "deployment" is {resource}/openai/deployments/NAME, where files and batches belong to the resource;
    "models" is any other address on Azure, "openai" any other at all. `base_url` is what /chat/completions is put
    behind, `resource` what /openai is.
    """

    endpoint: Endpoint
    base_url: str
    form: Form
    names: Names
    resource: str = ""


def address(teacher: Teacher, environment: Mapping[str, str] = os.environ) -> Address:
    """Where a teacher lives, from the configuration and the AZURE_* variables; needs no key.

    AZURE_ENDPOINT is a resource (https://NAME.openai.azure.com), a deployment's address
    (…/openai/deployments/NAME[/chat/completions?api-version=…]), or a models address (…/models, …/openai/v1, …/v1, a
    serverless host, each with or without /chat/completions). Addresses as portals show them are understood or refused.

    Raises:
        ConfigError: a variable is missing, or it contradicts another; names it, never a value that is secret.
    """
    if teacher.provider == "simulated":
        names = Names("the simulated endpoint's key", "the simulated endpoint", "teacher.model", "the API version")
        return Address(Endpoint("simulated", teacher.model or "simulated"), "http://127.0.0.1", "openai", names)
    if teacher.provider == "azure":
        return _azure(teacher, environment)
    base_url = teacher.base_url or _variable("OPENAI_BASE_URL", environment) or OPENAI
    if not teacher.model:
        raise ConfigError("teacher.model: this key is missing; provider openai needs the name of a model")
    names = Names("OPENAI_API_KEY", "teacher.base_url", "teacher.model", "teacher.base_url")
    parts = _split("teacher.base_url", base_url)
    path = parts.path.rstrip("/").removesuffix(CALL)
    if path.endswith(("/api", "/responses", "/completions", "/api/chat", "/api/generate")):
        raise ConfigError(
            f"teacher.base_url ends in {path!r}, which does not speak chat completions; set it to the address that "
            "/chat/completions is put behind (…/v1 for OpenAI, vLLM, llama.cpp, Ollama and LM Studio)"
        )
    if parts.query:
        raise ConfigError("teacher.base_url has a query (?…); leave it out, and put keys into teacher.headers")
    return Address(Endpoint(_host(parts) + path, teacher.model), _root(parts) + path, "openai", names)


def _azure(teacher: Teacher, environment: Mapping[str, str]) -> Address:
    url = _variable("AZURE_ENDPOINT", environment)
    if not url:
        raise Unset(
            "AZURE_ENDPOINT", "AZURE_ENDPOINT is not set; it is the address of the Azure resource or deployment"
        )
    key = "the Entra ID token" if teacher.auth == "entra" else "AZURE_API_KEY"
    names = Names(key, "AZURE_ENDPOINT", "AZURE_DEPLOYMENT", "AZURE_API_VERSION")
    parts = _split("AZURE_ENDPOINT", url)
    path = parts.path.rstrip("/").removesuffix(CALL).removesuffix("/responses")
    deployment, version = _variable("AZURE_DEPLOYMENT", environment), _variable("AZURE_API_VERSION", environment)
    query = dict(parse_qsl(parts.query))
    if set(query) - {"api-version"}:
        raise ConfigError("AZURE_ENDPOINT has a query other than api-version; put keys into AZURE_API_KEY")
    version = _agree("AZURE_API_VERSION", version, query.get("api-version"))
    before, marker, named = path.partition(DEPLOYMENTS)
    if marker:
        deployment = _agree("AZURE_DEPLOYMENT", deployment, named.strip("/"))
    deployment = deployment or teacher.model
    if not deployment:
        raise Unset("AZURE_DEPLOYMENT", "AZURE_DEPLOYMENT is not set; it is the name of the deployment to ask")
    root = _root(parts)
    if "/api/projects/" in path and not marker:  # a Foundry project: its resource speaks the same
        path = path.partition("/api/projects/")[0] + "/openai/v1"
    if path.endswith("/v1"):
        version = None  # the path is the version
    elif not version and not _host(parts).endswith(SERVERLESS):
        raise Unset("AZURE_API_VERSION", "AZURE_API_VERSION is not set; for example 2024-10-21")
    if path.endswith(("/models", "/v1")) or _host(parts).endswith(SERVERLESS):
        return Address(Endpoint(_host(parts) + path, deployment, version), root + path, "models", names)
    before = before.rstrip("/").removesuffix("/openai")
    base_url = f"{root}{before}{DEPLOYMENTS}{deployment}"
    return Address(Endpoint(_host(parts) + before, deployment, version), base_url, "deployment", names, root + before)


def _variable(name: str, environment: Mapping[str, str]) -> str | None:
    """A variable without the white space that an editor or a file with Windows line ends leaves around it."""
    return environment.get(name, "").strip() or None


def _agree(name: str, variable: str | None, in_address: str | None) -> str | None:
    if variable and in_address and variable != in_address:
        raise ConfigError(f"{name} is {variable!r}, but AZURE_ENDPOINT names {in_address!r}; make them agree")
    return variable or in_address


def _split(name: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018, reading it checks it
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or " " in url:
        example = "https://NAME.openai.azure.com" if name == "AZURE_ENDPOINT" else "https://HOST/v1"
        raise ConfigError(f"{name} is no address; it looks like {example}")
    if parts.username or parts.password:
        raise ConfigError(f"{name} holds a user name or password; put the key into its own variable")
    return parts


def _root(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc}"


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "") + (f":{parts.port}" if parts.port else "")


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
        raise Unset(name, f"{name} is not set; export the key of {place.endpoint.host}")
    return _sendable(name, value)


def headers(teacher: Teacher, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The further headers of `teacher.headers`, each with the value of the variable that it names.

    Raises:
        ConfigError: a variable is not set, or holds what no header can; names the key and the variable.
    """
    found = {}
    for name, variable in teacher.headers.items():
        value = environment.get(variable, "")
        if not value:
            raise Unset(variable, f"teacher.headers.{name}: the variable {variable} is not set")
        found[name] = _sendable(variable, value)
    return found


def unset(teacher: Teacher, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Every variable without which a teacher cannot be asked, with what is said of it; {} where nothing is missing.

    Raises:
        ConfigError: a variable that is set is wrong.
    """
    known, found = dict(environment), dict[str, str]()
    while True:
        try:
            place = address(teacher, known)
            if teacher.auth != "entra" and teacher.provider != "simulated":
                secret(place, known)
            headers(teacher, known)
        except Unset as error:
            found[error.variable] = str(error).replace(UNSET, "that resource")
            known[error.variable] = f"https://{UNSET}" if "ENDPOINT" in error.variable else "unset"
        else:
            return found


def _sendable(name: str, value: str) -> str:
    if value.rstrip("\r\n") != value:
        raise ConfigError(f"{name} ends in a line break; write the file that sets it with Unix line ends (dos2unix)")
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


def certificates(environment: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """The authorities that are trusted: OpenSSL's (SSL_CERT_FILE, SSL_CERT_DIR), and those of REQUESTS_CA_BUNDLE.

    Raises:
        ConfigError: a variable names no file of certificates.
    """
    for name in ("SSL_CERT_FILE", *BUNDLES):
        if (path := environment.get(name)) and not os.path.exists(path):
            raise ConfigError(f"{name}: no such file: {path}")
    context = ssl.create_default_context()
    for name in BUNDLES:
        if path := environment.get(name):
            folder = os.path.isdir(path)
            try:
                context.load_verify_locations(cafile=None if folder else path, capath=path if folder else None)
            except (ssl.SSLError, OSError) as error:
                raise ConfigError(f"{name}: {path} holds no certificates in PEM form ({error})") from None
    return context
