"""Mutated rows of every log format through prepare: no traceback, every row counted, every reject with place and reason.

FLEDGLING_FUZZ=1000 python -m pytest tests/unit/test_fuzz_logs.py    rows of each format and kind instead of a few hundred
"""

import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fledgling.data.draft import draft
from fledgling.data.prepare import prepare

from . import logs
from .test_fuzz_rows import mutated
from .test_traces import trajectory

ROWS = int(os.environ.get("FLEDGLING_FUZZ", "60"))
MAKE: dict[str, Callable[[int], logs.Call]] = {"toolcall": logs.booking, "structured": logs.order}


def several(form: str, calls: Sequence[logs.Call], rng: random.Random) -> list[str]:
    """Rows of one format, each mutated by itself; some are cut."""
    lines = []
    for row in logs.LOGS[form](calls):
        line = json.dumps(mutated(row, rng))
        lines.append(line[: rng.randrange(1, len(line))] if rng.random() < 0.03 else line)
    return lines


@pytest.mark.parametrize("form", logs.LOGS)
@pytest.mark.parametrize("kind", MAKE)
def test_every_row_is_taken_or_counted_with_its_reason(tmp_path: Path, form: str, kind: str) -> None:
    rng = random.Random(f"{form} {kind}")
    whole = logs.LOGS[form]([MAKE[kind](number) for number in range(20)])
    lines = [json.dumps(row) for row in whole]
    while len(lines) < ROWS:
        start = 1_000 + len(lines)
        made = trajectory(start, 3) if kind == "toolcall" and rng.random() < 0.3 else [MAKE[kind](start)]
        lines += several(form, made, rng)
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines) + "\n")
    source = {
        "path": str(path),
        "format": "traces",
        "where": {"model": "*"},
        "tool_errors": "trajectory",
        "redact": ["Oslo", r"\d{5}"],
    }
    outputs = {split: tmp_path / f"{split}.jsonl" for split in ("train", "val", "test")}
    track = {"kind": kind, "sources": [source], "splits": {"train": 0.5, "val": 0.2, "test": 0.3}}
    sheet = prepare(track, 1, name="t", outputs=outputs)
    found = sheet["sources"][0]
    counts = found["rows"]
    outside = counts.get("not_asked_for", 0)
    assert counts["read"] == counts["rejected"] + counts["duplicates"] + outside + counts["used"]
    assert counts["used"] >= 19
    assert counts["rejected"] == sum(entry["rows"] for entry in found["rejected"].values())
    assert outside == sum(found.get("not_asked_for", {}).values())
    if ROWS > 50 and "otel" not in form and form != "openinference":
        assert counts["rejected"] > 3
    for code, entry in found["rejected"].items():
        for message in entry["first"]:
            assert message.startswith(f"{path}:"), (code, message)
            assert len(message.split(":", 2)[2].strip()) > 10, (code, message)
    for output in outputs.values():
        assert b"Oslo" not in output.read_bytes()


def test_nothing_that_stands_in_a_row_stops_a_draft(tmp_path: Path) -> None:
    rng = random.Random("draft")
    lines = [line for form in logs.LOGS for line in several(form, [logs.order(at) for at in range(4)], rng)]
    good = [json.dumps(row) for row in logs.helicone([logs.order(at) for at in range(50, 60)])]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join([*lines, *good]) + "\n")
    made: Any = draft([str(path)], name="t")
    assert made.seen.usable >= 10
