"""All rows of the test split side by side: what was asked, what is right, what each contender answered."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal, cast

from fledgling.artefacts import Example, Json, JsonObject, ScoredRow
from fledgling.errors import DataError
from fledgling.files import read_jsonl
from fledgling.report import diff, text
from fledgling.report.load import TEACHER, Inputs

State = Literal["right", "wrong", "invalid", "filtered", "error"]
RAW = 1_500  # characters of a reply that are kept
_STATES: dict[str, State] = {"content_filter": "filtered", "refusal": "filtered"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One contender on one row: what it wrote (bounded, safe to show), what that scored and how it ended."""

    raw: str
    scored: ScoredRow
    score: float

    @property
    def state(self) -> State:
        """right; filtered or error by its outcome; invalid where the reply cannot be read; else wrong."""
        if self.score == 1:
            return "right"
        outcome = self.scored["outcome"]
        if outcome != "ok":
            return _STATES.get(outcome, "error")
        return "wrong" if self.read else "invalid"

    @property
    def read(self) -> bool:
        """Whether the reply could be read."""
        return self.scored.get("parsed") is not None


@dataclass(frozen=True, slots=True)
class Row:
    """One row with everybody's answer to it, and where these part from gold."""

    example: Example
    answers: Mapping[str, Answer]
    lines: tuple[diff.Line, ...]

    @property
    def id(self) -> str:
        """The id of its example."""
        return self.example["id"]


def rows(inputs: Inputs) -> Iterator[Row]:
    """Every row of the split, in its order; streams the files side by side.

    Raises:
        DataError: the files do not hold the same rows in the same order, or a row lacks the metric.
    """
    metric = inputs.verdict["core"][0]
    replies = {name: _replies(inputs.predictions[name]) for name in inputs.answerers}
    only = replies[TEACHER].keys() if "bought" in inputs.verdict else None
    for example, found in side_by_side(inputs.data, {name: inputs.rows[name] for name in inputs.answerers}, only):
        answers = {}
        for name, (number, row) in found.items():
            if metric not in row["scores"]:
                raise DataError(f"{inputs.rows[name]}:{number}: no score {metric!r}; score the predictions again")
            answers[name] = Answer(replies[name].get(row["id"], ""), row, row["scores"][metric])
        yield Row(cast(Example, example), answers, tuple(_difference(inputs.verdict["kind"], example, answers)))


def side_by_side(
    data: Path, scored: Mapping[str, Path], only: Collection[str] | None = None
) -> Iterator[tuple[JsonObject, dict[str, tuple[int, ScoredRow]]]]:
    """Each row with its line number and scores for all contenders; `only` are the ids of those that were scored.

    Raises:
        DataError: a file holds fewer rows than another, or other ones.
    """
    paths = [data, *scored.values()]
    examples = ((at, row) for at, row in read_jsonl(data) if only is None or row["id"] in only)
    for entries in zip_longest(examples, *map(read_jsonl, scored.values())):
        short = [str(path) for path, entry in zip(paths, entries, strict=True) if entry is None]
        if short:
            raise DataError(f"{', '.join(short)}: fewer rows than the other files; score the predictions again")
        (_, example), *found = entries
        for path, (number, row) in zip(scored.values(), found, strict=True):
            if row["id"] != example["id"]:
                raise DataError(f"{path}:{number}: row {row['id']!r} stands where {data} has {example['id']!r}")
        yield example, dict(zip(scored, cast(list[tuple[int, ScoredRow]], found), strict=True))


def _replies(path: Path) -> dict[str, str]:
    """{id: what came back}, text and structured calls, each cut to RAW characters."""
    found = {}
    for _, row in read_jsonl(path):
        calls = row.get("tool_calls")
        parts = [text.clean(row.get("raw") or "", RAW), text.plain(calls, RAW) if calls else ""]
        found[row["id"]] = "\n".join(filter(None, parts))
    return found


def _difference(kind: str, example: JsonObject, answers: Mapping[str, Answer]) -> Iterable[diff.Line]:
    read = {name: answer.scored["parsed"] for name, answer in answers.items() if answer.read}
    if kind != "toolcall":
        return diff.structured(example["answer"], read)
    return diff.toolcall(
        _calls(example["answer"]),
        {name: _calls(calls) for name, calls in read.items()},
        _calls(example["allowed"]) if example.get("allowed") is not None else None,
        _calls(example.get("tools")),
    )


def _calls(value: Json) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
