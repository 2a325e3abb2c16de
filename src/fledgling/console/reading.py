"""What the console reads of what is built: the one place that knows the shapes of these files."""

import errno
import json
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from fledgling import selection
from fledgling.errors import FledglingError

LARGEST = 64 << 20  # bytes of an artefact that is read
Object = dict[str, object]
T = TypeVar("T")


def obj(value: object) -> Object:
    """A JSON object; an empty one where there is none."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """A JSON array; an empty one where there is none."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """A text; empty where there is none."""
    return value if isinstance(value, str) else ""


def real(value: object) -> float | None:
    """A number; None where there is none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def whole(value: object) -> int | None:
    """A whole number; None where there is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def opened(path: Path) -> BinaryIO:
    """A file to read: never a link, whose end may lie anywhere, nor a pipe or a device, which would be waited for.

    Raises:
        OSError: it is none, or not there.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(handle, "rb")


def regular(path: Path) -> bool:
    """Whether a file is there that `opened` would open."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def content(path: Path) -> bytes:
    """All of a file, as `opened` lets it be read.

    Raises:
        OSError: see there; or it is larger than an artefact is.
    """
    with opened(path) as stream:
        if os.fstat(stream.fileno()).st_size > LARGEST:
            raise OSError(errno.EFBIG, f"larger than {LARGEST >> 20} MiB", str(path))
        return stream.read()


def loaded(path: Path) -> Object:
    """The JSON object in a file; an empty one where there is none that can be read."""
    try:
        return obj(json.loads(content(path)))
    except (OSError, ValueError, RecursionError):
        return {}


class Cached(Generic[T]):
    """What was made of files, as long as they stay as they were."""

    def __init__(self, most: int = 500) -> None:
        self._kept: dict[tuple[str, ...], tuple[tuple[object, ...], T]] = {}
        self._most = most
        self._lock = threading.Lock()

    def get(self, paths: tuple[Path, ...], make: Callable[[], T]) -> T:
        """What `make` made of these files when they were last as they are now."""
        key, state = tuple(map(str, paths)), tuple(map(stamp, paths))
        with self._lock:
            found = self._kept.get(key)
        if found is not None and found[0] == state:
            return found[1]
        made = make()
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = (state, made)
            while len(self._kept) > self._most:
                self._kept.pop(next(iter(self._kept)))
        return made


def stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class Track:
    """What is known of one track: the files as they are, empty where they are not built or broken."""

    name: str
    title: str
    verdict: Object = field(default_factory=dict)
    gate: Object = field(default_factory=dict)
    datasheet: Object = field(default_factory=dict)
    metrics: dict[str, Object] = field(default_factory=dict)
    report: bool = False
    built: float | None = None
    """When the verdict was written (seconds since 1970)."""
    broken: tuple[str, ...] = ()
    """Files that are there and cannot be read."""


class Folder:
    """A project's folder, read with memory of what it held."""

    def __init__(self, root: Path, configfiles: list[Path]) -> None:
        self.root, self.configfiles = root, configfiles
        self._json: Cached[object] = Cached()
        self._config: Cached[tuple[Object, str]] = Cached(4)
        self._catalog = selection.Catalog()

    def json(self, path: str) -> object:
        """A JSON file under the folder; None where it is not there.

        Raises:
            ValueError: it is there and no JSON.
        """
        file = self.root / path

        def load() -> object:
            try:
                return json.loads(content(file))
            except FileNotFoundError:
                return None
            except (OSError, ValueError, RecursionError) as error:
                raise ValueError(f"{path}: cannot be read ({type(error).__name__})") from None

        return self._json.get((file,), load)

    def configuration(self) -> tuple[Object, str]:
        """The configuration with the selection in it, and what is wrong with it (empty: nothing)."""
        files = [*self.configfiles, selection.CATALOG, selection.SELECTION, selection.LAST]
        return self._config.get(tuple(self.root / file for file in files), self._configure)

    def _configure(self) -> tuple[Object, str]:
        problem = ""
        for selected in (True, False):
            try:
                return self._load(selected=selected), problem
            except FledglingError as error:
                problem = problem or str(error)
        return {}, problem

    def _load(self, *, selected: bool) -> Object:
        from fledgling.config import load

        return dict(load(*(self.root / file for file in self.configfiles), root=self.root, selected=selected))

    def plain_configuration(self) -> Object:
        """The configuration without the selection; empty where it is broken."""
        try:
            return self._load(selected=False)
        except FledglingError:
            return {}

    def catalog(self) -> selection.Catalog:
        """The catalog; while its file is broken, the last one that was whole, with the problem."""
        try:
            self._catalog = selection.read_catalog(self.root)
        except FledglingError as error:
            return selection.Catalog(self._catalog.entries, (f"{error}; the last whole catalog stays",))
        return self._catalog

    def track_names(self) -> list[str]:
        """Configured tracks in their order, then others that have results."""
        config, _ = self.configuration()
        names = list(obj(config.get("tracks")))
        found = {path.stem for kind in ("verdict", "compare") for path in (self.root / "results" / kind).glob("*.json")}
        return [*names, *sorted(found - set(names))]

    def track(self, name: str) -> Track:
        """What is known of a track."""
        broken: list[str] = []

        def read(path: str) -> Object:
            try:
                value = self.json(path)
            except ValueError as error:
                broken.append(str(error))
                return {}
            if value is not None and not isinstance(value, dict):
                broken.append(f"{path}: not the shape that was expected")
            return obj(value)

        verdict = read(f"results/verdict/{name}.json")
        gate = read(f"results/compare/{name}.json")
        config, _ = self.configuration()
        configured = obj(obj(config.get("tracks")).get(name))
        title = text(verdict.get("title")) or text(configured.get("title")) or name
        folder = self.root / "results/metrics" / name
        contenders = sorted(path.stem for path in folder.glob("*.json"))
        mark = stamp(self.root / f"results/verdict/{name}.json")
        return Track(
            name,
            title,
            verdict,
            gate,
            read(f"results/data/{name}/datasheet.json"),
            {contender: read(f"results/metrics/{name}/{contender}.json") for contender in contenders},
            (self.root / f"results/report/{name}.html").is_file(),
            mark[2] / 1e9 if mark else None,
            tuple(broken),
        )


