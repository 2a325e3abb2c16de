import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fledgling.errors import DataError
from fledgling.files import canonical, digest, publish, read_json, read_jsonl, read_lines, write_json, write_jsonl


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_json(path, {"x": 1})
    with pytest.raises(ZeroDivisionError), publish(path) as stream:
        stream.write(f"half {1 / 0}")
    assert read_json(path) == {"x": 1}
    assert [file.name for file in path.parent.iterdir()] == ["b.json"]


def test_what_a_killed_writer_left_is_removed_and_a_living_one_is_left_alone(tmp_path):
    path = tmp_path / "x.json"
    code = f"from fledgling.files import write_json; write_json({str(path)!r}, 1)"
    killed = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"FLEDGLING_FAILPOINT": "files.before_rename"}
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    assert not path.exists()
    with publish(path) as slow:
        assert len(list(tmp_path.iterdir())) == 1
        write_json(path, "fast")
        slow.write('"slow"')
    assert read_json(path) == "slow"
    assert list(tmp_path.iterdir()) == [path]


def test_mode_follows_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_json(tmp_path / "x.json", 1)
    finally:
        os.umask(old)
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o640


def test_fsync_comes_before_rename_before_folder(tmp_path, monkeypatch):
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(fd):
        calls.append("fsync folder" if Path(f"/proc/self/fd/{fd}").resolve().is_dir() else "fsync file")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    write_json(tmp_path / "x.json", 1)
    assert calls == ["fsync file", "rename", "fsync folder"]


def test_canonical_text_ignores_key_order():
    assert canonical({"b": 1, "a": [1.5, "é"]}) == '{"a":[1.5,"é"],"b":1}'
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    assert digest({"a": "\ud800"}) != digest({"a": "\ud801"})


def test_lone_surrogates_are_written_as_escapes(tmp_path):
    write_jsonl(tmp_path / "x.jsonl", [{"a": "\ud800"}, {"a": "é\u2028"}])
    raw = (tmp_path / "x.jsonl").read_bytes()
    raw.decode("utf-8")
    assert [row["a"] for _, row in read_jsonl(tmp_path / "x.jsonl")] == ["\ud800", "é\u2028"]


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_end_at_line_feeds_only(tmp_path, prefix, end):
    rows = [{"a": "x\u2028y\u0085z\x0b"}, {"a": 2}]
    text = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    (tmp_path / "x.jsonl").write_bytes(prefix + end.join([text[0], b"", text[1]]))
    assert [(number, row) for number, row in read_jsonl(tmp_path / "x.jsonl")] == [(1, rows[0]), (3, rows[1])]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"a":1}\n{"a":\n', "x.jsonl:2:"),
        (b'{"a":1}\n[1]\n', "x.jsonl:2: expected a JSON object, found list"),
        ('{"a":"é"}'.encode("latin-1"), "x.jsonl:1: not UTF-8 at byte 6"),
        ('{"a":1}'.encode("utf-16"), "x.jsonl:1: UTF-16"),
        (b"[" * 100_000, "x.jsonl:1:"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, says):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=says.replace("[", r"\[")):
        list(read_jsonl(tmp_path / "x.jsonl"))


def test_a_missing_file_says_how_to_build_it(tmp_path):
    with pytest.raises(DataError, match="snakemake --cores all"):
        read_json(tmp_path / "no.json")
    with pytest.raises(DataError, match="no such file"):
        list(read_lines(tmp_path / "no.jsonl"))


def test_a_file_system_without_locks_can_be_written(tmp_path, monkeypatch):
    def none(*arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fledgling.locks.fcntl.flock", none)
    (tmp_path / ".x.json.abc.tmp").write_text("may be a living writer's")
    write_json(tmp_path / "x.json", {"x": 1})
    assert read_json(tmp_path / "x.json") == {"x": 1}
    assert (tmp_path / ".x.json.abc.tmp").exists()
