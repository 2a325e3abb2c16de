"""A log of production through the real graph: from an export to a verdict that speaks of agreement."""

import json
import random
import resource
from pathlib import Path
from typing import Any

import pytest

from fledgling import artefacts
from fledgling.artefacts import Predictions
from fledgling.files import sha256_file
from tests.unit import logs
from tests.unit.logs import Call, order

from .conftest import Project

CALLS = 5_000
DIFFERS = 0.06
TRACK = """\
tracks:
  orders:
    kind: structured
    sources:
      - path: export.jsonl
        format: traces
    finetune: never
"""
OTHERS = "  toolcall: null\n  structured: null\nteacher: {simulated: {error_rate: 0.06, rate_429: 0}}\n"


def traffic(count: int) -> list[Call]:
    """Calls over four weeks, one in twenty a repeat of another."""
    return [
        order(
            number if number % 10 else number // 2,
            id=f"c{number}",
            trace=f"t{number}",
            time=1_790_000_000.0 + 480 * number,
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder with an export and a track of seven lines; rows, the teacher's answers and floors are built."""
    made = Project.of(root, tmp_path_factory.mktemp("traces"))
    logs.write(made.folder / "export.jsonl", logs.langfuse(traffic(CALLS)))
    assert len(TRACK.splitlines()) <= 8
    (made.folder / "orders.yaml").write_text(TRACK + OTHERS)
    return made


def build(project: Project, *arguments: str) -> str:
    return project.build("--configfile", "orders.yaml", *arguments)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def rows(project: Project) -> list[dict[str, Any]]:
    before = cpu_seconds()
    build(project, "--", "results/data/orders/datasheet.json")
    assert cpu_seconds() - before < 60, "5,000 logged calls are rows in under a minute"
    return project.rows("data/orders/test.jsonl")


def test_five_thousand_calls_are_rows(project, rows):
    sheet = project.read("data/orders/datasheet.json")
    counts = sheet["sources"][0]["rows"]
    assert (counts["read"], counts["rejected"], counts["not_asked_for"]) == (CALLS + 1, 0, 1)
    assert sheet["traces"]["calls"] == CALLS
    assert sum(part["weight"] for part in sheet["splits"].values()) == CALLS
    assert sheet["traces"]["repeated"] == 250
    assert len(rows) > 1_000


@pytest.fixture(scope="module")
def judged(project: Project, rows: list[dict[str, Any]]) -> Project:
    """The verdict over a small model that differs from the log on as many rows as the teacher does, others than it."""
    build(
        project,
        "--",
        "results/metrics/orders/teacher.json",
        *(f"results/metrics/orders/floor-{floor}.json" for floor in ("echo", "frequent", "empty")),
    )
    folder = project.folder / "results/predictions/orders"
    rng = random.Random(5)
    with open(folder / "slm.jsonl", "w") as stream:
        for row in rows:
            answer = dict(row["answer"])
            if rng.random() < DIFFERS:
                answer["amount"] += 1
            said = json.dumps(answer, ensure_ascii=False)
            given = {"raw": said, "tool_calls": None, "finish_reason": "stop", "usage": {}, "latency_s": 0.1}
            more = {"model": "slm", "fingerprint": "f", "request": None}
            stream.write(json.dumps({"id": row["id"], "outcome": "ok", **given, **more}) + "\n")
    data = "results/data/orders/test.jsonl"
    seal: Predictions = {
        "format": "fledgling/predictions/1",
        "made_from": {data: sha256_file(project.folder / data)},
        "rows": len(rows),
        "outcomes": {"ok": len(rows)},
        "sha256": sha256_file(folder / "slm.jsonl"),
        "limits": [],
        "given_up": 0,
    }
    artefacts.write(Predictions, folder / "slm.json", seal)
    targets = ["results/verdict/orders.json", "results/report/orders.html"]
    build(project, "--allowed-rules", "score", "compare", "decide", "report", "--", *targets)
    return project


def test_a_teacher_that_differs_from_itself_agrees_as_often_as_it_does(judged):
    exact = judged.read("metrics/orders/teacher.json")["metrics"]["exact_match_rate"]
    assert 0.92 < exact["value"] < 0.96
    assert judged.read("metrics/orders/slm.json")["metrics"]["exact_match_rate"]["value"] == pytest.approx(
        0.94, abs=0.02
    )


def test_an_equal_slm_passes_and_nobody_calls_it_right(judged):
    gate, verdict = judged.read("compare/orders.json"), judged.read("verdict/orders.json")
    assert gate["decision"] == "swap"
    assert verdict["deploy"] == "slm"
    assert (gate["gold"], verdict["gold"]) == ("reply", "reply")
    for said in (gate["statement"], verdict["statement"]):
        assert "% agreement with the logged answers (exact answers), where the teacher, asked again, has 9" in said
        assert said.endswith("What is measured is agreement with the logged answers.")
    assert "agreement with the logged answers of gpt-4o-2024-08-06" in verdict["caveats"][0]
    assert "right" not in json.dumps([gate["statement"], verdict["statement"], verdict["reasons"], verdict["caveats"]])


def test_the_report_speaks_of_agreement(judged):
    html = (judged.folder / "results/report/orders.html").read_text()
    assert "What is measured is agreement with the logged answers." in html
    assert 'data-right="as logged"' in html
    assert "scores are agreement with it" in html
    assert "As logged alone: teacher, contender" in html
    shown = html.partition("<script")[0]
    assert "counts as right" not in shown
    assert "are both right" not in shown
