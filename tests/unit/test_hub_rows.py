"""Rows of datasets on the Hub are the rows of their files: through a server that speaks its protocol."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.servers.hub import Hub

NUMBERS = "[3.680585, 0.136004974742, 0.94, 100000000000000000001, 1e-12, 3.14159265358979323846]"
GOLD = f'{{"date": "2024-05-01", "code": "007", "flag": "true", "nothing": null, "numbers": {NUMBERS}}}'


def row(index: int, **other: Any) -> str:
    asked = json.dumps([{"role": "user", "content": f"Record number {index} of the year, please"}])
    return f'{{"id": {index}, "messages": {asked}, "answer": {GOLD}}}'


def parquet() -> bytes:
    stream = io.BytesIO()
    calls = [[{"name": "f", "arguments": {"x": 1, "y": None}}], [{"name": "g", "arguments": {"x": None, "y": "2"}}]]
    tools = [
        [
            {
                "name": name,
                "parameters": {"x": {"type": "int"}, "y": None} if name == "f" else {"x": None, "y": {"type": "str"}},
            }
        ]
        for name in "fg"
    ]
    table = pyarrow.table(
        {
            "messages": [
                [{"role": "user", "content": f"Call number {i} of them all, please", "tool_calls": None}]
                for i in range(2)
            ],
            "answer": calls,
            "tools": tools,
            "weight": pyarrow.array([0.1, 2.5], pyarrow.float32()),
        }
    )
    pyarrow.parquet.write_table(table, stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """prepare(track) in a process of its own, whose Hub is the server: (exit code, what it said, {split: lines})."""
    home = tmp_path_factory.mktemp("hf")
    with Hub() as server:
        lines = {
            split: "".join(row(index + start) + "\n" for index in range(3)).encode()
            for split, start in (("train", 0), ("test", 10))
        }
        same = {
            split: "".join(
                row(index + start).replace(f'"id": {index + start}', f'"id": {index}') + "\n" for index in range(3)
            ).encode()
            for split, start in (("train", 20), ("test", 30))
        }
        readme = b"---\nconfigs:\n- config_name: own\n  data_files:\n  - {split: test, path: odd/name.json}\n---\n"
        files = {
            "o/lines": {f"data/{split}.jsonl": content for split, content in lines.items()},
            "o/same": {f"{split}.jsonl": content for split, content in same.items()},
            "o/own": {"README.md": readme, "odd/name.json": ("[" + ",".join(map(row, range(2))) + "]").encode()},
            "o/table": {"data/test-00000-of-00001.parquet": parquet()},
            "o/csv": {"test.csv": b'id,prompt,completion\n1,"What is the code of it, please?","{""code"": ""007""}"\n'},
            "o/text": {"test.txt": b"hello\n"},
        }
        revisions = {}
        for repo, content in files.items():
            server.create(repo, private=False, repo_type="dataset", files=content)
            revisions[repo] = server.repo(repo, "dataset").branches["main"][-1].oid

        def run(kind: str, *sources: dict[str, Any], url: str = server.url, **more: Any) -> Any:
            work = tmp_path_factory.mktemp("work")
            listed = [
                {
                    "hub": {"revision": revisions.get(source["repo_id"], "0" * 40)}
                    | {k: v for k, v in source.items() if k != "to"},
                    "split": source.get("to", "test"),
                }
                for source in sources
            ]
            code = (
                "import json, sys; from fledgling.cli import run; from fledgling.data.prepare import prepare\n"
                "track = json.loads(sys.argv[1])\n"
                "run(lambda: json.dump(prepare(track, 1, name='t', outputs={s: s + '.jsonl' for s in ('train', 'val', 'test')}),"
                " open('sheet.json', 'w')))"
            )
            hidden = ("HF_", "HUGGING")
            env = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
            env |= {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"} | more
            track = json.dumps({"kind": kind, "sources": listed})
            done = subprocess.run(
                [sys.executable, "-c", code, track], cwd=work, env=env, capture_output=True, text=True
            )
            made = {file.stem: file.read_text().splitlines() for file in Path(work).glob("t*.jsonl")}
            return done.returncode, done.stderr, made

        yield run


def test_json_lines_are_read_to_the_letter(prepared: Any) -> None:
    code, said, made = prepared("structured", {"repo_id": "o/lines", "split": "test"})
    assert code == 0, said
    assert [line.split('"answer":')[1][:-1] for line in made["test"]] == [
        json.dumps(json.loads(GOLD, parse_float=float), separators=(",", ":")).replace(
            "3.141592653589793", "3.14159265358979323846"
        )
    ] * 3
    assert [json.loads(line)["id"] for line in made["test"]] == ["lines-test-10", "lines-test-11", "lines-test-12"]


def test_two_splits_with_the_same_ids(prepared: Any) -> None:
    code, said, made = prepared(
        "structured", {"repo_id": "o/same", "split": "train", "to": "train"}, {"repo_id": "o/same", "split": "test"}
    )
    assert code == 0, said
    assert [json.loads(made[split][0])["id"] for split in ("train", "test")] == ["same-train-0", "same-test-0"]


def test_a_configuration_of_the_readme_and_a_json_list(prepared: Any) -> None:
    code, said, made = prepared("structured", {"repo_id": "o/own", "config": "own", "split": "test"})
    assert code == 0, said
    assert json.loads(made["test"][0])["id"] == "own-own-test-0"


def test_parquet_without_loss(prepared: Any) -> None:
    code, said, made = prepared("toolcall", {"repo_id": "o/table", "split": "test"})
    assert code == 0, said
    rows = [json.loads(line) for line in made["test"]]
    assert [row["answer"][0]["arguments"] for row in rows] == [{"x": 1}, {"y": "2"}]
    assert [row["weight"] for row in rows] == [0.1, 2.5]
    assert [list(row["tools"][0]["function"]["parameters"]["properties"]) for row in rows] == [["x"], ["y"]]


def test_csv_stays_text(prepared: Any) -> None:
    code, said, made = prepared("structured", {"repo_id": "o/csv", "split": "test"})
    assert code == 0, said
    assert json.loads(made["test"][0])["answer"] == {"code": "007"}


@pytest.mark.parametrize(
    ("source", "code", "named"),
    [
        ({"repo_id": "o/lines", "split": "val"}, 5, "has no split 'val', it has"),
        ({"repo_id": "o/none", "split": "test"}, 5, "o/none@000000000000 cannot be loaded"),
        ({"repo_id": "o/text", "split": "test"}, 5, "is kept as text, which is not read"),
    ],
)
def test_what_is_not_there_or_not_read(prepared: Any, source: dict[str, Any], code: int, named: str) -> None:
    status, said, made = prepared("structured", source)
    assert (status, made) == (code, {})
    assert named in said
    assert "tracks.t.sources[0].hub" in said
    assert "Traceback" not in said


def test_without_a_network_the_files_fetched_before_are_read(prepared: Any) -> None:
    first = prepared("structured", {"repo_id": "o/lines", "split": "test"})
    assert prepared("structured", {"repo_id": "o/lines", "split": "test"}, HF_HUB_OFFLINE="1")[2] == first[2]
    code, said, _ = prepared("structured", {"repo_id": "o/never", "split": "test"}, HF_HUB_OFFLINE="1")
    assert code == 4
    assert "o/never@000000000000 cannot be fetched" in said
    assert "Traceback" not in said
