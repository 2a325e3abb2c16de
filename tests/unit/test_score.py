"""Scoring of a predictions file against a split: the files, the counts, and what is refused."""

import json
import random
import subprocess
import sys

import pytest

from fledgling import artefacts
from fledgling.decision.scored import read_rows
from fledgling.errors import DataError, UsageError
from fledgling.files import read_jsonl, write_jsonl
from fledgling.score import score

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in "fg"
]
GOLD = [{"name": "f", "arguments": {}}]


def rows(n, answer=GOLD):
    return [
        {
            "id": f"r{i}",
            "group": f"g{i}",
            "messages": [{"role": "user", "content": "x" * i}],
            "tools": TOOLS,
            "answer": answer,
        }
        for i in range(n)
    ]


def reply(i, calls=GOLD, **fields):
    return {"id": f"r{i}", "outcome": "ok", "raw": json.dumps(calls), **fields}


@pytest.fixture
def run(tmp_path):
    def run(data, predictions, kind="toolcall", data_text=None, predictions_text=None, **fields):
        write_jsonl(tmp_path / "test.jsonl", data)
        write_jsonl(tmp_path / "slm.jsonl", predictions)
        for name, text in (("test", data_text), ("slm", predictions_text)):
            if text is not None:
                (tmp_path / f"{name}.jsonl").write_text(text + "\n")
        out, lines = tmp_path / "slm.json", tmp_path / "rows.jsonl"
        metrics = score(tmp_path / "test.jsonl", tmp_path / "slm.jsonl", kind, out, lines, **fields)
        assert artefacts.read(artefacts.Metrics, out) == metrics
        return metrics, [row for _, row in read_jsonl(lines)]

    return run


def test_ids_may_be_numbers_in_both_files(run):
    data = [{"id": 7, "messages": [{"role": "user", "content": "x"}], "tools": TOOLS, "answer": GOLD}]
    metrics, lines = run(data, [{"id": 7, "outcome": "ok", "raw": json.dumps(GOLD)}])
    assert metrics["metrics"]["ast_match_rate"]["value"] == 1
    assert lines[0]["id"] == "7"


def test_calls_by_hand_may_lack_the_protocols_wrapping(run):
    metrics, _ = run(rows(1), [{"id": "r0", "outcome": "ok", "tool_calls": GOLD}])
    assert metrics["metrics"]["ast_match_rate"]["value"] == 1


def test_every_row_of_the_split_counts(run):
    predictions = [
        reply(0),
        reply(1, []),
        {"id": "r2", "outcome": "length"},
        {**reply(3), "outcome": "content_filter"},
        reply(4),
    ]
    metrics, lines = run(rows(6), predictions)
    assert metrics["n"] == 6
    assert metrics["metrics"]["ast_match_rate"] | {"low": 0, "high": 0} == {
        "value": 2 / 6,
        "n": 6,
        "k": 2,
        "low": 0,
        "high": 0,
        "level": 0.95,
        "method": "wilson",
    }
    assert metrics["metrics"]["args_f1"]["k"] is None
    assert metrics["metrics"]["args_f1"]["value"] == 2 / 6
    assert metrics["outcomes"] == {"content_filter": 1, "length": 1, "missing": 1, "ok": 3}
    assert metrics["reasons"] == {"missing": 1, "no_call": 1, "outcome:content_filter": 1, "outcome:length": 1}
    assert [row["id"] for row in lines] == [f"r{i}" for i in range(6)]
    assert [row["outcome"] for row in lines] == ["ok", "ok", "length", "content_filter", "ok", "missing"]
    assert [row["scores"]["ast_match_rate"] for row in lines] == [1, 0, 0, 0, 1, 0]
    for name, metric in metrics["metrics"].items():
        assert metric["value"] == pytest.approx(sum(row["scores"][name] for row in lines) / 6)
        assert metric["low"] <= metric["value"] <= metric["high"]
        assert metrics["lenient"][name]["value"] == pytest.approx(sum(row["lenient"][name] for row in lines) / 6)


