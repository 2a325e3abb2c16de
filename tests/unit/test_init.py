"""`fledgling init`: what it sees in rows, and that what it writes is a configuration that runs unedited."""

import argparse
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fledgling.command import init as command
from fledgling.config import load
from fledgling.data.draft import SPLITS, draft, track_name
from fledgling.data.prepare import SPLIT_KEY
from fledgling.data.sources import open_source
from fledgling.data.split import choose, position
from fledgling.errors import DataError, UsageError

from . import logs

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


def test_only_whole_words_of_a_name_say_a_split(tmp_path: Path) -> None:
    rows = [FORMATS["openai"][1](n) for n in range(4)]
    names = ("train", "Test-2", "devices", "retrieval", "détest", "train_test")
    files = [write(tmp_path / f"{name}.jsonl", rows) for name in names]
    splits = [source.get("split") for source in draft(files, name="a").block["sources"]]
    assert splits == [None, "test", None, None, None, None]
    without = draft([files[0], files[3]], name="a").block
    assert without["splits"] == {"train": 0.6, "val": 0.15, "test": 0.25}, "no file is the test"


def test_a_file_means_itself_though_its_name_reads_as_a_glob(tmp_path: Path) -> None:
    path = write(tmp_path / "b[1].jsonl", [FORMATS["openai"][1](n) for n in range(4)])
    write(tmp_path / "b1.jsonl", [FORMATS["openai"][1](n) for n in range(9)])
    made = draft([path], name="a")
    assert made.rows == 4
    source = made.block["sources"][0]["path"]
    assert [part.label for part in open_source({"path": source}, seed=0, key="k")] == [path]


def test_bad_rows_are_left_out_with_a_reason(tmp_path: Path) -> None:
    good = [FORMATS["openai"][1](n) for n in range(9)]
    made = draft([write(tmp_path / "rows.jsonl", [*good, "not json", {"what": 1}])], name="a")
    assert made.block["sources"][0]["on_invalid"] == "reject"
    assert sum(made.seen.bad.values()) == 2
    assert any("rows.jsonl:10" in said for said in made.seen.first.values())
    with pytest.raises(DataError, match="none of the 1 rows can be used"):
        draft([write(tmp_path / "none.jsonl", [{"what": 1}])], name="a")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/Invoices_train.jsonl", "invoices"),
        ("x/test.jsonl", "mine"),
        ("é b.json", "b"),
        ("latest.jsonl", "latest"),
        ("contest.jsonl", "contest"),
        ("mail_train_2.jsonl", "mail"),
    ],
)
def test_a_track_is_called_after_its_file(path: str, name: str) -> None:
    assert track_name(path) == name


