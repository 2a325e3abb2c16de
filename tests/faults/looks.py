"""Worlds in which test rows are bought in looks from a server that counts its calls."""

import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledgling.buy import buy
from fledgling.decision.rule import Rule
from fledgling.locks import LOCKS
from fledgling.records import read_examples
from fledgling.sealing import write_predictions
from fledgling.teacher.requests import Endpoint, Teacher, request
from fledgling.teacher.simulated import Answered, Simulated, serve

from .harness import CLEAN, ROOT

ERRS = 0.15
PASSED, BEHIND = "the slm passed", "no contender can catch up"  # how the reason for stopping begins
DECISION = {
    "margin": 0.05,
    "alpha": 0.05,
    "power": 0.8,
    "min_coverage": 0.98,
    "resamples": 1000,
    "core": {"structured": ["exact_match_rate"]},
}


class Counted(Simulated):
    """The simulated teacher, with a count of the calls that it got."""

    calls = 0

    async def answer(self, body: Mapping[str, Any]) -> Answered:
        self.calls += 1
        return await super().answer(body)


@contextmanager
def serving(data: Path, error_rate: float = ERRS) -> Iterator[tuple[Counted, str]]:
    """A server of these rows in a thread, and its address."""
    counted = Counted(data, {"error_rate": error_rate}, model="sim", prompt={})
    loop, ready, address = asyncio.new_event_loop(), threading.Event(), [""]

    async def main() -> None:
        async with serve(counted) as base_url:
            address[0] = base_url
            ready.set()
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    assert ready.wait(30)
    try:
        yield counted, address[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@dataclass
class World:
    """Rows, a teacher that is wrong about a seventh of them, and a contender that differs from it as it is told to."""

    folder: Path
    settings: dict[str, Any]
    data: Path
    contenders: list[Path]
    floor: Path
    url: str = ""

    def buy(self) -> dict[str, Any]:
        """Buy in this process; returns the record."""
        return dict(
            buy(
                data=self.data,
                teacher=Teacher.of(self.settings["teacher"] | {"base_url": self.url}),
                prompt={},
                journal=self.folder / "journal",
                out=self.out,
                rule=Rule.of("t", self.settings),
                ladder=self.settings["ladder"],
                contenders=self.contenders,
                floors=[self.floor],
                ladder_files=[],
                backoff_base_s=0.01,
            )
        )

    @property
    def out(self) -> Path:
        return self.folder / "results/predictions/t/teacher.jsonl"

    def process(self, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Buy as the rule does, in a process of its own."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(CLEAN)}
        settings = self.settings | {"teacher": self.settings["teacher"] | {"base_url": self.url}}
        command = [sys.executable, "scripts/buy.py", "--track", "t", "--data", str(self.data)]
        command += ["--settings", json.dumps(settings), "--journal", str(self.folder / "journal")]
        command += ["--contenders", *map(str, self.contenders), "--floors", str(self.floor), "--out", str(self.out)]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=env | {LOCKS: str(self.folder / "locks")} | environment,
            text=True,
            capture_output=True,
        )


def world(
    folder: Path, rows: int, discordance: float, gap: float, seed: int = 0, per_group: int = 1, looks: int = 60
) -> World:
    """`gap` is that of the contender in the split, in score points; a contender without a name of its own is `slm`."""
    data = folder / "results/data/t/test.jsonl"
    data.parent.mkdir(parents=True)
    with data.open("w") as stream:
        for n in range(rows):
            row = {"id": f"r{n}", "group": f"g{n // per_group}", "answer": {"number": n}}
            row["messages"] = [{"role": "user", "content": f"Which number is {n}, of world {seed}?"}]
            stream.write(json.dumps(row) + "\n")
    teacher = Teacher.of({"provider": "openai", "model": "sim", "concurrency": 8, "looks": looks})
    right = asyncio.run(_rights(data, teacher))
    lots = random.Random(seed)
    wins, losses = ([n for n, one in enumerate(right) if one == said] for said in (False, True))
    differ = {
        *lots.sample(wins, round(rows * (discordance - gap) / 2)),
        *lots.sample(losses, round(rows * (discordance + gap) / 2)),
    }
    answers = {n: {"number": n if right[n] != (n in differ) else -1} for n in range(rows)}
    place = folder / "results/predictions/t"
    place.mkdir(parents=True)
    found = {"slm": answers, "floor-empty": {n: {} for n in range(rows)}}
    for name, said in found.items():
        predictions = [
            {"id": f"r{n}", "outcome": "ok", "raw": json.dumps(said[n]), "request": f"{name}-{n}"} for n in range(rows)
        ]
        write_predictions(place / f"{name}.jsonl", predictions, made_from=[data])
    settings = {
        "teacher": {"provider": "openai", "model": "sim", "concurrency": 8, "response_format": "none", "looks": looks},
        "decision": DECISION,
        "seed": 7,
        "looks": looks,
        "ladder": [{"name": "slm", "label": "the slm", "model": "slm", "adapter": None, "after": None}],
        "track": {"kind": "structured", "finetune": "never"},
    }
    return World(folder, settings, data, [place / "slm.jsonl"], place / "floor-empty.jsonl")


async def _rights(data: Path, teacher: Teacher) -> list[bool]:
    """For each row, whether the simulated teacher will be right about it."""
    known = Simulated(data, {"error_rate": ERRS}, model="sim", prompt={})
    said = []
    for example in read_examples(data):
        answered = await known.answer(request(example, teacher, Endpoint("h", "d"), {}).body)
        said.append(json.loads(answered.body["choices"][0]["message"]["content"]) == example.answer)
    return said


def rows_bought(folder: Path, gap: float, seed: int) -> tuple[int, str]:
    """How many of 2,000 rows, discordance 20 %, a teacher is asked by its own count, and why buying stopped."""
    made = world(folder, 2000, 0.2, gap, seed)
    with serving(made.data) as (server, made.url):
        record = made.buy()
        assert server.calls == record["rows"], "no row more than the record says"
    assert len(made.out.read_text().splitlines()) == record["rows"]
    return server.calls, record["stopped"]


@dataclass(frozen=True, slots=True)
class Figures:
    """The calls of worlds, from the fewest, and the worlds that stopped for another reason than most."""

    calls: list[int]
    otherwise: dict[str, int]

    @property
    def median(self) -> float:
        return statistics.median(self.calls)


def many(worlds: int, gap: float, seed: int, reason: str) -> Figures:
    """`rows_bought` in so many worlds; `reason` is how what most of them say begins."""
    calls, otherwise = list[int](), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        for number in range(worlds):
            asked, stopped = rows_bought(Path(name, str(number)), gap, seed + number)
            shutil.rmtree(Path(name, str(number)))
            calls.append(asked)
            if not stopped.startswith(reason):
                otherwise[stopped] += 1
    return Figures(sorted(calls), dict(otherwise))
