"""After any kill the plain command is the right one: no unlocking, no orphan that writes later."""

import os
import signal
import subprocess
import sys
import time

import pytest

TARGET = "results/models/slm/manifest.json"
SLOW = """\
import os, sys, time
from fledgling.cli import run
def main():
    open("started", "w").close()
    deadline = time.monotonic() + 60
    while not os.path.exists("release") and time.monotonic() < deadline:
        time.sleep(0.05)
    out = sys.argv[sys.argv.index("--out") + 1]
    open(out, "w").write("{}")
    open("finished", "a").write("x")
run(main)
"""


@pytest.fixture
def slow(empty):
    """The graph with a fetch that waits to be released."""
    (empty.folder / "scripts/fetch.py").write_text(SLOW)
    return empty


def start(graph):
    """Start a driver and wait until its job runs."""
    (graph.folder / "started").unlink(missing_ok=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FLEDGLING_")}
    driver = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "2", TARGET],
        cwd=graph.folder,
        env=clean,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (graph.folder / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return driver


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_driver(slow, sent):
    driver = start(slow)
    os.kill(driver.pid, sent)
    if sent == signal.SIGKILL:
        driver.wait(30)
        time.sleep(1)
    (slow.folder / "release").touch()
    driver.wait(60)
    if sent == signal.SIGKILL:
        time.sleep(1)
        assert not (slow.folder / "finished").exists(), "an orphan went on"
    again = slow.run("--cores", "2", TARGET)
    assert again.returncode == 0, again.stdout
    assert slow.plan(TARGET) == {}


def test_a_second_run_in_the_same_folder_is_refused(slow):
    driver = start(slow)
    second = slow.run("--cores", "2", TARGET)
    assert second.returncode == 3
    assert f"another run works in this folder (pid {driver.pid}" in second.stdout
    (slow.folder / "release").touch()
    assert driver.wait(60) == 0
    assert (slow.folder / "finished").read_text() == "x"


def test_a_dry_run_is_allowed_beside_a_run(slow):
    driver = start(slow)
    assert slow.run("-n", "results/data/toolcall/test.jsonl").returncode == 0
    (slow.folder / "release").touch()
    assert driver.wait(60) == 0
