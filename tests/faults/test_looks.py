"""Test rows bought in looks: what the teacher's own count says, what a kill costs, and that the record fits the rows."""

import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fledgling.buy import buy
from fledgling.decision.rule import Rule
from fledgling.locks import LOCKS
from fledgling.records import read_examples
from fledgling.sealing import write_predictions
from fledgling.teacher.requests import Endpoint, Teacher, request
from fledgling.teacher.simulated import Answered, Simulated, serve

from .harness import CLEAN, ROOT

ERRS = 0.12
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
    """Rows, a teacher that is wrong about an eighth of them, and a contender that differs from it as it is told to."""

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


@pytest.mark.parametrize(("gap", "most", "draws"), [(0.0, 0.6, 3), (0.1, 1 / 8, 5)])
def test_the_teachers_own_count_says_that_looks_save(tmp_path: Path, gap: float, most: float, draws: int) -> None:
    """2,000 rows, discordance 20 %: level with the teacher (tests/unit/test_buying.py has the median over many worlds),
    and ten points behind."""
    asked = []
    for seed in range(draws):
        made = world(tmp_path / str(seed), 2000, 0.2, gap, seed)
        with serving(made.data) as (server, made.url):
            record = made.buy()
            assert server.calls == record["rows"], "no row more than the record says"
        assert len(made.out.read_text().splitlines()) == record["rows"]
        assert record["stopped"].startswith("no contender can catch up" if gap else "the slm passed")
        asked.append(server.calls)
    assert statistics.median(asked) <= most * 2000, asked


def test_kill_9_asks_nothing_again(tmp_path: Path) -> None:
    """After a look, within one, and before the answers are published: what was answered is never asked again."""
    calm, rough = (world(tmp_path / name, 600, 0.2, 0.02, seed=3, per_group=2) for name in ("calm", "rough"))
    with serving(calm.data) as (server, calm.url):
        record = calm.buy()
        rows = server.calls
    assert record["rows"] == rows > record["planned"][0]
    with serving(rough.data) as (server, rough.url):
        for place in ("buy.after_a_look:1", "ask.after_reply:20", "buy.after_a_look:2", "buy.before_publish:1"):
            done = rough.process(FLEDGLING_FAILPOINT=place)
            assert done.returncode == -signal.SIGKILL, (place, done.stderr[-2000:])
            assert not rough.out.exists()
        done = rough.process()
        assert done.returncode == 0, done.stderr[-2000:]
        in_flight = 8  # at the one kill that met calls under way
        assert rows <= server.calls <= rows + in_flight
        billed = server.calls
        rough.out.unlink()
        assert rough.process().returncode == 0
        assert server.calls == billed
    sealed = json.loads(rough.out.with_suffix(".json").read_text())
    assert sealed["bought"] == record


def test_a_split_too_small_for_looks_is_bought_at_once(tmp_path: Path) -> None:
    made = world(tmp_path, 90, 0.1, 0.0)
    with serving(made.data) as (server, made.url):
        record = made.buy()
    assert (server.calls, record["planned"], record["level"]) == (90, [90], 0.05)


def test_answers_of_two_models_end_the_buying(tmp_path: Path) -> None:
    """More rows would not cure a baseline of two models: the gate will call it invalid, and no more is paid."""
    made = world(tmp_path, 600, 0.2, 0.0)
    with serving(made.data) as (server, made.url):
        complete, flip = server._completion, iter(range(1 << 30))

        def switched(*call: Any) -> Any:
            return complete(*call) | {"model": f"sim-{next(flip) % 2}"}

        server._completion = switched  # type: ignore[method-assign]
        record = made.buy()
    assert record["rows"] == record["planned"][0]
    assert "more rows would not help" in record["stopped"]
    assert "2 models" in record["stopped"]