def test_order_of_the_predictions_does_not_matter(run):
    predictions = [reply(i, GOLD if i % 3 else []) for i in range(20) if i != 7]
    metrics, lines = run(rows(20), predictions)
    random.Random(1).shuffle(predictions)
    again, lines_again = run(rows(20), predictions)
    assert lines_again == lines
    digests = {"predictions_sha256": "", "made_from": {}}
    assert again | digests == metrics | digests
    assert again["predictions_sha256"] != metrics["predictions_sha256"]


@pytest.mark.parametrize(
    ("data", "predictions", "message"),
    [
        (rows(2), [reply(0), reply(1), reply(2)], r"slm.jsonl:3: the id 'r2' is not in .*test.jsonl"),
        (rows(2), [reply(0), reply(1), reply(0)], r"slm.jsonl:3: the id 'r0' occurs twice, first on line 1"),
        (rows(2) + rows(1), [reply(0), reply(1)], r"test.jsonl:3: the id 'r0' occurs twice"),
        (rows(2) + rows(3)[2:] * 2, [reply(0)], r"test.jsonl:4: the id 'r2' occurs twice"),
        (rows(1), [reply(0, outcome="fine")], r"slm.jsonl:1: outcome 'fine'"),
        (rows(1), [{"outcome": "ok"}], r"slm.jsonl:1: key 'id' is missing"),
        (rows(1), [reply(0, more=1)], r"slm.jsonl:1: unknown key 'more'"),
        (rows(1), [{"id": 5.0, "outcome": "ok"}], r"slm.jsonl:1: key 'id': expected str or int, found float"),
        (rows(1), [{"id": True, "outcome": "ok"}], r"slm.jsonl:1: key 'id' is missing or no id"),
        (rows(1), [{"id": "r0", "outcome": "ok", "raw": {}}], r"slm.jsonl:1: key 'raw': expected str, found dict"),
        ([], [], r"test.jsonl: no rows"),
        ([{"id": "r0", "question": "?"}], [], r"test.jsonl:1: "),
        (
            [{"messages": [{"role": "user", "content": "x"}], "answers": [], "gold": [], "tools": TOOLS}],
            [],
            r"test.jsonl:1: key 'id' is missing",
        ),
    ],
)
def test_refuses_what_does_not_fit(run, tmp_path, data, predictions, message):
    with pytest.raises(DataError, match=message):
        run(data, predictions)
    assert not list(tmp_path.glob("*.json"))
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ({"data": "nope"}, 5, "error: nope: no such file"),
        ({"predictions": "nope"}, 5, "error: nope: no such file"),
        ({"data": "."}, 5, "error: .: no such file"),
        ({"settings": "[]"}, 2, "error: --settings: expected an object"),
    ],
)
def test_the_command_says_what_it_cannot_read(tmp_path, arguments, code, says):
    write_jsonl(tmp_path / "rows.jsonl", rows(1))
    write_jsonl(tmp_path / "slm.jsonl", [reply(0)])
    given = {"data": "rows.jsonl", "predictions": "slm.jsonl", "settings": "{}", **arguments}
    command = [sys.executable, "-m", "fledgling", "score", "--track-kind", "toolcall", "--out", "out.json"]
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.partition(";")[0].startswith(says)) == (code, True), done.stderr
    assert not (tmp_path / "out.json").exists()


def test_an_unknown_kind_is_refused(run):
    with pytest.raises(UsageError, match="'calls'"):
        run(rows(1), [], kind="calls")


def test_tokens_cost_and_latency(run):
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    prices = {"input_per_million": 2.0, "output_per_million": 8.0, "currency": "EUR"}
    predictions = [reply(i, usage=usage, latency_s=float(i), model="m", fingerprint=f"fp{i % 2}") for i in range(4)]
    metrics, _ = run(rows(4), predictions, prices=prices)
    assert metrics["tokens"] == {"prompt": 400, "completion": 40, "rows_without_usage": 0}
    assert metrics["cost"] == {"amount": pytest.approx(4 * 280e-6), "currency": "EUR", "estimated": False}
    assert metrics["latency_s"] == {"mean": 1.5, "p50": 1.0, "p95": 3.0}
    assert metrics["models"] == {"m": 4}
    assert metrics["fingerprints"] == {"fp0": 2, "fp1": 2}
    metrics, _ = run(rows(5), predictions, prices=prices)
    assert metrics["cost"] == {"amount": pytest.approx(5 * 280e-6), "currency": "EUR", "estimated": True}
    assert metrics["tokens"]["rows_without_usage"] == 1


