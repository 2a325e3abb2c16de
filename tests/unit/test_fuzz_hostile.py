"""Replies, schemas, checkpoints and adapters of whoever wants harm: no traceback, in bounded time, inside their folder.

FLEDGLING_FUZZ=20000 python -m pytest tests/unit/test_fuzz_hostile.py    replies instead of a few hundred; the others follow
"""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fledgling.data import formats
from fledgling.data.invalid import Unusable
from fledgling.data.validate import check
from fledgling.errors import ConfigError, DataError
from fledgling.models import adapter, checkpoint
from fledgling.records import Example, Prediction
from fledgling.tracks.registry import kind
from tests.allowance import within
from tests.project import write_sealed
from tests.unit.test_fuzz_rows import ASK, CALL, NATIVE, SCHEMA, STRANGE, TOOLS, mutated

MANY = int(os.environ.get("FLEDGLING_FUZZ", "200"))
SECONDS, MEGABYTES = 1.0, 100
TEXTS = [
    json.dumps([CALL]),
    json.dumps({"n": 1, "deep": [[]]}),
    f"<tool_call>{json.dumps(CALL)}</tool_call>",
    "<|tool_call|>" + json.dumps([CALL]),
    '[TOOL_CALLS] [{"name": "book", "arguments": {}}]',
    "book(seats=2, tags=['a'])",
    "<think>no</think>```json\n" + json.dumps(CALL) + "\n```",
    '<function=book>{"seats": 2}</function>',
    "[" * 40_000,
    '{"a":' * 20_000,
    '{"n": 1e999}',
    '{"n": ' + "9" * 50_000 + "}",
    '"\\ud800"' * 500,
    "\x00\u2028\ufeff" * 1_000,
    json.dumps([CALL] * 5_000),
    json.dumps({str(n): n for n in range(20_000)}),
    "(" * 30_000 + "book",
    "book(" * 20_000,
    "<tool_call>" * 20_000,
    '{"name": "book", "arguments": ' * 5_000,
]


