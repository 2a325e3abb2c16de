"""Sources into splits: what is kept, what is refused and how it is said, and what the datasheet counts."""

import gzip
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from fledgling.data.prepare import prepare
from fledgling.data.text_files import json_lines
from fledgling.errors import ConfigError, DataError
from fledgling.files import read_jsonl, sha256_file
from fledgling.records import read_examples
from tests.allowance import within

SHARES = {"train": 0.6, "val": 0.1, "test": 0.3}
SPLITS = ("train", "val", "test")
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "book",
            "parameters": {
                "type": "object",
                "properties": {"seats": {"type": "integer"}, "place": {"type": "string"}},
                "required": ["seats"],
                "additionalProperties": False,
            },
        },
    }
]


def call_row(index, **other):
    text = f"Please book {index} seats for us at restaurant number {index}"
    call = {"name": "book", "arguments": {"seats": index}}
    return {
        "id": f"r{index}",
        "messages": [{"role": "user", "content": text}],
        "tools": TOOLS,
        "answer": [call],
    } | other


def record_row(index, **other):
    schema = {"title": "order", "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    text = f"The order has {index} items and leaves on day {index}"
    return {
        "id": f"s{index}",
        "messages": [{"role": "user", "content": text}],
        "schema": schema,
        "answer": {"n": index},
    } | other


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Prepare a track from lists of rows, one source each: made({"file": [rows], …settings}, …) -> datasheet."""
    monkeypatch.chdir(tmp_path)

    def make(*sources, kind="toolcall", **track):
        listed = []
        for number, source in enumerate(sources):
            settings = dict(source)
            if "rows_" in settings:
                name = settings.setdefault("path", f"s{number}.jsonl")
                Path(name).write_text("".join(json.dumps(row) + "\n" for row in settings.pop("rows_")))
            listed.append(settings)
        block = {"kind": kind, "sources": listed, "splits": SHARES} | track
        return prepare(block, 7, name="t", outputs={split: f"out/{split}.jsonl" for split in SPLITS})

    return make


def ids(split):
    return [example.id for example in read_examples(f"out/{split}.jsonl")]


def refusal(made, *sources, error=DataError, **track):
    before = {path: path.read_bytes() for path in Path().glob("out/*")}
    with pytest.raises(error) as caught:
        made(*sources, **track)
    assert {path: path.read_bytes() for path in Path().glob("out/*")} == before  # nothing half written, no litter
    return str(caught.value)


# What is kept -------------------------------------------------------------------------------------


def test_every_row_lands_once_in_input_order_and_twice_the_same(made):
    rows = [call_row(index) for index in range(200)]
    sheet = made({"rows_": rows})
    order = [row["id"] for row in rows]
    kept = {split: ids(split) for split in SPLITS}
    assert sorted([name for part in kept.values() for name in part], key=order.index) == order
    assert all(part == sorted(part, key=order.index) for part in kept.values())
    assert [sheet["splits"][split]["rows"] for split in SPLITS] == [len(kept[split]) for split in SPLITS]
    assert sheet["splits"]["test"]["sha256"] == sha256_file("out/test.jsonl")
    before = {split: Path(f"out/{split}.jsonl").read_bytes() for split in SPLITS}
    assert made({"rows_": rows}) == sheet
    assert {split: Path(f"out/{split}.jsonl").read_bytes() for split in SPLITS} == before


def test_adding_rows_moves_none(made):
    rows = [call_row(index) for index in range(100)]
    made({"rows_": rows})
    before = {split: Path(f"out/{split}.jsonl").read_text().splitlines() for split in SPLITS}
    made({"rows_": rows[:50] + [call_row(index) for index in range(500, 520)] + rows[50:]})
    for split in SPLITS:
        after = Path(f"out/{split}.jsonl").read_text().splitlines()
        assert [line for line in after if line in set(before[split])] == before[split]


def test_a_group_never_straddles_splits(made):
    rows = [call_row(index, group=f"g{index // 5}") for index in range(200)]
    turns = [{"role": "assistant", "content": "For how many?"}, {"role": "user", "content": "Two, please"}]
    for index in range(200):  # one dialogue, cut at two turns
        row = call_row(index)
        rows += [row | {"id": f"d{index}"}, row | {"id": f"e{index}", "messages": row["messages"] + turns}]
    made({"rows_": rows}, leaks={"near_duplicate": None})
    seen = {}
    for split in SPLITS:
        for example in read_examples(f"out/{split}.jsonl"):
            assert seen.setdefault(example.group, split) == split
    groups = {example.id: example.group for split in SPLITS for example in read_examples(f"out/{split}.jsonl")}
    assert all(groups[f"d{index}"] == groups[f"e{index}"] for index in range(200) if f"d{index}" in groups)


def test_fixed_splits_and_benchmarks(made):
    sources = [
        {"rows_": [call_row(index) for index in range(10)], "split": "train"},
        {"rows_": [call_row(index) for index in range(10, 15)], "split": "val"},
        {"rows_": [call_row(index) for index in range(15, 18)], "evaluate_only": True},
    ]
    sheet = made(*sources)
    assert [len(ids(split)) for split in SPLITS] == [10, 5, 3]
    assert sheet["splits"]["train"]["calls"] == {"1": 10}


def test_a_benchmark_keeps_its_copies(made):
    rows = [call_row(1), call_row(1, id="again")]
    made({"rows_": rows, "evaluate_only": True}, finetune="never")
    assert ids("test") == ["r1", "again"]


def test_nothing_is_written_unless_all_three_splits_can_be(made, tmp_path):
    made({"rows_": [call_row(index) for index in range(50)]})
    Path("file").write_text("")
    Path("new").mkdir()
    outputs = {"train": "new/train.jsonl", "val": "new/val.jsonl", "test": "file/test.jsonl"}
    track = {"kind": "toolcall", "sources": [{"path": "s0.jsonl"}], "splits": SHARES}
    with pytest.raises(OSError, match="file"):
        prepare(track, 7, name="t", outputs=outputs)
    assert list(Path("new").iterdir()) == []


def test_a_benchmark_alone_is_enough(made):
    source = {"rows_": [call_row(1)], "evaluate_only": True}
    made(source, finetune="auto")  # that training needs rows is said where training starts
    assert [len(ids(split)) for split in SPLITS] == [0, 0, 1]


def test_a_limit_takes_the_same_rows_when_data_grow(made):
    rows = [call_row(index) for index in range(300)]
    sheet = made({"rows_": rows, "limit": 100})
    first = {name for split in SPLITS for name in ids(split)}
    assert sheet["sources"][0]["rows"] == {
        "read": 300,
        "rejected": 0,
        "duplicates": 0,
        "beyond_limit": 200,
        "used": 100,
    }
    made({"rows_": [*(call_row(index) for index in range(300, 330)), *rows], "limit": 100})
    second = {name for split in SPLITS for name in ids(split)}
    assert len(second) == 100
    assert len(first & second) >= 80  # ten per cent more rows may displace about ten


def test_copies_inside_a_split_are_kept_once(made):
    row = call_row(1)
    sheet = made({"rows_": [row, row | {"id": "again"}, call_row(2)], "split": "test"}, finetune="never")
    assert ids("test") == ["r1", "r2"]
    assert sheet["sources"][0]["rows"]["duplicates"] == 1


def test_rows_without_an_id_are_named_by_their_content(made):
    nameless = [{key: value for key, value in call_row(index).items() if key != "id"} for index in (1, 2, 1)]
    sheet = made({"rows_": nameless, "split": "test", "path": "calls.jsonl"}, finetune="never")
    assert len(ids("test")) == 2
    assert all(name.startswith("calls-") for name in ids("test"))
    assert sheet["sources"][0]["rows"]["duplicates"] == 1


def test_numbered_rows_of_two_files_do_not_collide(made):
    xlam = [{"id": n, "query": f"seats {n}", "tools": "[]", "answers": "[]"} for n in range(3)]
    other = [{**row, "query": f"tables {row['id']}"} for row in xlam]
    made(
        {"rows_": xlam, "split": "test", "path": "a.jsonl"},
        {"rows_": other, "split": "test", "path": "b.jsonl"},
        finetune="never",
    )
    assert ids("test") == ["a-0", "a-1", "a-2", "b-0", "b-1", "b-2"]


def test_globs_lists_and_compressed_files(made):
    Path("d").mkdir()
    Path("d/1.json").write_text(json.dumps([call_row(1), call_row(2)], indent=1))
    with gzip.open("d/2.jsonl.gz", "wt") as stream:
        stream.write(json.dumps(call_row(3)) + "\n")
    Path("d/3.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(call_row(4)).encode() + b"\r\n\r\n")
    sheet = made({"path": "d/*", "split": "test"}, finetune="never")
    assert ids("test") == ["r1", "r2", "r3", "r4"]
    assert [part["name"] for part in sheet["sources"][0]["parts"]] == ["d/1.json", "d/2.jsonl.gz", "d/3.jsonl"]


def test_numbers_are_written_as_they_were_read(made):
    text = '{"id":"x","messages":[{"role":"user","content":"q"}],"answer":{"n":0.1000000000000000055,"m":1e2}}'
    Path("n.jsonl").write_text(text)
    made({"path": "n.jsonl", "split": "test"}, kind="structured", finetune="never")
    written = Path("out/test.jsonl").read_text()
    assert '"n":0.1000000000000000055' in written
    assert '"m":100.0' in written


def test_line_separators_inside_text_split_no_row(made):
    row = call_row(1, messages=[{"role": "user", "content": "one\u2028two\u0085three"}])
    Path("u.jsonl").write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    made({"path": "u.jsonl", "split": "test"}, finetune="never")
    assert next(read_examples("out/test.jsonl")).messages == row["messages"]


def test_a_schema_named_by_reference_is_written_out(made):
    Path("schemas.json").write_text(
        json.dumps(
            {
                "$defs": {
                    "a": {"type": "array", "items": {"$ref": "#/$defs/b"}},
                    "b": {"$ref": "#/$defs/c"},
                    "c": {"type": "integer"},
                    "unused": {},
                }
            }
        )
    )
    row = record_row(1, schema={"$ref": "schemas.json#/$defs/a"}, answer=[1, 2])
    made({"rows_": [row], "split": "test"}, kind="structured", finetune="never")
    assert next(read_examples("out/test.jsonl")).schema == {
        "type": "array",
        "items": {"$ref": "#/$defs/b"},
        "$defs": {"b": {"$ref": "#/$defs/c"}, "c": {"type": "integer"}},
    }
    bad = record_row(1, schema={"$ref": "schemas.json#/$defs/none"})
    assert "nothing at #/$defs/none" in refusal(made, {"rows_": [bad]}, kind="structured")


def test_embedded_rows(made):
    sheet = made({"embedded": "toolcall", "rows": 300, "house": 0.8})
    assert sheet["generated"]
    assert sum(sheet["splits"][split]["rows"] for split in SPLITS) > 280
    assert sheet["sources"][0]["parts"][0]["name"] == "embedded toolcall"


# What is refused ----------------------------------------------------------------------------------


def test_a_missing_file_names_the_key(made):
    assert "tracks.t.sources[0].path" in refusal(made, {"path": "nowhere/*.jsonl"})


def test_an_unknown_suffix(made):
    Path("rows.xls").write_text("a,b")
    assert "rows.xls: not .jsonl" in refusal(made, {"path": "rows.xls"})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "x", ', "not JSON"),
        ('{"id": "x", "id": "y"}', "twice"),
        ("{'id': 1}", "not JSON"),
        ("[1]", "expected a JSON object"),
        ('{"n": NaN}', "NaN"),
        ('{"n": 1e999}{}', "text after"),
    ],
)
def test_a_broken_line_is_named(made, line, said):
    Path("b.jsonl").write_text(json.dumps(call_row(1)) + "\n\n" + line + "\n")
    message = refusal(made, {"path": "b.jsonl"})
    assert message.startswith("b.jsonl:3: ")
    assert said in message


def test_a_number_that_no_float_holds(made):
    Path("b.jsonl").write_text(json.dumps(record_row(1)).replace('{"n": 1}', '{"n": 1, "m": 1e999}'))
    assert "b.jsonl:1: a number that no float holds" in refusal(made, {"path": "b.jsonl"}, kind="structured")


@pytest.mark.parametrize(("encoding", "said"), [("utf-16", "UTF-16 at byte 0"), ("latin-1", "not UTF-8 at byte")])
def test_other_encodings_are_refused(made, encoding, said):
    row = call_row(1, messages=[{"role": "user", "content": "café"}])
    Path("e.jsonl").write_bytes(json.dumps(row, ensure_ascii=False).encode(encoding))
    message = refusal(made, {"path": "e.jsonl", "on_invalid": "reject"})
    assert message.startswith("e.jsonl:1: ")
    assert said in message


def test_a_damaged_compressed_file(made):
    Path("z.jsonl.gz").write_bytes(gzip.compress(json.dumps(call_row(1)).encode() * 99)[:-9])
    assert "z.jsonl.gz: cannot be read to its end" in refusal(made, {"path": "z.jsonl.gz"})


def test_an_id_used_twice_names_both_lines(made):
    rows = [call_row(1), call_row(2), call_row(3, id="r1")]
    message = refusal(made, {"rows_": rows})
    assert "s0.jsonl:3: id 'r1' was used before, at s0.jsonl:1" in message
    message = refusal(made, {"rows_": rows[:2]}, {"rows_": [call_row(2)]})
    assert "s1.jsonl:1: id 'r2' was used before, at s0.jsonl:2" in message


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (call_row(2, answer=[{"name": "bok", "arguments": {}}]), "the answer calls 'bok'"),
        (call_row(2, tools=TOOLS * 2), "a second tool named 'book'"),
        (
            call_row(
                2,
                tools=[
                    {
                        "type": "function",
                        "function": {
                            "name": "b",
                            "parameters": {"type": "object", "properties": {"x": {"type": "dit"}}},
                        },
                    }
                ],
            ),
            "tools[0].function.parameters: not a valid JSON Schema",
        ),
        (call_row(2, allowed=[]), "are not those of the answer"),
        (call_row(2, answer=None, tools=[]), "there are no tools"),
        (call_row(2, id=""), "id"),
    ],
)
def test_calls_that_make_no_sense(made, row, said):
    message = refusal(made, {"rows_": [call_row(1), row]})
    assert message.startswith("s0.jsonl:2: ")
    assert said in message


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (record_row(2, answer={"n": "2"}), "the schema refuses the answer at /n"),
        (record_row(2, answer={}), "the schema refuses the answer"),
        (record_row(2, schema={"type": "intt"}), "schema: not a valid JSON Schema"),
        (record_row(2, schema=[1]), "schema: not a valid JSON Schema"),
        (record_row(2, answer="two"), "answer: not JSON"),
    ],
)
def test_records_that_make_no_sense(made, row, said):
    message = refusal(made, {"rows_": [record_row(1), row]}, kind="structured")
    assert message.startswith("s0.jsonl:2: ")
    assert said in message


def test_gold_outside_its_tool_schema_is_counted_and_kept(made):
    odd = call_row(1, answer=[{"name": "book", "arguments": {"seats": "two"}}])
    sheet = made({"rows_": [odd], "split": "test"}, finetune="never")
    warned = sheet["sources"][0]["gold_outside_tool_schema"]
    assert warned["rows"] == 1
    assert warned["first"][0].startswith("s0.jsonl:1: book/seats")
    assert next(read_examples("out/test.jsonl")).answer == odd["answer"]


def test_rejected_rows_are_counted_with_reasons(made):
    rows = [call_row(index) for index in range(50)]
    bad = [call_row(60, answer=[{"name": "bok", "arguments": {}}]), {"text": "x"}, call_row(1, category="again")]
    Path("r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + bad) + "{broken\n")
    sheet = made({"path": "r.jsonl", "on_invalid": "reject"})
    source = sheet["sources"][0]
    assert {code: found["rows"] for code, found in source["rejected"].items()} == {
        "duplicate_id": 1,
        "not_json": 1,
        "unknown_format": 1,
        "unknown_tool": 1,
    }
    assert source["rejected"]["not_json"]["first"][0].startswith("r.jsonl:54: ")
    assert source["rows"] == {"read": 54, "rejected": 4, "duplicates": 0, "beyond_limit": 0, "used": 50}
    assert sum(sheet["splits"][split]["rows"] for split in SPLITS) == 50


def test_an_empty_split(made):
    assert "the test split is empty" in refusal(made, {"rows_": [], "split": "test"}, finetune="never")
    one_group = [call_row(index, group="a") for index in range(10)]  # whose hash lies in val
    assert "in 1 groups" in refusal(made, {"rows_": one_group}, leaks={"near_duplicate": None})


def test_an_empty_val_is_said_where_rows_were_meant_for_it(made, caplog):
    test = {"rows_": [call_row(index) for index in range(10)], "split": "test"}
    one_group = {"rows_": [call_row(index, group="d") for index in range(20, 30)]}  # whose hash lies in train
    none = {"train": 1.0, "val": 0.0, "test": 0.0}
    made(test, one_group, splits=none)
    made(test)
    assert "the val split is empty" not in caplog.text, "no source has rows for val"
    assert made(test, one_group)["splits"]["val"]["rows"] == 0
    assert "tracks.t: the val split is empty; what says how far contenders are built will find no rows" in caplog.text
    assert "20 rows were read; the others are in 11 groups. Give more rows, a larger tracks.t.splits.val" in caplog.text
    caplog.clear()
    made(test, {"rows_": [], "split": "val"})
    assert "the val split is empty" in caplog.text


def test_missing_shares(made):
    assert "tracks.t.splits: this key is missing" in refusal(made, {"rows_": []}, error=ConfigError, splits=None)


# Leaks --------------------------------------------------------------------------------------------

LONG = "I would like to reserve a quiet place by the window at the old harbour restaurant for Friday evening"


def planted(kind):
    """A test row and a train row that are linked in one way."""
    test = call_row(1, id="judge", messages=[{"role": "user", "content": LONG}])
    train = call_row(1, id="copy", messages=[{"role": "user", "content": LONG}])
    if kind == "record":
        test, train = test | {"group": "g"}, call_row(2, id="copy", group="g")
    elif kind == "normalised":
        train["messages"] = [{"role": "user", "content": LONG.upper().replace(" ", "  ")}]
    elif kind == "keys":
        test["messages"] = [{"role": "user", "content": 'Book {"day": "Friday", "seats": 2}'}]
        train["messages"] = [{"role": "user", "content": 'Book {"seats": 2, "day": "Friday"}'}]
    elif kind == "near_duplicate":
        train["messages"] = [{"role": "user", "content": LONG.replace("quiet", "calm")}]
    elif kind == "text":
        train["messages"] = [{"role": "system", "content": "Another prompt"}, *train["messages"]]
    return test, train


@pytest.mark.parametrize("kind", ["record", "text", "normalised", "keys", "near_duplicate"])
def test_a_planted_leak_is_refused_with_its_pair_or_cut(made, kind):
    test, train = planted(kind)
    sources = [
        {"rows_": [call_row(index) for index in range(10, 30)] + [train], "split": "train"},
        {"rows_": [call_row(index) for index in range(30, 40)], "split": "val"},
        {"rows_": [call_row(index) for index in range(40, 60)] + [test], "split": "test"},
    ]
    named = "normalised" if kind == "keys" else kind
    message = refusal(made, *sources)
    assert "1 rows have a copy" in message
    assert f"{named}: train s0.jsonl:21 (id 'copy') and test s2.jsonl:21 (id 'judge')" in message
    sheet = made(*sources, leaks={"action": "drop"})
    assert "copy" not in ids("train")
    assert "judge" in ids("test")
    assert sheet["leaks"]["links"][named] == 1
    assert sheet["leaks"]["dropped"] == {"train": 1, "val": 0}
    assert (sheet["leaks"]["near_duplicate_ratio"] > 0) == (kind == "near_duplicate")
    assert "judge" in sheet["leaks"]["pairs"][0]


def test_rows_that_a_hash_splits_are_cut_unless_told_otherwise(made):
    def copies(index):
        return [call_row(index, id=f"{side}{index}", group=f"{side}{index}") for side in "ab"]

    rows = [row for index in range(100) for row in copies(index)]
    sheet = made({"rows_": rows})
    assert sheet["leaks"]["links"]["text"] > 10
    texts = [{e.messages[0]["content"] for e in read_examples(f"out/{split}.jsonl")} for split in SPLITS]
    assert len(set.union(*texts)) == sum(map(len, texts)) == 100
    assert "and" in refusal(made, {"rows_": rows}, leaks={"action": "refuse"})


def test_ten_thousand_honest_rows_pass(made):
    rows = [call_row(index) for index in range(10_000)]
    sheet = made(
        {"rows_": rows[:8000], "split": "train"},
        {"rows_": rows[8000:9000], "split": "val"},
        {"rows_": rows[9000:], "split": "test"},
    )
    assert sum(sheet["leaks"]["links"].values()) == 0


# Real data ----------------------------------------------------------------------------------------

HASHED = {"train": 0.9, "val": 0.1, "test": 0.0}


@pytest.mark.parametrize(
    ("kind", "names", "rows"),
    [
        ("toolcall", ["toolcall/seal_train", "toolcall/seal_val", "toolcall/seal_test"], (1132, 100, 250)),
        ("toolcall", ["toolcall/sgd_train", None, "toolcall/sgd_test"], (2049, 350)),
        ("structured", ["structured/snips_train", "structured/snips_val", "structured/snips_test"], (3500, 350, 350)),
        ("structured", ["structured/slurp_train", None, "structured/slurp_test"], (2031, 300)),
        ("structured", ["structured/e2e_train", None, "structured/e2e_test"], (2000, 250)),
    ],
)
def test_shared_data_load_whole(made, shared_data, kind, names, rows):
    sources = [
        {"path": str(shared_data / f"{name}.jsonl")} | ({"split": split} if names[1] or split == "test" else {})
        for name, split in zip(names, SPLITS, strict=True)
        if name
    ]
    sheet = made(*sources, kind=kind, splits=HASHED)
    counts = [sheet["splits"][split]["rows"] for split in SPLITS]
    assert (tuple(counts) if names[1] else (counts[0] + counts[1], counts[2])) == rows
    assert not any(source["rejected"] for source in sheet["sources"])
    for split in SPLITS:
        for example in read_examples(f"out/{split}.jsonl"):
            assert kind == "toolcall" or "schemas.json" not in json.dumps(example.schema)
    if names[1] and kind == "toolcall":  # several gold calls a row, all of them kept
        for name, split in zip(names, SPLITS, strict=True):
            given = [row["gold"] for _, row in read_jsonl(shared_data / f"{name}.jsonl")]
            assert [example.answer for example in read_examples(f"out/{split}.jsonl")] == given


def test_shared_bfcl_loads_for_evaluation(made, shared_data):
    sheet = made({"path": str(shared_data / "bfcl/shared.jsonl"), "evaluate_only": True}, finetune="never")
    assert sheet["splits"]["test"]["rows"] == 2177
    assert sheet["sources"][0]["gold_outside_tool_schema"]["rows"] == 16
    examples = {example.id: example for example in read_examples("out/test.jsonl")}
    assert examples["bfcl_simple_python_0"].allowed[0]["arguments"]["unit"] == ["units", ""]
    assert examples["bfcl_live_relevance_0-0-0"].answer is None


def test_the_script_writes_all_four_files_and_says_5_for_bad_data(made, root, tmp_path):
    made({"rows_": [call_row(index) for index in range(100)]})
    expected = Path("out/test.jsonl").read_bytes()
    track = {"kind": "toolcall", "sources": [{"path": "s0.jsonl"}], "splits": SHARES}

    def script():
        return subprocess.run(
            [
                sys.executable,
                root / "scripts/prepare.py",
                "--track",
                "t",
                "--settings",
                json.dumps({"track": track, "seed": 1}),
                *(part for split in SPLITS for part in (f"--{split}", f"by/{split}.jsonl")),
                "--datasheet",
                "by/datasheet.json",
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )

    assert script().returncode == 0
    assert Path("by/test.jsonl").read_bytes() == expected
    assert json.loads(Path("by/datasheet.json").read_text())["format"] == "fledgling/datasheet/1"
    with open("s0.jsonl", "a") as stream:
        stream.write("{")
    failed = script()
    assert failed.returncode == 5
    assert "error: s0.jsonl:101: not JSON" in failed.stderr


# Weights, copies, groups --------------------------------------------------------------------------


def lines(split):
    return [json.loads(line) for line in Path(f"out/{split}.jsonl").read_text().splitlines()]


def test_repeated_traffic_collapses_to_one_row_with_its_weight(made):
    rows = [call_row(1, id=None) for _ in range(40)] + [call_row(2, weight=2.5), call_row(2, id="again", weight=3)]
    for row in rows[:40]:
        del row["id"]
    sheet = made({"rows_": [*rows, call_row(3)], "split": "test"}, finetune="never")
    assert [row.get("weight") for row in lines("test")] == [40, 5.5, None]
    assert [example.weight for example in read_examples("out/test.jsonl")] == [40, 5.5, 1]
    assert sheet["splits"]["test"]["weight"] == 46.5
    assert sheet["sources"][0]["rows"]["duplicates"] == 40
    assert sheet["sources"][0]["copies"][0] == "s0.jsonl:2 is a copy of s0.jsonl:1"
    assert "40 copies that others stand for" in sheet["summary"]


def test_weights_of_a_table_are_text(made):
    """Every cell of a CSV file is one."""
    columns = "id,prompt,completion,weight"
    cells = ['a,one thing,"{""n"": 1}",3', 'b,another thing,"{""n"": 2}",2.5', 'c,a third thing,"{""n"": 3}",']
    Path("w.csv").write_text("\n".join([columns, *cells]) + "\n")
    made({"path": "w.csv", "split": "test"}, kind="structured")
    assert [row.get("weight") for row in lines("test")] == [3, 2.5, None]
    for wrong in ("many", "0", "-1", "nan", "inf"):
        Path("w.csv").write_text(f"{columns}\n{cells[0][:-1]}{wrong}\n")
        assert "w.csv:2: key 'weight': expected" in refusal(made, {"path": "w.csv", "split": "test"}, kind="structured")


def test_copies_of_a_benchmark_keep_their_weight_and_share_a_group(made):
    rows = [call_row(1), call_row(1, id="again")]
    made({"rows_": rows, "evaluate_only": True}, finetune="never")
    assert [(row["id"], row.get("weight")) for row in lines("test")] == [("r1", None), ("again", None)]
    assert len({row["group"] for row in lines("test")}) == 1


def test_wordings_of_one_question_share_a_group_within_a_split(made):
    ends = ["", " please", " now", " thanks", " pls", " thx"]
    places = ["Oslo", "Rome", "Lima", "Cairo"]
    rows = [
        call_row(
            1,
            id=f"{place}{end}",
            group=f"own {place}{end}",
            answer=[{"name": "book", "arguments": {"seats": 2, "place": place}}],
            messages=[{"role": "user", "content": f"I would like to book a quiet table in {place}{end}"}],
        )
        for place in places
        for end in ends
    ]
    sheet = made({"rows_": rows, "split": "test"}, finetune="never")
    groups = {}
    for row in lines("test"):
        groups.setdefault(row["group"], set()).add(row["answer"][0]["arguments"]["place"])
    assert groups == {f"own {place}": {place} for place in places}
    part = sheet["splits"]["test"]
    assert (part["rows"], part["groups"], part["near_copies"]) == (24, 4, 20)
    one = made({"rows_": rows, "split": "test"}, finetune="never", leaks={"near_duplicate": None})
    assert one["splits"]["test"]["groups"] == 24


@pytest.mark.parametrize("group", [0, "", "0"])
def test_a_group_that_looks_like_nothing_is_a_group(made, group):
    rows = [call_row(index, group=group) for index in range(5)]
    sheet = made({"rows_": rows, "split": "test"}, finetune="never")
    assert {row["group"] for row in lines("test")} == {str(group)}
    assert sheet["splits"]["test"]["groups"] == 1


def test_conflicts_are_named(made):
    rows = [call_row(1), call_row(1, id="other", answer=[])]
    sheet = made({"rows_": rows, "split": "test"}, finetune="never")
    assert sheet["conflicting_answers"] == 1
    assert sheet["conflicts"] == ["s0.jsonl:2 asks what s0.jsonl:1 asks, with another answer"]


# What is said -------------------------------------------------------------------------------------


def test_the_first_twenty_errors_are_said_at_once_with_counts(made):
    bad = [call_row(index, answer=[{"name": "bok", "arguments": {}}]) for index in range(2, 32)]
    Path("b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [call_row(1), *bad, call_row(1)]) + "{\n")
    message = refusal(made, {"path": "b.jsonl", "split": "test"}, finetune="never")
    assert message.startswith("tracks.t: 32 rows cannot be used (unknown_tool 30, not_json 1, duplicate_id 1):")
    assert message.count("b.jsonl:") == 20
    assert "and 12 more" in message
    assert "on_invalid: reject" in message


def test_all_rows_rejected_says_so(made):
    rows = [{"text": str(index)} for index in range(7)]
    message = refusal(made, {"rows_": rows, "split": "test", "on_invalid": "reject"}, finetune="never")
    assert (
        "All 7 rows that were read were rejected (unknown_format 7). The first: s0.jsonl:1: the keys (text)" in message
    )


def test_many_rejected_is_a_warning_in_one_line(made, caplog):
    caplog.set_level("INFO")
    rows = [call_row(1), call_row(2), *({"text": "x"} for _ in range(400))]
    sheet = made({"rows_": rows, "split": "test", "on_invalid": "reject"}, finetune="never")
    said = [record for record in caplog.records if record.name == "fledgling.data.prepare"]
    assert [record.levelname for record in said] == ["WARNING"]
    assert said[0].getMessage() == sheet["summary"]
    assert "402 rows read, 2 used" in sheet["summary"]
    assert "400 rejected (unknown_format 400)" in sheet["summary"]
    made({"rows_": [call_row(1)], "split": "test"}, finetune="never")
    assert caplog.records[-1].levelname == "INFO"


def test_rows_that_nobody_can_get_right_are_counted_with_their_reasons(made):
    rows = [
        call_row(1),
        call_row(2, answer=[{"name": "book", "arguments": {"seats": 2, "colour": "red"}}]),
        call_row(3, answer=[{"name": "book", "arguments": {"place": "Oslo"}}]),
    ]
    assert "s0.jsonl:2: nobody can get this row right: in book, the tool declares no argument 'colour'" in refusal(
        made, {"rows_": rows}
    )
    sheet = made({"rows_": rows, "split": "test", "on_invalid": "reject"}, finetune="never")
    assert sheet["unwinnable"]["rows"] == 2
    assert sheet["unwinnable"]["reasons"] == {"gold_required": 1, "gold_undeclared_argument": 1}
    assert any("s0.jsonl:3" in text for text in sheet["unwinnable"]["first"])
    assert ids("test") == ["r1"]
    records = [record_row(1), record_row(2, answer={"n": "2"})]
    sheet = made({"rows_": records, "split": "test", "on_invalid": "reject"}, kind="structured", finetune="never")
    assert sheet["unwinnable"]["reasons"] == {"schema_refuses_gold": 1}


def test_rows_without_tools_or_schema_are_counted(made):
    row = record_row(1)
    del row["schema"]
    sheet = made({"rows_": [row, record_row(2)], "split": "test"}, kind="structured", finetune="never")
    assert sheet["sources"][0]["without_tools_or_schema"] == 1
    assert "1 without tools or schema" in sheet["summary"]


# Other people's files -----------------------------------------------------------------------------


def test_files_of_one_name_in_two_folders(made):
    for folder in ("a", "b"):
        Path(folder).mkdir()
        rows = [record_row(index + 10 * (folder == "b"), id=index) for index in range(3)]
        Path(folder, "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made({"path": "a/rows.jsonl", "split": "train"}, {"path": "b/rows.jsonl", "split": "test"}, kind="structured")
    assert ids("train") == ["a-rows-0", "a-rows-1", "a-rows-2"]
    assert ids("test") == ["b-rows-0", "b-rows-1", "b-rows-2"]


def benchmark_files(folder, name, rows, answers):
    Path(folder, "possible_answer").mkdir(parents=True, exist_ok=True)
    Path(folder, name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    if answers is not None:
        Path(folder, "possible_answer", name).write_text("".join(json.dumps(row) + "\n" for row in answers))


def test_bfcl_as_published(made):
    function = {
        "name": "math.area",
        "description": "Area.",
        "parameters": {
            "type": "dict",
            "properties": {
                "base": {"type": "integer"},
                "height": {"type": "float"},
                "unit": {"type": "string"},
                "at": {"type": "tuple", "items": {"type": "float"}},
                "box": {"type": "dict", "properties": {"x": {"type": "any"}}},
            },
            "required": ["base"],
        },
    }

    def row(identity, *turns):
        return {
            "id": identity,
            "question": [[{"role": "user", "content": f"The area of {identity}?"}]],
            "function": [function],
        }

    truth = {
        "base": [10],
        "height": [5.0, ""],
        "unit": ["cm", ""],
        "at": [[1.5, 2]],
        "box": [{"x": [1, 2], "y": ["", 3]}],
    }
    benchmark_files(
        "bfcl",
        "BFCL_v4_simple_python.json",
        [row("simple_0"), row("simple_1")],
        [
            {"id": "simple_0", "ground_truth": [{"math.area": truth}]},
            {"id": "simple_1", "ground_truth": [{"math.area": {"base": [1]}}, {"math.area": {"base": [2]}}]},
        ],
    )
    benchmark_files("bfcl", "BFCL_v4_irrelevance.json", [row("irrelevance_0")], None)
    benchmark_files("bfcl", "BFCL_v4_live_relevance.json", [row("relevance_0")], None)
    sheet = made({"path": "bfcl/**/*.json", "evaluate_only": True}, finetune="never")
    rows = {row["id"]: row for row in lines("test")}
    assert sheet["sources"][0]["rows"]["used"] == len(rows) == 4
    simple = rows["simple_0"]
    assert simple["answer"] == [{"name": "math_area", "arguments": {"base": 10, "at": [1.5, 2], "box": {"x": 1}}}]
    assert simple["allowed"][0]["arguments"]["height"] == [5.0, ""]
    assert simple["tools"][0]["function"]["parameters"]["properties"]["height"] == {"type": "number"}
    assert [call["arguments"] for call in rows["simple_1"]["answer"]] == [{"base": 1}, {"base": 2}]
    assert (rows["irrelevance_0"]["answer"], rows["relevance_0"]["answer"]) == ([], None)


def test_bfcl_without_its_answers_says_what_is_missing(made):
    row = {"id": "simple_0", "question": [[{"role": "user", "content": "Area?"}]], "function": [{"name": "f"}]}
    benchmark_files("bfcl", "BFCL_v4_simple_python.json", [row], [{"id": "other", "ground_truth": []}])
    assert "'simple_0' is not in bfcl/possible_answer" in refusal(made, {"path": "bfcl/*.json"})
    Path("bfcl/possible_answer/BFCL_v4_simple_python.json").unlink()
    assert "possible_answer" in refusal(made, {"path": "bfcl/*.json"})
    row["question"] *= 2
    benchmark_files("bfcl", "BFCL_v4_simple_python.json", [row], [{"id": "simple_0", "ground_truth": []}])
    assert "2 turns" in refusal(made, {"path": "bfcl/*.json"})


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("../home/secret.json", "does not lie in the folder"),
        ("{absolute}", "does not lie in the folder"),
        ("sub/../../home/secret.json", "does not lie in the folder"),
        ("..\\home\\secret.json", "does not lie in the folder"),
        ("link.json", "is a link"),
        ("linked/secret.json", "is a link"),
        ("file:///etc/passwd", "not a file beside the rows"),
        ("nothing.json", "does not exist"),
        ("C:/secret.json", "does not lie in the folder"),
        ("a\0b.json", "does not lie in the folder"),
    ],
)
def test_a_reference_stays_in_the_folder_of_its_rows(made, tmp_path, reference, said):
    Path("home").mkdir()
    Path("home/secret.json").write_text('{"auths": "c2VjcmV0"}')
    Path("rows/own").mkdir(parents=True)
    Path("rows/own/ok.json").write_text('{"type": "object"}')
    Path("rows/link.json").symlink_to(tmp_path / "home/secret.json")
    Path("rows/linked").symlink_to(tmp_path / "home")
    row = record_row(1, schema={"$ref": reference.format(absolute=tmp_path / "home/secret.json")})
    message = refusal(made, {"rows_": [row], "path": "rows/r.jsonl"}, kind="structured")
    assert said in message
    assert message.startswith("rows/r.jsonl:1: schema.$ref")
    assert "c2VjcmV0" not in message
    made(
        {"rows_": [row | {"schema": {"$ref": "own/ok.json"}}], "path": "rows/r.jsonl", "split": "test"},
        kind="structured",
        finetune="never",
    )
    assert lines("test")[0]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("row", "key"),
    [
        (call_row(1, messages=[{"role": "user", "content": "Two seats \ud83d please"}]), "messages[0].content"),
        (
            call_row(1, answer=[{"name": "book", "arguments": {"seats": 1, "place": "\udc00"}}]),
            "answer[0].arguments.place",
        ),
        (call_row(1, tools=[{"name": "book", "description": "\ud800"}]), "tools[0].description"),
        (call_row(1, id="\ud83d"), "id"),
        (call_row(1, **{"\ud83d": 1}), "a name in the row"),
    ],
)
def test_half_an_emoji_is_refused_with_its_key(made, row, key):
    message = refusal(made, {"rows_": [call_row(2), row]})
    assert message.startswith("s0.jsonl:2: ")
    assert f"{key}: half a character" in message


def test_a_whole_emoji_is_not_half_of_one(made):
    row = call_row(1, messages=[{"role": "user", "content": "Two seats 😀 please"}])
    Path("e.jsonl").write_text(json.dumps(row))  # escaped as a pair of surrogates
    made({"path": "e.jsonl", "split": "test"}, finetune="never")
    assert lines("test")[0]["messages"] == row["messages"]


def test_a_row_too_long_to_hold_is_refused_and_the_next_is_read(made):
    long = json.dumps(call_row(1, note="x" * (5 << 20)))
    Path("l.jsonl").write_text(f"{long}\n{json.dumps(call_row(2))}\n")
    assert "l.jsonl:1: the row has over" in refusal(made, {"path": "l.jsonl"})
    made({"path": "l.jsonl", "split": "test", "on_invalid": "reject"}, finetune="never")
    assert ids("test") == ["r2"]


def test_a_row_of_any_length_takes_bounded_memory(tmp_path):
    path = tmp_path / "l.jsonl"
    with open(path, "w") as stream:
        for _ in range(100):
            stream.write("x" * (1 << 20))
        stream.write("\n{}\n")
    tracemalloc.start()
    try:
        rows = list(json_lines(str(path)))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert [(number, isinstance(row, dict)) for number, row in rows] == [(1, False), (2, True)]


def test_arrays_are_answers_and_say_so(made):
    from fledgling.prompting.template import content_of

    rows = [record_row(i, schema=None, answer=answer) for i, answer in enumerate([[{"item": "kelp"}], [], [1, 2]])]
    made({"rows_": rows, "split": "test"}, kind="structured", finetune="never")
    for example, row in zip(read_examples("out/test.jsonl"), rows, strict=True):
        assert example.answer == row["answer"]
        assert example.schema == {"type": "array"}
        assert json.loads(content_of(example)) == row["answer"]


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        (
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]},
            "messages[1].tool_calls[0]",
        ),
        ({"role": "assistant", "tool_calls": {"a": 1}}, "messages[1].tool_calls"),
        ({"role": "assistant", "tool_calls": "[{"}, "messages[1].tool_calls"),
        ({"role": "assistant", "tool_calls": [5]}, "messages[1].tool_calls[0]"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "book", "arguments": "{"}}]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "book", "arguments": [1]}}]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        ({"role": "assistant", "function_call": {"arguments": "{}"}}, "messages[1].function_call"),
        ({"role": "user", "content": "x", "tool_calls": [{"function": {"name": "book"}}]}, "messages[1].tool_calls"),
        ({"role": "tool", "content": "x", "tool_call_id": 5.5}, "messages[1].tool_call_id"),
        ({"role": "user", "content": "x", "name": {}}, "messages[1].name"),
    ],
)
def test_the_history_is_checked_as_the_answer_is(made, turn, said):
    row = call_row(1)
    row["messages"] = [{"role": "user", "content": "Hello"}, turn, *row["messages"]]
    assert refusal(made, {"rows_": [row]}).startswith(f"s0.jsonl:1: {said}") or said in refusal(made, {"rows_": [row]})


@pytest.mark.parametrize(
    "turn",
    [
        {"tool_calls": [{"id": "c", "type": "function", "function": {"name": "book", "arguments": '{"seats": 1}'}}]},
        {"tool_calls": [{"id": "c", "function": {"name": "book", "arguments": {"seats": 1}}}]},
        {"tool_calls": '[{"id": "c", "function": {"name": "book", "arguments": "{\\"seats\\": 1}"}}]'},
        {"tool_calls": [{"id": "c", "name": "book", "arguments": {"seats": 1}}]},
        {"function_call": {"name": "book", "arguments": '{"seats": 1}'}},
    ],
)
def test_calls_of_the_history_are_read_in_every_form_of_the_answer(made, turn):
    row = call_row(1)
    row["messages"] = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", **turn},
        {"role": "tool", "tool_call_id": "c", "content": "ok"},
        *row["messages"],
    ]
    made({"rows_": [row], "split": "test"}, finetune="never")
    call = lines("test")[0]["messages"][1]["tool_calls"][0]
    assert (call["type"], call["function"]["name"]) == ("function", "book")
    assert json.loads(call["function"]["arguments"]) == {"seats": 1}


MEGA = 1 << 20
HOSTILE = {
    "objects in the text": {"messages": [{"role": "user", "content": '{"a":1} ' * (MEGA // 4)}], "answer": []},
    "braces": {"messages": [{"role": "user", "content": "{" * (3 * MEGA)}], "answer": []},
    "a long text without spaces": {"messages": [{"role": "user", "content": "帮我查一下" * (MEGA // 8)}], "answer": []},
    "very many tools": call_row(1, tools=[{"name": f"f{i}"} for i in range(20_000)]),
    "very many calls": call_row(1, answer=[{"name": "book", "arguments": {"seats": i}} for i in range(20_000)]),
    "very many values": call_row(1, allowed=[{"name": "book", "arguments": {"seats": list(range(100_000))}}]),
    "markers": call_row(
        1, messages=[{"role": "user", "content": "x"}, {"role": "assistant", "content": "<tool_call>{" * 90_000}]
    ),
    "a schema that doubles": call_row(
        1,
        tools=[
            {
                "name": "book",
                "parameters": {
                    "$defs": {f"a{i}": {"anyOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)}
                    | {"a40": {"type": "null"}},
                    "$ref": "#/$defs/a0",
                },
            }
        ],
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_row_takes_at_most_a_second_whatever_it_holds(made, name):
    made({"rows_": [call_row(1)], "split": "test"}, finetune="never")  # what is imported once is imported now
    Path("h.jsonl").write_text(json.dumps(HOSTILE[name], ensure_ascii=False) + "\n")
    with within(1):
        made(
            {"path": "h.jsonl", "split": "test", "on_invalid": "reject"},
            {"rows_": [call_row(2)], "split": "test"},
            finetune="never",
        )


def test_tool_calls_without_a_tool_or_a_call_are_told(made, caplog):
    rows = [call_row(i, tools=None, answer=[]) for i in range(3)]
    said = "no row has tools and none calls one"
    for more, told in (([], True), ([call_row(7, answer=[])], False), ([call_row(7, tools=None)], False)):
        caplog.clear()
        made({"rows_": [*rows, *more], "split": "test"})
        assert (said in caplog.text) == told


def test_rows_without_an_answer_are_said_to_take_any_call(made):
    sheet = made({"rows_": [call_row(1), call_row(2, answer=None), call_row(3, answer=[])], "split": "test"})
    assert "1 whose answer is null, so that any call is right" in sheet["summary"]
    sheet = made({"rows_": [call_row(1)], "split": "test"})
    assert "any call" not in sheet["summary"]
