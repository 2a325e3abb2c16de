"""Which calls of a log a source takes: by name, model, time and tags, and by what people thought of them."""

import glob
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from fledgling.artefacts import Json
from fledgling.data import columns, text_files
from fledgling.data.invalid import Unusable
from fledgling.data.text_files import Raw
from fledgling.data.traces.record import Record, first, moment, number, text, texts
from fledgling.errors import DataError
from fledgling.files import Object

# ids that a score may be about, from the closest on: the call, its trace, its session
_ABOUT = (("observation_id", "observationId"), ("trace_id", "traceId"), ("session_id", "sessionId"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a source asks for; `refusal` says by which key a call is not taken."""

    where: Mapping[str, Json]
    score: str | None = None
    at_least: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Object, key: str) -> "Wanted":
        """The wishes of an entry of `sources`; `key` names it in messages.

        Raises:
            DataError: a file of scores is missing or cannot be read.
        """
        if source.get("gold", "reply") != "feedback":
            return cls(source.get("where", {}))
        asked = source["feedback"]
        scores = read_scores(asked["path"], asked["score"], f"{key}.feedback.path") if "path" in asked else {}
        return cls(source.get("where", {}), asked["score"], float(asked["at_least"]), scores)

    def refusal(self, record: Record) -> str | None:
        """The key that a call does not fit; None where it is taken.

        Raises:
            Unusable: `since` or `until` is asked for, and the call has no time.
        """
        for name, value in (("name", record.name), ("model", record.model)):
            patterns = texts(self.where.get(name))
            if patterns and not any(fnmatchcase(value or "", pattern) for pattern in patterns):
                return f"where.{name}"
        for pattern in texts(self.where.get("tags")):
            if not any(fnmatchcase(tag, pattern) for tag in record.tags):
                return "where.tags"
        if {"since", "until"} & self.where.keys():
            at = required_time(record)
            since, until = (moment(self.where.get(name), f"where.{name}") for name in ("since", "until"))
            if since is not None and at < since:
                return "where.since"
            if until is not None and at >= until:
                return "where.until"
        return self._by_feedback(record)

    def _by_feedback(self, record: Record) -> str | None:
        if self.score is None:
            return None
        found = record.feedback.get(self.score)
        for identity in (record.id, record.trace, record.session):
            if found is None and identity is not None:
                found = self.scores.get(identity.partition("#")[0])
        if found is None:
            return "no feedback"
        return None if found >= self.at_least else "feedback below"


def required_time(record: Record) -> float:
    """When a call was made.

    Raises:
        Unusable: the log does not say.
    """
    if record.time is None:
        raise Unusable("no_time", "the log does not say when this call was made, and the configuration asks for it")
    return record.time


def read_scores(pattern: str, name: str, key: str) -> dict[str, float]:
    """Scores of one name by the id of the call, trace or session that they are about; the last one counts.

    Raises:
        DataError: no file matches, or one cannot be read.
    """
    files = sorted(glob.glob(pattern, recursive=True))
    if not files:
        raise DataError(f"{pattern}: no such file; correct {key}")
    made: dict[str, float] = {}
    for file in files:
        for _, row in _rows(file):
            if isinstance(row, dict) and row.get("name") == name:
                about = next((found for keys in _ABOUT if (found := text(first(row, *keys)))), None)
                score = number(row.get("value"))
                if about is not None and score is not None:
                    made[about] = score
    return made


def _rows(file: str) -> Iterator[Raw]:
    if file.endswith(".parquet"):
        return columns.parquet_rows(Path(file))
    return text_files.json_lines(file) if ".jsonl" in file else text_files.json_document(file)
