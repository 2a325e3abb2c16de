"""Tables read without loss: what a column holds is what a row gets."""

import datetime
import decimal
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fledgling import strict_json
from fledgling.data.invalid import Unusable
from fledgling.data.sources import open_source
from fledgling.errors import DataError

DAY = datetime.datetime(2024, 1, 2, 3, 4, 5, 678)
COLUMNS: dict[str, tuple[Any, str]] = {
    "date": (pa.array([DAY.date()]), '"2024-01-02"'),
    "time stamp": (pa.array([DAY]), '"2024-01-02T03:04:05.000678"'),
    "zone": (pa.array([DAY.replace(tzinfo=datetime.UTC)]), '"2024-01-02T03:04:05.000678+00:00"'),
    "time": (pa.array([DAY.time()]), '"03:04:05.000678"'),
    "text of a number": (pa.array(["007"]), '"007"'),
    "64 bits": (pa.array([0.12345678901]), "0.12345678901"),
    "32 bits": (pa.array([0.1], pa.float32()), "0.1"),
    "16 bits": (pa.array([0.1], pa.float16()), "0.1"),
    "unsigned": (pa.array([2**64 - 1], pa.uint64()), str(2**64 - 1)),
    "decimal": (pa.array([decimal.Decimal("12345678901234567890.10")]), "12345678901234567890.1"),
    "both in one": (
        pa.array([{"a": 0.1, "b": 0.12345678901}], pa.struct([("a", pa.float32()), ("b", pa.float64())])),
        '{"a": 0.1, "b": 0.12345678901}',
    ),
    "lists of 32 bits": (pa.array([[0.1, None]], pa.list_(pa.float32())), "[0.1, null]"),
    "map": (pa.array([[("k", 0.1)]], pa.map_(pa.string(), pa.float32())), '{"k": 0.1}'),
    "empty map": (pa.array([[]], pa.map_(pa.string(), pa.int32())), "{}"),
    "list of maps": (pa.array([[[], [("k", 1)]]], pa.list_(pa.map_(pa.string(), pa.int32()))), '[{}, {"k": 1}]'),
    "empty list": (pa.array([[]], pa.list_(pa.int32())), "[]"),
    "pairs": (pa.array([[["a", "b"]]]), '[["a", "b"]]'),
    "fixed list": (pa.array([[1, 2]], pa.list_(pa.int32(), 2)), "[1, 2]"),
    "categories": (pa.array(["x"]).dictionary_encode(), '"x"'),
    "bytes": (pa.array([b"\x00\xff"]), '"AP8="'),
    "text that is not marked as such": (pa.array(["Å, 天".encode()]), '"Å, 天"'),
    "uuid": (pa.array([b"\x00" * 15 + b"\x01"], pa.uuid()), '"00000000-0000-0000-0000-000000000001"'),
    "nulls in objects": (pa.array([{"a": None, "b": [None, {"c": None, "d": True}]}]), '{"b": [null, {"d": true}]}'),
}


def rows(path: Path) -> list[Any]:
    return [row for _, row in open_source({"path": str(path)}, seed=0, key="k")[0].rows()]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_keeps_what_it_holds(name: str, tmp_path: Path) -> None:
    column, expected = COLUMNS[name]
    pq.write_table(pa.table({"c": column}), tmp_path / "t.parquet")
    (row,) = rows(tmp_path / "t.parquet")
    assert strict_json.equal(row["c"], strict_json.loads(expected))


def test_what_has_no_form_in_json_is_refused_by_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"c": [float("nan"), 1.0, float("inf")]}), tmp_path / "t.parquet")
    first, second, third = rows(tmp_path / "t.parquet")
    assert (type(first), second, type(third)) == (Unusable, {"c": 1.0}, Unusable)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="two columns have one name"):
        rows(tmp_path / "t.parquet")


def test_files_that_the_hub_may_hold_are_read_here_too(tmp_path: Path) -> None:
    row = {"prompt": "The code, please", "completion": '{"code": "007"}'}
    (tmp_path / "a.ndjson").write_text(json.dumps(row) + "\n")
    (tmp_path / "b.json.gz").write_bytes(gzip.compress((json.dumps(row) + "\n").encode()))
    (tmp_path / "c.csv").write_text('prompt,completion\n"The code, please","{""code"": ""007""}"\n')
    (tmp_path / "e.ndjson.gz").write_bytes(gzip.compress((json.dumps(row) + "\n").encode()))
    for name in ("a.ndjson", "b.json.gz", "c.csv", "e.ndjson.gz"):
        assert rows(tmp_path / name) == [row]
    (tmp_path / "d.txt").write_text("x")
    with pytest.raises(DataError, match=r"not \.jsonl, .* or \.parquet"):
        rows(tmp_path / "d.txt")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (json.dumps([{"n": 1}, {"n": 2}]), "b.json.gz: row 2"),
        (json.dumps([{"n": 1}, {"n": 2}], indent=1), "b.json.gz: row 2"),
        ('[\n{"n": 1}\n,\n{"n": 2}\n]', "b.json.gz: row 2"),
        ('{"n": 1}\n{"n": 2}\n', "b.json.gz:2"),
    ],
)
def test_json_with_gz_is_a_list_or_lines(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(text.encode()))
    [part] = open_source({"path": str(tmp_path / "b.json.gz")}, seed=0, key="k")
    found = list(part.rows())
    assert [row for _, row in found] == [{"n": 1}, {"n": 2}]
    assert part.place(found[1][0]) == str(tmp_path / place)


def test_a_broken_first_line_is_one_row_of_lines_with_gz(tmp_path: Path) -> None:
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(b'{broken\n{"n": 2}\n'))
    first, second = rows(tmp_path / "b.json.gz")
    assert (type(first), second) == (Unusable, {"n": 2})


@pytest.mark.parametrize("text", [json.dumps([{"n": n} for n in range(999)], indent=1), '{"n": 1}\n' * 999])
def test_damaged_json_with_gz_names_its_file(tmp_path: Path, text: str) -> None:
    whole = gzip.compress(text.encode())
    for damaged in (whole[:-9], whole[:20] + b"\xff" * 9 + whole[29:], whole[:12]):
        (tmp_path / "b.json.gz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"b\.json\.gz: cannot be read to its end"):
            rows(tmp_path / "b.json.gz")


def test_one_name_twice_loses_nothing_silently(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("prompt,completion,prompt\na,{},b\n")
    with pytest.raises(DataError, match="two columns have one name"):
        rows(tmp_path / "t.csv")
    twice = pa.array([[("k", 1), ("k", 2)], [("k", 3)]], pa.map_(pa.string(), pa.int64()))
    pq.write_table(pa.table({"c": twice}), tmp_path / "t.parquet")
    first, second = rows(tmp_path / "t.parquet")
    assert (type(first), second) == (Unusable, {"c": {"k": 3}})
    fields = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(pa.table({"c": fields}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: cannot be read to its end"):
        rows(tmp_path / "t.parquet")


def test_text_that_is_not_utf_8_names_its_file(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    pq.write_table(pa.table({"c": broken}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: cannot be read to its end"):
        rows(tmp_path / "t.parquet")
