"""What a job asks a scheduler for, by the kind of its work; nothing here changes what is made, so it re-runs nothing."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fledgling.config import SLM

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of work: memory without a model, how often the model's files count on top, and time where none was measured.

    `mem_mb` and `model_unknown_mb` in MB, `minutes` as Slurm counts its limits.
    """

    mem_mb: int
    minutes: int
    model: float = 0
    model_unknown_mb: int = 0


KINDS = {
    "small": Work(mem_mb=2_000, minutes=15),  # floors and scores: many, and each takes seconds
    "light": Work(mem_mb=4_000, minutes=60),  # reads rows, compares, decides, reports
    "teacher": Work(mem_mb=2_000, minutes=1_440),  # waits for a provider, at the provider's pace
    "fetch": Work(mem_mb=8_000, minutes=240),  # downloads a checkpoint, or makes the embedded one
    "answer": Work(mem_mb=4_000, minutes=480, model=2, model_unknown_mb=28_000),
    "train": Work(mem_mb=8_000, minutes=1_440, model=4, model_unknown_mb=56_000),
}
SLACK = 2.0  # a job gets twice the time that the same one took
SLACK_MINUTES = 20  # for what is not in the measured time: waking up, loading a checkpoint


class Wildcards(Protocol):
    """What Snakemake hands over."""

    def get(self, name: str, default: str = "") -> str:
        """The value of a wildcard."""


Number = Callable[[Wildcards, object, int], int]


def mem_mb(kind: str, *, results: Path = Path("results"), model: str = SLM) -> Number:
    """A Snakemake resource: memory in MB, more with each attempt, as a job that was too large is tried again."""
    work = KINDS[kind]

    def of(wildcards: Wildcards, input: object, attempt: int) -> int:
        held = 0.0
        if work.model:
            size = _bytes(results / "models" / model / "manifest.json")
            held = work.model_unknown_mb if size is None else work.model * size / MB
        return round((work.mem_mb + held) * (1 + (attempt - 1) / 2))

    return of


def runtime(
    kind: str,
    *,
    results: Path = Path("results"),
    limit: int | None = None,
    answers_as: Callable[[str], str] = str,
    splits: Sequence[str] = (),
) -> Number:
    """A Snakemake resource: minutes, from what `fledgling plan` estimates; doubled with the second attempt, and so on.

    `limit` is the longest that the site lets a job run; a training that needs longer goes on in the next attempt.
    `answers_as` says whose earlier answers tell how long a contender's take; `splits` are those that a job answers,
    one after another, where it is not the one that its wildcards name.
    """

    def of(wildcards: Wildcards, input: object, attempt: int) -> int:
        seconds = _seconds(kind, results, wildcards, answers_as, splits)
        minutes = KINDS[kind].minutes if seconds is None else round(SLACK * seconds / 60) + SLACK_MINUTES
        return min(minutes * attempt, limit or minutes * attempt)

    return of


def _seconds(
    kind: str, results: Path, wildcards: Wildcards, answers_as: Callable[[str], str], splits: Sequence[str]
) -> float | None:
    """How long the same job took before, with as many rows as there are now; None where nothing tells."""
    track = wildcards.get("track", "")
    if kind == "train":
        name = wildcards.get("adapter", "") or "sft"
        for path in (
            results / "candidates" / track / name / "training.json",
            results / "adapters" / track / name / "training.json",
        ):
            if isinstance(seconds := _read(path).get("seconds"), int | float):
                return float(seconds)
    if kind in ("answer", "teacher"):
        who = wildcards.get("contender", "") or (f"{adapter}.1" if (adapter := wildcards.get("adapter", "")) else SLM)
        contender = "teacher" if kind == "teacher" else answers_as(who)
        measured = _read(results / "metrics" / track / f"{contender}.json")
        latency, before = measured.get("latency_s"), measured.get("n")
        mean = latency.get("mean") if isinstance(latency, Mapping) else None
        asked = splits or ["val" if wildcards.get("part", "") == "val/" else "test"]
        if isinstance(mean, int | float) and isinstance(before, int):
            return mean * sum(_rows(results, track, split) or before for split in asked)
    return None


def _rows(results: Path, track: str, split: str) -> int | None:
    """Rows of a split, as the datasheet counts them; None where it is not built."""
    value: object = _read(results / "data" / track / "datasheet.json")
    for key in ("splits", split, "rows"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) else None


def _bytes(manifest: Path) -> int | None:
    files = _read(manifest).get("files")
    if not isinstance(files, list):
        return None
    return sum(file["bytes"] for file in files if isinstance(file, Mapping))


def _read(path: Path) -> dict[str, object]:
    """A file of an earlier run; {} where there is none that can be read, for an estimate stops nothing."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
