"""Who the receivers are, by the variables that their users know; reads the environment and opens nothing."""

from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import urlsplit

from fledgling.errors import ConfigError

Environment = Mapping[str, str]
LANGFUSE, OTLP = "langfuse", "otlp"
KEYS = {
    LANGFUSE: "LANGFUSE_PUBLIC_KEY, LANGFUSE_SECRET_KEY and LANGFUSE_HOST",
    OTLP: "OTEL_EXPORTER_OTLP_HEADERS and OTEL_EXPORTER_OTLP_ENDPOINT",
}
CLOUD = "https://cloud.langfuse.com"
LOCAL = "http://localhost:4318"
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def off(kind: str, environment: Environment) -> str:
    """Why nothing is sent to a receiver of a kind; "" where it is."""
    if kind == OTLP:
        return "OTEL_SDK_DISABLED is set" if _word(environment, "OTEL_SDK_DISABLED") == "true" else ""
    if _word(environment, "LANGFUSE_DISABLED") in YES:
        return "LANGFUSE_DISABLED is set"
    if _word(environment, "LANGFUSE_TRACING_ENABLED") in NO:
        return "LANGFUSE_TRACING_ENABLED is off"
    missing = [key for key in ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY") if not environment.get(key, "").strip()]
    return f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not set" if missing else ""


def base(kind: str, environment: Environment) -> str:
    """The address of a receiver; of OTLP, with its path.

    Raises:
        ConfigError: it is none, or holds a password.
    """
    if kind == LANGFUSE:
        found = environment.get("LANGFUSE_BASE_URL") or environment.get("LANGFUSE_HOST") or CLOUD
    else:
        common = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or LOCAL
        found = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or common.rstrip("/") + "/v1/traces"
    variable = KEYS[kind].rpartition(" ")[2]
    try:
        parts = urlsplit(found.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        hidden = parts.username is not None or parts.password is not None or bool(parts.query)
    except ValueError:
        usable = hidden = False
    if hidden:
        raise ConfigError(f"{variable}: a user name, a password or a query in an address; put keys into {KEYS[kind]}")
    if not usable:
        raise ConfigError(f"{variable}: {found!r} is no address; it looks like https://HOST")
    return found.strip().rstrip("/")


def address(kind: str, environment: Environment) -> str | None:
    """What receipts call a receiver: its kind, its address and, for Langfuse, which project; None where there is none.

    Raises:
        ConfigError: as `base`.
    """
    if off(kind, environment):
        return None
    if kind == OTLP:
        return f"{kind} {base(kind, environment)}"
    project = sha256(environment["LANGFUSE_PUBLIC_KEY"].strip().encode()).hexdigest()[:8]
    return f"{kind} {base(kind, environment)} {project}"


def _word(environment: Environment, name: str) -> str:
    return environment.get(name, "").strip().lower()
