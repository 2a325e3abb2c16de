"""A job on another machine goes on while its driver gives a sign of life, and with the next driver that takes it over."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fledgling.files import write_json
from fledgling.graph import lease

JOB = "import time\nfrom fledgling.graph import lease\nlease.follow()\nprint('up', flush=True)\ntime.sleep(60)"


def job(folder: Path, grace: float, record: Path | None = None) -> "subprocess.Popen[str]":
    offered = {"file": str(folder / "fledgling.driver"), "driver": "one"}
    env = os.environ | {lease.LEASE: json.dumps(offered), lease.GRACE: str(grace)}
    if record:
        env[lease.RECORD] = str(record)
    started = subprocess.Popen([sys.executable, "-c", JOB], env=env, text=True, stdout=subprocess.PIPE)
    assert started.stdout
    started.stdout.readline()
    return started


def beat(folder: Path, driver: str, seconds: float) -> None:
    deadline, number = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        number += 1
        write_json(folder / "fledgling.driver", {"driver": driver, "beat": number})
        time.sleep(0.1)


def test_it_goes_on_while_the_driver_lives_and_ends_when_it_is_gone(tmp_path: Path) -> None:
    started = job(tmp_path, 1.5)
    beat(tmp_path, "one", 3.5)
    assert started.poll() is None
    began = time.monotonic()
    assert started.wait(20) != 0
    assert 1 < time.monotonic() - began < 10


def test_a_file_that_does_not_change_is_no_sign_of_life(tmp_path: Path) -> None:
    """Whatever the clocks of two machines say: only a change counts."""
    write_json(tmp_path / "fledgling.driver", {"driver": "one", "beat": 7})
    os.utime(tmp_path / "fledgling.driver", (2**31, 2**31))
    assert job(tmp_path, 1).wait(20) != 0


@pytest.mark.parametrize("taken", [True, False])
def test_another_driver_counts_only_where_it_has_taken_the_job_over(tmp_path: Path, taken: bool) -> None:
    record = tmp_path / "record.json"
    write_json(record, {"driver": "two" if taken else "one"})
    started = job(tmp_path, 1.5, record)
    beat(tmp_path, "two", 4)
    assert (started.poll() is None) == taken
    started.kill()
    started.wait()


def test_a_job_of_no_driver_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lease.LEASE, raising=False)
    lease.follow(end=lambda: pytest.fail("it ended"))
    assert lease.driver() is None
