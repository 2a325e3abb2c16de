"""What a person sees of the real graph: in a pipe two screens at most, on a terminal a sign of life every ten seconds."""

import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl

from .conftest import Project

SCREENS = 80  # lines of two screens
SILENCE = 10.0  # seconds
LONG_STAGE = "results/models/slm/manifest.json"  # the embedded checkpoint, which takes a minute of one core


def test_from_nothing_to_both_verdicts_in_a_pipe_is_two_screens(story):
    lines = story.printed.splitlines()
    assert len(lines) <= SCREENS, story.printed
    assert re.fullmatch(r"Done: \d+ jobs in .*", lines[-1])
    for track in ("toolcall", "structured"):
        assert any(line.startswith(f"{track}: Simulated: ") for line in lines[-5:])
        assert f"results/report/{track}.html" in story.printed
    assert "\r" not in story.printed
    assert "\033" not in story.printed


def test_on_a_terminal_a_long_stage_shows_life_on_one_line(root, tmp_path):
    """Recorded as `script` does: what was written when. Nobody but the run draws on it."""
    project = Project.of(root, tmp_path)
    ours, theirs = pty.openpty()
    ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FLEDGLING_")}
    began = last = time.monotonic()
    run = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "1", LONG_STAGE],
        cwd=project.folder,
        env=clean | {"TERM": "xterm", "HF_HUB_OFFLINE": "1"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen, silence = b"", 0.0
    while True:
        if select.select([ours], [], [], 1)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            seen += part
            silence, last = max(silence, time.monotonic() - last), time.monotonic()
        assert time.monotonic() - began < 900
    os.close(ours)
    assert run.wait() == 0, seen[-4000:]
    assert silence <= SILENCE
    text = seen.decode()
    drawn = re.findall(r"\r\x1b\[2K([^\r\n]*)", text)
    assert sum("fetch slm" in line and re.search(r"\d+/\d+ steps", line) is not None for line in drawn) >= 3
    assert "step/s" not in text, "the stage's own bar writes across the line of the run"
    left = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
    assert len(left) <= 8, left
