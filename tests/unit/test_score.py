"""Scoring of a predictions file against a split: the files, the counts, and what is refused."""

import json
import random
import subprocess
import sys

import pytest

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
    def run(data, predictions, kind="toolcall", **fields):
        write_jsonl(tmp_path / "test.jsonl", data)
        write_jsonl(tmp_path / "slm.jsonl", predictions)
        out, lines = tmp_path / "slm.json", tmp_path / "rows.jsonl"
        metrics = score(tmp_path / "test.jsonl", tmp_path / "slm.jsonl", kind, out, lines, **fields)
        assert json.loads(out.read_text()) == metrics
        return metrics, [row for _, row in read_jsonl(lines)]

    return run


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
    digest = "predictions_sha256"
    assert {**again, digest: ""} == {**metrics, digest: ""}
    assert again[digest] != metrics[digest]


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
        (rows(1), [{"id": 5, "outcome": "ok"}], r"slm.jsonl:1: key 'id': found int"),
        (rows(1), [{"id": "r0", "outcome": "ok", "raw": {}}], r"slm.jsonl:1: key 'raw': found dict"),
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


def test_rare_slices_are_summed_up(run):
    data = [{**row, "category": f"c{i:03}"} for i, row in enumerate(rows(130))]
    metrics, _ = run(data, [reply(i) for i in range(130)])
    cells = metrics["slices"]["category"]
    assert len(cells) == 101
    assert cells["(others)"]["n"] == 30
    assert sum(cell["n"] for cell in cells.values()) == 130


def test_the_row_file_is_plain_json_whatever_was_written(run):
    schema = {"title": "t", "type": "object"}
    data = [{"id": f"r{i}", "group": "g", "messages": [], "schema": schema, "answer": {"a": 1}} for i in range(5)]
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
