"""What to deploy, and what that answer survives."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fledgling import artefacts
from fledgling.artefacts import Verdict
from fledgling.decision.choice import Rows
from fledgling.decision.gate import judge as judge_gate
from fledgling.decision.looks import look
from fledgling.decision.scored import Scored
from fledgling.decision.verdict import decide, inputs_digest
from fledgling.errors import DataError
from fledgling.files import sha256_file, write_jsonl
from tests.project import write_sealed

from .scored_rows import SETTINGS, SLM, TUNED, floors, lines, metrics, rule, scored, sheet, wrong

N = 500
SHEET = sheet(N)
TEACHER = scored("teacher", wrong(N, range(30)))
GOOD = wrong(N, range(10, 40))
BAD = wrong(N, range(200))


def rows(
    slm: Scored, tuned: Scored | None = None, *, teacher: Scored = TEACHER, repeats: tuple[Scored, ...] = ()
) -> Rows:
    return Rows(teacher, (slm, tuned) if tuned else (slm,), tuple(floors(len(teacher.ids))), repeats)


def judge(
    *args: Any,
    looks: int | None = None,
    problems: tuple[str, ...] = (),
    changes: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    asked = rows(*args, **more)
    ladder = [SLM, TUNED][: len(asked.contenders)]
    result = decide(rule(**(changes or {})), ladder, asked, SHEET, problems=problems, looks=looks, made_from={})
    artefacts.check(Verdict, result, "verdict")
    return result


# what to deploy ----------------------------------------------------------------------------------------------


def test_the_cheapest_that_passes():
    assert judge(scored("slm", GOOD))["deploy"] == "slm"
    assert judge(scored("slm", GOOD), scored("tuned", wrong(N)))["deploy"] == "slm"
    result = judge(scored("slm", BAD), scored("tuned", GOOD))
    assert result["deploy"] == "tuned"
    assert result["regressions"]["tuned"]["status"] == "none"
    assert result["statement"].startswith("Deploy the tuned small model for Lights: on 500 test rows it has 94 %")
    assert result["rows_missing"] is None


def test_the_teacher_where_nothing_passes():
    result = judge(scored("slm", BAD), scored("tuned", wrong(N, range(90))))
    assert result["deploy"] == "teacher"
    assert (
        "the tuned small model has 82 % matching tool calls against the teacher's 94 %, 12 points less"
        in result["statement"]
    )
    assert judge(scored("slm", BAD))["deploy"] == "teacher"


def test_undecided_keeps_the_teacher_for_now():
    result = judge(scored("slm", BAD), scored("tuned", wrong(N, range(20), range(40, 70))))
    assert result["deploy"] == "inconclusive"
    assert result["statement"].startswith("Keep the teacher for Lights for now, undecided:")
    assert result["rows_needed"] == result["comparisons"]["tuned"]["rows_needed"]
    assert result["rows_missing"] == result["rows_needed"] - N > 0


def test_a_tuned_model_that_lost_something_is_blocked():
    """Tuning brings the calls to the teacher's level, and costs argument F1 that the slm had."""
    teacher = scored("teacher", wrong(N, range(30)), f1=[0.5] * 200 + [0.9] * 300)
    slm = scored("slm", BAD, f1=[0.6] * 200 + [1.0] * 300)
    tuned = scored("tuned", GOOD, f1=[0.5] * 200 + [0.9] * 300)
    result = judge(slm, tuned, teacher=teacher)
    assert result["comparisons"]["tuned"]["finding"] == "as_good"
    assert result["deploy"] == "teacher"
    assert result["regressions"]["tuned"]["status"] == "worse"
    assert "the tuned small model is 10 points worse than the untuned small model on argument F1" in result["statement"]


def test_a_loss_that_is_not_ruled_out_is_undecided():
    """On F1 slm and tuned disagree on 110 rows: 2 points are lost on these, and more than 5 are possible."""
    f1 = wrong(N, range(60))
    slm = scored("slm", BAD, f1=wrong(N, range(60, 110)))
    result = judge(slm, scored("tuned", GOOD, f1=f1), teacher=scored("teacher", wrong(N, range(30)), f1=f1))
    assert result["comparisons"]["tuned"]["finding"] == "as_good"
    assert result["regressions"]["tuned"]["status"] == "unclear"
    assert result["deploy"] == "inconclusive"
    assert "a loss of up to 5.5 points against the untuned small model is possible" in result["statement"]


