"""What tokens cost. A price that is not configured makes a cost unknown (None), never 0."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fledgling.tokens import text_tokens

MESSAGE_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Prices:
    """Money for a million prompt and completion tokens."""

    input_per_million: float
    output_per_million: float
    currency: str

    @classmethod
    def of(cls, section: Mapping[str, Any] | None) -> "Prices | None":
        """The configured prices, or None where they are unknown."""
        return None if section is None else cls(**section)

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Money for so many tokens."""
        return (prompt_tokens * self.input_per_million + completion_tokens * self.output_per_million) / 1e6


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """About how many prompt tokens a request has, its tools and schema included."""
    extra = [body[name] for name in ("tools", "response_format") if name in body]
    words = sum(text_tokens(_message_text(message)) + MESSAGE_TOKENS for message in body["messages"])
    return words + sum(text_tokens(json.dumps(value, ensure_ascii=False)) for value in extra)


def _message_text(message: Mapping[str, Any]) -> str:
    content, calls = message.get("content"), message.get("tool_calls")
    text = content if isinstance(content, str) else "" if content is None else json.dumps(content, ensure_ascii=False)
    return text + (json.dumps(calls, ensure_ascii=False) if calls else "")
