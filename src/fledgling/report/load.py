"""The files that a report is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledgling.errors import DataError
from fledgling.files import read_json

ORDER = ("teacher", "slm", "tuned")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Parsed documents, and by contender the paths of what is streamed row by row."""

    track: str
    settings: Mapping[str, Any]
    verdict: Mapping[str, Any]
    compare: Mapping[str, Any]
    datasheet: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    training: Mapping[str, Any] | None
    data: Path
    predictions: Mapping[str, Path]
    rows: Mapping[str, Path]

    @property
    def contenders(self) -> list[str]:
        """Everything that answered every row, floors aside, teacher first."""
        return [name for name in ORDER if name in self.rows]

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
    training: Path | None = None,
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
    for name in ("teacher", "slm"):
        if name not in named["rows"]:
            raise DataError(
                f"--rows: no file of {name!r}; build it with: snakemake results/metrics/{track}/{name}.json"
            )
    return Inputs(
        track,
        settings,
        read_json(verdict),
        read_json(compare),
        read_json(datasheet),
        {name: read_json(path) for name, path in sorted(named["metrics"].items())},
        read_json(training) if training else None,
        data,
        named["predictions"],
        named["rows"],
    )


def _kinds(*paths: Sequence[Path]) -> list[tuple[str, Sequence[Path]]]:
    return list(zip(("predictions", "metrics", "rows"), paths, strict=True))
