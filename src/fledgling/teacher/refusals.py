"""What an endpoint says when it refuses: OpenAI's errors, FastAPI's, LiteLLM's, API Management's and llama.cpp's.

Decides on codes where there are some. Sentences are looked at where there is nothing else; those that are known come
from servers that people use.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

WORDS = 600  # of an endpoint's message that are passed on
QUOTA = frozenset(("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "budget_exceeded"))
PARAMETER_CODES = frozenset(("unsupported_parameter", "unsupported_value", "unknown_parameter"))
FILTER_CODES = frozenset(("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"))
GENERATED_CODES = frozenset(("tool_use_failed", "json_validate_failed"))  # what the model wrote was refused (Groq)
LENGTH_CODES = frozenset(("context_length_exceeded", "string_above_max_length", "exceed_context_size_error"))
LIMIT_KEYS = "teacher.max_tokens_key (max_completion_tokens or max_tokens)"
CONFIG_KEYS = {
    "temperature": "teacher.temperature (null leaves it out)",
    "seed": "teacher.seed (null leaves it out)",
    "max_tokens": LIMIT_KEYS,
    "max_completion_tokens": LIMIT_KEYS,
    "response_format": "teacher.response_format (json_schema, json_object or none)",
    "model": "teacher.model",
}
ROW_PARTS = ("messages", "tools", "functions", "tool_choice")  # parts of a request that come from the row
BUDGET = re.compile(
    r"budget has been exceeded|exceeded (?:the |your )?budget|over budget|max(?:imum)? budget|call volume quota"
    r"|bandwidth quota|quota (?:is|has been|was) exceeded|exceeded your current quota|out of credits|credit balance",
    re.IGNORECASE,
)
TOO_LARGE = re.compile(r"request too large|too large for (?:the )?(?:model|deployment)", re.IGNORECASE)
LIMIT_AND_WISH = re.compile(
    r"limit:?\s*([0-9]{1,12})\b.{0,80}?requested:?\s*([0-9]{1,12})\b", re.IGNORECASE | re.DOTALL
)
TOO_LONG = re.compile(
    r"maximum context length|context (?:size|window|length)|prompt is too long|input token count|too many tokens"
    r"|exceeds? the (?:available )?context|contextwindowexceeded|reduce the length of the (?:messages|prompt)"
    r"|longer than the (?:maximum model|model's) length|tokens.{0,20}max_new_tokens",
    re.IGNORECASE | re.DOTALL,
)
CONTEXT = re.compile(
    r"(?:maximum context length is|context size \(|context (?:length|window|size) (?:of|is)|must be <=)\s*([0-9]{1,9})",
    re.IGNORECASE,
)
PROMPT = re.compile(
    r"([0-9]{1,9})\s*(?:input tokens|(?:tokens )?in (?:the|your) (?:messages|prompt)|`inputs` tokens|prompt tokens)",
    re.IGNORECASE,
)
LIMIT_TOO_LARGE = re.compile(
    r"max(?:_completion|_new|_output)?_tokens\W.{0,60}?(?:too (?:large|high|big)|at most|exceed|greater|less than)"
    r"|supports at most [0-9]+ completion tokens|maximum (?:value )?for max_tokens"
    r"|max_tokens:? [0-9]+ ?> ?[0-9]+|maximum allowed number of output tokens",
    re.IGNORECASE | re.DOTALL,
)
FILTERS = re.compile(
    r"content management policy|contentpolicyviolation|responsibleaipolicy|requires moderation"
    r"|(?:input|prompt|request|content) (?:was|has been) flagged",
    re.IGNORECASE,
)
WRONG_KEY = re.compile(r"(?:invalid|incorrect) api[ -_]?key|api[ -_]?key (?:is )?(?:not |in)valid", re.IGNORECASE)
WRONG_MODEL = re.compile(
    r"invalid model (?:name|id)|model identifier is invalid|does not work with the specified model"
    r"|on-demand throughput isn.t supported|model [`'\"]?[\w./:-]{1,100}[`'\"]? (?:does not exist|(?:is|was) not found)",
    re.IGNORECASE,
)
THROTTLED = re.compile(r"too many requests|throttl", re.IGNORECASE)
ANOTHER_START = re.compile(
    r"(?:requires?|needs?|without|set|pass|use|add) (?:the )?[`'\"]?--[a-z][\w-]+", re.IGNORECASE
)
SCHEMA = re.compile(r"\bschema\b|\bgrammar\b", re.IGNORECASE)
PLACE = re.compile(r"""['"]?loc['"]?\s*[:=]\s*[\[(]\s*['"](?:body['"]\s*,\s*['"])?(\w+)""")
REFUSES = re.compile(
    r"unsupported|unrecogni[sz]ed|unknown|unexpected|not (?:be )?(?:supported|permitted|allowed|accepted|valid)"
    r"|extra (?:inputs|fields)|additional propert|does ?n[o']t support|invalid value|only the default|not support",
    re.IGNORECASE,
)
NAMES_A_PARAMETER = re.compile(rf"\b({'|'.join(sorted(CONFIG_KEYS, key=len, reverse=True))})\b")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What came with a status that is not 2xx: the endpoint's words (one line), its codes, the part that it names.

    `generated` is what the model wrote where that is what the endpoint refuses.
    """

    words: str
    codes: frozenset[str]
    part: str = ""
    generated: str | None = None

    def names_a_wrong_model(self, status: int) -> bool:
        """The model is none that the endpoint has, though the status is not 404 (LiteLLM, Bedrock, Azure)."""
        return status in (400, 422) and bool(WRONG_MODEL.search(self.words))

    def used_up(self) -> bool:
        """A quota or a gateway's budget is used up, which no waiting helps."""
        return bool(self.codes & QUOTA or BUDGET.search(self.words))

    def never_fits(self) -> bool:
        """A rate limit that this one request exceeds by itself."""
        found = LIMIT_AND_WISH.search(self.words)
        return int(found[2]) > int(found[1]) if found else bool(TOO_LARGE.search(self.words))

    def filters(self, status: int) -> bool:
        """A content filter met the prompt."""
        return status in (400, 403) and bool(self.codes & FILTER_CODES or FILTERS.search(self.words))

    def names_a_wrong_key(self, status: int) -> bool:
        """The key is refused, though not with status 401 (Gemini)."""
        return status in (400, 403) and bool(WRONG_KEY.search(self.words) or "invalid_api_key" in self.codes)

    def is_throttled(self) -> bool:
        """The rate is too high, though the status is not 429 (Bedrock)."""
        return bool(THROTTLED.search(self.words) or "ThrottlingException" in self.codes)

    def needs_another_start(self) -> bool:
        """The server lacks an option on its command line (vLLM's parser of tool calls, llama.cpp's --jinja)."""
        return bool(ANOTHER_START.search(self.words))

    def limit_is_too_large(self, status: int) -> bool:
        """The limit of the reply, not the prompt, is more than the endpoint has: the same for every row."""
        if status not in (400, 422):
            return False
        context, prompt = CONTEXT.search(self.words), PROMPT.search(self.words)
        if context and prompt:
            return 2 * int(prompt[1]) < int(context[1])
        return bool(LIMIT_TOO_LARGE.search(self.words))

    def is_too_long(self, status: int) -> bool:
        """The row's prompt does not fit."""
        if self.limit_is_too_large(status):
            return False
        return status == 413 or (
            status in (400, 422) and bool(self.codes & LENGTH_CODES or TOO_LONG.search(self.words))
        )

    def is_about_the_row(self, status: int) -> bool:
        """A part of the request that comes from the row is refused."""
        if status not in (400, 422) or self.codes & PARAMETER_CODES:
            return False
        return self.part in ROW_PARTS or (self.part in ("", "response_format") and bool(SCHEMA.search(self.words)))

    def parameter(self) -> str:
        """The parameter of the configuration that is refused, or ""."""
        if self.part:
            return self.part
        found = NAMES_A_PARAMETER.search(self.words) if REFUSES.search(self.words) else None
        return found[1] if found else ""

    def code(self) -> str:
        """The codes for a message, those that are words."""
        return " ".join(sorted(code for code in self.codes if not code.isdigit()))


def refusal(text: str | None) -> Refusal:
    """What a body says, whoever wrote it; never fails."""
    text = text or ""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return Refusal(_line(text), frozenset(), _place(text))
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return Refusal(_line(text), frozenset())
    error = body.get("error", body)
    if not isinstance(error, dict):
        error = {"message": error}
    inner = error.get("innererror")
    codes = [
        error.get("code"),
        error.get("type"),
        body.get("code"),
        body.get("__type"),
        inner.get("code") if isinstance(inner, dict) else 0,
    ]
    found = next((value for value in _messages(error, body) if value), None)
    words = found if isinstance(found, str) else "; ".join(_details(found)) or text
    part = error.get("param") if isinstance(error.get("param"), str) else ""
    head = re.split(r"[.\[]", str(part), maxsplit=1)[0]
    named = frozenset(
        str(code) for code in codes if code not in (None, "", "None") and not isinstance(code, dict | list)
    )
    written = error.get("failed_generation") if named & GENERATED_CODES else None
    return Refusal(_line(words), named, head or _place(text), written if isinstance(written, str) else None)


def _messages(error: Mapping[str, object], body: Mapping[str, object]) -> Iterator[object]:
    for holder in (error, body):
        for name in ("message", "detail", "msg", "error_description"):
            yield holder.get(name)


def _details(value: object) -> Iterator[str]:
    """FastAPI's list of what is wrong, in words."""
    if isinstance(value, dict):
        value = value.get("detail", [value])
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            place = item.get("loc")
            where = ".".join(map(str, place)) if isinstance(place, list) else ""
            yield f"{where}: {item.get('msg') or item.get('message') or item.get('type') or ''}".strip(": ")
        elif item is not None:
            yield str(item)


def _place(text: str) -> str:
    found = PLACE.search(text.replace('\\"', '"').replace("\\'", "'"))
    return found[1] if found else ""


def _line(text: str) -> str:
    """One line of printable text, shortened."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text[: 4 * WORDS]).split())
    return line if len(line) <= WORDS else line[: WORDS - 1] + "…"
