"""The two records that flow through the graph: examples to answer, predictions that answer them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal, get_args

from fledgling import strict_json
from fledgling.errors import DataError
from fledgling.files import Object, read_jsonl, read_lines

Outcome = Literal["ok", "empty", "length", "content_filter", "refusal", "error"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
KINDS = ("structured", "toolcall")  # what the answers of a track can be


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a track: what is asked, and what is right.

    `group` names the source record. `answer` is an object (structured) or a list of
    {"name", "arguments"} (toolcall; empty where no call is right, None where any call is).
    `allowed` holds per argument the list of accepted values ("" in it: may be left out). `weight` is how many
    requests the row stands for.
    """

    id: str
    group: str
    messages: list[Object]
    answer: Any
    tools: list[Object] | None = None
    schema: Any = None
    allowed: list[Object] | None = None
    category: str | None = None
    weight: float = 1

    @property
    def is_json(self) -> bool:
        """Whether the answer is JSON and not tool calls: an object, or an array, which always has a schema."""
        return self.schema is not None or isinstance(self.answer, dict)

    def to_json(self) -> Object:
        """The row as written to results/data, without the fields that do not apply."""
        row: Object = {"id": self.id, "group": self.group, "messages": self.messages}
        for name in ("tools", "schema"):
            if getattr(self, name) is not None:
                row[name] = getattr(self, name)
        row["answer"] = self.answer
        for name in ("allowed", "category"):
            if getattr(self, name) is not None:
                row[name] = getattr(self, name)
        if self.weight != 1:
            row["weight"] = self.weight
        return row


@dataclass(frozen=True, slots=True)
class Prediction:
    """One contender's answer to one example; `raw` is what came back, untouched.

    `tool_calls` holds the provider's own structured calls (OpenAI form, arguments as text), or None
    where the model answers in text. `usage` counts tokens: {"prompt_tokens", "completion_tokens"}.
    `fingerprint` says what computed it, `request` is the digest of what was asked. `reason` says why the outcome is
    not ok, in the provider's words where there are any. `in_flight` counts the calls that ran when this one was sent,
    itself included: `latency_s` holds what they did to each other.
    """

    id: str
    outcome: Outcome
    raw: str | None = None
    tool_calls: list[Object] | None = None
    finish_reason: str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    latency_s: float | None = None
    model: str | None = None
    fingerprint: str | None = None
    request: str | None = None
    reason: str | None = None
    in_flight: int | None = None

    def to_json(self) -> Object:
        """The row as written to results/predictions, without a reason and calls in flight where there are none."""
        row = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in row.items() if value is not None or name not in ("reason", "in_flight")}


_EXAMPLE_KEYS = frozenset(Example.__dataclass_fields__)
_PREDICTION_KEYS = frozenset(Prediction.__dataclass_fields__)


def read_examples(path: str | PathLike[str]) -> Iterator[Example]:
    """Stream the examples of a prepared split (results/data/{track}/{split}.jsonl).

    Raises:
        DataError: a line lacks a field or has one too many; names file, line and key.
    """
    for number, text in read_lines(path):
        row = strict_row(path, number, text)
        _check(path, number, row, _EXAMPLE_KEYS, ("id", "group", "messages", "answer"))
        yield Example(**row)


def strict_row(path: str | PathLike[str], number: int, text: str) -> Object:
    """The object on a line of rows, its numbers exact: what is scored against has the digits of the source.

    Raises:
        DataError: it is none; names file and line.
    """
    try:
        row = strict_json.parse(text)
    except ValueError as error:
        raise DataError(f"{path}:{number}: not JSON ({error})") from None
    if not isinstance(row, dict):
        raise DataError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
    return row


def read_predictions(path: str | PathLike[str]) -> Iterator[Prediction]:
    """Stream the predictions of one contender (results/predictions/{track}/{contender}.jsonl).

    Raises:
        DataError: a line lacks a field, has one too many, or an unknown outcome.
    """
    for number, row in read_jsonl(path):
        _check(path, number, row, _PREDICTION_KEYS, ("id", "outcome"))
        if row["outcome"] not in OUTCOMES:
            raise DataError(f"{path}:{number}: outcome {row['outcome']!r} is none of {', '.join(OUTCOMES)}")
        yield Prediction(**row | {"id": str(row["id"])})


def _check(path: str | PathLike[str], number: int, row: Object, known: frozenset[str], needed: tuple[str, ...]) -> None:
    for key in needed:
        if key not in row:
            raise DataError(f"{path}:{number}: key {key!r} is missing")
    if extra := row.keys() - known:
        raise DataError(f"{path}:{number}: unknown key {sorted(extra)[0]!r}")
