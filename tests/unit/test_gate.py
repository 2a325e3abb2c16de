"""The gate's four answers, and what each of them takes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fledgling.decision import gate
from fledgling.decision.pairing import foreign
from fledgling.decision.rule import Rule
from fledgling.decision.scored import Scored, read_rows
from fledgling.decision.words import points
from fledgling.errors import ConfigError, DataError
from fledgling.files import write_jsonl
from tests.project import write_sealed

from .scored_rows import SETTINGS, SLM, floors, lines, metrics, rule, scored, sheet, wrong

N = 500


def answer(teacher: Scored, slm: Scored, *, others: list[Scored] | None = None, **changes: Any) -> dict[str, Any]:
    return judge(rule(**changes), teacher, slm, floors(len(teacher.ids)) if others is None else others)


def judge(held_to: Rule, teacher: Scored, slm: Scored, others: list[Scored], **more: Any) -> dict[str, Any]:
    """The gate over one contender, with that contender's comparison on top."""
    held_to = replace(held_to, configured=(("slm", False), ("tuned", True)))
    result = gate.judge(held_to, [SLM], teacher, [slm], others, made_from={}, **more)
    return {**result, **result["comparisons"]["slm"]}


def test_swap():
    """Both miss 30 rows, 20 of them the same: the gap is 0, at most 2 points with confidence."""
    result = answer(scored("teacher", wrong(N, range(30))), scored("slm", wrong(N, range(10, 40))))
    assert (result["decision"], result["finding"], result["fine_tune"]) == ("swap", "as_good", 0)
    entry = result["metrics"]["ast_match_rate"]
    assert entry["counts"] == {"both": 460, "teacher_only": 10, "contender_only": 10, "neither": 20}
    assert entry["gap"] == 0
    assert 0.01 < entry["high"] < 0.02
    assert result["rows_missing"] == 0
    assert result["statement"] == (
        "The untuned small model can take over Lights: on 500 test rows it has 94 % matching tool calls against the teacher's 94 %, "
        "at most 1.6 points worse with 95 % confidence, inside the 5 points allowed."
    )


def test_fine_tune():
    result = answer(scored("teacher", wrong(N, range(30))), scored("slm", wrong(N, range(200))))
    assert (result["decision"], result["fine_tune"]) == ("fine_tune", 1)
    assert result["metrics"]["ast_match_rate"]["worse_shown"]
    assert "34 points less where 5 points are allowed; fine-tuning comes next" in result["statement"]


def test_a_gap_above_the_margin_is_enough_to_tune():
    """No promise hangs on training, so the measured gap decides; the reason says that it is not proven."""
    result = answer(scored("teacher", wrong(100)), scored("slm", wrong(100, range(6))))
    assert result["decision"] == "fine_tune"
    assert not result["metrics"]["ast_match_rate"]["worse_shown"]
    assert "do not rule out a gap inside the margin" in result["reasons"][0]


def test_inconclusive_says_how_many_rows_are_missing():
    result = answer(scored("teacher", wrong(100, range(10))), scored("slm", wrong(100, range(5, 17))))
    assert (result["decision"], result["fine_tune"]) == ("inconclusive", 0)
    needed = result["metrics"]["ast_match_rate"]["rows_needed"]
    assert result["rows_needed"] == max(needed, result["metrics"]["args_f1"]["rows_needed"])
    assert result["rows_missing"] == result["rows_needed"] - 100 > 0
    assert f"about {result['rows_needed']:,} test rows would settle it" in result["statement"]


@pytest.mark.parametrize("n", [8, 20, 58])
def test_few_rows_never_swap_however_good(n: int):
    result = answer(scored("teacher", wrong(n)), scored("slm", wrong(n)))
    assert result["decision"] == "inconclusive"
    assert result["rows_missing"] >= 59 - n


