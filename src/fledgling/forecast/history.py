"""How long jobs took in earlier runs of a folder, by what they built: kept beside results/, so `make clean` loses nothing."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fledgling.contenders import Job

RUNS = 20  # of the last ones that are read
FOLDER = Path(".fledgling/runs")


@dataclass(frozen=True, slots=True)
class Took:
    """A job that ended well: its rule, how long it took (s), and how many files of predictions it made at once."""

    rule: str
    seconds: float
    together: int = 1


class History:
    """The last time that each file was built; `built` maps its path, relative to the folder, to the job."""

    def __init__(self, built: dict[str, Took]) -> None:
        self.built = built

    @classmethod
    def of(cls, results: Path) -> "History":
        """What the runs of the folder above `results` say; nothing where there were none."""
        built: dict[str, Took] = {}
        runs = sorted((results.parent / FOLDER).glob("*/events.jsonl"))
        for path in runs[-RUNS:]:
            built.update(_built(path))
        return cls(built)

    def seconds(self, job: Job) -> float | None:
        """How long a job took last time; None where no run tells."""
        part = "repeat/" if job.repeat else "val/" if job.split == "val" else ""
        target = {
            "train": f"results/candidates/{job.track}/{job.contender}/training.json",
            "choose_shots": f"results/shots/{job.track}/{job.contender}.jsonl",
        }.get(job.rule, f"results/predictions/{job.track}/{part}{job.contender}.jsonl")
        found = self.built.get(target)
        return None if found is None else found.seconds / found.together

    def others(self, tracks: Iterable[str], rules: Iterable[str]) -> dict[str, float]:
        """{rule: seconds of all its jobs} beside `rules`, for these tracks and what belongs to none (checkpoints)."""
        listed, mine = set(rules), set(tracks)
        jobs: dict[tuple[str, str], float] = {}
        for target, took in self.built.items():
            place = Path(target).parts
            if took.rule not in listed and (
                place[1:2] == ("models",) or mine & {Path(part).stem for part in place[2:3]}
            ):
                jobs[(took.rule, target)] = took.seconds / took.together
        sums: dict[str, float] = {}
        for (rule, _), seconds in jobs.items():
            sums[rule] = sums.get(rule, 0.0) + seconds
        return sums


def _built(path: Path) -> Iterator[tuple[str, Took]]:
    """What one run built, by file. Half a line, or one of another shape, says nothing."""
    started: dict[object, tuple[float, dict[str, object]]] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        if '"job_started"' not in line and '"job_finished"' not in line:
            continue
        try:
            event = json.loads(line)
            at = datetime.fromisoformat(event["at"]).timestamp()
            number, kind = event["job"], event["event"]
        except (ValueError, KeyError, TypeError):
            continue
        if kind == "job_started":
            started[number] = (at, event)
        elif number in started:
            began, job = started.pop(number)
            outputs = job.get("outputs")
            files = [str(name) for name in outputs] if isinstance(outputs, list) else []
            # A job is under its first file; one that answers for several contenders under the file of each.
            rows = [name for name in files if "/predictions/" in name and name.endswith(".jsonl")]
            kept = rows or [name for name in files if name.endswith("training.json")] or files[:1]
            for name in kept:
                yield name, Took(str(job.get("rule")), at - began, len(kept))