def test_an_unknown_cost_is_never_zero(run):
    unknown = {"amount": None, "currency": None, "estimated": False}
    assert run(rows(1), [reply(0)], prices=None)[0]["cost"] == unknown
    assert run(rows(1), [reply(0)], prices={"input_per_million": 1.0})[0]["cost"] == unknown
    prices = {"input_per_million": 1.0, "output_per_million": 1.0, "currency": "USD"}
    assert run(rows(1), [reply(0)], prices=prices)[0]["cost"] == {**unknown, "currency": "USD"}
    assert run(rows(1), [reply(0, usage=None)])[0]["latency_s"] is None


def test_slices(run):
    data = rows(2) + [{**row, "id": f"n{i}"} for i, row in enumerate(rows(3, []))]
    metrics, _ = run(data, [reply(0), reply(1, []), *({**reply(0, []), "id": f"n{i}"} for i in range(3))])
    assert {value: (cell["n"], cell["value"]) for value, cell in metrics["slices"]["calls"].items()} == {
        "0": (3, 1),
        "1": (2, 0.5),
    }
    assert set(metrics["slices"]["tool"]) == {"f", "none"}
    assert all(
        cell["low"] <= cell["value"] <= cell["high"] for dim in metrics["slices"].values() for cell in dim.values()
    )


def test_weighted_rows_are_scored_as_their_copies(run):
    """A row of 5 requests that is wrong counts five times in value and interval, and proves as one."""
    weights = [5, 1, 1, 3, 1, 1]
    light = [row | ({"weight": weight} if weight > 1 else {}) for row, weight in zip(rows(6), weights, strict=True)]
    metrics, lines = run(light, [reply(i, [] if i in (0, 1) else GOLD) for i in range(6)])
    copies = [(i, copy) for i, weight in enumerate(weights) for copy in range(weight)]
    heavy = [rows(6)[i] | {"id": f"r{i}.{copy}", "group": f"g{i}"} for i, copy in copies]
    answers = [reply(i, [] if i in (0, 1) else GOLD) | {"id": f"r{i}.{copy}"} for i, copy in copies]
    other, _ = run(heavy, answers)
    for name, entry in metrics["metrics"].items():
        for key in ("value", "low", "high"):
            assert entry[key] == pytest.approx(other["metrics"][name][key]), name
        assert entry["method"] == other["metrics"][name]["method"] == "bootstrap"
    assert (metrics["n"], metrics["weight"], other["n"]) == (6, 12, 12)
    assert (metrics["metrics"]["ast_match_rate"]["n"], metrics["metrics"]["ast_match_rate"]["k"]) == (6, 4)
    assert [line["weight"] for line in lines] == weights
    assert metrics["lenient"]["ast_match_rate"]["value"] == 0.5


def test_rare_slices_are_summed_up(run):
    data = [{**row, "category": f"c{i:03}"} for i, row in enumerate(rows(130))]
    metrics, _ = run(data, [reply(i) for i in range(130)])
    cells = metrics["slices"]["category"]
    assert len(cells) == 101
    assert cells["(others)"]["n"] == 30
    assert sum(cell["n"] for cell in cells.values()) == 130