@pytest.fixture
def init(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """`fledgling init` in this process, in the checkout: what it prints."""
    monkeypatch.chdir(root)
    level = logging.getLogger().level

    def run(*words: str | Path) -> str:
        parser = argparse.ArgumentParser()
        command.arguments(parser)
        command.call(parser.parse_args([str(word) for word in words]))
        return capsys.readouterr().out

    yield run
    logging.getLogger().setLevel(level)


def test_the_calls_of_a_run_are_those_on_val_and_on_test(init: Callable[..., str], tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [FORMATS["openai"][1](n) for n in range(60)])
    said = init(rows, "--out", tmp_path / "mine.yaml")
    found = re.search(r"train, (\d+) val, (\d+) test .*\na run asks the teacher (\d+) times.*: (0\.\d+) USD", said)
    assert found is not None, said
    val, test, calls = (int(found[number]) for number in (1, 2, 3))
    assert val > 0
    assert calls == val + test
    assert float(found[4]) > 0, "fractions of a cent are said"


def test_the_split_of_each_file_is_said_where_files_decide_it(init: Callable[..., str], tmp_path: Path) -> None:
    train, test, devices = (
        write(tmp_path / f"{name}.jsonl", [FORMATS["openai"][1](n) for n in range(start, start + 60)])
        for start, name in ((100, "train"), (300, "test"), (500, "devices"))
    )
    said = init(train, test, devices, "--out", tmp_path / "mine.yaml")
    assert f"split by file ({train} train and val, {test} test, {devices} train and val): " in said
    assert "split by group: " in init(devices, "--out", tmp_path / "other.yaml")


def test_a_track_inherits_nothing_from_one_of_the_default(init: Callable[..., str], root: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "structured.jsonl", [FORMATS["prompt_completion"][1](n) for n in range(60)])
    out = tmp_path / "mine.yaml"
    said = init(rows, "--out", out)
    assert "the track is called structured-2, as config/config.yaml has one called structured" in said
    tracks = load(root / "config/config.yaml", out, root=root)["tracks"]
    assert list(tracks) == ["structured-2"]
    assert not {"title", "recipe", "requests_per_month"} & tracks["structured-2"].keys()
    with pytest.raises(
        UsageError, match=r"--name toolcall: config/config\.yaml has a track of this name.*take another"
    ):
        init(rows, "--name", "toolcall", "--out", tmp_path / "other.yaml")


def test_a_name_that_no_track_can_have_is_refused_as_one(init: Callable[..., str], root: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [FORMATS["openai"][1](n) for n in range(9)])
    with pytest.raises(UsageError, match=r"^--name 'My Track': names are made of .*; write --name my-track$"):
        init(rows, "--name", "My Track")
    with pytest.raises(UsageError, match=r"write --name toolcall-2$"):
        init(rows, "--name", "Toolcall")
    schema = yaml.safe_load((root / "config/schemas/config.schema.yaml").read_text(encoding="utf-8"))
    assert schema["properties"]["tracks"]["propertyNames"]["pattern"] == f"^{command.NAME.pattern}$"


@pytest.mark.parametrize(
    ("filled", "says"),
    [
        (("train", "val"), "the test split is empty"),
        (("train", "test"), "of 8 rows none is in val"),
        (("val", "test"), "of 8 rows none is in train"),
    ],
)
def test_a_draft_that_cannot_run_is_not_written(
    init: Callable[..., str], tmp_path: Path, filled: tuple[str, ...], says: str
) -> None:
    groups = [f"g{n}" for n in range(200) if choose(position(SPLIT_KEY, f"g{n}"), SPLITS) in filled][:8]
    rows = write(tmp_path / "few.jsonl", [FORMATS["openai"][1](n) | {"group": group} for n, group in enumerate(groups)])
    out = tmp_path / "few.yaml"
    with pytest.raises(DataError, match=f"nothing was written, as the drafted track cannot run: .*{says}"):
        init(rows, "--out", out)
    assert not out.exists()


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


def test_a_log_becomes_a_track_of_its_most_frequent_task(tmp_path: Path) -> None:
    day = 86_400.0
    calls = [logs.order(number, time=1_790_000_000.0 + day * number / 4) for number in range(160)]
    calls += [logs.order(number, name="chat", id=f"x{number}", trace=f"x{number}") for number in range(200, 240)]
    for call in calls[:20]:
        call.model = "gpt-4o-mini"
    path = logs.write(tmp_path / "export.jsonl", logs.langfuse(calls))
    made = draft([str(path)], name="orders")
    source = {"path": str(path), "format": "traces", "where": {"name": "extract", "model": "gpt-4o-2024-08-06"}}
    assert made.block["kind"] == "structured"
    assert made.block["sources"] == [source]
    assert made.block["splits"] == {"test_from": "2026-10-21"}
    assert any("chat 40" in note for note in made.notes)


def test_the_hour_parts_a_log_of_one_day(tmp_path: Path) -> None:
    path = logs.write(tmp_path / "export.jsonl", logs.helicone([logs.booking(number) for number in range(100)]))
    made = draft([str(path)], name="bookings")
    assert made.block["kind"] == "toolcall"
    assert made.block["splits"] == {"test_from": "2026-09-21T15:28:00+00:00"}
    assert made.block["sources"] == [{"path": str(path), "format": "traces"}]


def test_what_init_writes_of_a_log_runs(tmp_path: Path, root: Path) -> None:
    """The command itself: what it says, and that the track prepares as it says."""
    rows = [{key: value for key, value in row.items() if key != "created"} for row in logs.openai(CALLS)]
    path = logs.write(tmp_path / "chats.jsonl", rows)
    out = tmp_path / "chats.yaml"
    command = [sys.executable, "-m", "fledgling", "init", str(path), "--log", "--out", str(out)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "agreement with them" in done.stdout
    track = load(root / "config/config.yaml", out)["tracks"]["chats"]
    assert track["sources"][0]["format"] == "traces"
    assert track["splits"].keys() == {"train", "val", "test"}, "no times, so a hash splits"


CALLS = [logs.booking(number) for number in range(60)]
