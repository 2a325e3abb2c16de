"""Where the teacher lives: both Azure forms and any compatible endpoint, by what really arrives at the server."""

import ssl
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fledgling.errors import ConfigError
from fledgling.records import Example
from fledgling.teacher.address import address, proxy, secret
from fledgling.teacher.requests import Endpoint, Request, Teacher, request

from .conftest import Bench
from .server import Background

KEY = "azure-key-0123456789"
AZURE: dict[str, Any] = {"provider": "azure", "model": None, "base_url": None}


def azure(monkeypatch: pytest.MonkeyPatch, **variables: str | None) -> None:
    for name in ("ENDPOINT", "DEPLOYMENT", "API_KEY", "API_VERSION"):
        monkeypatch.delenv(f"AZURE_{name}", raising=False)
    for name, value in ({"API_KEY": KEY} | variables).items():
        if value is not None:
            monkeypatch.setenv(f"AZURE_{name}", value)


DEPLOYMENT = "/openai/deployments/gpt/chat/completions"
FORMS = {
    "resource": ("{}", {"DEPLOYMENT": "gpt", "API_VERSION": "v9"}, DEPLOYMENT),
    "resource with a slash": ("{}/", {"DEPLOYMENT": "gpt", "API_VERSION": "v9"}, DEPLOYMENT),
    "resource, /openai": ("{}/openai", {"DEPLOYMENT": "gpt", "API_VERSION": "v9"}, DEPLOYMENT),
    "deployment": ("{}/openai/deployments/gpt", {"API_VERSION": "v9"}, DEPLOYMENT),
    "whole address": (f"{{}}{DEPLOYMENT}?api-version=v9", {}, DEPLOYMENT),
    "behind a gateway": (f"{{}}/apim{DEPLOYMENT}?api-version=v9", {"DEPLOYMENT": "gpt"}, f"/apim{DEPLOYMENT}"),
    "models": ("{}/models/chat/completions?api-version=v9", {"DEPLOYMENT": "gpt"}, "/models/chat/completions"),
    "models, short": ("{}/models", {"DEPLOYMENT": "gpt", "API_VERSION": "v9"}, "/models/chat/completions"),
}


@pytest.mark.parametrize("name", FORMS)
def test_azure(asked: Bench, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    endpoint, variables, path = FORMS[name]
    azure(monkeypatch, ENDPOINT=endpoint.format(asked.url.removesuffix("/v1")), **variables)
    assert asked.ask(1, **AZURE)[0]["outcome"] == "ok"
    assert asked.server.paths == [f"{path}?api-version=v9"]
    assert asked.server.headers[0]["api-key"] == KEY
    assert "authorization" not in asked.server.headers[0]
    assert asked.server.bodies[0]["model"] == "gpt"


def test_azure_without_a_version_in_the_address(asked: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    azure(monkeypatch, ENDPOINT=asked.url.removesuffix("/v1") + "/openai/v1", DEPLOYMENT="gpt")
    asked.ask(1, **AZURE)
    assert asked.server.paths == ["/openai/v1/chat/completions"]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "AZURE_ENDPOINT is not set"),
        ({"ENDPOINT": "https://x.openai.azure.com"}, "AZURE_DEPLOYMENT is not set"),
        ({"ENDPOINT": "https://x.openai.azure.com", "DEPLOYMENT": "d"}, "AZURE_API_VERSION is not set"),
        ({"ENDPOINT": "x.openai.azure.com", "DEPLOYMENT": "d"}, "AZURE_ENDPOINT is no address"),
        ({"ENDPOINT": "https://u:p@x.com", "DEPLOYMENT": "d"}, "AZURE_ENDPOINT holds a user name"),
        ({"ENDPOINT": "https://x.com/openai/deployments/a", "DEPLOYMENT": "b"}, "make them agree"),
        ({"ENDPOINT": "https://x.com/models?api-version=1", "DEPLOYMENT": "b", "API_VERSION": "2"}, "make them agree"),
    ],
)
def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str) -> None:
    azure(monkeypatch, **variables)
    with pytest.raises(ConfigError, match=words):
        address(Teacher.of(AZURE))