def test_other_rows_make_no_verdict():
    result = judge(scored("slm", wrong(40)), problems=("the slm saw other data",))
    assert result["deploy"] == "inconclusive"
    assert result["statement"] == "No verdict on Lights: the slm saw other data."
    assert judge(scored("slm", wrong(40)))["comparisons"]["slm"]["finding"] == "invalid"


def test_the_order_of_rows_does_not_matter():
    backwards = list(range(N))[::-1]
    slm, tuned = scored("slm", BAD), scored("tuned", GOOD)
    assert judge(slm.take(backwards), tuned.take(backwards)) == judge(slm, tuned)


# noise -------------------------------------------------------------------------------------------------------


def test_a_contender_that_differs_from_itself_gets_no_verdict():
    first = scored("slm", GOOD)
    steady = judge(first, repeats=(scored("slm", wrong(N, range(12, 42))),))
    assert steady["deploy"] == "slm"
    assert steady["noise"]["slm"]["metrics"]["ast_match_rate"]["flips"] == 4
    wild = judge(first, repeats=(scored("slm", wrong(N, range(20, 60))),))
    assert wild["noise"]["slm"]["metrics"]["ast_match_rate"]["flips"] == 30
    assert wild["noise"]["slm"]["refused"]
    assert wild["deploy"] == "inconclusive"
    assert "the untuned small model differs from itself by 6 points" in wild["statement"]


def test_a_second_run_over_other_rows_is_refused():
    other = scored("slm", GOOD, ids=[f"x{index}" for index in range(N)])
    assert "other rows" in judge(scored("slm", GOOD), repeats=(other,))["statement"]


# sensitivity -------------------------------------------------------------------------------------------------


def test_filtered_rows_that_carry_the_answer_are_named():
    """20 rows were filtered for the teacher: counted wrong the slm is level, counted right it is 4 points behind."""
    filtered = scored("teacher", wrong(N, range(20)), outcomes=dict.fromkeys(range(20), "content_filter"))
    result = judge(scored("slm", wrong(N, range(20))), teacher=filtered)
    assert result["deploy"] == "slm"
    sensitivity = result["sensitivity"]
    assert sensitivity["rows"] == {"teacher": 20, "slm": 0, "any": 20}
    assert {name: part["deploy"] for name, part in sensitivity["scenarios"].items()} == {
        "all_right": "inconclusive",
        "all_wrong": "slm",
        "teacher_right": "inconclusive",
        "left_out": "slm",
    }
    assert sensitivity["changes"]
    assert any("rests on 20 filtered or failed rows" in caveat for caveat in result["caveats"])


def test_without_filtered_rows_there_is_nothing_to_vary():
    assert judge(scored("slm", GOOD))["sensitivity"]["scenarios"] == {}


# slices ------------------------------------------------------------------------------------------------------


def test_slices_are_corrected_for_looking_often():
    """One tool in ten is lost altogether; two discordant rows elsewhere are not news."""
    tools = [{"tool": f"t{index % 10}", "kind": "same"} for index in range(N)]
    lost = [0.0 if (index % 10 == 3 and index < 100) or index in (0, 10) else 1.0 for index in range(N)]
    teacher, slm = scored("teacher", wrong(N), slices=tools), scored("slm", lost, slices=tools)
    lowest = tuple(replace(floor, slices=teacher.slices) for floor in floors(N))
    result = decide(rule(), [SLM], Rows(teacher, (slm,), lowest), SHEET, made_from={})
    assert set(result["slices"]) == {"tool"}  # a dimension with one value says nothing
    bad = result["slices"]["tool"]["t3"]
    lost, fine = bad["contenders"]["slm"], result["slices"]["tool"]["t0"]["contenders"]["slm"]
    assert (bad["n"], lost["gap"], lost["differs"]) == (50, 0.2, True)
    assert lost["p_holm"] == pytest.approx(10 * lost["p"], rel=1e-3)
    assert (fine["gap"], fine["differs"]) == (0.04, False)
    assert bad["teacher"]["value"] == 1.0
    assert result["agreement"] == {"value": 1.0, "low": pytest.approx(0.992, abs=1e-3), "high": 1.0}
    assert result["deploy"] == "slm"
    assert (
        "on the 50 rows with tool 't3' the untuned small model is 20 points below the teacher" in result["caveats"][0]
    )


# labels ------------------------------------------------------------------------------------------------------


def call(value: int) -> list[dict[str, Any]]:
    return [{"name": "f", "arguments": {"x": value}}]


