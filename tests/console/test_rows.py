"""Rows side by side: filters, search, and that 100,000 of them answer at once."""

import json
import statistics
import time
from urllib.parse import quote

import pytest

from tests.console.conftest import lines, put
from tests.console.test_attacks import memory


def page(console, **query):
    return console.get("/api/tracks/structured/rows?" + "&".join(f"{k}={quote(str(v))}" for k, v in query.items())).json


def numbers(found):
    return [row["number"] for row in found["rows"]]


def test_filters(served):
    teacher, slm = set(range(0, 30, 10)), set(range(0, 30, 3))
    wanted = {
        "all": set(range(30)),
        "wrong": slm,
        "teacher-wrong": teacher,
        "both-wrong": teacher & slm,
        "differ": teacher ^ slm,
        "invalid": set(),
        "error": set(),
    }
    for name, rows in wanted.items():
        found = page(served, filter=name, contender="slm", limit=100)
        assert set(numbers(found)) == rows, name
        assert found["matching"] == len(rows)
        assert found["total"] == 30
    assert numbers(page(served, filter="filtered", contender="teacher")) == [20]


def test_pages_and_search(served):
    assert numbers(page(served, offset=25)) == [25, 26, 27, 28, 29]
    assert numbers(page(served, offset=10, limit=2)) == [10, 11]
    assert numbers(page(served, q="QUESTION 7 ")) == [7]
    assert numbers(page(served, q="onerror", limit=100)) == sorted({*range(0, 30, 7), *range(0, 30, 3), 10, 20})
    assert numbers(page(served, q="nowhere to be found")) == []
    assert page(served, q="onerror", filter="teacher-wrong", contender="slm")["matching"] == 3


def test_one_row(served):
    row = served.get("/api/tracks/structured/rows/3").json
    assert row["answer"] == {"value": 3}
    by_name = {answer["contender"]: answer for answer in row["answers"]}
    assert (by_name["teacher"]["mark"], by_name["slm"]["mark"]) == ("right", "wrong")
    assert by_name["slm"]["difference"][0]["field"] == "value"
    assert by_name["teacher"]["difference"] == []


def test_files_that_change_are_read_again(own):
    own.start()
    assert page(own)["total"] == 30
    file = own.folder / "results/data/structured/test.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:5]) + '{"id": "half')
    assert page(own)["total"] == 5
    (own.folder / "results/metrics/structured/slm.jsonl").unlink()
    assert page(own)["rows"][0]["marks"]["slm"] == "unscored"
    (own.folder / "results/predictions/structured/slm.jsonl").write_text("")
    assert page(own)["rows"][0]["marks"]["slm"] == "missing"


@pytest.mark.slow
def test_100_000_rows(own):
    count = 100_000
    tools = [{"type": "function", "function": {"name": f"tool_{n}", "description": "d" * 80}} for n in range(8)]
    with open(own.folder / "results/data/structured/test.jsonl", "w") as stream:
        for n in range(count):
            asked = f"please find number {n} and tell me about item {n * 7919 % 100_003}"
            row = {"id": f"r{n}", "group": f"g{n}", "messages": [{"role": "user", "content": asked}], "tools": tools}
            stream.write(json.dumps(row | {"answer": {"value": n}}) + "\n")
    for name, every in (("teacher", 17), ("slm", 3), ("tuned", 11)):
        answers = [{"id": f"r{n}", "outcome": "ok", "raw": f'{{"value": {n}}}'} for n in range(count)]
        put(own.folder / f"results/predictions/structured/{name}.jsonl", lines(answers))
        scores = [
            {"id": f"r{n}", "scores": {"json_valid_rate": 1.0, "exact_match_rate": float(n % every != 0)}, "parsed": {}}
            for n in range(count)
        ]
        put(own.folder / f"results/metrics/structured/{name}.jsonl", lines(scores))
    own.start()
    began = time.monotonic()
    assert page(own)["total"] == count
    first = time.monotonic() - began
    took = []
    for turn in range(60):
        chosen = ("all", "differ", "wrong", "teacher-wrong", "both-wrong")[turn % 5]
        query = {"filter": chosen, "contender": ("slm", "tuned")[turn % 2], "offset": turn * 5}
        if turn % 3 == 0:
            query["q"] = f"item {turn}"
        began = time.monotonic()
        assert page(own, **query)["rows"] or "q" in query
        took.append(time.monotonic() - began)
    p95 = statistics.quantiles(took, n=20)[-1]
    began = time.monotonic()
    assert own.get("/tracks/structured/rows?filter=differ&offset=5000&q=item").status == 200
    html = time.monotonic() - began
    used = memory(own.process.pid, "VmHWM") / 1024
    print(f"index {first:.1f} s, p95 {1000 * p95:.0f} ms, page {1000 * html:.0f} ms, memory {used:.0f} MiB")
    assert p95 < 0.2
    assert used < 300


@pytest.mark.slow
def test_the_first_page_with_20_tracks(own):
    verdict = json.loads((own.folder / "results/verdict/structured.json").read_text())
    for n in range(20):
        put(own.folder / f"results/verdict/track{n}.json", verdict | {"slices": {"x": ["y" * 100] * 2000}})
    own.start()
    own.get("/")
    took = []
    for _ in range(5):
        began = time.monotonic()
        assert own.get("/").status == 200
        took.append(time.monotonic() - began)
    assert statistics.median(took) < 0.3
