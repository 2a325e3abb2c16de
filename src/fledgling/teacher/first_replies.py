"""A look at the first replies, before the split is paid for: is what was sent what was read, and what came an answer?

A reply with status 200 can still be worth nothing: a template without tools, a context that cuts the prompt, a limit
that is not kept, a reasoning model that never gets to its answer. None of these is one row's fault, so the first replies
of a run show it.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fledgling.teacher.answers import Answer
from fledgling.teacher.prices import prompt_tokens
from fledgling.teacher.requests import Teacher

LOOKED: Final = 5  # replies that all show one sign before it is believed
CERTAIN: Final = 2  # replies, for signs that one row cannot have by chance
CUT_FACTOR: Final = 3  # an endpoint that counts so many times fewer prompt tokens than were sent has cut them
LONG_PROMPT: Final = 300  # tokens from which that can be told
TOOL_SHARE: Final = 0.25  # the fewest tokens that a compact way of writing tools takes, of those of their JSON
GUESS_FACTOR: Final = 1.5  # no tokenizer is that far from the guess
OVERRUN: Final = 1.1  # how far over its limit a reply may be counted
WORTHLESS: Final = {
    "length": "the first {n} replies are all cut off at teacher.max_tokens ({limit:,}){empty}; raise it",
    "empty": "the first {n} replies are all empty{elsewhere}; see what the endpoint answers (teacher.model, "
    "its chat template, its reasoning parser)",
    "content_filter": "the endpoint's content filter met all of the first {n} replies{words}; change its policy or the prompt",
    "refusal": "the model refused all of the first {n} rows{words}; change the prompt or teacher.model",
}


@dataclass(frozen=True, slots=True)
class Sent:
    """One request and what came back for it; `guessed` is about how many prompt tokens it has."""

    key: str
    body: Mapping[str, Any]
    guessed: int
    answer: Answer


class FirstReplies:
    """Follows the replies of one run.

    `look` gives what is wrong with all of them, with the likely cause and the key to change, or None; then `blamed`
    are the keys of the replies that show it. `warnings` are for the log.
    """

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self._seen: list[Sent] = []
        self._signs: dict[str, list[str]] = defaultdict(list)
        self._models: set[str] = set()
        self.blamed: list[str] = []
        self.warnings: list[str] = []

    def look(self, sent: Sent) -> str | None:
        """Look at one more reply."""
        self._compare_models(sent.answer)
        if self._overran(sent.answer) and self._sign("overrun", sent, CERTAIN):
            return self._overrun(sent.answer)
        if len(self._seen) >= 4 * LOOKED:
            return None
        self._seen.append(sent)
        if self._lacks_tools(sent) and self._sign("tools", sent, LOOKED) and len(self.blamed) == len(self._seen):
            return (
                f"the endpoint counted {sent.answer.usage['prompt_tokens']:,} prompt tokens where the tools alone have about "
                f"{sent.guessed - _without_tools(sent.body):,}, and no reply calls one: it drops the tools; serve the model "
                "with a chat template that has them (llama.cpp: --jinja and --chat-template), or another teacher.model"
            )
        if self._was_cut(sent) and self._sign("cut", sent, CERTAIN):
            return (
                f"the endpoint counted {sent.answer.usage['prompt_tokens']:,} prompt tokens where about {sent.guessed:,} "
                "were sent: it cuts prompts, as its context is smaller; raise it there (Ollama: num_ctx, llama.cpp: "
                "--ctx-size), or set teacher.context_tokens to what it has"
            )
        if _unread_call(sent) and self._sign("dialect", sent, LOOKED) and len(self._signs["dialect"]) == LOOKED:
            self.warnings.append(
                f"{LOOKED} replies name a tool in a form of call that is not read, and count as wrong: "
                f"{(sent.answer.raw or '')[:120]!r}; serve the model with a parser of its tool calls"
            )
        if len(self._seen) == LOOKED and (why := self._worthless()):
            self.blamed = [seen.key for seen in self._seen]
            return why
        return None

    def _sign(self, name: str, sent: Sent, enough: int) -> bool:
        self._signs[name].append(sent.key)
        if len(self._signs[name]) < enough:
            return False
        self.blamed = self._signs[name]
        return True

    def _overran(self, answer: Answer) -> bool:
        return answer.usage.get("completion_tokens", 0) > OVERRUN * self._teacher.max_tokens + 16

    def _overrun(self, answer: Answer) -> str:
        key = self._teacher.max_tokens_key
        other = "max_tokens" if key == "max_completion_tokens" else "max_completion_tokens"
        return (
            f"the endpoint ignores {key}: a reply has {answer.usage['completion_tokens']:,} tokens, the limit is "
            f"{self._teacher.max_tokens:,}; set teacher.max_tokens_key to {other}"
        )

    @staticmethod
    def _was_cut(sent: Sent) -> bool:
        counted = sent.answer.usage.get("prompt_tokens")
        if counted is None or sent.guessed <= LONG_PROMPT:
            return False
        rest = _without_tools(sent.body) if sent.body.get("tools") else sent.guessed
        return rest > LONG_PROMPT and CUT_FACTOR * counted < rest

    @staticmethod
    def _lacks_tools(sent: Sent) -> bool:
        counted = sent.answer.usage.get("prompt_tokens")
        if counted is None or not sent.body.get("tools") or _calls(sent):
            return False
        rest = _without_tools(sent.body)
        return counted < rest / GUESS_FACTOR + TOOL_SHARE * (sent.guessed - rest) and counted < GUESS_FACTOR * rest + 16

    def _worthless(self) -> str | None:
        """What all of the first replies have in common where that leaves nothing to measure."""
        outcomes = {sent.answer.outcome for sent in self._seen}
        outcome = next(iter(outcomes))
        if len(outcomes) > 1 or outcome not in WORTHLESS:
            return None
        answers = [sent.answer for sent in self._seen]
        text = any((answer.raw or "").strip() or answer.tool_calls for answer in answers)
        reason = next((answer.reason for answer in answers if answer.reason), None)
        if outcome == "length" and answers[0].finish_reason is None:
            return None  # prompts that do not fit: those are the rows' own
        return WORTHLESS[outcome].format(
            n=len(answers),
            limit=self._teacher.max_tokens,
            empty="" if text else " before they say anything, as reasoning models do",
            elsewhere=f" ({reason})" if reason else "",
            words=f" ({reason})" if reason else "",
        )

    def _compare_models(self, answer: Answer) -> None:
        if not answer.model or answer.model in self._models:
            return
        self._models.add(answer.model)
        asked = self._teacher.model
        if len(self._models) == 2 and not self._teacher.allow_mixed_models:
            self.warnings.append(f"the replies come from several models already: {', '.join(sorted(self._models))}")
        elif (
            len(self._models) == 1 and asked and self._teacher.provider == "openai" and not _alike(asked, answer.model)
        ):
            self.warnings.append(f"teacher.model is {asked}, but the replies name {answer.model}")


def _alike(asked: str, named: str) -> bool:
    """Whether two names may be of one model: one holds the other, but for owners, files and case."""
    names = [name.lower().rpartition("/")[2].removesuffix(".gguf") for name in (asked, named)]
    return names[0] in names[1] or names[1] in names[0]


def _calls(sent: Sent) -> bool:
    """Whether a reply calls an offered tool, as a call or in its text."""
    if sent.answer.tool_calls:
        return True
    names = [str((tool.get("function") or tool).get("name", "")) for tool in sent.body.get("tools") or []]
    return any(name and name in (sent.answer.raw or "") for name in names)


def _unread_call(sent: Sent) -> bool:
    """Whether a reply names an offered tool in its text, next to what looks like arguments, and no call is read there."""
    raw = sent.answer.raw or ""
    if sent.answer.tool_calls or not _calls(sent) or not ("{" in raw or "(" in raw):
        return False
    from fledgling.tracks.dialects import parse_calls

    return parse_calls(raw) is None


def _without_tools(body: Mapping[str, Any]) -> int:
    return prompt_tokens({name: value for name, value in body.items() if name != "tools"})