def test_shared_answers_against_gold_are_suspects():
    same, order = [*call(1), *call(2)], [*call(2), *call(1)]
    teacher = scored("teacher", wrong(N, range(4)), parsed={"r0": call(1), "r1": call(1), "r2": same, "r3": call(9)})
    slm = scored("slm", wrong(N, range(3)), parsed={"r0": call(1), "r1": call(2), "r2": order})
    result = judge(slm, teacher=teacher)
    assert result["suspected_label_errors"] == [
        {"id": "r0", "contenders": ["slm"]},
        {"id": "r2", "contenders": ["slm"]},
    ]
    assert result["if_labels_are_wrong"]["rows"] == 2
    assert not result["if_labels_are_wrong"]["changes"]


def test_suspected_labels_that_carry_the_answer_are_named():
    """Without the suspects the slm agrees with the teacher all along; with gold as it is, a floor is as good."""
    suspects = {f"r{index}": call(index) for index in range(20)}
    teacher = scored("teacher", wrong(N, range(20)), parsed=suspects)
    slm = scored("slm", wrong(N, range(20)), parsed=suspects)
    near = scored("floor-frequent", wrong(N, range(20, 43)))
    result = decide(rule(), [SLM], Rows(teacher, (slm,), (near,)), SHEET, made_from={})
    assert result["deploy"] == "inconclusive"
    assert result["if_labels_are_wrong"]["deploy"] == "slm"
    assert result["if_labels_are_wrong"]["changes"]
    said = (
        "if the labels of the 20 rows that look mislabelled are wrong, the answer is: move to the untuned small model"
    )
    assert said in result["caveats"]


# looks -------------------------------------------------------------------------------------------------------


def test_looks_are_counted_once_each(tmp_path: Path):
    ledger = tmp_path / "deep" / "looks.jsonl"
    assert [look(ledger, test="t", inputs=name) for name in ("a", "b", "a", "c", "b")] == [1, 2, 1, 3, 2]
    assert len(ledger.read_text().splitlines()) == 3
    assert look(ledger, test="other", inputs="a") == 1
    before = ledger.read_bytes()
    ledger.write_bytes(before + b'{"test":"t","inp')  # power went while writing
    assert look(ledger, test="t", inputs="d") == 4
    assert ledger.read_bytes() == before + b'{"test":"t","inputs":"d"}\n'
    ledger.write_bytes(b"nonsense\n" + before)
    with pytest.raises(DataError, match=r"looks\.jsonl:1: not a line of the ledger"):
        look(ledger, test="t", inputs="e")


def test_looks_are_about_answers_not_about_time():
    one, again = rows(scored("slm", GOOD)), rows(scored("slm", GOOD))
    assert inputs_digest(rule(), one) == inputs_digest(rule(), again)
    assert inputs_digest(rule(margin=0.04), one) != inputs_digest(rule(), one)
    assert inputs_digest(rule(), rows(scored("slm", BAD))) != inputs_digest(rule(), one)
    holes = [
        replace(part, scores=part.scores | {"abstain_rate": part.scores["args_f1"] * float("nan")}) for part in one
    ]
    assert inputs_digest(rule(), Rows(holes[0], (holes[1],), tuple(holes[2:])))


def test_many_looks_are_said():
    result = judge(scored("slm", GOOD), looks=3)
    assert result["looks"] == {"number": 3, "false_swap_at_most": 0.15}
    assert "verdict number 3 on these test rows" in result["caveats"][0]
    assert judge(scored("slm", GOOD))["looks"] is None


# the script --------------------------------------------------------------------------------------------------


