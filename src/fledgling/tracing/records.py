"""What is sent, as typed data: one parcel a dataset, a run or a decision, and its lines; every id is made from content.

A parcel is kept on disk before anything is sent (fledgling.tracing.outbox), already masked. It knows nothing of who
will get it: fledgling.tracing.spans says what a line is in OpenTelemetry's words.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, NotRequired, TypedDict

from fledgling.artefacts import Json, JsonObject


class Dataset(TypedDict):
    """The rows of one track and split, by their digest."""

    name: str
    description: str
    metadata: JsonObject


class Run(TypedDict):
    """One contender's answers to a dataset."""

    name: str
    contender: str
    label: str
    metadata: JsonObject


class Context(TypedDict):
    """What all lines of a parcel share; the first line of its file."""

    track: str
    at: int
    """When the files it was made from were written: nanoseconds since 1970, the end of every span."""
    session: str
    tags: list[str]
    commit: str | None
    dataset: Dataset | None
    run: Run | None


class Score(TypedDict):
    """One number or word about a trace, or about a whole run."""

    id: str
    name: str
    value: float | str
    """A number, or a category."""
    comment: str | None
    run: str | None
    """Name of the run of this dataset that it is about; null: the trace."""


class Item(TypedDict):
    """One row of a dataset: what is asked and what is right."""

    kind: Literal["item"]
    id: str
    input: JsonObject
    expected: Json
    metadata: JsonObject


class Answer(TypedDict):
    """One contender's answer to one row, and what it is worth."""

    kind: Literal["answer"]
    trace: str
    span: str
    item: str
    row: str
    input: JsonObject
    """messages, tools and schema of the row."""
    expected: Json
    reply: JsonObject
    """content and tool_calls as they came back, finish_reason."""
    outcome: str
    reason: str | None
    provider: str
    model: str | None
    usage: dict[str, int]
    seconds: float | None
    scores: list[Score]
    metadata: JsonObject


class Event(TypedDict):
    """Something that happened once: a training, a gate, a verdict, the metrics of a run."""

    kind: Literal["event"]
    trace: str
    span: str
    name: str
    input: Json
    output: Json
    seconds: float
    scores: list[Score]
    steps: list[JsonObject]
    """Figures along the way (loss, learning rate), for a training."""
    metadata: NotRequired[JsonObject]


Line = Item | Answer | Event


@dataclass(frozen=True)
class Parcel:
    """What one part of a track comes to.

    `key` is a digest of what it is made from, `order` says which parcels have to arrive first; `lines` makes its lines
    when the parcel is not kept yet.
    """

    order: int
    name: str
    key: str
    context: Context
    lines: Callable[[], Iterator[Line]]


def made_id(*parts: str, length: int = 32) -> str:
    """An id (hex) that the same parts always have."""
    return sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:length]


def score(trace: str, name: str, value: float | str, comment: str | None = None, run: str | None = None) -> Score:
    """A score whose id follows from what it is about."""
    return {
        "id": made_id("score", trace, name, run or ""),
        "name": name,
        "value": value,
        "comment": comment,
        "run": run,
    }
