"""`fledgling init`: what it sees in rows, and that what it writes is a configuration that runs unedited."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fledgling.config import load
from fledgling.data.draft import draft, track_name
from fledgling.errors import DataError

TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}},
}


def call(n: int) -> dict[str, Any]:
    return {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": json.dumps({"x": n})}}


FORMATS = {
    "openai": (
        "toolcall",
        lambda n: {
            "messages": [
                {"role": "user", "content": f"call f with {n}"},
                {"role": "assistant", "tool_calls": [call(n)]},
            ],
            "tools": [TOOL],
        },
    ),
    "xlam": (
        "toolcall",
        lambda n: {
            "id": n,
            "query": f"call f with {n}",
            "tools": json.dumps([{"name": "f", "parameters": {"x": {"type": "int"}}}]),
            "answers": json.dumps([{"name": "f", "arguments": {"x": n}}]),
        },
    ),
    "prompt_completion": (
        "structured",
        lambda n: {"prompt": f"number {n} as JSON", "completion": json.dumps({"n": n})},
    ),
}


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("name", FORMATS)
def test_the_kind_and_format_of_rows_are_seen(name: str, tmp_path: Path) -> None:
    kind, row = FORMATS[name]
    made = draft([write(tmp_path / "rows.jsonl", [row(n) for n in range(40)])], name="mine")
    assert (made.block["kind"], made.rows, dict(made.seen.formats)) == (kind, 40, {name: 40})
    assert made.block["splits"] == {"train": 0.6, "val": 0.15, "test": 0.25}
    assert 32 <= made.block["max_new_tokens"] <= 64


def test_files_that_name_their_split_go_there_whole(tmp_path: Path) -> None:
    rows = [FORMATS["openai"][1](n) for n in range(4)]
    files = [write(tmp_path / f"{name}.jsonl", rows) for name in ("a_train", "a_val", "a_test")]
    assert [source.get("split") for source in draft(files, name="a").block["sources"]] == ["train", "val", "test"]
    without = draft([files[0], files[2]], name="a").block
    assert [source.get("split") for source in without["sources"]] == [None, "test"]
    assert without["splits"] == {"train": 0.9, "val": 0.1, "test": 0.0}
    assert "split" not in draft([files[2]], name="a").block["sources"][0], "a test file alone is split like any other"


def test_bad_rows_are_left_out_with_a_reason(tmp_path: Path) -> None:
    good = [FORMATS["openai"][1](n) for n in range(9)]
    made = draft([write(tmp_path / "rows.jsonl", [*good, "not json", {"what": 1}])], name="a")
    assert made.block["sources"][0]["on_invalid"] == "reject"
    assert sum(made.seen.bad.values()) == 2
    assert any("rows.jsonl:10" in said for said in made.seen.first.values())
    with pytest.raises(DataError, match="none of the 1 rows can be used"):
        draft([write(tmp_path / "none.jsonl", [{"what": 1}])], name="a")


@pytest.mark.parametrize(
    ("path", "name"), [("data/Invoices_train.jsonl", "invoices"), ("x/test.jsonl", "mine"), ("é b.json", "b")]
)
def test_a_track_is_called_after_its_file(path: str, name: str) -> None:
    assert track_name(path) == name


def test_what_is_written_is_a_configuration(root: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [FORMATS["openai"][1](n) for n in range(60)])
    out = tmp_path / "mine.yaml"
    command = [sys.executable, "-m", "fledgling", "init", rows, "--name", "mine", "--out", str(out)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "60 rows read, 60 usable as toolcall (60 openai)" in done.stdout
    assert f"snakemake --cores all --configfile {out} -- results/compare/mine.json" in done.stdout
    config = load(root / "config/config.yaml", out, root=root)
    assert list(config["tracks"]) == ["mine"]
    assert yaml.safe_load(out.read_text())["tracks"]["toolcall"] is None
    again = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert again.returncode == 2
    assert "--force" in again.stderr