def test_script(root: Path, tmp_path: Path):
    everyone = [TEACHER, scored("slm", BAD), scored("tuned", GOOD), *floors(N)]
    for one in everyone:
        write_jsonl(tmp_path / f"{one.name}.jsonl", lines(one))
        write_sealed(
            tmp_path / f"{one.name}.json",
            metrics(N, rows_sha256=sha256_file(tmp_path / f"{one.name}.jsonl")),
        )
    write_sealed(tmp_path / "datasheet.json", SHEET)
    gated = judge_gate(rule(), [SLM], everyone[0], [everyone[1]], floors(N), made_from={})
    write_sealed(tmp_path / "compare.json", gated)

    def script(*more: Any, names: tuple[str, ...] = ("teacher", "slm", "tuned")) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            root / "scripts" / "decide.py",
            "--track",
            "lights",
            "--settings",
            json.dumps(
                SETTINGS | {"ladder": [SLM, TUNED], "costs": {"prices": {}, "currency": None}, "simulated": False}
            ),
            "--compare",
            tmp_path / "compare.json",
            "--datasheet",
            tmp_path / "datasheet.json",
            "--rows",
            *(tmp_path / f"{name}.jsonl" for name in names),
            "--floors",
            *sorted(tmp_path.glob("floor-*.jsonl")),
            "--metrics",
            *(tmp_path / f"{one.name}.json" for one in everyone),
            "--out",
            tmp_path / "verdict.json",
            *more,
        ]
        return subprocess.run(command, capture_output=True, text=True)

    for one in everyone:
        assert (tmp_path / f"{one.name}.json").exists()
    assert script("--ledger", tmp_path / "ledger").returncode == 0
    first = (tmp_path / "verdict.json").read_bytes()
    assert json.loads(first)["deploy"] == "tuned"
    assert json.loads(first)["looks"]["number"] == 1
    assert script("--ledger", tmp_path / "ledger").returncode == 0
    assert (tmp_path / "verdict.json").read_bytes() == first
    assert script("--ledger", tmp_path / "ledger", names=("teacher", "slm")).returncode == 0
    assert json.loads((tmp_path / "verdict.json").read_bytes())["looks"]["number"] == 2
    assert script(names=("slm", "tuned")).returncode == 2
    assert script(names=("teacher",)).returncode == 2
    again = tmp_path / "again"
    write_jsonl(again / "tuned.jsonl", lines(scored("tuned", wrong(N, range(100)))))
    assert script("--repeat", again / "tuned.jsonl").returncode == 0
    assert json.loads((tmp_path / "verdict.json").read_bytes())["deploy"] == "inconclusive"
    write_sealed(again / "tuned.json", metrics(N, "c" * 64))
    assert script("--repeat", again / "tuned.jsonl", "--repeat-metrics", again / "tuned.json").returncode == 0
    result = json.loads((tmp_path / "verdict.json").read_bytes())
    assert result["statement"].startswith("No verdict on Lights: second run: tuned was scored on other test data")
    write_sealed(tmp_path / "teacher.json", metrics(N, "b" * 64))
    assert script().returncode == 0
    result = json.loads((tmp_path / "verdict.json").read_bytes())
    assert result["statement"].startswith("No verdict on Lights: teacher was scored on other test data (bbbbbbbbbbbb)")
    write_sealed(tmp_path / "compare.json", gated | {"track": "doors"})
    assert script().returncode == 5


# logged answers ----------------------------------------------------------------------------------------------

TRACED = {
    "gold": "reply",
    "calls": 1_000,
    "models": {"gpt-4o": 1_000},
    "sampled": 250,
    "temperature_unknown": 0,
    "repeated": 0,
    "repeated_share": 0.0,
    "first": None,
    "last": None,
    "test_from": None,
    "later_turns": 700,
    "trajectories": 300,
    "tool_errors": 0,
    "prompt_tokens": 10,
    "prompt_tokens_repeated": 5,
    "redacted": 0,
}


@pytest.mark.parametrize("slm", [GOOD, BAD, wrong(N, range(20, 60))])
@pytest.mark.parametrize(("gold", "which"), [("reply", "answers"), ("feedback", "answers that feedback approved")])
def test_over_a_log_every_statement_speaks_of_agreement(slm, gold, which):
    datasheet: Any = {**SHEET, "traces": {**TRACED, "gold": gold}}
    held_to = rule().over(datasheet)
    asked = rows(scored("slm", slm))
    verdict = decide(held_to, [SLM], asked, datasheet, made_from={})
    artefacts.check(Verdict, verdict, "verdict")
    gate = judge_gate(held_to, [SLM], asked.teacher, asked.contenders, asked.floors, made_from={})
    for made in (verdict, gate):
        assert made["gold"] == gold
        assert made["statement"].endswith(f"What is measured is agreement with the logged {which}.")
        assert " right" not in json.dumps([made["statement"], made.get("reasons", []), made.get("caveats", [])])
    first, sampled, turns = verdict["caveats"][:3]
    assert first.startswith("the scores are agreement with the logged answers of gpt-4o")
    assert ("nobody has checked" in first) == (gold == "reply")
    assert sampled.startswith("25 % of the logged calls had a temperature above 0")
    assert "700 rows are later turns of 300 trajectories" in turns
    assert "given the real history" in turns


def test_answers_that_a_log_held_are_counted():
    sealed: Any = {"rows": N, "limits": [], "given_up": 0, "logged": 120}
    verdict = decide(rule(), [SLM], rows(scored("slm", GOOD)), SHEET, answers={"teacher": sealed}, made_from={})
    assert any("120 of 500 answers of teacher are replies of a log" in said for said in verdict["caveats"])
    assert "gold" not in verdict
