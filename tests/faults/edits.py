"""Seeded edits of one byte over a built tree: each must be named by `fledgling verify`, and stop every rule that reads it.

The commands are the rules' own, as Snakemake recorded them when it built the tree. They run in this process, for
thousands of starts of Python would take hours.
"""

import base64
import contextlib
import io
import json
import logging
import os
import random
import runpy
import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fledgling.integrity import verify

RESULTS = Path("results")


@dataclass
class Figures:
    """What many edits did."""

    edits: int = 0
    kinds: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    named: int = 0
    stopped: int = 0
    """Commands of rules that read an edited file, each of which stopped with its name and a remedy."""
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """A rule's own command, and what it reads and writes."""

    rule: str
    command: tuple[str, ...]
    reads: frozenset[str]


def jobs(folder: Path) -> list[Job]:
    """Every job that built a tree, from Snakemake's records."""
    found: dict[tuple[str, ...], Job] = {}
    root = folder / ".snakemake/metadata"
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        coded = "".join(part.removeprefix("@") for part in path.relative_to(root).parts)
        output = base64.b64decode(coded).decode()
        record = json.loads(path.read_text())
        if not output.startswith("results/") or not record["shellcmd"]:
            continue
        words = shlex.split(record["shellcmd"].partition(" 2> ")[0])
        script = next(at for at, word in enumerate(words) if word.startswith("$FLEDGLING_SCRIPTS/"))
        found[tuple(words[script:])] = Job(record["rule"], tuple(words[script:]), frozenset(record["input"]))
    return list(found.values())


def readers(path: Path, known: list[Job]) -> list[Job]:
    """The jobs that read a file: those that name it, and those that name the manifest which lists it."""
    names = {path.as_posix()}
    if path.parts[1] == "models":
        names.add((Path(*path.parts[:3]) / "manifest.json").as_posix())
    elif path.parts[1] in ("adapters", "candidates"):
        names.add((path.parent / "manifest.json").as_posix())
    return [job for job in known if names & job.reads]


def kind(path: Path) -> str:
    """What kind of file a place holds, for the count."""
    top = path.parts[1]
    return f"{top}/{path.name}" if top in ("data", "adapters", "candidates", "models") else f"{top}/*{path.suffix}"


def edited(data: bytes, lots: random.Random) -> bytes:
    """The bytes with one of them changed, left out or added."""
    at = lots.randrange(len(data))
    how = lots.choice("rrrrdi")
    if how == "d":
        return data[:at] + data[at + 1 :]
    if how == "i":
        return data[:at] + bytes([lots.randrange(256)]) + data[at:]
    return data[:at] + bytes([data[at] ^ lots.randrange(1, 256)]) + data[at + 1 :]


def storm(folder: Path, count: int, seed: int, say: Callable[[str], None] = print) -> Figures:
    """Edit files of a built tree one after the other, each put back afterwards; kinds of file take turns."""
    lots, figures = random.Random(seed), Figures()
    with _inside(folder):
        whole = verify(RESULTS)
        assert not whole.broken, f"not a healthy tree: {whole.broken}"
        known = jobs(Path())
        files = defaultdict(list)
        for path in sorted(path for path in RESULTS.rglob("*") if path.is_file() and path not in whole.unknown):
            files[kind(path)].append(path)
        for number in range(count):
            path = lots.choice(files[sorted(files)[number % len(files)]])
            _one(path, known, lots, figures)
            if not (number + 1) % 50:
                say(f"{number + 1} edits, {figures.stopped} commands stopped, {len(figures.faults)} faults")
        assert not verify(RESULTS).broken
    return figures


def _one(path: Path, known: list[Job], lots: random.Random, figures: Figures) -> None:
    before, times = path.read_bytes(), path.stat()
    path.write_bytes(edited(before, lots))
    try:
        figures.edits += 1
        figures.kinds[kind(path)] += 1
        words = verify(RESULTS).broken.get(path)
        if words is None or "snakemake --cores all results/" not in words:
            figures.faults.append(f"verify does not name {path}: {words}")
        else:
            figures.named += 1
        state = _state()
        for job in readers(path, known):
            code, said = run(job)
            if code == 0 or str(path) not in said or "snakemake --cores all" not in said or "Traceback" in said:
                figures.faults.append(f"{job.rule} of an edited {path}: exit code {code}: {said[-600:]}")
            else:
                figures.stopped += 1
            if (now := _state()) != state:
                figures.faults.append(f"{job.rule} of an edited {path} wrote {sorted(set(now) ^ set(state))[:3]}")
                state = now
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _state() -> set[tuple[str, int, int]]:
    return {
        (str(path), stat.st_size, stat.st_mtime_ns)
        for path in RESULTS.rglob("*")
        if path.is_file() and (stat := path.stat())
    }


def run(job: Job) -> tuple[int, str]:
    """Exit code of a rule's command and what it said, in this process."""
    script = Path(job.command[0].replace("$FLEDGLING_SCRIPTS", "scripts")).resolve()
    out, given = io.StringIO(), sys.argv
    sys.argv = [str(script), *job.command[1:]]
    logging.getLogger().handlers.clear()
    try:
        with contextlib.redirect_stderr(out), contextlib.redirect_stdout(out):
            runpy.run_path(str(script), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.argv = given
    return code, out.getvalue()


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    here = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)
