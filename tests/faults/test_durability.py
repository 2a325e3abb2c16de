"""The order of writes, fsyncs and renames, as the kernel saw it."""

import re
import shutil
import subprocess
from collections.abc import Callable

import pytest

from .harness import ROOT, Ask, server

RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+)")
PLACE = re.compile(r"<([^<>]*)>")


def traced(job: Ask) -> list[tuple[str, str, str]]:
    """(call, path, arguments) of every write, fsync and rename of one run, in the order of their completion."""
    log = job.folder / "strace.log"
    names = "write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,sendto,ftruncate"
    command = ["strace", "-f", "-y", "-s", "300", "-o", str(log), "-e", f"trace={names}", *job.command()]
    result = subprocess.run(command, cwd=ROOT, text=True, stderr=subprocess.PIPE)
    if "ptrace" in result.stderr or "PTRACE" in result.stderr:
        pytest.skip("strace may not trace here")
    assert result.returncode == 0, result.stderr
    calls, begun = [], dict[str, str]()
    for line in log.read_text().splitlines():
        pid, text = line.split(maxsplit=1)
        if text.endswith(" <unfinished ...>"):
            begun[pid] = text.removesuffix(" <unfinished ...>")
            continue
        if resumed := RESUMED.match(text):
            text = begun.pop(pid) + text[resumed.end() :]
        if (found := CALL.match(text)) and int(found[3]) >= 0:
            path = PLACE.search(found[2])
            calls.append((found[1], path[1] if path else "", found[2]))
    return calls


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_f9_fsync_comes_before_what_is_announced(work: Callable[..., Ask]) -> None:
    with server() as at:
        job = work(6, at.url, concurrency=2)
        calls = traced(job)
    journal = str(job.journal / "teacher.jsonl")
    renames = [place for place, (name, _, _) in enumerate(calls) if name.startswith("rename")]
    published = next(place for place in renames if str(job.out) in calls[place][2])

    written = [place for place, (name, path, _) in enumerate(calls) if name == "write" and path == journal]
    synced = [place for place, (name, path, _) in enumerate(calls) if name == "fsync" and path == journal]
    assert len(written) == 12, "an intent and a result a row"
    assert max(written) < max(synced) < published, "no answer is published before its line is on disk"

    sent = [place for place, (_, path, words) in enumerate(calls) if "POST /v1/chat" in words]
    for number, place in enumerate(sent):
        intents = [line for line in written if line < place and '\\"intent\\"' in calls[line][2]]
        assert len(intents) > number, "no call without its intent"
        assert any(intents[number] < sync < place for sync in synced), "no call before its intent is on disk"

    temporary = re.search(r'"([^"]*\.out\.jsonl\.[^"]*\.tmp)"', calls[published][2])
    assert temporary
    own = [(place, name) for place, (name, path, _) in enumerate(calls) if path == temporary[1]]
    assert [name for _, name in own][-1] == "fsync", "nothing is written after the fsync"
    assert own[-1][0] < published
    after = [path for name, path, _ in calls[published:] if name == "fsync"]
    assert str(job.out.parent) in after, "the folder is synced after the rename"