def test_the_row_file_is_plain_json_whatever_was_written(run):
    schema = {"title": "t", "type": "object"}
    data = [
        {
            "id": f"r{i}",
            "group": "g",
            "messages": [{"role": "user", "content": "a?"}],
            "schema": schema,
            "answer": {"a": 1},
        }
        for i in range(5)
    ]
    raws = [
        '{"a": 1e999}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": "\\ud800"}',
        '{"a": "' + "x" * 70_000 + '"}',
        '{"a": 1}',
    ]
    metrics, lines = run(
        data, [{"id": f"r{i}", "outcome": "ok", "raw": raw} for i, raw in enumerate(raws)], "structured"
    )
    assert [row["parsed"] for row in lines] == [None, None, {"a": "\ud800"}, None, {"a": 1}]
    assert metrics["metrics"]["json_valid_rate"]["k"] == 5
    assert metrics["slices"]["schema"]["t"]["n"] == 5


def test_scoring_again_writes_the_same_bytes(run, tmp_path):
    run(rows(9), [reply(i, GOLD if i % 2 else []) for i in range(9)])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    run(rows(9), [reply(i, GOLD if i % 2 else []) for i in range(9)])
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_bfcls_own_rows_are_scored_by_the_script(shared_data, root, tmp_path):
    data = shared_data / "bfcl" / "shared.jsonl"
    gold = ((row["id"], row["gold"] if row["gold"] is not None else GOLD) for _, row in read_jsonl(data))
    write_jsonl(tmp_path / "gold.jsonl", ({"id": i, "outcome": "ok", "raw": json.dumps(calls)} for i, calls in gold))
    command = [
        sys.executable,
        "scripts/score.py",
        "--track-kind",
        "toolcall",
        "--data",
        data,
        "--predictions",
        tmp_path / "gold.jsonl",
        "--out",
        tmp_path / "gold.json",
    ]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    metrics = json.loads((tmp_path / "gold.json").read_text())
    assert metrics["n"] == 2177
    assert metrics["metrics"]["ast_match_rate"]["value"] == metrics["metrics"]["args_exact_rate"]["value"] == 1
    assert metrics["slices"]["calls"]["0"]["n"] == 741


def test_starting_costs_little(root):
    """Scores are made in a process of their own for every contender: nothing heavy is imported to start it."""
    code = "import sys, runpy; sys.argv = ['score.py', '--help']\ntry: runpy.run_path('scripts/score.py', run_name='__main__')\nexcept SystemExit: pass\nprint(sorted({'numpy', 'scipy', 'torch', 'jsonschema_rs'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# Weights ------------------------------------------------------------------------------------------


def test_a_row_counts_as_the_requests_that_it_stands_for(run):
    weights = [1, 40, 2.5]
    data = [row | {"weight": weight} for row, weight in zip(rows(3), weights, strict=True)]
    metrics, lines = run(data, [reply(0), reply(1, []), reply(2)])
    assert [row["weight"] for row in lines] == weights
    assert (metrics["n"], metrics["weight"]) == (3, 43.5)
    rate = metrics["metrics"]["ast_match_rate"]
    assert rate["value"] == pytest.approx(3.5 / 43.5)
    assert (rate["n"], rate["k"]) == (3, 2)  # rows
    assert metrics["metrics"]["args_f1"]["value"] == pytest.approx(3.5 / 43.5)
    assert metrics["slices"]["tool"]["f"]["value"] == pytest.approx(3.5 / 43.5)
    assert metrics["lenient"]["ast_match_rate"]["value"] == pytest.approx(3.5 / 43.5)
    # One heavy row is about one row's worth of evidence, not forty.
    assert rate["high"] - rate["low"] > 0.5


@pytest.mark.parametrize("weight", [0, -1, "two", True, 1e13, [1]])
def test_a_weight_is_a_number_above_zero(run, weight):
    with pytest.raises(DataError, match=r"test.jsonl:1: key 'weight'"):
        run([rows(1)[0] | {"weight": weight}], [reply(0)])


def test_equal_weights_change_no_rate_and_no_evidence(run):
    predictions = [reply(i, GOLD if i % 3 else []) for i in range(30)]
    plain, _ = run(rows(30), predictions)
    heavy, _ = run([row | {"weight": 7} for row in rows(30)], predictions)
    assert heavy["weight"] == 210
    for name, rate in plain["metrics"].items():
        other = heavy["metrics"][name]
        assert other["value"] == pytest.approx(rate["value"])
        assert other["high"] - other["low"] == pytest.approx(rate["high"] - rate["low"], abs=0.08)


