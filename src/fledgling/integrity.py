"""Whether every file under results/ still is what was written, and what was made from what is there now."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fledgling import artefacts, seals
from fledgling.artefacts import Adapter, Datasheet, Metrics, Predictions
from fledgling.errors import DataError, FledglingError
from fledgling.files import sha256_file
from fledgling.models import adapter, checkpoint
from fledgling.sealing import seal_of

MANIFEST = adapter.MANIFEST
UNFINISHED = "checkpoints"  # folder of a training under way, or killed; its own seals are read when it goes on


@dataclass(slots=True)
class Verified:
    """What was found: files that are not what was written, files that nothing vouches for, how many were looked at."""

    broken: dict[Path, str] = field(default_factory=dict)
    """By file, in words, with the command that makes it again."""
    unknown: list[Path] = field(default_factory=list)
    """Files that no rule writes."""
    files: int = 0


def verify(results: Path, only: Collection[str] | None = None) -> Verified:
    """Check every file of a results folder against what vouches for it; `only` names the folders in it to look at.

    A JSON file and a report vouch for themselves, a JSON Lines file has one that vouches for it, files of checkpoints
    and adapters have a manifest. Where a file is whole, but was made from another file than there is now, it is named
    too.

    Raises:
        DataError: there is no such folder.
    """
    if not results.is_dir():
        raise DataError(f"{results}: no such folder; name what is built with --results")
    return _Walk(results, only).all()


def refuse_edited(paths: Iterable[Path], results: Path) -> None:
    """Refuse files under a results folder that are not what was written; files from elsewhere pass.

    Raises:
        DataError: names the first of them, and what makes it again.
    """
    home = results.resolve()
    inside = {path: place.relative_to(home) for path in paths if (place := path.resolve()).is_relative_to(home)}
    if not inside:
        return
    broken = verify(results, {place.parts[0] for place in inside.values()}).broken
    for place in inside.values():
        if words := broken.get(results / place):
            raise DataError(words)


class _Walk:
    def __init__(self, results: Path, only: Collection[str] | None) -> None:
        self._results = results
        self._only = only
        self._found = Verified()
        self._checked: set[Path] = set()
        self._digests: dict[Path, str] = {}

    def all(self) -> Verified:
        tops = None if self._only is None else {self._results / name for name in self._only}
        files = [path for path in _files(self._results) if tops is None or not tops.isdisjoint(path.parents)]
        made: dict[Path, Mapping[str, str]] = {}
        for path in files:
            if path.suffix != ".jsonl" and (document := self._read(path)) is not None:
                made[path] = document
        for path in files:
            if path.suffix == ".jsonl":
                self._rows(path)
        for path in files:
            self._unlisted(path)
        for path, sources in made.items():
            self._current(path, sources)
        self._found.files = len(files)
        self._found.broken = dict(sorted(self._found.broken.items()))
        return self._found

    def _read(self, path: Path) -> Mapping[str, str] | None:
        """What a file that vouches for itself was made from; None where it does not, or is broken."""
        if path.suffix == ".html" and path.parent == self._results / "report":
            if problem := seals.problem(path.read_bytes(), seals.HTML):
                self._say(path, f"{path}: {problem}; {artefacts.remedy(path)}")
            return None
        kind = artefacts.of(path, results=self._results)
        if kind is None or path.suffix != ".json":
            return None
        try:
            document: Any = artefacts.read(kind, path)
        except DataError as error:
            self._say(path, str(error))
            return None
        if kind is Datasheet:
            self._splits(path, document["splits"])
        elif kind is Predictions or kind is artefacts.Shots:
            self._vouched(path.with_suffix(".jsonl"), document["sha256"], path)
        elif kind is Metrics and document["rows_sha256"] is not None:
            self._vouched(path.with_suffix(".jsonl"), document["rows_sha256"], path)
        elif kind is Adapter:
            self._adapter(path, document)
        elif kind is artefacts.Model:
            self._checkpoint(path, document)
        sources: Mapping[str, str] = document.get("made_from", {})
        return sources

    def _splits(self, sheet: Path, splits: Mapping[str, artefacts.Split]) -> None:
        for name, split in splits.items():
            self._vouched(sheet.parent / f"{name}.jsonl", split["sha256"], sheet)

    def _vouched(self, path: Path, digest: str, by: Path) -> None:
        self._checked.add(path)
        try:
            artefacts.seal(path, digest, by)
        except DataError as error:
            self._say(path, str(error))

    def _adapter(self, manifest: Path, document: Adapter) -> None:
        for name, known in document["files"].items():
            self._vouched(manifest.parent / name, known["sha256"], manifest)

    def _checkpoint(self, manifest: Path, document: artefacts.Model) -> None:
        folder = manifest.parent / document["path"]
        for file in document["files"]:
            self._vouched(folder / file["path"], file["sha256"], manifest)
        try:
            checkpoint.load(manifest)
        except FledglingError as error:
            if not any(folder / file["path"] in self._found.broken for file in document["files"]):
                self._say(manifest, str(error))

    def _rows(self, path: Path) -> None:
        """JSON Lines of the graph that nothing vouches for."""
        kind = artefacts.of(path, results=self._results)
        if kind is None:
            return
        split = kind is artefacts.Example and not seal_of(path).is_file()
        vouching = path.parent / "datasheet.json" if split else seal_of(path)
        if not vouching.is_file():
            self._say(path, f"{path}: {vouching} is missing, which vouches for it; {artefacts.remedy(path)}")

    def _unlisted(self, path: Path) -> None:
        """A file of another program's format that no manifest lists."""
        top, *rest = path.relative_to(self._results).parts
        if path in self._checked or artefacts.of(path, results=self._results) is not None or top == "report":
            return
        manifest = self._results / "models" / rest[0] / MANIFEST if top == "models" and rest else path.parent / MANIFEST
        if manifest in self._found.broken:
            return
        if path.name in (adapter.WEIGHTS, adapter.CONFIG) and not manifest.is_file():
            self._say(path, f"{path}: {manifest} is missing, which vouches for it; {artefacts.remedy(path)}")
        else:
            self._found.unknown.append(path)

    def _current(self, path: Path, sources: Mapping[str, str]) -> None:
        """Name a file that was made from another one than there is now; where that one is broken, it is named itself."""
        for name, digest in sources.items():
            source = self._results / Path(name).relative_to("results") if name.startswith("results/") else Path(name)
            if source in self._found.broken or not source.is_file():
                continue
            if self._digest(source) != digest:
                self._say(path, f"{path}: was made from another {source} than there is now; {artefacts.remedy(path)}")

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = sha256_file(path)
        return self._digests[path]

    def _say(self, path: Path, words: str) -> None:
        self._found.broken.setdefault(path, words)


def _files(results: Path) -> Iterator[Path]:
    """Every plain file, sorted, without what is being written and what a training keeps while it runs."""
    for folder, folders, names in os.walk(results):
        folders[:] = sorted(name for name in folders if name != UNFINISHED and not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))