@dataclass(frozen=True)
class Card:
    """A verdict as the first page shows it."""

    track: str
    title: str
    state: str
    """deploy, inconclusive, keep, gate (no verdict yet), invalid, none, broken."""
    headline: str
    sentence: str
    figures: list[tuple[str, str]]
    caveats: list[str]
    report: bool
    built: float | None
    broken: tuple[str, ...]


def card(track: Track) -> Card:
    """The verdict of a track for people; not built yet and broken are answers too."""
    verdict, gate = track.verdict, track.gate
    said = verdict or gate
    deploy = text(verdict.get("deploy"))
    if track.broken and not said:
        state, headline = "broken", "A file cannot be read"
    elif not said:
        state, headline = "none", "Not built yet"
    elif not verdict:
        state = "gate"
        headline = {"swap": "Good enough before training", "fine_tune": "Not good enough before training"}.get(
            text(gate.get("decision")), "Too few rows to tell, before training"
        )
    elif deploy == "inconclusive":
        state, headline = "inconclusive", "Inconclusive"
    elif deploy in ("teacher", ""):
        state, headline = "keep", "Keep the teacher"
    else:
        state, headline = "deploy", f"Deploy {deploy}"
    return Card(
        track.name,
        track.title,
        state,
        headline,
        text(said.get("statement")),
        _figures(track, deploy),
        [text(caveat) for caveat in items(verdict.get("caveats")) if text(caveat)],
        track.report,
        track.built,
        track.broken,
    )


def _figures(track: Track, deploy: str) -> list[tuple[str, str]]:
    said = track.verdict or track.gate
    found: list[tuple[str, str]] = []
    if (n := whole(said.get("n"))) is not None:
        found.append(("Test rows", f"{n:,}"))
    if missing := whole(said.get("rows_missing")):
        found.append(("Rows still needed", f"{missing:,}"))
    comparisons = obj(track.verdict.get("comparisons"))
    contender = deploy if deploy in comparisons else next(reversed(comparisons), "")
    body = obj(comparisons.get(contender)) or track.gate
    margin = real(said.get("margin"))
    for name in items(said.get("core"))[:1]:
        metric = obj(obj(body.get("metrics")).get(text(name)))
        high = real(metric.get("high"))
        if high is not None and margin is not None:
            who = contender or "the slm"
            found.append((f"{who}: worse by at most", f"{100 * max(high, 0):.1f} of {100 * margin:g} points"))
    teacher, other = track.metrics.get("teacher", {}), track.metrics.get(contender, {})
    if (ratio := _ratio(teacher, other)) is not None:
        found.append(("Latency against the teacher", f"× {ratio:.2g}"))
    cost, own = obj(teacher.get("cost")), obj(other.get("cost"))
    if (ratio := _part(real(own.get("amount")), real(cost.get("amount")))) is not None:
        found.append(("Cost against the teacher", f"× {ratio:.2g}"))
    if (amount := real(cost.get("amount"))) is not None:
        found.append(("The teacher's answers cost", f"{amount:.2f} {text(cost.get('currency'))}"))
    prints = [text(key) for key in obj(other.get("fingerprints"))]
    if prints:
        found.append(("Fingerprint", prints[0][:40]))
    return found


def _ratio(teacher: Object, other: Object) -> float | None:
    return _part(real(obj(other.get("latency_s")).get("p50")), real(obj(teacher.get("latency_s")).get("p50")))


def _part(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours is not None and theirs else None


def trainings(folder: Folder) -> list[Object]:
    """Each training that left a summary: track, name, recipe and history."""
    found: list[Object] = []
    root = folder.root / "results"
    places = sorted({*root.glob("adapters/*/training.json"), *root.glob("adapters/*/*/training.json")})
    for place in places:
        parts = place.relative_to(root).parts
        try:
            value = obj(folder.json(f"results/{place.relative_to(root)}"))
        except ValueError:
            continue
        history = [
            {key: entry[key] for key in ("step", "loss", "learning_rate", "tokens_per_s", "memory_gib") if key in entry}
            for entry in map(obj, items(value.get("history")))
        ]
        name = "/".join(parts[1:-1])
        found.append({"name": name, "track": parts[1], "recipe": obj(value.get("recipe")), "history": history})
    return found


def environment_without_secrets() -> dict[str, str]:
    """This process' environment for its children, without the Hub's token: only the upload reads it, from its file."""
    return {
        key: value
        for key, value in os.environ.items()
        if key not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "FLEDGLING_CONSOLE_TOKEN", "FLEDGLING_EVENTS")
    }
