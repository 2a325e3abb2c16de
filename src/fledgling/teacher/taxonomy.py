"""What a reply leads to: an answer, a final outcome of its row, a reason to try again, or a reason to stop."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fledgling.errors import ConfigError, FledglingError, Unavailable
from fledgling.teacher.answers import read, usage_of
from fledgling.teacher.refusals import CONFIG_KEYS, PARAMETER_CODES, Refusal, refusal
from fledgling.teacher.waits import MAX_PAUSE_S, allowed_again, retry_after, said

Trouble = Literal["timeout", "connect", "certificate", "token", "huge", "broken", "cancelled"]
Billed = Literal["yes", "no", "maybe"]
NOT_BILLED = (409, 425, 429, 503, 529)  # refused before any work
PASSING = (408, 409, 424, 425, 429, 499)  # and all from 500 on
UNREAD = "HTTP 200 without an answer"
# The status that an error in the body of a 200 stands for, by its code or type.
STATUS_OF = {
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "overloaded_error": 529,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found_error": 404,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from one call, whatever it was.

    `status` and `text` are None where there was no whole response; then `trouble` says why: timeout (the wall-clock
    deadline), connect (never reached), certificate (not trusted), token (Entra ID gave none), huge (more bytes than
    any answer has), broken (reset, cut short, no HTTP). `asked` is the path that was asked.
    """

    latency_s: float
    status: int | None = None
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    trouble: Trouble | None = None
    detail: str = ""
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Names:
    """What the user has to change, per subject: environment variables or configuration keys."""

    key: str
    endpoint: str
    deployment: str
    api_version: str


@dataclass(frozen=True, slots=True)
class Action:
    """What to do about a reply. `pause_s` is the provider's own wish, None where it has none.

    finished: keep it for good · transient: try again · rejected: this row fails in this run, and the run stops where
    the first rows are all rejected · stop: no other row would fare better. `usage` is what the reply says it took;
    `unread`: it came with status 200 and is no chat completion.
    """

    kind: Literal["finished", "transient", "rejected", "stop"]
    message: str = ""
    billed: Billed = "no"
    pause_s: float | None = None
    rate_limited: bool = False
    error: FledglingError | None = None
    unread: bool = False
    usage: Mapping[str, int] = field(default_factory=dict)


def judge(reply: Reply, names: Names) -> Action:
    """What to do about a reply. Decides on status and error code, and on prose only where there is no code."""
    if reply.status is None:
        return _without_response(reply)
    if 200 <= reply.status < 300:
        return _answered(reply, names)
    why = refusal(reply.text)
    code = why.code()
    what = f"HTTP {reply.status}" + (f" {code}" if code else "") + (f": {why.words}" if why.words else "")
    wait = said(why.words)
    soon = wait is not None and wait <= MAX_PAUSE_S
    if 400 <= reply.status < 500 and why.used_up() and not soon:
        return _stop(Unavailable, f"the provider's quota is used up ({what}); top it up and run the same command")
    if reply.status in (413, 429) and why.never_fits():
        return Action("rejected", f"the row is larger than the endpoint's rate limit ({what})")
    if reply.status >= 500 and why.part in CONFIG_KEYS:
        return _refused_parameter(why, why.part, what)
    if why.needs_another_start():
        return _stop(ConfigError, f"{names.endpoint} has to be started otherwise ({what})")
    limited = reply.status == 429 or (reply.status in (400, 403) and why.is_throttled())
    if limited or reply.status in PASSING or reply.status >= 500:
        pause = retry_after(reply.headers)
        pause = wait if pause is None else pause
        if pause is None and limited:
            pause = allowed_again(reply.headers)
        if pause is not None and pause > MAX_PAUSE_S:
            return _stop(Unavailable, f"the provider asks to wait {pause:,.0f} s ({what}); run the same command then")
        billed: Billed = "no" if limited or reply.status in NOT_BILLED else "maybe"
        return Action("transient", what, billed, pause, rate_limited=limited)
    if why.limit_is_too_large(reply.status):
        return _stop(
            ConfigError, f"the endpoint's context is too small for replies so long ({what}); lower teacher.max_tokens"
        )
    answer = read(reply.status, reply.text or "")
    if answer is not None and answer.outcome != "error":
        return Action("finished", what, "maybe" if why.generated is not None else "no")
    return _refused(reply, why, what, names)


