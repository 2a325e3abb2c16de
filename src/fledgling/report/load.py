"""The files that a report is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fledgling import artefacts
from fledgling.artefacts import (
    Comparison,
    Datasheet,
    Gate,
    JsonObject,
    Metrics,
    Predictions,
    Rung,
    Training,
    Trial,
    Verdict,
)
from fledgling.errors import DataError
from fledgling.sealing import seal_of, verify_predictions

TEACHER = "teacher"
FLOOR = "floor-"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Parsed documents, and by contender the paths of what is streamed row by row.

    `seals` holds what lies beside the predictions, `training` the summary of each adapter by its name.
    """

    track: str
    settings: JsonObject
    verdict: Verdict
    gate: Gate
    datasheet: Datasheet
    metrics: Mapping[str, Metrics]
    seals: Mapping[str, Predictions]
    training: Mapping[str, Training]
    data: Path
    predictions: Mapping[str, Path]
    rows: Mapping[str, Path]

    @property
    def ladder(self) -> list[Rung]:
        """The contenders that were judged, cheapest first."""
        return self.verdict["ladder"]

    @property
    def answerers(self) -> list[str]:
        """Everything that answered every row, floors aside: the teacher, then the ladder."""
        return [TEACHER, *(rung["name"] for rung in self.ladder)]

    @property
    def floors(self) -> list[str]:
        """Floors with metrics, by name."""
        return sorted(name for name in self.metrics if name.startswith(FLOOR))

    @property
    def decisive(self) -> Comparison:
        """The comparison that the verdict rests on."""
        return self.verdict["comparisons"][self.verdict["decisive"]]

    def rung(self, name: str) -> Rung:
        """A contender of the ladder by its name."""
        return next(rung for rung in self.ladder if rung["name"] == name)

    def section(self, name: str) -> JsonObject:
        """A section of the settings; {} where it was not handed over."""
        found = self.settings.get(name)
        return found if isinstance(found, dict) else {}


def load(
    track: str,
    settings: JsonObject,
    *,
    verdict: Path,
    compare: Path,
    data: Path,
    datasheet: Path,
    predictions: Sequence[Path],
    metrics: Sequence[Path],
    rows: Sequence[Path],
    training: Sequence[Path] = (),
    ladder: Sequence[Path] = (),
) -> Inputs:
    """Read what is small, name what is large.

    A contender is named by the stem of its files, an adapter by the folder of its training.json. What val says of the
    contenders (`ladder`) stands in the verdict; its files are held against it, for they say who is on the page.

    Raises:
        DataError: a file is missing or has another shape, or a contender of the verdict lacks a file.
    """
    judged = artefacts.read(Verdict, verdict)
    inputs = Inputs(
        track,
        settings,
        judged,
        artefacts.read(Gate, compare),
        artefacts.read(Datasheet, datasheet),
        {path.stem: artefacts.read(Metrics, path) for path in sorted(metrics)},
        {path.stem: artefacts.read(Predictions, seal_of(path)) for path in predictions if seal_of(path).is_file()},
        {path.parent.name: artefacts.read(Training, path) for path in training},
        data,
        {path.stem: path for path in predictions},
        {path.stem: path for path in rows},
    )
    artefacts.seal(data, inputs.datasheet["splits"]["test"]["sha256"], datasheet)
    for path in ladder:
        artefacts.read(Trial, path)
    artefacts.require_same(
        judged["made_from"], artefacts.digests(compare, datasheet, *metrics, *rows, *ladder), verdict
    )
    for name in inputs.answerers:
        _require("predictions", name, inputs.predictions)
        _require("metrics", name, inputs.metrics)
        _require("rows", name, inputs.rows)
        sealed = inputs.metrics[name].get("rows_sha256")
        if sealed:
            artefacts.seal(inputs.rows[name], sealed, next(path for path in metrics if path.stem == name))
        verify_predictions(inputs.predictions[name], data)
    return inputs


def _require(option: str, name: str, found: Mapping[str, T]) -> None:
    if name not in found:
        raise DataError(
            f"--{option}: no file of {name!r}, which the verdict judges; there are those of: {', '.join(sorted(found))}"
        )
