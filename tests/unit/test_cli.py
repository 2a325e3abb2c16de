"""Entry points end with the right code, say why, and die with the driver that started them."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from fledgling.graph.driver import DRIVER, identity

HEAD = "from fledgling.cli import run\nfrom fledgling.errors import *\nimport os, time\n"


def script(tmp_path, body):
    (tmp_path / "s.py").write_text(HEAD + body)
    return [sys.executable, str(tmp_path / "s.py")]


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("run(lambda: None)", 0, ""),
        ("def main(): raise ConfigError('k: wrong')\nrun(main)", 3, "error: k: wrong"),
        ("def main(): raise DataError('f:1: bad')\nrun(main)", 5, "error: f:1: bad"),
        ("def main(): raise Unavailable('later')\nrun(main)", 4, "error: later"),
        ("def main(): raise OSError(28, 'No space left on device', 'x')\nrun(main)", 4, "no space left for x"),
        ("def main(): 1 / 0\nrun(main)", 1, "ZeroDivisionError"),
    ],
)
def test_exit_codes(tmp_path, body, code, says):
    done = subprocess.run(script(tmp_path, body), capture_output=True, text=True)
    assert done.returncode == code
    assert says in done.stderr


def test_warnings_of_ours_reach_who_watches_each_kind_once(tmp_path):
    """A row without tools, damage in a journal, memory that ran out: nobody opens a log to find them."""
    events = tmp_path / "events.jsonl"
    events.touch()
    body = (
        "import logging\n"
        "def main():\n"
        "    for n in range(3): logging.getLogger('fledgling.data').warning('row %d has no tools', n)\n"
        "    logging.getLogger('fledgling.data').info('all is well')\n"
        "    logging.getLogger('torch').warning('not ours')\n"
        "    logging.getLogger('fledgling.ask').warning('key %s', os.environ['MAIL_API_KEY'])\n"
        "run(main)"
    )
    secret = "sk-0123456789abcdefghij0123456789"
    environment = os.environ | {"FLEDGLING_EVENTS": str(events), "MAIL_API_KEY": secret}
    done = subprocess.run(script(tmp_path, body), capture_output=True, text=True, env=environment)
    assert done.stderr.count("has no tools") == 3
    notes = [json.loads(line) for line in events.read_text().splitlines()]
    assert [note["event"] for note in notes] == ["note", "note"]
    assert notes[0]["message"] == "row 0 has no tools"
    assert notes[1]["message"].startswith("key ")
    assert secret not in notes[1]["message"]


def test_who_has_read_enough_is_no_fault(tmp_path):
    job = script(tmp_path, "run(lambda: [print('x' * 100) for _ in range(100_000)] and None)")
    done = subprocess.run(["bash", "-c", f"{' '.join(job)} | head -1; echo ${{PIPESTATUS[0]}}"], capture_output=True)
    assert done.stdout.split() == [b"x" * 100, b"0"]
    assert done.stderr == b""


def test_another_broken_pipe_is_a_fault(tmp_path):
    body = "def main():\n    r, w = os.pipe(); os.close(r); os.write(w, b'x')\nrun(main)"
    done = subprocess.run(script(tmp_path, body), capture_output=True, text=True)
    assert done.returncode == 1
    assert "BrokenPipeError" in done.stderr


def test_a_file_that_is_not_ours_is_named(tmp_path):
    body = "def main(): raise PermissionError(13, 'Permission denied', 'results/x')\nrun(main)"
    done = subprocess.run(script(tmp_path, body), capture_output=True, text=True)
    assert done.returncode == 3
    assert "error: results/x: not to be read or written (Permission denied); make it so" in done.stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals(tmp_path, sent, code):
    # A test run in the background of a shell has SIGINT ignored, and its children would inherit that.
    job = subprocess.Popen(
        script(tmp_path, "run(lambda: (print('up', flush=True), time.sleep(30)))"),
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    job.stdout.readline()
    job.send_signal(sent)
    assert job.wait(10) == code


def test_a_job_dies_with_its_driver(tmp_path):
    """The driver starts a shell, the shell the job, as Snakemake does; only the driver is killed."""
    job = script(tmp_path, "run(lambda: (open('up', 'w').close(), time.sleep(2), open('late', 'w').close()))")
    driver = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, subprocess\nfrom fledgling.graph.driver import adopt_jobs\nadopt_jobs({}, '.')\n"
            f"subprocess.run(['bash', '-c', 'true; {' '.join(job)}; true'])",
        ],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != DRIVER},
    )
    deadline = time.monotonic() + 20
    while not (tmp_path / "up").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (tmp_path / "up").exists()
    driver.kill()
    driver.wait()
    time.sleep(2.5)
    assert not (tmp_path / "late").exists()


def test_a_job_of_a_driver_that_is_gone_does_not_start(tmp_path):
    gone = subprocess.Popen(["sleep", "0.1"])
    mark = identity(gone.pid)
    gone.wait()
    done = subprocess.run(
        script(tmp_path, "run(lambda: open('x', 'w').close())"), cwd=tmp_path, env=os.environ | {DRIVER: mark}
    )
    assert done.returncode == 143
    assert not (tmp_path / "x").exists()


def test_a_mark_from_another_machine_is_ignored(tmp_path):
    done = subprocess.run(script(tmp_path, "run(lambda: None)"), env=os.environ | {DRIVER: "1:2:other-boot"})
    assert done.returncode == 0