def test_every_core_metric_has_to_hold():
    """As many right calls, but the wrong ones are worse: args_f1 alone keeps the slm out."""
    right = wrong(N, range(100))
    teacher = scored("teacher", right, f1=[0.9] * 100 + [1.0] * 400)
    slm = scored("slm", right, f1=[0.3] * 100 + [1.0] * 400)
    result = answer(teacher, slm)
    assert result["metrics"]["ast_match_rate"]["non_inferior"]
    assert result["decision"] == "fine_tune"
    assert answer(teacher, slm, core=("ast_match_rate",))["decision"] == "swap"


def test_one_core_metric_that_is_not_shown_leaves_it_open():
    """The calls hold; F1 is level as well, but the two disagree on too many rows to tell."""
    teacher = scored("teacher", wrong(N), f1=wrong(N, range(150)))
    result = answer(teacher, scored("slm", wrong(N), f1=wrong(N, range(150, 300))))
    assert [result["metrics"][metric]["non_inferior"] for metric in ("ast_match_rate", "args_f1")] == [True, False]
    assert result["decision"] == "inconclusive"
    assert "argument F1" in result["reasons"][0]


def test_policy_decides_on_training_only():
    good = scored("teacher", wrong(N)), scored("slm", wrong(N))
    bad = scored("teacher", wrong(N)), scored("slm", wrong(N, range(200)))
    assert [answer(*good, policy=policy)["fine_tune"] for policy in ("auto", "always", "never")] == [0, 1, 0]
    assert [answer(*bad, policy=policy)["fine_tune"] for policy in ("auto", "always", "never")] == [1, 1, 0]
    assert answer(*bad, policy="never")["decision"] == "fine_tune"
    assert "fine-tuning is switched off" in answer(*bad, policy="never")["statement"]


def test_margin_alpha_and_order_of_rows():
    teacher, slm = scored("teacher", wrong(N, range(30))), scored("slm", wrong(N, range(10, 40)))
    assert answer(teacher, slm, margin=0.01)["decision"] == "inconclusive"
    assert answer(teacher, slm, margin=0.018)["decision"] == "swap"
    assert answer(teacher, slm, margin=0.018, alpha=0.001)["decision"] == "inconclusive"
    backwards = slm.take(list(range(N))[::-1])
    assert answer(teacher, backwards) == answer(teacher, slm)


# floors ----------------------------------------------------------------------------------------------------


def test_a_teacher_below_a_floor_is_no_baseline():
    """The project's own history: echoing the prompt scored 0.66, the teacher 0.60."""
    echo = scored("floor-echo", wrong(N, range(170)))
    result = answer(scored("teacher", wrong(N, range(199))), scored("slm", wrong(N, range(199))), others=[echo])
    assert result["decision"] == "invalid"
    assert (
        "no better than repeating the question (66 %), which needs no model: check the endpoint and the labels"
        in result["reasons"][0]
    )


def test_a_floor_that_is_not_shown_to_be_beaten_stops_a_swap():
    """The slm is as good as the teacher, and both are three rows better than always the same call."""
    frequent = scored("floor-frequent", wrong(N, range(13)))
    result = answer(scored("teacher", wrong(N, range(10))), scored("slm", wrong(N, range(10))), others=[frequent])
    assert result["decision"] == "inconclusive"
    assert (
        "the untuned small model is not shown to beat giving the most frequent answer every time"
        in result["reasons"][0]
    )
    assert result["rows_missing"] > 0
    assert not result["floors"]["floor-frequent"]["ast_match_rate"]["beaten"]


def test_form_is_not_held_against_floors():
    """The most frequent answer always fits the schema: being as good there is no disgrace."""
    core = ("schema_valid_rate", "ast_match_rate")
    parts = [scored("teacher", wrong(N)), scored("slm", wrong(N)), *floors(N)]
    parts = [one.with_scores(one.scores | {"schema_valid_rate": one.scores["args_f1"] * 0 + 1}) for one in parts]
    assert judge(rule(core=core), parts[0], parts[1], parts[2:])["decision"] == "swap"
    only_form = json.loads(json.dumps(SETTINGS))
    only_form["decision"]["core"]["toolcall"] = ["valid_call_rate"]
    with pytest.raises(ConfigError, match="form only"):
        Rule.of("lights", only_form)


