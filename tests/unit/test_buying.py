"""What a look at the teacher's rows comes to, what its record is held against, and how a further verdict is counted."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fledgling.bought import ids, order
from fledgling.decision import buying, climb, looks, sequential
from fledgling.decision.choice import Rows
from fledgling.decision.rule import Rule
from fledgling.decision.scored import Scored
from fledgling.decision.verdict import decide
from fledgling.errors import DataError

METRIC = "exact_match_rate"
RUNGS = ("slm", "guided", "tuned")


def rule(family: str = "sequence", nominee: str = "tuned", over: tuple[str, ...] = (), **more: Any) -> Rule:
    decision = {"margin": 0.05, "alpha": 0.05, "power": 0.8, "min_coverage": 0.98, "resamples": 1000, "family": family}
    settings = {
        "decision": decision | {"core": {"structured": [METRIC]}},
        "seed": 7,
        "looks": 60,
        "ladder": ladder(),
        "track": {"kind": "structured", "finetune": "auto"},
    }
    return replace(Rule.of("t", settings), nominee=nominee, passed_over=over, **more)


def ladder(after: dict[str, str] | None = None) -> list[Any]:
    return [
        {"name": name, "label": name, "model": "slm", "adapter": None, "after": (after or {}).get(name)}
        for name in RUNGS
    ]


def scored(name: str, right: list[int], model: str | None = None) -> Scored:
    count = len(right)
    return Scored(
        name=name,
        ids=tuple(f"r{n}" for n in range(count)),
        groups=tuple(f"r{n}" for n in range(count)),
        outcomes=("ok",) * count,
        slices=({},) * count,
        scores={METRIC: np.array(right, dtype=float)},
        parsed={},
        models=Counter({model or name: count}),
        fingerprints=Counter(),
    )


def rows(count: int, **wrong: tuple[int, int]) -> Rows:
    """The teacher is wrong about the last tenth; a contender about (of the teacher's right ones, of its wrong ones)."""
    tenth = count // 10
    teacher = [1] * (count - tenth) + [0] * tenth
    found = []
    for name, (lost, kept) in wrong.items():
        found.append(scored(name, [0] * lost + [1] * (count - tenth - lost) + [0] * kept + [1] * (tenth - kept)))
    return Rows(scored("teacher", teacher), tuple(found), (scored("floor-empty", [0] * count),))


GOOD, EVEN, FAR = (0, 0), (25, 0), (120, 25)
PLAN = sequential.plan(1000, alpha=0.05)


def states(found: Rule, made: Rows, rungs: list[Any] | None = None) -> tuple[dict[str, str], bool]:
    said, decided = buying.look(found, ladder() if rungs is None else rungs, made, PLAN)
    return said["states"], decided.stop


def test_the_cheapest_that_passes_ends_the_buying_once_its_turn_has_come():
    assert states(rule(), rows(250, slm=GOOD, guided=GOOD, tuned=GOOD)) == (
        {"slm": "passed", "guided": "passed", "tuned": "passed"},
        True,
    )
    # The nominee is open: nothing below it was tested, so nothing is settled.
    assert states(rule(), rows(250, slm=GOOD, guided=GOOD, tuned=EVEN)) == (
        {"slm": "open", "guided": "open", "tuned": "open"},
        False,
    )
    # One in between is given up: nothing below it gets its turn, and the dearer one that passed is the answer.
    assert states(rule(), rows(250, slm=GOOD, guided=FAR, tuned=GOOD)) == (
        {"slm": "futile", "guided": "futile", "tuned": "passed"},
        True,
    )
    # Alone, as each is under `each`, the first would have passed.
    assert states(rule("each"), rows(250, slm=GOOD, guided=FAR, tuned=FAR))[0]["slm"] == "passed"


def test_a_nominee_that_is_given_up_ends_it_for_the_teacher():
    said, stop = states(rule(), rows(250, slm=GOOD, guided=GOOD, tuned=FAR))
    assert (set(said.values()), stop) == ({"futile"}, True)


def test_what_val_left_no_hope_for_is_not_waited_for():
    made = rows(250, slm=EVEN, guided=GOOD, tuned=GOOD)
    assert states(rule(), made) == ({"slm": "open", "guided": "passed", "tuned": "passed"}, False)
    assert states(rule(over=("slm",)), made)[1] is True
    between = rows(250, slm=GOOD, guided=FAR, tuned=GOOD)
    assert states(rule(over=("guided",)), between)[0] == {"slm": "passed", "guided": "futile", "tuned": "passed"}


def test_who_may_have_lost_against_the_one_before_is_not_done():
    """It passes against a teacher that is worse than both, and a loss of the margin against `slm` is not ruled out."""
    made = rows(250, slm=GOOD, tuned=(10, 0))
    two = [rung for rung in ladder({"tuned": "slm"}) if rung["name"] != "guided"]
    assert states(rule("each"), made, two)[0]["tuned"] != "passed"
    assert states(rule("each"), made, [rung | {"after": None} for rung in two])[0]["tuned"] == "passed"


def test_two_models_end_it_at_once_and_an_early_weak_baseline_does_not():
    made = rows(250, slm=EVEN, guided=EVEN, tuned=EVEN)
    two = replace(made, teacher=replace(made.teacher, models=made.teacher.models + Counter(b=1)))
    said, decided = buying.look(rule(), ladder(), two, PLAN)
    assert decided.stop
    assert "more rows would not help: the answers of the teacher come from 2 models" in said["reason"]
    assert not buying.look(rule(allow_mixed_models=True), ladder(), two, PLAN)[1].stop
    weak = replace(made, floors=(scored("floor-empty", made.teacher.scores[METRIC].astype(int).tolist()),))
    assert states(rule(), weak) == (dict.fromkeys(RUNGS, "open"), False)


def test_the_verdict_is_that_of_the_last_look_at_its_level():
    made = rows(250, slm=GOOD, guided=GOOD, tuned=GOOD)
    said, _ = buying.look(rule(), ladder(), made, PLAN)
    record = buying.record(rule(), PLAN, made.teacher.ids, [said])
    at = buying.held(rule(), record, "teacher.json")
    buying.require(at, ladder(), made, record, "teacher.json")
    test = {"rows": 1000, "sha256": "0" * 64}
    found = decide(
        at,
        ladder(),
        made,
        {"splits": {"test": test}},
        looks=1,
        bought=record,
        made_from={},  # type: ignore[typeddict-item]
    )
    assert (found["deploy"], found["alpha"], found["n"]) == ("slm", 0.05, 250)
    level = PLAN.levels[PLAN.looks.index(250)]
    assert {body["level"] for body in found["comparisons"].values()} == {round(level, 6)}
    assert found["family"] is not None
    assert found["family"]["rungs"]["slm"]["level"] == round(level, 6)
    assert "at most 5 %" in found["family"]["promise"]
    assert found["bought"] == record
    assert found["statement"].endswith(
        f"The teacher was asked 250 of 1,000 test rows, in 1 look (tested at {100 * level:.3g} %, the part of 5 % that this "
        "look has): slm passed at 250 of 1,000 rows."
    )


def test_a_record_that_does_not_fit_its_rows_is_refused():
    made = rows(250, slm=GOOD, guided=GOOD, tuned=GOOD)
    said, _ = buying.look(rule(), ladder(), made, PLAN)
    record = buying.record(rule(), PLAN, made.teacher.ids, [said])
    at = buying.held(rule(), record, "x")
    worse = rows(250, slm=EVEN, guided=GOOD, tuned=GOOD)
    with pytest.raises(DataError, match="its rows say 'slm is open at 250 rows"):
        buying.require(at, ladder(), worse, record, "x")
    for changed in ({"rows": 251}, {"of": 999}, {"alpha": 0.1}):
        with pytest.raises(DataError, match="not those that were planned"):
            buying.held(rule(), record | changed, "x")  # type: ignore[typeddict-item]
    with pytest.raises(DataError, match=r"teacher\.looks is off"):
        buying.held(rule(first_look=None), record, "x")


def test_with_looks_nobody_follows_on_the_gate_and_nothing_is_kept_back():
    one = rule(nominee="slm")
    assert not climb.may_go_further(one, "slm")
    assert climb.may_go_further(replace(one, first_look=None), "slm")


def test_rows_that_are_bought_are_the_first_groups_of_an_order(tmp_path: Path):
    data = tmp_path / "test.jsonl"
    row = '{{"id": "r{0}", "group": "g{1}", "messages": [], "answer": {{}}}}\n'
    data.write_text("".join(row.format(n, n // 3) for n in range(30)))
    record: Any = {"of": 30, "rows": 12, "key": "k"}
    found = ids(data, record)
    assert len(found) == 12
    assert found == {f"r{place}" for place in order([f"g{n // 3}" for n in range(30)], "k")[:12]}
    assert len({int(name[1:]) // 3 for name in found}) == 4
    with pytest.raises(DataError, match="has 30 rows, and the looks were planned for 31"):
        ids(data, record | {"of": 31})


def test_a_split_that_has_grown_is_the_same_split_to_the_ledger(tmp_path: Path):
    """With looks: without them a split with other rows is another one."""
    ledger = tmp_path / "looks.jsonl"
    old, more = [f"r{n}" for n in range(500)], [f"r{n}" for n in range(5000)]
    fresh = [f"other{n}" for n in range(500)]
    assert looks.look(ledger, test="a", inputs="1", sample=looks.sample(old)) == 1
    assert looks.look(ledger, test="b", inputs="2", sample=looks.sample(more)) == 2
    assert looks.look(ledger, test="b", inputs="2", sample=looks.sample(more)) == 2
    assert looks.look(ledger, test="c", inputs="3", sample=looks.sample(fresh)) == 1
    assert looks.look(ledger, test="b", inputs="4") == 2, "the same rows, whoever looks"
    assert looks.look(tmp_path / "plain.jsonl", test="a", inputs="1") == 1
    assert (tmp_path / "plain.jsonl").read_text() == '{"test":"a","inputs":"1"}\n'


@pytest.mark.parametrize(("gap", "most", "draws"), [(0.0, 0.4, 160), (0.1, 1 / 8, 20)])
def test_half_of_all_worlds_are_settled_early(gap: float, most: float, draws: int) -> None:
    """2,000 rows, discordance 20 %: more than half of the worlds end at a look over so small a part of the rows."""
    planned = sequential.plan(2000, alpha=0.05)
    lots, early = np.random.default_rng(11), 0
    for _ in range(draws):
        kind = lots.choice(4, 2000, p=[0.2 - (0.2 - gap) / 2, (0.2 - gap) / 2, 0.7, 0.1])
        teacher, slm = (np.isin(kind, right).astype(int).tolist() for right in ((0, 2), (1, 2)))
        for count in (look for look in planned.looks if look <= most * 2000):
            made = Rows(
                scored("teacher", teacher[:count]), (scored("slm", slm[:count]),), (scored("floor-empty", [0] * count),)
            )
            one = replace(rule(nominee="slm"), configured=(("slm", False),))
            if buying.look(one, ladder()[:1], made, planned)[1].stop:
                early += 1
                break
    assert early > draws / 2
