"""The files that a report is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledgling import artefacts
from fledgling.artefacts import Datasheet, Gate, Metrics, Training, Verdict
from fledgling.errors import DataError


@dataclass(frozen=True, slots=True)
class Inputs:
    """Parsed documents, and by contender the paths of what is streamed row by row."""

    track: str
    settings: Mapping[str, Any]
    verdict: Mapping[str, Any]
    compare: Mapping[str, Any]
    datasheet: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    training: Mapping[str, Mapping[str, Any]]
    data: Path
    predictions: Mapping[str, Path]
    rows: Mapping[str, Path]

    @property
    def contenders(self) -> list[str]:
        """Everything that answered every row, floors aside, teacher first."""
        return ["teacher", *(rung["name"] for rung in self.verdict["ladder"])]

    def mark(self, name: str) -> str:
        """How a plot marks a contender: as the teacher, as one with or without an adapter, or as a floor."""
        rung = next((rung for rung in self.verdict["ladder"] if rung["name"] == name), None)
        return name if rung is None else "adapter" if rung["adapter"] else "plain"

    @property
    def floors(self) -> list[str]:
        """Floors with metrics, by name."""
        return sorted(name for name in self.metrics if name.startswith("floor-"))


def load(
    track: str,
    settings: Mapping[str, Any],
    *,
    verdict: Path,
    compare: Path,
    data: Path,
    datasheet: Path,
    predictions: Sequence[Path],
    metrics: Sequence[Path],
    rows: Sequence[Path],
    training: Sequence[Path] = (),
) -> Inputs:
    """Read what is small, name what is large; a contender is named by the stem of its file.

    Raises:
        DataError: a file is missing or no JSON, or one of the contenders lacks a file.
    """
    named = {name: {path.stem: path for path in paths} for name, paths in _kinds(predictions, metrics, rows)}
    for contender in named["rows"]:
        for name in ("predictions", "metrics"):
            if contender not in named[name]:
                raise DataError(f"--{name}: no file of {contender!r}; --rows has {named['rows'][contender]}")
    decided = artefacts.read(Verdict, verdict)
    for name in ("teacher", *(rung["name"] for rung in decided["ladder"])):
        if name not in named["rows"]:
            raise DataError(
                f"--rows: no file of {name!r}; build it with: snakemake results/metrics/{track}/{name}.json"
            )
    return Inputs(
        track,
        settings,
        decided,
        artefacts.read(Gate, compare),
        artefacts.read(Datasheet, datasheet),
        {name: artefacts.read(Metrics, path) for name, path in sorted(named["metrics"].items())},
        {path.parent.name: artefacts.read(Training, path) for path in training},
        data,
        named["predictions"],
        named["rows"],
    )


def _kinds(*paths: Sequence[Path]) -> list[tuple[str, Sequence[Path]]]:
    return list(zip(("predictions", "metrics", "rows"), paths, strict=True))