# what cannot be compared -------------------------------------------------------------------------------------


def test_the_historical_mistake_is_refused():
    """ "40 % against 20.5 %": 11 of 50 rows dropped from the teacher's side."""
    teacher = scored("teacher", wrong(39, range(31)), ids=[f"r{index}" for index in range(39)])
    slm = scored("slm", wrong(50, range(30)))
    result = judge(rule(), teacher, slm, floors(50))
    assert (result["decision"], result["fine_tune"], result["metrics"]) == ("invalid", 0, {})
    assert (
        "teacher has 39 rows and slm has 50, of which 39 are the same: the denominators differ" in result["reasons"][0]
    )
    assert result["statement"].startswith("No answer for Lights: teacher has 39 rows")


def test_another_test_set_is_refused():
    teacher = scored("teacher", wrong(50))
    other = scored("slm", wrong(50), ids=[f"x{index}" for index in range(50)])
    assert "different test sets" in judge(rule(), teacher, other, floors(50))["reasons"][0]
    renamed = scored("slm", wrong(50), slices=[{"tool": "c"}] * 50)
    result = judge(rule(), teacher, renamed, floors(50))
    assert result["decision"] == "invalid"
    assert "50 rows of teacher and slm share an id but not the example" in result["reasons"][0]


def test_rows_that_are_not_the_test_split_are_refused():
    one = scored("slm", wrong(50))
    assert foreign([one], sheet(60), {}) == ["slm was scored on 50 rows, but the test split has 60"]
    assert foreign([one], sheet(50), {}) == []
    assert "other test data (bbbbbbbbbbbb)" in foreign([one], sheet(50), {"slm": metrics(50, "b" * 64)})[0]
    assert "count 49 rows, but 50" in foreign([one], sheet(50), {"slm": metrics(49)})[0]
    assert judge(rule(), one, one, [], problems=["because"])["reasons"] == ["because"]


def test_coverage():
    """Rows without any answer count as wrong, and too many of them are no result."""
    lost = dict.fromkeys(range(30), "error")
    ok = scored("slm", wrong(N))
    result = answer(scored("teacher", wrong(N, range(30)), outcomes=lost), ok)
    assert result["decision"] == "invalid"
    assert "the teacher answered 470 of 500 rows, less than the 95 %" in result["reasons"][0]
    result = answer(scored("teacher", wrong(N)), scored("slm", wrong(N, range(30)), outcomes=lost))
    assert (result["decision"], result["fine_tune"], result["coverage"]) == ("inconclusive", 0, 0.94)
    assert "have to be run again" in result["reasons"][0]
    filtered = dict.fromkeys(range(30), "content_filter")  # an answer, though never a right one
    assert answer(scored("teacher", wrong(N, range(30)), outcomes=filtered), ok)["decision"] == "swap"
    half = dict.fromkeys(range(15), "error"), dict.fromkeys(range(15, 30), "missing")
    result = answer(
        *(
            scored(name, wrong(N, *map(int, part)), outcomes=part)
            for name, part in zip(("teacher", "slm"), half, strict=True)
        )
    )
    assert result["decision"] == "inconclusive"  # each answered 97 %, but both together only 94 %


def test_a_teacher_that_changed_on_the_way_is_no_baseline():
    ok = scored("slm", wrong(N))
    mixed = scored("teacher", wrong(N), models={"gpt-1": 400, "gpt-2": 100})
    assert "2 models (gpt-1, gpt-2)" in answer(mixed, ok)["reasons"][0]
    assert answer(mixed, ok)["decision"] == "invalid"
    assert answer(mixed, ok, allow_mixed_models=True)["decision"] == "swap"
    versions = scored("teacher", wrong(N), fingerprints={"fp_a": 499, "fp_b": 1})
    assert answer(versions, ok)["decision"] == "invalid"


