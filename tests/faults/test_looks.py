"""Test rows bought in looks: what the teacher's own count says, what a kill costs, and that the record fits the rows."""

import json
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest

from .looks import BEHIND, PASSED, rows_bought, serving, world


@pytest.mark.parametrize(("gap", "most", "draws"), [(0.0, 0.6, 3), (0.1, 1 / 8, 5)])
def test_the_teachers_own_count_says_that_looks_save(tmp_path: Path, gap: float, most: float, draws: int) -> None:
    """2,000 rows, discordance 20 %: level with the teacher, where three worlds are no median (`python -m tests.faults looks`
    takes it over a hundred), and ten points behind."""
    asked = []
    for seed in range(draws):
        calls, stopped = rows_bought(tmp_path / str(seed), gap, seed)
        assert stopped.startswith(BEHIND if gap else PASSED)
        asked.append(calls)
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