@pytest.mark.parametrize("value", [None, "key\n", "two words", "“key”"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    azure(monkeypatch, ENDPOINT="https://x.com", DEPLOYMENT="d", API_VERSION="v", API_KEY=value)
    with pytest.raises(ConfigError, match="AZURE_API_KEY") as caught:
        secret(address(Teacher.of(AZURE)))
    assert not value or value not in str(caught.value)


def test_any_compatible_endpoint(asked: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    asked.ask(1)
    assert asked.server.paths == ["/v1/chat/completions"]
    assert asked.server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_a_hosted_endpoint_needs_a_key_and_a_local_one_none(asked: Bench) -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        asked.ask(1, base_url=None)
    asked.ask(1)
    assert asked.server.received == 1


def test_a_proxy_never_sees_calls_to_this_machine(asked: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert asked.ask(1)[0]["outcome"] == "ok"


ROW = Example("r", "g", [{"role": "user", "content": "q"}], {"a": 1}, schema={"type": "object"})
PLACE = Endpoint("h", "d", "v")
TEACHER = {"provider": "openai", "model": "m", "seed": 1}


def ask_for(row: Example = ROW, place: Endpoint = PLACE, **teacher: Any) -> Request:
    return request(row, Teacher.of(TEACHER | teacher), place, {"schema": "none"})


@pytest.mark.parametrize(
    "teacher",
    [
        {"model": "n"},
        {"seed": 2},
        {"seed": None},
        {"temperature": 0.5},
        {"temperature": None},
        {"max_tokens": 9},
        {"max_tokens_key": "max_tokens"},
        {"response_format": "json_object"},
        {"response_format": "none"},
    ],
)
def test_what_decides_the_reply_is_in_the_key(teacher: dict[str, Any]) -> None:
    assert ask_for(**teacher).key != ask_for().key


@pytest.mark.parametrize(
    "teacher",
    [
        {"concurrency": 1},
        {"requests_per_minute": 5},
        {"tokens_per_minute": 5},
        {"timeout_s": 1},
        {"max_tries": 1},
        {"budget": {"calls": 1}},
        {"batch": True},
        {"allow_mixed_models": True},
        {"prices": {"input_per_million": 1, "output_per_million": 1, "currency": "EUR"}},
    ],
)
def test_what_does_not_decide_the_reply_is_not(teacher: dict[str, Any]) -> None:
    assert ask_for(**teacher) == ask_for()


def test_rows_are_told_apart_by_what_is_asked_and_nothing_else() -> None:
    other_words = Example("r", "g", [{"role": "user", "content": "p"}], {"a": 1}, schema={"type": "object"})
    renamed = Example("s", "h", ROW.messages, {"a": 2}, schema=ROW.schema)
    with_tools = Example("r", "g", ROW.messages, [], tools=[{"type": "function", "function": {"name": "f"}}])
    assert len({ask_for(row).key for row in (ROW, other_words, with_tools)}) == 3
    assert ask_for(renamed).key == ask_for().key
    assert len({ask_for(place=Endpoint(*place)).key for place in ("hdv", "gdv", "hev", "hdw")}) == 4


def test_a_second_run_is_the_same_call_under_another_key() -> None:
    teacher = Teacher.of(TEACHER)
    calls = [request(ROW, teacher, PLACE, {"schema": "none"}, repeat) for repeat in (0, 1, 2)]
    assert calls[0] == ask_for()
    assert calls[0].body == calls[1].body == calls[2].body
    assert len({call.key for call in calls}) == 3


def test_the_schema_is_put_as_for_the_slm_and_as_response_format() -> None:
    body = request(ROW, Teacher.of(TEACHER), PLACE, {"schema": "system"}).body
    assert body["messages"][0]["role"] == "system"
    assert '{"type":"object"}' in body["messages"][0]["content"]
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert ask_for().body["messages"] == ROW.messages
    assert "response_format" not in ask_for(response_format="none").body


PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> str:
    """An endpoint on another machine, which is reached through a proxy or not at all."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return "http://provider.invalid/v1"


def test_a_proxy_of_the_environment_is_used(asked: Bench, away: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", asked.url.removesuffix("/v1"))
    assert asked.ask(3, base_url=away)[0]["outcome"] == "ok"
    assert asked.server.paths == ["http://provider.invalid/v1/chat/completions"] * 3
    monkeypatch.setenv("NO_PROXY", "provider.invalid")
    assert proxy(away) is None
    assert proxy(asked.url) is None, "no proxy sees calls to this machine"


def test_a_proxy_that_is_not_spoken_is_refused_without_its_password(
    asked: Bench, away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"provider\.invalid is no http:// address; set HTTP_PROXY") as caught:
        asked.ask(1, base_url=away)
    assert "secret" not in str(caught.value)


def test_a_netrc_does_not_replace_the_key(
    asked: Bench, away: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", asked.url.removesuffix("/v1"))
    asked.ask(1, base_url=away)
    assert asked.server.headers[0]["authorization"] == f"Bearer {KEY}"


PASTED = {  # what portals show, and what may be asked instead
    "https://x.openai.azure.com/openai/responses?api-version=v9": f"x.openai.azure.com{DEPLOYMENT}",
    "https://x.services.ai.azure.com/api/projects/p": "x.services.ai.azure.com/openai/v1/chat/completions",
    "https://x.services.ai.azure.com/api/projects/p/openai/v1/": "x.services.ai.azure.com/openai/v1/chat/completions",
    "https://m.eastus.models.ai.azure.com": "m.eastus.models.ai.azure.com/chat/completions",
    "https://m.eastus.models.ai.azure.com/v1/chat/completions": "m.eastus.models.ai.azure.com/v1/chat/completions",
    "https://gw.azure-api.net/llm/v1": "gw.azure-api.net/llm/v1/chat/completions",
    f"https://gw.azure-api.net/a{DEPLOYMENT}?api-version=v9": f"gw.azure-api.net/a{DEPLOYMENT}",
}


@pytest.mark.parametrize("url", PASTED)
def test_a_pasted_address_of_azure_is_understood(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    azure(monkeypatch, ENDPOINT=url, DEPLOYMENT="gpt", API_VERSION="v9")
    assert address(Teacher.of(AZURE)).base_url + "/chat/completions" == f"https://{PASTED[url]}"


@pytest.mark.parametrize("end", ["", "/", "/chat/completions", "/chat/completions/"])
def test_a_pasted_address_is_understood(asked: Bench, end: str) -> None:
    assert asked.ask(1, base_url=asked.url + end)[0]["outcome"] == "ok"
    assert asked.server.paths == ["/v1/chat/completions"]
    asked.ask(1)
    assert asked.server.received == 1, "the same endpoint has the same keys"


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:11434/api",
        "http://localhost:11434/api/chat",
        "https://api.openai.com/v1/responses",
        "https://h/v1?key=abcdefghijkl",
        "https://u:abcdefghijkl@h/v1",
        "h/v1",
        "https://h:port/v1",
        "https://h /v1",
    ],
)
def test_what_is_no_address_is_refused_before_a_call_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match=r"teacher\.base_url") as caught:
        address(Teacher.of({"provider": "openai", "model": "m", "base_url": url}))
    assert "abcdefghijkl" not in str(caught.value)


def test_a_404_says_what_was_asked(asked: Bench) -> None:
    asked.server.fault = {"fault": "status", "status": 404, "body": {"detail": "Not Found"}}
    with pytest.raises(ConfigError, match=r"Not Found.*asked was /chat/completions, so check the address too"):
        asked.ask(3, base_url=asked.url.removesuffix("/v1"))


def test_windows_line_ends_in_variables_do_no_harm(asked: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    azure(
        monkeypatch,
        ENDPOINT=asked.url.removesuffix("/v1") + "/openai\r",
        DEPLOYMENT="gpt\r\n",
        API_VERSION=" v9\r",
    )
    asked.ask(1, **AZURE)
    assert asked.server.paths == [f"{DEPLOYMENT}?api-version=v9"]
    monkeypatch.setenv("AZURE_API_KEY", KEY + "\r")
    with pytest.raises(ConfigError, match="AZURE_API_KEY ends in a line break") as caught:
        secret(address(Teacher.of(AZURE)))
    assert KEY not in str(caught.value)


def test_further_headers_come_from_variables(asked: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"Ocp-Apim-Subscription-Key": "APIM_KEY"}
    monkeypatch.delenv("APIM_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"teacher\.headers\.Ocp-Apim-Subscription-Key: .* APIM_KEY is not set"):
        asked.ask(1, headers=given)
    monkeypatch.setenv("APIM_KEY", "subscription-0123456789")
    asked.ask(1, headers=given)
    assert asked.server.headers[0]["ocp-apim-subscription-key"] == "subscription-0123456789"
    asked.server.fault = {"fault": "status", "status": 401, "body": {"message": "no subscription-0123456789 here"}}
    with pytest.raises(ConfigError, match=r"no \[key\] here"):
        asked.ask(2, headers=given)


def test_a_reply_keeps_the_words_that_are_a_key_or_a_header_too(asked: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local servers take any key, and a header may be a team's name: what the model says stays as it is."""
    long = "sk-very-secret-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", "anything")
    monkeypatch.setenv("TEAM", "customer-support")
    monkeypatch.setenv("GATEWAY_KEY", long)
    given = {"X-Team": "TEAM", "X-Key": "GATEWAY_KEY"}
    words = "If anything fails, customer-support and customer-service help"
    asked.server.fault = {"fault": "choice", "message": {"content": f"{words}; {long}"}}
    assert [row["raw"] for row in asked.ask(2, headers=given)] == [f"{words}; [key]"] * 2
    assert long not in (asked.job.journal / "teacher.jsonl").read_text()
    quoted = {"error": {"message": "bad key: anything", "code": 401}}
    asked.server.fault = {"fault": "status", "status": 200, "body": quoted}
    with pytest.raises(ConfigError, match=r"bad key: \[key\]"):
        asked.ask(3, headers=given)


@pytest.mark.parametrize("form", ["/openai/deployments/gpt", "/models", "/openai/v1"])
def test_entra_tokens(asked: Bench, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    azure(monkeypatch, ENDPOINT=asked.url.removesuffix("/v1") + form, DEPLOYMENT="gpt", API_VERSION="v9", API_KEY=None)
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "a.token.of-entra\n")
    asked.ask(2, **AZURE, auth="entra")
    for sent in asked.server.headers:
        assert sent["authorization"] == "Bearer a.token.of-entra"
        assert "api-key" not in sent


def test_entra_tokens_of_azure_identity(asked: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the package: the names that we call, what they give and how they fail."""
    azure(monkeypatch, ENDPOINT=asked.url.removesuffix("/v1"), DEPLOYMENT="gpt", API_VERSION="v9", API_KEY=None)
    monkeypatch.delenv("AZURE_OPENAI_AD_TOKEN", raising=False)
    tokens = iter(["first", "second"])

    def provider(credential: object, scope: str) -> Callable[[], str]:
        assert (credential, scope) == ("a credential", "https://cognitiveservices.azure.com/.default")

        def token() -> str:
            try:
                return next(tokens)
            except StopIteration:
                raise RuntimeError("DefaultAzureCredential failed to retrieve a token\nand so on") from None

        return token

    package = types.SimpleNamespace(
        DefaultAzureCredential=lambda: "a credential", get_bearer_token_provider=provider, __spec__=None
    )
    monkeypatch.setitem(sys.modules, "azure", types.SimpleNamespace(identity=package))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "azure.identity", package)  # type: ignore[arg-type]
    asked.ask(2, **AZURE, auth="entra", concurrency=1)
    assert [sent["authorization"] for sent in asked.server.headers] == ["Bearer first", "Bearer second"]
    with pytest.raises(ConfigError, match=r"Entra ID gave no token \(DefaultAzureCredential failed[^\n]*\); sign in"):
        asked.ask(3, **AZURE, auth="entra")
    assert asked.server.received == 2


def test_entra_without_its_package_says_what_to_install(asked: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    azure(monkeypatch, ENDPOINT="https://x.com", DEPLOYMENT="d", API_VERSION="v", API_KEY=None)
    monkeypatch.delenv("AZURE_OPENAI_AD_TOKEN", raising=False)
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(ConfigError, match=r"pip install 'fledgling\[azure\]'"):
        asked.ask(1, **AZURE, auth="entra")


@pytest.fixture
def private(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An endpoint with a certificate of its own: address and certificate."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Background(tls=context) as background:
        yield f"https://localhost:{background.port}/v1", certificate


def test_a_private_authority_is_trusted_through_a_variable(
    asked: Bench, private: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, certificate = private
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"is not trusted .*set SSL_CERT_FILE or REQUESTS_CA_BUNDLE"):
        asked.ask(3, base_url=url)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(certificate))
        assert asked.ask(1, base_url=url, seed=len(name))[0]["outcome"] == "ok"
        monkeypatch.setenv(name, "/nowhere.pem")
        with pytest.raises(ConfigError, match=f"{name}: no such file"):
            asked.ask(1, base_url=url, seed=99)
        monkeypatch.delenv(name)