def test_a_missing_core_score_is_an_error():
    slm = scored("slm", wrong(N))
    with pytest.raises(DataError, match="no score 'ast_match_rate'"):
        answer(scored("teacher", wrong(N)), slm.with_scores({"args_f1": slm.scores["args_f1"]}))
    with pytest.raises(DataError, match="1 rows of slm have no score 'args_f1'"):
        answer(scored("teacher", wrong(N)), scored("slm", wrong(N), f1=[float("nan")] + [1.0] * (N - 1)))


def test_simulated_is_said():
    result = answer(scored("teacher", wrong(N)), scored("slm", wrong(N)), simulated=True)
    assert result["statement"].startswith("Simulated: the untuned small model can take over")


@pytest.mark.parametrize(
    ("value", "beside", "text"),
    [(0.0412, 0.05, "4.1 points"), (0.04996, 0.05, "4.996 points"), (0.01, None, "1 point"), (0.05, 0.05, "5 points")],
)
def test_points_are_told_from_the_margin(value: float, beside: float | None, text: str):
    assert points(value, beside) == text


# the script ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for one in (scored("teacher", wrong(N, range(30))), scored("slm", wrong(N, range(10, 40))), *floors(N)):
        write_jsonl(tmp_path / f"{one.name}.jsonl", lines(one))
    write_sealed(tmp_path / "datasheet.json", sheet(N))
    return tmp_path


def compare(root: Path, folder: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        root / "scripts" / "compare.py",
        "--track",
        "lights",
        "--settings",
        json.dumps(SETTINGS | {"ladder": [SLM], "simulated": False} | settings),
        "--datasheet",
        folder / "datasheet.json",
        "--rows",
        folder / "teacher.jsonl",
        folder / "slm.jsonl",
        "--floors",
        *sorted(folder.glob("floor-*.jsonl")),
        "--out",
        folder / "compare.json",
    ]
    return subprocess.run(command, capture_output=True, text=True)


def test_script_writes_the_same_bytes_each_time(root: Path, folder: Path):
    assert compare(root, folder).returncode == 0
    first = (folder / "compare.json").read_bytes()
    assert json.loads(first)["decision"] == "swap"
    assert compare(root, folder).returncode == 0
    assert (folder / "compare.json").read_bytes() == first
    assert compare(root, folder, simulated=True).returncode == 0
    assert json.loads((folder / "compare.json").read_text())["simulated"] is True


def test_script_refuses_broken_rows(root: Path, folder: Path):
    good = (folder / "slm.jsonl").read_text()
    for broken, message in (
        (good + good.splitlines()[3] + "\n", "slm.jsonl:501: id 'r3' is already on line 4"),
        (good.replace('"ast_match_rate":1.0', '"ast_match_rate":1.5', 1), "scores.ast_match_rate is 1.5"),
        ("", "no rows"),
        ('{"id":"r0","outcome":"ok"}\n', "slm.jsonl:1: key 'scores' is missing"),
    ):
        (folder / "slm.jsonl").write_text(broken)
        done = compare(root, folder)
        assert (done.returncode, message in done.stderr) == (5, True), done.stderr
    (folder / "slm.jsonl").write_text(good)
    done = compare(root, folder, decision={"margin": 0.05})
    assert done.returncode == 3
    assert "key 'core' is missing" in done.stderr


def test_rows_survive_the_file(folder: Path):
    teacher = scored("teacher", wrong(N, range(30)))
    read = read_rows(folder / "teacher.jsonl")
    assert (read.name, read.ids, read.groups, read.slices) == ("teacher", teacher.ids, teacher.groups, teacher.slices)
    assert all((read.scores[metric] == teacher.scores[metric]).all() for metric in teacher.scores)