# Files that did not come from the graph -----------------------------------------------------------

RECORD = {"id": "r0", "group": "g", "messages": [{"role": "user", "content": "One?"}], "answer": {"n": 1}}
CALLS = rows(1)[0]


def test_a_schema_beside_the_rows_is_found(run, tmp_path):
    (tmp_path / "schemas.json").write_text(json.dumps({"$defs": {"a": {"title": "A", "required": ["n"]}}}))
    row = RECORD | {"schema": {"$ref": "schemas.json#/$defs/a"}}
    metrics, lines = run([row], [{"id": "r0", "outcome": "ok", "raw": '{"m": 1}'}], "structured")
    assert metrics["metrics"]["schema_valid_rate"]["k"] == 0
    assert lines[0]["slice"]["schema"] == "A"
    with pytest.raises(DataError, match=r"test.jsonl:1: schema.\$ref"):
        run([RECORD | {"schema": {"$ref": "../schemas.json"}}], [], "structured")


@pytest.mark.parametrize(
    ("row", "kind", "said"),
    [
        (RECORD | {"schema": {"type": "intt"}}, "structured", "not a valid JSON Schema"),
        (RECORD | {"schema": {"$ref": "http://x.y/z"}}, "structured", "not a file beside the rows"),
        (RECORD | {"schema": 5}, "structured", "not a valid JSON Schema"),
        (RECORD | {"answer": "one"}, "structured", "answer: not JSON"),
        (RECORD | {"answer": 5}, "structured", "the answer is int"),
        (RECORD, "toolcall", "answer"),
        (CALLS, "structured", "use --track-kind toolcall"),
        (CALLS | {"tools": [{"function": 5}]}, "toolcall", "tools"),
        (CALLS | {"tools": 5}, "toolcall", "tools"),
        (CALLS | {"answer": [{"name": 5}]}, "toolcall", "name"),
        (CALLS | {"answer": [5]}, "toolcall", "answer"),
        (CALLS | {"allowed": [{"name": "f", "arguments": {"x": 5}}]}, "toolcall", "allowed"),
        (CALLS | {"messages": "hello"}, "toolcall", "messages"),
        (CALLS | {"messages": [5]}, "toolcall", "messages"),
        (CALLS | {"id": None}, "toolcall", "id"),
        (CALLS | {"id": {}}, "toolcall", "id"),
        (CALLS | {"group": []}, "toolcall", "group"),
        (CALLS | {"weight": "x"}, "toolcall", "weight"),
        ([1], "toolcall", "object"),
    ],
)
def test_rows_by_hand_are_refused_with_their_line(run, row, kind, said):
    with pytest.raises(DataError, match=r"test.jsonl:1: ") as caught:
        run([row], [reply(0)], kind)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"outcome": "fine"}, "outcome"),
        ({"outcome": []}, "outcome"),
        ({"outcome": None}, "outcome"),
        ({"tool_calls": {}}, "tool_calls"),
        ({"usage": [1]}, "usage"),
        ({"latency_s": float("nan")}, "latency_s"),
        ({"latency_s": -1}, "latency_s"),
        ({"latency_s": True}, "latency_s"),
        ({"latency_s": 10**400}, "latency_s"),
        ({"model": 5}, "model"),
    ],
)
def test_predictions_by_hand_are_refused_with_their_line(run, fields, said):
    with pytest.raises(DataError, match=rf"slm.jsonl:1: .*{said}"):
        run(rows(1), [], predictions_text=json.dumps(reply(0) | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"usage": {"prompt_tokens": 10**400, "completion_tokens": "7", "other": None}},
        {"usage": {"prompt_tokens": -1, "completion_tokens": True}},
        {"raw": None, "tool_calls": [{"function": {"name": "f", "arguments": {"x": float("inf")}}}]},
        {"raw": None, "tool_calls": [{"function": {"name": "f", "arguments": {"x": float("nan")}}}]},
        {"raw": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"x": 1e999}'}}]},
        {"raw": None, "tool_calls": [[[[]]]]},
        {"raw": "\ud83d", "model": "\ud83d"},
        {"outcome": "error", "raw": json.dumps(GOLD)},
    ],
)
def test_what_a_provider_wrote_is_scored_whatever_it_is(run, fields):
    metrics, lines = run(rows(1), [], predictions_text=json.dumps(reply(0) | fields))
    assert metrics["n"] == len(lines) == 1
    assert metrics["tokens"]["rows_without_usage"] == 1
    if "usage" not in fields:
        assert metrics["metrics"]["ast_match_rate"]["value"] == 0


