"""Families and weights through the gate and the verdict: what a reader of the files meets."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fledgling import artefacts, stats
from fledgling.artefacts import Gate, Rung, Trial
from fledgling.decision import climb, evidence, gate, trial
from fledgling.decision.choice import Rows
from fledgling.decision.climb import Known
from fledgling.decision.comparison import compare
from fledgling.decision.family import Val, promise, promising
from fledgling.decision.scored import Scored, read_rows
from fledgling.decision.tested import against_teacher
from fledgling.decision.verdict import decide, inputs_digest
from fledgling.errors import DataError
from fledgling.files import write_jsonl
from fledgling.tracks.words import label

from .scored_rows import floors, lines, rule, scored, sheet, wrong

N = 500
TEACHER = scored("teacher", wrong(N, range(30)))
BAD, GOOD = wrong(N, range(200)), wrong(N, range(10, 40))
CLOSE = wrong(N, range(30), range(100, 122), range(130, 135))  # 27 rows behind: p of about 0.5
NEAR = wrong(N, range(20), range(100, 123))  # 13 rows behind: p between 0.01 and 0.04


def rung(name: str, *, trained: bool = False) -> Rung:
    return {"name": name, "label": f"the {name}", "model": "slm", "adapter": "sft" if trained else None, "after": None}


LADDER = [rung("slm"), rung("guided"), rung("tuned", trained=True)]
CONFIGURED = (("slm", False), ("guided", False), ("tuned", True))


def trial_of(name: str, *, promising: bool, goes_on: bool | None = None) -> Trial:
    return {
        "format": "fledgling/ladder/1",
        "made_from": {},
        "key": name,
        "track": "lights",
        "contender": name,
        "promising": promising,
        "goes_on": not promising if goes_on is None else goes_on,
        "reason": f"val says so of {name}",
        "rows": 120,
        "test_rows": N,
        "level": 0.04,
        "rows_needed": 300 if promising else None,
        "metrics": {
            "ast_match_rate": {"teacher": 0.9, "contender": 0.8, "gap": 0.1, "discordance": 0.1, "rows_needed": None}
        },
    }


def verdict(family: str, *contenders: Scored, looks: int | None = None, **held_to: Any) -> dict[str, Any]:
    held = rule(family=family, configured=CONFIGURED, **held_to)
    rows = Rows(TEACHER, contenders, tuple(floors(N)))
    ladder = [one for one in LADDER if one["name"] in {given.name for given in contenders}]
    result = decide(held, ladder, rows, sheet(N), looks=looks, made_from={})
    json.dumps(result, allow_nan=False)
    return result  # type: ignore[return-value]


def test_p_of_the_planted_contenders():
    for scores, low, high in ((GOOD, 0.0, 0.002), (NEAR, 0.01, 0.04), (CLOSE, 0.3, 1.0)):
        body = against_teacher(rule(family="holm"), TEACHER, [scored("slm", scores)], floors(N)).comparisons["slm"]
        assert low <= body["p"] <= high


def test_each_is_what_it_was():
    """Left out, every contender stands alone, at alpha, and no file says more than before."""
    result = verdict("each", scored("slm", BAD), scored("tuned", NEAR))
    assert (result["deploy"], result["family"]) == ("tuned", None)
    assert "level" not in result["comparisons"]["tuned"]


def test_the_one_further_rung_has_what_was_kept_back():
    """Test did not confirm the nominee, so the next one was built: 0.2 of alpha; near is not enough, good is."""
    held = {"nominee": "guided", "further": True}
    near = verdict("sequence", scored("slm", BAD), scored("guided", BAD), scored("tuned", NEAR), **held)
    assert near["deploy"] == "inconclusive"
    assert near["family"]["nominee"] == "guided"
    assert near["family"]["rungs"]["tuned"]["level"] == 0.01
    assert near["family"]["rungs"]["slm"]["why"] == "not tested: the guided did not pass"
    good = verdict("sequence", scored("slm", BAD), scored("guided", BAD), scored("tuned", GOOD), **held)
    assert good["deploy"] == "tuned"
    assert "with 99 % confidence" in good["statement"]
    assert good["comparisons"]["tuned"]["level"] == 0.01
    assert good["family"]["promise"] == promise("sequence", 0.05, 3)


def test_the_dearest_has_all_of_alpha():
    result = verdict("sequence", scored("slm", BAD), scored("guided", BAD), scored("tuned", NEAR))
    assert (result["deploy"], result["family"]["rungs"]["tuned"]["level"]) == ("tuned", 0.05)
    assert (
        result["family"]["stopped"]
        == "the guided did not pass at 5 %, so the tuned is the cheapest that did, and the slm was not tested"
    )


def test_a_trained_nominee_has_all_of_alpha_although_one_is_above_it():
    """No further one follows a training, so nothing is kept back for it."""
    above = (*CONFIGURED, ("tuned_guided", True))
    rows = Rows(TEACHER, (scored("slm", BAD), scored("tuned", NEAR)), tuple(floors(N)))
    held = rule(family="sequence", configured=above, nominee="tuned")
    result = decide(held, [LADDER[0], LADDER[2]], rows, sheet(N), made_from={})
    assert (result["deploy"], result["family"]["rungs"]["tuned"]["level"]) == ("tuned", 0.05)
    assert result["family"]["rungs"]["tuned_guided"]["why"] == "not needed"


def test_a_contender_whose_turn_it_was_not_is_not_deployed():
    """The slm passes alone; the dearer contender does not, so the slm is not tested, and the file says so."""
    result = verdict("sequence", scored("slm", GOOD), scored("guided", BAD))
    assert result["deploy"] in {"inconclusive", "teacher"}
    assert result["comparisons"]["slm"]["finding"] == "unclear"
    assert result["comparisons"]["slm"]["reasons"] == ["not tested: the guided did not pass"]
    assert verdict("holm", scored("slm", GOOD), scored("guided", BAD))["deploy"] == "slm"


def test_the_gate_and_the_verdict_hold_to_the_same_level():
    trials = {name: trial_of(name, promising=name == "guided") for name in ("slm", "guided")}
    held = rule(family="sequence", configured=CONFIGURED)
    made = gate.judge(
        held, LADDER[:2], TEACHER, [scored("slm", BAD), scored("guided", GOOD)], floors(N), trials=trials, made_from={}
    )
    assert made["comparisons"]["guided"]["level"] == 0.04
    assert (made["decision"], made["fine_tune"], made["next"]) == ("swap", 0, None)
    both = verdict("sequence", scored("slm", BAD), scored("guided", GOOD), nominee="guided", further=True)
    assert both["comparisons"]["guided"] == made["comparisons"]["guided"]


@pytest.mark.parametrize("family", ["sequence", "holm"])
def test_too_little_coverage_or_no_baseline_passes_nothing(family: str):
    lost = scored("slm", GOOD, outcomes=dict.fromkeys(range(100), "error"))
    assert verdict(family, lost)["comparisons"]["slm"]["p"] == 1
    low = scored("teacher", wrong(N, range(460)))
    tested = against_teacher(rule(family=family), low, [scored("slm", wrong(N, range(460)))], floors(N))
    assert tested.comparisons["slm"]["finding"] == "invalid"


def test_a_risk_counts_what_is_promised():
    three = [scored("slm", BAD), scored("guided", BAD), scored("tuned", GOOD)]
    for family, at_most in (("each", 0.3), ("sequence", 0.1), ("holm", 0.1)):
        assert verdict(family, *three, looks=2)["looks"]["false_swap_at_most"] == pytest.approx(at_most)


def test_what_a_verdict_survives_is_judged_by_the_same_family():
    slm = scored("slm", BAD, outcomes={499: "content_filter"})
    result = verdict("sequence", slm, scored("guided", BAD), scored("tuned", NEAR), nominee="guided", further=True)
    assert {one["deploy"] for one in result["sensitivity"]["scenarios"].values()} == {"inconclusive"}


# what the split can show -----------------------------------------------------------------------------------------


def test_a_training_that_can_hardly_win_is_said_before_it_starts():
    few = gate.judge(
        rule(configured=CONFIGURED[::2]),
        LADDER[:1],
        scored("teacher", wrong(9)),
        [scored("slm", wrong(9, range(3)))],
        floors(9),
        made_from={},
    )
    assert few["fine_tune"] == 1
    assert "But: 9 test rows, margin 5 points: an equally good model cannot pass" in few["statement"]
    assert few["split_power"]["low"]
    enough = gate.judge(
        rule(configured=CONFIGURED[::2]), LADDER[:1], TEACHER, [scored("slm", BAD)], floors(N), made_from={}
    )
    assert "But" not in enough["statement"]
    assert enough["split_power"]["chances"]["0.05"] > 0.9


def test_rows_beyond_reason_are_no_advice():
    n = 400
    teacher = scored("teacher", wrong(n, range(60)))
    slm = scored("slm", wrong(n, range(30, 105)))  # 15 rows behind: 3.75 points
    made = gate.judge(rule(margin=0.0376), LADDER[:1], teacher, [slm], floors(n), made_from={})
    assert made["comparisons"]["slm"]["rows_needed"] > 100_000
    assert "no realistic number of test rows (more than 100,000) would settle it" in made["statement"]
    assert "more than there are" not in made["statement"]


# rows that stand for many requests -------------------------------------------------------------------------------


def weighted(one: Scored, weights: list[float]) -> Scored:
    return replace(one, weights=np.array(weights, float))


def copied(one: Scored, weights: list[int]) -> Scored:
    """The same rows uncollapsed: each as often as its weight says, in one group."""
    places = [place for place, weight in enumerate(weights) for _ in range(weight)]
    made = one.take(places)
    ids = tuple(f"{name}/{count}" for count, name in enumerate(made.ids))
    return replace(made, ids=ids, groups=tuple(f"g{place}" for place in places), models=Counter({one.name: len(ids)}))


WEIGHTS = np.random.default_rng(3).choice([1, 1, 1, 2, 5, 40], N).tolist()


@pytest.mark.parametrize("family", ["each", "sequence", "holm"])
def test_collapsed_and_weighted_rows_are_judged_as_their_copies(family: str):
    held = rule(family=family, configured=CONFIGURED)
    everyone = [TEACHER, scored("slm", GOOD), scored("tuned", NEAR), *floors(N)]
    light = [weighted(one, WEIGHTS) for one in everyone]
    heavy = [copied(one, WEIGHTS) for one in everyone]
    one, other = (against_teacher(held, made[0], made[1:3], made[3:]).comparisons for made in (light, heavy))
    for name in ("slm", "tuned"):
        assert one[name]["finding"] == other[name]["finding"]
        assert one[name]["reasons"] == other[name]["reasons"]
        assert one[name]["requests"] == other[name]["n"] == sum(WEIGHTS)
        assert one[name]["coverage"] == other[name]["coverage"]
        assert one[name]["answered"] == other[name]["answered"]
        for metric, entry in one[name]["metrics"].items():
            for key, value in other[name]["metrics"][metric].items():
                if not key.startswith("rows_needed"):
                    assert entry[key] == (pytest.approx(value, abs=2e-6) if isinstance(value, float) else value), key
        assert one[name]["floors"] == other[name]["floors"]
        share = N / sum(WEIGHTS)  # rows that are as heavy as these
        needed = one[name]["metrics"]["ast_match_rate"]["rows_needed_if_equal"]
        assert needed == pytest.approx(other[name]["metrics"]["ast_match_rate"]["rows_needed_if_equal"] * share, abs=1)


def test_a_row_of_forty_requests_counts_as_forty_in_the_verdict():
    heavy = [40.0] * 5 + [1.0] * (N - 5)
    slm = weighted(scored("slm", wrong(N, range(5))), heavy)
    teacher = weighted(scored("teacher", wrong(N)), heavy)
    body = compare(rule(), teacher, slm, [weighted(one, heavy) for one in floors(N)])
    assert body["metrics"]["ast_match_rate"]["gap"] == pytest.approx(200 / 695, abs=1e-6)
    assert (body["n"], body["requests"], body["finding"]) == (N, 695, "worse")
    alone = compare(rule(), scored("teacher", wrong(N)), scored("slm", wrong(N, range(5))), floors(N))
    assert alone["finding"] == "as_good"


def test_weights_that_differ_between_contenders_are_other_rows():
    body = compare(rule(), weighted(TEACHER, [2.0] * N), scored("slm", GOOD), floors(N))
    assert body["finding"] == "invalid"
    assert "share an id but not the example" in body["reasons"][0]


def test_a_verdicts_inputs_name_the_weights():
    rows = Rows(TEACHER, (scored("slm", GOOD),), tuple(floors(N)))
    other = Rows(weighted(TEACHER, [2.0] * N), (scored("slm", GOOD),), tuple(floors(N)))
    assert inputs_digest(rule(), rows) != inputs_digest(rule(), other)


def test_weights_are_read_and_wrong_ones_refused(tmp_path: Path):
    path = tmp_path / "slm.jsonl"
    rows = lines(scored("slm", wrong(3)))
    write_jsonl(path, [rows[0] | {"weight": 40}, rows[1] | {"weight": 1.5}, rows[2]])
    found = read_rows(path)
    assert found.weight.tolist() == [40, 1.5, 1]
    assert found.take([2, 0]).weight.tolist() == [1, 40]
    write_jsonl(path, rows)
    assert read_rows(path).weights is None
    for wrong_weight in (0, -1, "2", True, None):
        write_jsonl(path, [rows[0] | {"weight": wrong_weight}])
        with pytest.raises(DataError, match="number above 0"):
            read_rows(path)


# val says what is built ------------------------------------------------------------------------------------------


def on_val(contender: Scored, *, teacher: Scored = TEACHER, trained: bool = False, test_rows: int = N) -> Trial:
    held = rule(family="sequence", configured=CONFIGURED)
    return trial.judge(held, teacher, contender, trained=trained, test_rows=test_rows, made_from={})


def test_val_promises_where_the_test_rows_suffice():
    """20 of 500 rows differ and the gap is 0: stats.rows_needed says how many rows show that at 0.8 alpha."""
    said = on_val(scored("slm", GOOD))
    needed = stats.rows_needed(20 / 500, 0.05, alpha=0.04, power=0.8)
    assert (said["rows_needed"], said["level"], said["rows"]) == (needed, 0.04, 500)
    assert (said["promising"], said["goes_on"]) == (True, False)
    seen = [Val(name, one["gap"], one["discordance"]) for name, one in said["metrics"].items()]
    drawn = promising(seen, N, margin=0.05, alpha=0.04, power=0.8)
    assert drawn.rows_needed == said["rows_needed"], "what benchmarks/false_swap.py simulates"
    assert not on_val(scored("slm", GOOD), test_rows=needed - 1)["promising"]
    assert on_val(scored("slm", GOOD), test_rows=needed)["promising"]
    assert on_val(scored("tuned", GOOD), trained=True)["level"] == 0.05
    assert f"about {needed} test rows would show it, and there are 500" in said["reason"]


def test_what_val_says_is_read_as_it_was_written(tmp_path: Path):
    said = on_val(scored("slm", GOOD))
    artefacts.write(Trial, tmp_path / "slm.json", said)
    assert artefacts.read(Trial, tmp_path / "slm.json") == said
    assert evidence.read_trials([str(tmp_path / "slm.json")]) == {"slm": said}


def test_val_goes_on_where_the_gap_is_too_large():
    said = on_val(scored("slm", BAD))
    assert (said["promising"], said["goes_on"], said["rows_needed"]) == (False, True, None)
    assert (
        said["reason"]
        == f"on 500 rows of val it is 34 points below the teacher on {label('ast_match_rate')}, and 5 points are allowed"
    )


def test_val_stops_where_its_numbers_cannot_be_trusted():
    lost = scored("slm", GOOD, outcomes=dict.fromkeys(range(100), "error"))
    silent = scored("teacher", GOOD, outcomes=dict.fromkeys(range(100), "error"))
    for said in (on_val(lost), on_val(scored("slm", GOOD), teacher=silent)):
        assert (said["promising"], said["goes_on"]) == (False, False)
        assert "answered" in said["reason"]


def stepped(trials: dict[str, Trial], *contenders: Scored, policy: str = "auto") -> Gate:
    held = rule(family="sequence", configured=CONFIGURED, policy=policy)
    return gate.judge(held, LADDER[:2], TEACHER, contenders, floors(N), trials=trials, made_from={})


@pytest.mark.parametrize(
    ("promise_of", "scores", "following", "fine_tune"),
    [
        ((False, None), (BAD,), "guided", 0),  # by hand: the graph has guided by then
        ((False, False), (BAD, BAD), "tuned", 1),
        ((False, False), (GOOD, GOOD), "tuned", 1),  # test has no say in what is built
        ((False, True), (BAD, GOOD), None, 0),
        ((False, True), (BAD, BAD), "tuned", 1),  # but for one more above a nominee that it does not confirm
        ((True, None), (GOOD,), None, 0),
        ((True, None), (CLOSE,), "guided", 0),
    ],
)
def test_what_is_built_after_the_gate(promise_of: Any, scores: Any, following: str | None, fine_tune: int):
    names = [name for name, promising in zip(("slm", "guided"), promise_of, strict=True) if promising is not None]
    trials = {name: trial_of(name, promising=bool(p)) for name, p in zip(names, promise_of, strict=False)}
    made = stepped(trials, *(scored(name, given) for name, given in zip(names, scores, strict=True)))
    assert (made["next"], made["fine_tune"]) == (following, fine_tune)


def test_the_gate_rests_on_the_contender_that_comes_closest():
    """Not on the dearest: examples may well hurt a model."""
    trials = {name: trial_of(name, promising=False) for name in ("slm", "guided")}
    assert stepped(trials, scored("slm", wrong(N, range(100))), scored("guided", BAD))["decisive"] == "slm"
    assert stepped(trials, scored("slm", BAD), scored("guided", wrong(N, range(100))))["decisive"] == "guided"


def test_numbers_that_cannot_be_trusted_build_nothing_more():
    trials = {"slm": trial_of("slm", promising=False, goes_on=False)}
    assert stepped(trials, scored("slm", BAD))["next"] is None
    promised = {"slm": trial_of("slm", promising=True)}
    lost = scored("slm", GOOD, outcomes=dict.fromkeys(range(100), "error"))
    assert stepped(promised, lost)["next"] is None


def test_never_builds_nothing_that_is_trained():
    trials = {name: trial_of(name, promising=False) for name in ("slm", "guided")}
    made = stepped(trials, scored("slm", BAD), scored("guided", BAD), policy="never")
    assert (made["next"], made["fine_tune"]) == (None, 0)


def test_the_verdict_says_how_far_the_ladder_was_climbed_and_why():
    trials = {"slm": trial_of("slm", promising=False), "guided": trial_of("guided", promising=True)}
    contenders = [scored("slm", BAD), scored("guided", BAD), scored("tuned", GOOD)]
    held = climb.held(rule(family="sequence", configured=CONFIGURED), trials, [one.name for one in contenders])
    assert (held.nominee, held.further, held.passed_over) == ("guided", True, ("slm",))
    known = Known(LADDER, trials, {}, {}, None)
    rows = Rows(TEACHER, tuple(contenders), tuple(floors(N)))
    made = decide(held, LADDER, rows, sheet(N), known=known, made_from={})["climb"]
    assert made is not None
    assert (made["nominee"], made["further"]) == ("guided", "tuned")
    assert made["stopped"] == (
        "building stopped at the guided, which promised to pass: val says so of guided; test did not confirm it, so the tuned was built too"
    )
    assert [(step["built"], step["val"] and step["val"]["gap"]) for step in made["rungs"].values()] == [
        (True, 0.1),
        (True, 0.1),
        (True, None),
    ]
    assert made["rungs"]["tuned"]["why"] == "passed on test, built because test did not confirm the guided"


def test_what_was_not_needed_was_not_built():
    trials = {"slm": trial_of("slm", promising=True)}
    held = climb.held(rule(family="sequence", configured=CONFIGURED), trials, ["slm"])
    rows = Rows(TEACHER, (scored("slm", GOOD),), tuple(floors(N)))
    made = decide(held, LADDER[:1], rows, sheet(N), known=Known(LADDER, trials, {}, {}, None), made_from={})
    assert made["deploy"] == "slm"
    assert made["climb"] is not None
    assert made["climb"]["rungs"]["tuned"]["why"] == "not built: the slm comes before it"
    assert made["family"] is not None
    assert made["family"]["rungs"]["tuned"]["p"] is None
