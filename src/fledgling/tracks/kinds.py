"""What a kind of track is: the names of its metrics, and how one reply to one example is scored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from fledgling.records import Example, Prediction


@dataclass(frozen=True, slots=True)
class Scored:
    """What one reply is worth.

    `scores` holds every metric of the kind in [0, 1] by the strict reading, `lenient` the same by the lenient one.
    `reason` says why the first core metric is 0 (None where it is 1), `parsed` is the strict reading: a list of
    {"name", "arguments"}, a JSON value, or None.
    """

    scores: dict[str, float]
    lenient: dict[str, float]
    reason: str | None
    parsed: Any


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of track.

    `metrics` in the order they are shown; those in `means` are means of fractions, the others shares of rows.
    `core` is the metric that slices show. `slices` names the part of the data that an example belongs to.
    """

    name: Literal["structured", "toolcall"]
    metrics: tuple[str, ...]
    means: frozenset[str]
    core: str
    score: Callable[[Example, Prediction], Scored]
    slices: Callable[[Example], dict[str, str]]

    def nothing(self, reason: str) -> Scored:
        """The score of a row without an answer: 0 throughout."""
        zeros = dict.fromkeys(self.metrics, 0.0)
        return Scored(zeros, zeros, reason, None)


def length(example: Example) -> str:
    """The slice of an example by the characters of all its messages: short (to 200), medium (to 1,000), long."""
    characters = sum(len(str(message.get("content") or "")) for message in example.messages)
    return "short" if characters <= 200 else "medium" if characters <= 1000 else "long"