def replies(lots: random.Random) -> dict[str, Any]:
    """One reply: text in any dialect, cut, repeated, joined; calls of any types."""
    text = lots.choice(TEXTS)
    for _ in range(lots.choice((0, 1, 1, 2))):
        at = lots.randrange(len(text) + 1)
        text = lots.choice([text[:at], text[at:], text[:at] + lots.choice(TEXTS) + text[at:], text * 2])[: 1 << 20]
    made: dict[str, Any] = {"raw": lots.choice([text, text, text, None])}
    if lots.random() < 0.3:
        made["tool_calls"] = mutated([NATIVE] * lots.choice((1, 2, 2_000)), lots)
        if not isinstance(made["tool_calls"], list):
            made["tool_calls"] = None
    return made


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """The processor's time and memory that a row may take."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with within(SECONDS, what):
        yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MEGABYTES, f"{grown:.0f} MB: {what}"


EXAMPLES = [
    ("toolcall", Example("1", "g", ASK, [CALL, CALL], tools=TOOLS)),
    ("toolcall", Example("1", "g", ASK, [], tools=TOOLS)),
    ("structured", Example("1", "g", ASK, {"n": 1}, schema=SCHEMA)),
]


@pytest.mark.parametrize(("track", "example"), EXAMPLES)
def test_whatever_a_reply_holds_it_is_scored_in_bounds(track: str, example: Example) -> None:
    lots = random.Random(f"replies {track} {example.answer}")
    scorer = kind(track)
    scorer.score(example, Prediction("1", "ok", raw="{}"))
    for _ in range(max(1, MANY // 3)):
        reply = replies(lots)
        with bounded(str(reply)[:200]):
            scored = scorer.score(example, Prediction("1", "ok", **reply))
        assert all(0 <= value <= 1 for value in scored.scores.values())


def schemas(lots: random.Random) -> Any:
    """A JSON Schema that doubles, turns in circles, or was mutated."""
    size = lots.randrange(2, 60)
    doubled = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(size)}
    branching = {f"d{n}": {"properties": {k: {"$ref": f"#/$defs/d{n + 1}"} for k in "abc"}} for n in range(size)}
    grown = {"type": "object", "$ref": "#/$defs/d0", "$defs": lots.choice([doubled, branching]) | {f"d{size}": {}}}
    circle = {"type": "object", "anyOf": [{"$ref": "#"}, {"$ref": "#"}], "additionalProperties": {"$ref": "#"}}
    pattern = {"type": "object", "patternProperties": {"^(a+)+$": {"pattern": "(x*)*y"}}, "minProperties": 10**30}
    chosen = lots.choice([grown, circle, pattern, SCHEMA, {"properties": {str(n): SCHEMA for n in range(200)}}])
    return mutated(chosen, lots) if lots.random() < 0.6 else chosen


def test_whatever_a_schema_holds_its_row_is_read_or_refused_in_bounds() -> None:
    lots = random.Random("schemas")
    counts = {"read": 0, "refused": 0}
    for number in range(max(40, MANY // 20)):
        row = {"id": str(number), "messages": ASK, "schema": schemas(lots), "answer": lots.choice([{"n": 1}, {}, []])}
        with bounded(json.dumps(row)[:300]):
            try:
                check(formats.parse(row, "structured", "auto"), "structured")
                counts["read"] += 1
            except Unusable:
                counts["refused"] += 1
    assert min(counts.values()) > 0, counts


def damaged(path: Path, lots: random.Random) -> None:
    """One file of a checkpoint or an adapter, changed in its JSON, its bytes, or made a link."""
    data = path.read_bytes()
    how = lots.randrange(4)
    if how == 0 and path.suffix == ".json":
        path.write_text(json.dumps(mutated(json.loads(data), lots)))
    elif how == 1:
        at = lots.randrange(len(data))
        path.write_bytes(data[:at] + lots.randbytes(lots.choice((1, 8, 300))) + data[at + 8 :])
    elif how == 2:
        path.write_bytes(
            lots.choice([b"", data[: len(data) // 2], b"[" * 100_000, json.dumps(lots.choice(STRANGE)).encode()])
        )
    else:
        path.unlink()
        path.symlink_to(lots.choice(["/etc/passwd", "../../elsewhere", str(path), "/dev/zero"]))


def test_whatever_a_checkpoint_holds_it_enters_or_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    lots = random.Random("checkpoints")
    refused = 0
    for number in range(max(10, 300 * MANY // 20_000)):
        folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / str(number)))
        damaged(lots.choice(sorted(folder.iterdir())), lots)
        said = str(folder)
        with within(5, folder):
            try:
                checkpoint.describe(folder, source="path")
            except (DataError, ConfigError) as error:
                refused += 1
                said = str(error)
        assert str(folder) in said
        shutil.rmtree(folder)
    assert refused > 3


def test_whatever_an_adapter_holds_it_is_loaded_or_refused(tiny_model: Path, tmp_path: Path) -> None:
    lots = random.Random("adapters")
    model = checkpoint.load(tiny_model)
    whole = tmp_path / "whole"
    whole.mkdir()
    import numpy
    from safetensors.numpy import save_file

    name = "base_model.model.model.layers.0.self_attn.o_proj.lora_"
    ones = {f"{name}A.weight": numpy.ones((4, 64), "float32"), f"{name}B.weight": numpy.ones((64, 4), "float32")}
    save_file(ones, whole / adapter.WEIGHTS)
    (whole / adapter.CONFIG).write_text(json.dumps({"r": 4, "target_modules": ["o_proj"], "peft_type": "LORA"}))
    adapter.seal(whole, track="t", model=model, data={}, recipe={}, backend="peft")
    adapter.load(whole / adapter.MANIFEST, model)
    for number in range(max(10, 300 * MANY // 20_000)):
        folder = Path(shutil.copytree(whole, tmp_path / str(number)))
        chosen = lots.choice([adapter.WEIGHTS, adapter.CONFIG, adapter.MANIFEST])
        damaged(folder / chosen, lots)
        manifest = folder / adapter.MANIFEST
        if chosen != adapter.MANIFEST and not (folder / chosen).is_symlink():  # sealed anew, as an enemy would
            adapter.seal(folder, track="t", model=model, data={}, recipe={}, backend="peft")
        elif chosen == adapter.MANIFEST and lots.random() < 0.5 and not manifest.is_symlink():
            try:
                write_sealed(manifest, json.loads(manifest.read_bytes()))
            except (ValueError, AttributeError, RecursionError):
                pass
        said = str(folder)
        try:
            adapter.load(manifest, model)
        except (DataError, ConfigError) as error:
            said = str(error)
        assert str(folder) in said
        shutil.rmtree(folder)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: what is opened was not watched")
def test_rows_open_nothing_outside_their_folder(root: Path, tmp_path: Path) -> None:
    """`prepare` over rows that point everywhere, watched by the kernel."""
    rows, bait = tmp_path / "rows", tmp_path / "bait"
    rows.mkdir()
    bait.mkdir()
    (bait / "secret.json").write_text('{"type": "object"}')
    (rows / "link.json").symlink_to(bait / "secret.json")
    (rows / "own.json").write_text('{"type": "object"}')
    places = ["../bait/secret.json", str(bait / "secret.json"), f"file://{bait}/secret.json", "link.json", "own.json"]
    places += [
        "..%2fbait%2fsecret.json",
        "http://127.0.0.1:9/x.json",
        "./../bait/secret.json#/x",
        "own.json/../../bait/secret.json",
    ]
    with open(rows / "rows.jsonl", "w") as stream:
        for number, place in enumerate(places):
            row = {"id": str(number), "messages": ASK, "schema": {"$ref": place}, "answer": {"n": number}}
            stream.write(json.dumps(row) + "\n")
    source = {"path": str(rows / "rows.jsonl"), "split": "test", "on_invalid": "reject"}
    settings = {"seed": 1, "track": {"kind": "structured", "sources": [source]}}
    outputs = [f"--{name}={tmp_path}/{name}.jsonl" for name in ("train", "val", "test")]
    command = [
        sys.executable,
        root / "scripts/prepare.py",
        "--track",
        "t",
        "--settings",
        json.dumps(settings),
        *outputs,
    ]
    watch = ["strace", "-f", "-qq", "-e", "trace=open,openat,connect,execve", "-o", tmp_path / "calls"]
    done = subprocess.run(
        [*watch, *command, "--datasheet", tmp_path / "datasheet.json"],
        env=os.environ | {"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
    )
    calls = (tmp_path / "calls").read_text()
    assert "own.json" in calls, done.stderr[-2000:]
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(bait) not in calls
    assert "bait/secret" not in calls
    assert "AF_INET" not in calls
    assert calls.count("execve(") <= 3, "the interpreter alone is started"
    sheet = json.loads((tmp_path / "datasheet.json").read_text())
    assert sheet["sources"][0]["rows"]["used"] == 1
