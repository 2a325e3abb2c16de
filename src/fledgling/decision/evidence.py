"""The files that a decision is made from, read together and checked against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import Bought, Datasheet, MadeFrom, Metrics, Predictions, Rung, Trial
from fledgling.contenders import TEACHER
from fledgling.decision.choice import Rows
from fledgling.decision.pairing import foreign
from fledgling.decision.scored import Scored, read_rows
from fledgling.errors import UsageError


@dataclass(frozen=True, slots=True)
class Evidence:
    """Rows of all contenders, the datasheet of their split, and why they cannot be trusted, if so."""

    datasheet: Datasheet
    rows: Rows
    problems: list[str]
    made_from: MadeFrom


def read(
    datasheet: str,
    rows: Sequence[str],
    floors: Sequence[str],
    metrics: Sequence[str],
    *,
    repeats: Sequence[str] = (),
    repeat_metrics: Sequence[str] = (),
    split: str = "test",
    bought: Bought | None = None,
) -> Evidence:
    """Read scored rows; each file is named after its contender, and its metrics vouch for it where they are given.

    `split` is the one that they have to be of, `bought` says which rows of it were asked, where it was not all of them.

    Raises:
        UsageError: no teacher, or nobody else, is among the rows, or a second run has no first.
        DataError: a file is damaged, or is not the one that its metrics vouch for.
    """
    by = {Path(path).stem: path for path in rows}
    if TEACHER not in by or len(by) < 2:
        raise UsageError(f"--rows needs teacher.jsonl and a contender's; found: {', '.join(by) or 'nothing'}")
    if unknown := {Path(path).stem for path in repeats} - by.keys():
        raise UsageError(f"--repeat: no first run of {', '.join(sorted(unknown))} is among --rows")
    described = artefacts.read(Datasheet, datasheet)
    vouching, again = _vouching(metrics), _vouching(repeat_metrics)
    found = Rows(
        _scored(by.pop(TEACHER), vouching),
        tuple(_scored(path, vouching) for path in by.values()),
        tuple(_scored(path, vouching) for path in floors),
        tuple(_scored(path, again) for path in repeats),
    )
    problems = foreign(found.first_runs(), described, _entries(vouching), split, bought)
    second = foreign(found.repeats, described, _entries(again), split, bought)
    problems += [f"second run: {problem}" for problem in second]
    made_from = artefacts.digests(datasheet, *rows, *floors, *metrics, *repeats, *repeat_metrics)
    return Evidence(described, found, problems, made_from)


def _entries(vouching: Mapping[str, tuple[str, Metrics]]) -> dict[str, Metrics]:
    return {name: entry for name, (_, entry) in vouching.items()}


def _vouching(paths: Sequence[str]) -> dict[str, tuple[str, Metrics]]:
    return {Path(path).stem: (path, artefacts.read(Metrics, path)) for path in paths}


def _scored(path: str, vouching: Mapping[str, tuple[str, Metrics]]) -> Scored:
    """Scored rows, of which the metrics of the same name, if there are any, hold the digest."""
    name = Path(path).stem
    if name in vouching and (digest := vouching[name][1]["rows_sha256"]) is not None:
        artefacts.seal(path, digest, vouching[name][0])
    return read_rows(path)


def read_metrics(paths: Sequence[str]) -> dict[str, Metrics]:
    """Metrics by contender."""
    return _entries(_vouching(paths))


def read_trials(paths: Sequence[str]) -> dict[str, Trial]:
    """What val says of contenders, by contender."""
    return {Path(path).stem: artefacts.read(Trial, path) for path in paths}


def ladder(configured: Sequence[Rung], rows: Rows) -> list[Rung]:
    """The rungs of the contenders in the rows, in the order of the rows; one that is not configured speaks for itself."""
    known = {rung["name"]: rung for rung in configured}
    return [known.get(one.name) or _bare(one.name) for one in rows.contenders]


def _bare(name: str) -> Rung:
    return {"name": name, "label": name, "model": name, "adapter": None, "after": None}


def read_answers(paths: Sequence[str]) -> dict[str, Predictions]:
    """The seals of predictions, by contender."""
    return {Path(path).stem: artefacts.read(Predictions, path) for path in paths}