def _without_response(reply: Reply) -> Action:
    what = f"{reply.trouble}: {reply.detail}"
    if reply.trouble == "certificate":
        return _stop(
            ConfigError,
            f"the endpoint's certificate is not trusted ({reply.detail}); set SSL_CERT_FILE or REQUESTS_CA_BUNDLE to a "
            "file with the certificates of your authority",
        )
    if reply.trouble == "token":
        return _stop(
            ConfigError, f"Entra ID gave no token ({reply.detail}); sign in with `az login`, or see azure-identity"
        )
    if reply.trouble == "huge":
        return Action("rejected", what, "maybe")
    return Action("transient", what, "no" if reply.trouble == "connect" else "maybe")


def _answered(reply: Reply, names: Names) -> Action:
    text = reply.text or ""
    answer = read(200, text)
    if answer is None:
        if (inner := _status_inside(text)) is not None:
            return judge(Reply(reply.latency_s, inner, text, reply.headers, asked=reply.asked), names)
        what = f"{UNREAD}: {refusal(text).words!r}"
        return Action("transient", what, "maybe", unread=True, usage=usage_of(text))
    if answer.outcome != "error":
        return Action("finished", billed="yes", usage=answer.usage)
    again = "broke" in (answer.reason or "")
    return Action("transient" if again else "rejected", answer.reason or "", "yes", usage=answer.usage)


def _status_inside(text: str) -> int | None:
    """The status that an error in the body of a 200 stands for ({"error": {"code": 429}}), or None."""
    for name in refusal(text).codes & STATUS_OF.keys():
        return STATUS_OF[name]
    try:
        error = json.loads(text)["error"]
        code = int(error["code"])
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError):
        return None
    return code if 400 <= code < 600 else None


def _refused(reply: Reply, why: Refusal, what: str, names: Names) -> Action:
    """A 3xx or 4xx that is not an outcome of its row."""
    status, text = reply.status or 0, f"{why.code()} {why.words}".lower()
    if status == 401 or why.names_a_wrong_key(status):
        header = "subscription key" in text and "missing" in text
        remedy = "put it into teacher.headers" if header else "set it to a key of this endpoint"
        return _stop(ConfigError, f"{names.key} was refused ({what}); {remedy}")
    if status == 403:
        return _stop(ConfigError, f"access was denied ({what}); check {names.key} and what it may use")
    if status == 402:
        return _stop(Unavailable, f"the provider wants to be paid first ({what}); run the same command then")
    if status in (400, 404) and ("api-version" in text or "api version" in text):
        return _stop(ConfigError, f"{names.api_version} is not accepted ({what})")
    if status == 404 or "model_not_found" in why.codes or why.names_a_wrong_model(status):
        asked = f"; asked was {reply.asked}, so check the address too" if reply.asked else ""
        return _stop(ConfigError, f"{names.deployment} does not exist at {names.endpoint} ({what}){asked}")
    if status < 400:
        return _stop(
            ConfigError,
            f"{names.endpoint} redirects (HTTP {status}); nothing is sent elsewhere, set the address itself",
        )
    if why.is_about_the_row(status):
        hint = "; teacher.response_format may be set to json_object or none" if why.part == "response_format" else ""
        return Action("rejected", f"the endpoint refuses the row ({what}{hint})")
    parameter = why.parameter()
    if parameter in CONFIG_KEYS or why.codes & PARAMETER_CODES:
        return _refused_parameter(why, parameter, what)
    return Action("rejected", f"the endpoint does not take the request ({what}); check {names.endpoint}")


def _refused_parameter(why: Refusal, parameter: str, what: str) -> Action:
    key = CONFIG_KEYS.get(parameter, "the teacher section")
    return _stop(ConfigError, f"the endpoint does not take {parameter or 'a parameter'} ({what}); change {key}")


def _stop(error: type[FledglingError], message: str) -> Action:
    return Action("stop", message, error=error(message))