@pytest.mark.parametrize(
    "prices", [5, {"input_per_million": "2"}, {"output_per_million": -1}, {"input_per_million": True}]
)
def test_prices_that_are_none(run, prices):
    with pytest.raises(UsageError, match="prices"):
        run(rows(1), [reply(0)], prices=prices)


def test_gold_that_nobody_can_get_right_is_said(run, caplog):
    row = CALLS | {"answer": [{"name": "f", "arguments": {"x": 1}}]}
    metrics, _ = run([row], [reply(0, row["answer"])])
    assert metrics["metrics"]["ast_match_rate"]["value"] == 0
    assert "the tool declares no argument 'x'" in caplog.text


def test_numbers_of_the_gold_are_exact(run):
    data = json.dumps(RECORD | {"answer": {"n": 0.5}}).replace("0.5", "3.14159265358979323846")
    right = [{"id": "r0", "outcome": "ok", "raw": '{"n": 3.14159265358979323846}'}]
    assert run([], right, "structured", data_text=data)[0]["metrics"]["exact_match_rate"]["k"] == 1
    near = [{"id": "r0", "outcome": "ok", "raw": '{"n": 3.141592653589793}'}]
    assert run([], near, "structured", data_text=data)[0]["metrics"]["exact_match_rate"]["k"] == 0


def test_rows_of_the_graph_are_of_their_own_kind(tmp_path):
    from fledgling.data.prepare import prepare

    write_jsonl(tmp_path / "rows.jsonl", rows(3))
    source = {"path": str(tmp_path / "rows.jsonl"), "split": "test"}
    outputs = {name: tmp_path / f"{name}.jsonl" for name in ("train", "val", "test")}
    sheet = prepare({"kind": "toolcall", "sources": [source]}, 1, name="t", outputs=outputs)
    artefacts.write(artefacts.Datasheet, tmp_path / "datasheet.json", sheet)
    write_jsonl(tmp_path / "p.jsonl", [reply(i) for i in range(3)])
    with pytest.raises(UsageError, match="rows of a toolcall track"):
        score(tmp_path / "test.jsonl", tmp_path / "p.jsonl", "structured", tmp_path / "out.json")
    metrics = score(tmp_path / "test.jsonl", tmp_path / "p.jsonl", "toolcall", tmp_path / "out.json")
    assert metrics["metrics"]["ast_match_rate"]["k"] == 3


@pytest.mark.parametrize("group", [0, "", "0", "g"])
def test_a_group_that_looks_like_nothing_reaches_the_gate(run, tmp_path, group):
    run([row | {"group": group} for row in rows(3)], [reply(i) for i in range(3)])
    assert read_rows(tmp_path / "rows.jsonl").groups == (str(group),) * 3
    write_jsonl(
        tmp_path / "hand.jsonl", [{"id": str(i), "group": group, "outcome": "ok", "scores": {"m": 1}} for i in range(3)]
    )
    assert read_rows(tmp_path / "hand.jsonl").groups == (str(group),) * 3
    write_jsonl(tmp_path / "none.jsonl", [{"id": str(i), "outcome": "ok", "scores": {"m": 1}} for i in range(3)])
    assert read_rows(tmp_path / "none.jsonl").groups == ("0", "1", "2")
