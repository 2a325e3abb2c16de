"""Evidence that was edited by hand: named, and never made a verdict of."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.edits import storm
from tests.faults.stages import storm as kill

from .conftest import Project


def verify(project: Project) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fledgling", "verify"]
    return subprocess.run(command, cwd=project.folder, capture_output=True, text=True)


def test_a_healthy_tree_is_quiet(story):
    done = verify(story)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n") == 1, done.stdout
    assert "are what was written" in done.stdout


def test_every_edited_byte_is_named_and_stops_who_reads_it(copied):
    figures = storm(copied.folder, 44, seed=5, say=lambda words: None)
    assert not figures.faults, "\n".join(figures.faults[:5])
    assert figures.named == figures.edits == 44
    assert figures.stopped > 100


EDITED = [
    "data/toolcall/test.jsonl",
    "predictions/toolcall/slm.jsonl",
    "metrics/toolcall/tuned.json",
    "compare/toolcall.json",
]


@pytest.mark.parametrize("name", EDITED)
def test_the_graph_stops_and_the_remedy_mends_it(copied, name: str):
    path = copied.folder / "results" / name
    whole = path.read_bytes()
    at = whole.index(b"1", len(whole) // 2)
    path.write_bytes(whole[:at] + b"2" + whole[at + 1 :])  # still JSON, wherever that is
    made = ("verdict/toolcall.json", "report/toolcall.html")
    before = {each: (copied.folder / "results" / each).read_bytes() for each in made}
    done = copied.run("results/report/toolcall.html")
    assert done.returncode != 0
    assert f"results/{name}" in done.stdout, done.stdout[-3000:]
    for each, content in before.items():
        there = copied.folder / "results" / each
        assert not there.exists() or there.read_bytes() == content, "nothing new is made of it"
    said = verify(copied)
    assert said.returncode == 5
    line = next(line for line in said.stdout.splitlines() if line.startswith(f"results/{name}:"))
    command = line.rpartition("build it again with: ")[2].split()
    os.unlink(copied.folder / line.partition("delete ")[2].split()[0])
    copied.build(*command[command.index("all") + 1 :])
    assert path.read_bytes() == whole
    copied.build()
    assert verify(copied).returncode == 0
    assert Path(copied.folder / "results/verdict/toolcall.json").read_bytes() == before["verdict/toolcall.json"]


@pytest.mark.parametrize("stage", ["prepare", "score", "compare", "select_adapter", "decide", "report"])
def test_a_killed_stage_makes_what_an_undisturbed_one_made(story, stage: str):
    figures = kill(story.folder, 3, seed=11, only=stage, say=lambda words: None)
    assert not figures.faults, "\n".join(figures.faults[:3])
    assert figures.kills[stage] == 3
