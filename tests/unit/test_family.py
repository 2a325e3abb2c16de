"""One error rate for all contenders: which pass, at which level, and why it ends there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledgling import stats
from fledgling.decision import family
from fledgling.decision.family import Evidence, Val, settle

quick = settings(deadline=None, max_examples=60)
NAMES = ("slm", "guided", "fewshot", "tuned")


def ladder(*p: float | None) -> list[Evidence]:
    return [Evidence(name, value, "ast_match_rate") for name, value in zip(NAMES, p, strict=False)]


@st.composite
def ladders(draw: st.DrawFn) -> list[Evidence]:
    values = draw(st.lists(st.floats(0, 1), min_size=1, max_size=8))
    return [Evidence(f"c{place}", value, "m") for place, value in enumerate(values)]


# the fixed sequence ----------------------------------------------------------------------------------------------


def test_the_sequence_goes_down_from_the_nominee_and_stops_at_the_first_that_fails():
    result = settle("sequence", ladder(0.001, 0.2, 0.01, None), alpha=0.05, nominee="fewshot")
    assert result.passed == ("fewshot",)
    assert result.cheapest == "fewshot"
    assert [(rung.tested, rung.level) for rung in result.rungs] == [
        (False, 0),
        (True, pytest.approx(0.04)),
        (True, pytest.approx(0.04)),
        (False, 0),
    ]
    assert result.of("slm").why == "not tested: guided did not pass"
    assert result.stopped == "guided did not pass at 4 %, so fewshot is the cheapest that did, and slm was not tested"


def test_the_cheapest_of_all_that_passed_is_deployed():
    result = settle("sequence", ladder(0.03, 0.01, 0.01, None), alpha=0.05, nominee="fewshot")
    assert result.passed == ("slm", "guided", "fewshot")
    assert (result.cheapest, result.of("tuned").why) == ("slm", "not needed")


def test_where_the_nominee_fails_one_rung_above_it_has_the_rest():
    """0.2 of 5 % is 1 %."""
    for p, passes in ((0.009, True), (0.011, False)):
        result = settle("sequence", ladder(0.001, 0.041, p, 0.0001), alpha=0.05, nominee="guided")
        assert result.passed == (("fewshot",) if passes else ())
        assert result.of("fewshot").level == pytest.approx(0.01)
        assert not result.of("tuned").tested
        assert not result.of("slm").tested  # passing alone it would be deployed, but it was not its turn
    unbuilt = settle("sequence", ladder(0.001, 0.5, None, None), alpha=0.05, nominee="guided")
    assert unbuilt.stopped == "guided did not pass at 4 %, and fewshot was not built, so slm was not tested"


def test_a_hopeless_contender_does_not_stand_in_the_way_of_a_cheaper_one():
    """Examples hurt the model: the sequence goes on below them, as val alone says so."""
    found = ladder(0.9, 0.01, 1.0, 0.001)
    assert settle("sequence", found, alpha=0.05).passed == ("tuned",)
    result = settle("sequence", found, alpha=0.05, passed_over={"fewshot"})
    assert result.passed == ("guided", "tuned")
    assert result.of("fewshot").why == "not tested: on val its gap is above the margin"
    assert result.stopped == "slm did not pass at 5 %, so guided is the cheapest that did"
    alone = settle("sequence", found, alpha=0.05, nominee="fewshot", passed_over={"fewshot"}, further=False)
    assert alone.of("fewshot").tested, "the nominee is always tested"


@quick
@given(ladders(), st.data())
def test_passing_over_tests_at_the_same_level(found: list[Evidence], data: st.DataObject):
    over = {one.name for one in found[:-1] if data.draw(st.booleans())}
    some = settle("sequence", found, alpha=0.05, passed_over=over)
    rest = settle("sequence", [one for one in found if one.name not in over], alpha=0.05)
    assert some.passed == rest.passed


def test_the_last_contender_as_nominee_has_all_of_alpha():
    assert settle("sequence", ladder(0.9, 0.9, 0.9, 0.045), alpha=0.05).passed == ("tuned",)
    assert settle("sequence", ladder(0.9, 0.9, 0.045, None), alpha=0.05, nominee="fewshot").passed == ()


def test_one_contender_is_held_to_alpha_by_every_family():
    for name in family.FAMILIES:
        assert settle(name, ladder(0.05), alpha=0.05).passed == ("slm",)
        assert settle(name, ladder(0.0501), alpha=0.05).passed == ()


# the others ------------------------------------------------------------------------------------------------------


def test_holm_is_stats_holm():
    values = (0.012, 0.2, 0.02, 0.004)
    result = settle("holm", ladder(*values), alpha=0.05)
    adjusted = stats.holm(values)
    assert [rung.passed for rung in result.rungs] == [p <= 0.05 for p in adjusted]
    assert result.passed == ("slm", "fewshot", "tuned")
    assert result.of("tuned").level == pytest.approx(0.0125)


def test_holm_counts_what_was_not_built():
    """Whether a rung was built may hang on test rows that failed; it takes its share all the same."""
    assert settle("holm", ladder(0.02), alpha=0.05).passed == ("slm",)
    assert settle("holm", ladder(0.02, None, None, None), alpha=0.05).passed == ()


def test_each_is_the_rule_of_old():
    result = settle("each", ladder(0.06, 0.04, None, 0.001), alpha=0.05)
    assert (result.passed, result.cheapest) == (("guided", "tuned"), "guided")
    assert result.stopped == "guided is the cheapest that passed, each at 5 %"


@quick
@given(ladders(), st.floats(0.01, 0.2))
def test_no_family_passes_what_each_does_not(found: list[Evidence], alpha: float):
    each = set(settle("each", found, alpha=alpha).passed)
    for place in range(len(found)):
        assert set(settle("sequence", found, alpha=alpha, nominee=found[place].name).passed) <= each
    assert set(settle("holm", found, alpha=alpha).passed) <= each


@quick
@given(ladders(), st.sampled_from(family.FAMILIES), st.data())
def test_better_evidence_never_takes_a_pass_away(found: list[Evidence], name: family.Name, data: st.DataObject):
    before = set(settle(name, found, alpha=0.05).passed)
    place = data.draw(st.integers(0, len(found) - 1))
    p = found[place].p
    assert p is not None
    better = [*found[:place], Evidence(found[place].name, p / 2, "m"), *found[place + 1 :]]
    assert before <= set(settle(name, better, alpha=0.05).passed)


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(0, 7), st.sampled_from(["sequence", "holm"]))
def test_bonferroni_bounds_the_worst_case_that_a_sequence_or_holm_may_pass(
    p: list[float], place: int, name: family.Name
):
    """Whatever passes first did so at the one level it could meet: nothing is tested twice at another level."""
    found = [Evidence(f"c{index}", value, "m") for index, value in enumerate(p)]
    result = settle(name, found, alpha=0.05, nominee=found[min(place, len(p) - 1)].name)
    tested = [rung for rung in result.rungs if rung.tested]
    assert len({rung.name for rung in tested}) == len(tested)
    assert all(rung.level <= 0.05 + 1e-12 for rung in tested)
    if name == "sequence":
        failed = [rung.level for rung in tested if not rung.passed]
        assert len(failed) <= 2
        assert sum(failed) <= 0.05 + 1e-12  # what can go wrong: one level for each branch, together alpha


def test_wrong_input_is_refused():
    for call in (
        lambda: settle("each", [], alpha=0.05),
        lambda: settle("each", ladder(0.1) * 2, alpha=0.05),
        lambda: settle("sequence", ladder(0.1, 0.2), alpha=0.05, nominee="tuned"),
        lambda: settle("best", ladder(0.1), alpha=0.05),  # type: ignore[arg-type]
        lambda: settle("each", ladder(0.1), alpha=0.7),
        lambda: family.evidence("slm", {}, {}),
        lambda: family.promising([], 100, margin=0.05, alpha=0.05, power=0.8),
    ):
        with pytest.raises(ValueError, match=r"contenders|nominee|decision\.family|alpha|no core metric"):
            call()


# p-values --------------------------------------------------------------------------------------------------------


def test_the_worst_metric_or_floor_speaks_for_a_contender():
    found = family.evidence("slm", {"ast": 0.01, "f1": 0.02}, {"floor-echo": {"ast": 0.03, "f1": 0.001}})
    assert (found.p, found.rests_on) == (0.03, "ast against floor-echo")
    assert family.evidence("slm", {"ast": 0.01}, {}, sound=False).p == 1


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[float], list[float], list[int] | None, list[int] | None]:
    binary = draw(st.booleans())
    scores = st.sampled_from([0, 1] if binary else [0, 0.25, 0.5, 1])
    n = draw(st.integers(2, 60))
    rows = st.lists(scores, min_size=n, max_size=n)
    groups = draw(st.one_of(st.none(), st.lists(st.integers(0, 9), min_size=n, max_size=n)))
    weights = draw(st.one_of(st.none(), st.lists(st.integers(1, 5), min_size=n, max_size=n)))
    return draw(rows), draw(rows), groups, weights


@quick
@given(pairs(), st.floats(0.01, 0.4), st.floats(0.005, 0.45))
def test_a_p_value_is_the_level_at_which_the_gate_turns(data, margin: float, alpha: float):
    """Inverted exactly: at any level the gate passes where p is at most the level, and only there."""
    teacher, contender, groups, weights = data
    extra = {"resamples": 500, "weights": weights}
    p = stats.non_inferiority_p(teacher, contender, groups, margin=margin, **extra)
    gap = stats.paired_gap(teacher, contender, groups, alpha=alpha, **extra)
    if abs(p - alpha) > 1e-9:
        assert stats.non_inferior(gap, margin, alpha=alpha) == (p <= alpha)
    above = stats.superiority_p(teacher, contender, groups, **extra)
    if abs(above - alpha) > 1e-9:
        assert stats.better(gap, alpha=alpha) == (above <= alpha)


@quick
@given(pairs(), st.floats(0.01, 0.3), st.floats(0.01, 0.3))
def test_a_larger_margin_never_raises_p(data, one: float, other: float):
    teacher, contender, groups, weights = data
    p = [
        stats.non_inferiority_p(teacher, contender, groups, margin=margin, resamples=300, weights=weights)
        for margin in sorted((one, other))
    ]
    assert p[1] <= p[0] + 1e-9


@quick
@given(pairs(), st.data())
def test_a_contender_that_gets_another_row_right_never_raises_p(data, more: st.DataObject):
    teacher, contender, groups, weights = data
    place = more.draw(st.integers(0, len(contender) - 1))
    better = [*contender]
    better[place] = 1
    extra = {"margin": 0.1, "resamples": 2000, "weights": weights}
    before = stats.non_inferiority_p(teacher, contender, groups, **extra)
    after = stats.non_inferiority_p(teacher, better, groups, **extra)
    counted = groups is None and weights is None and {*contender, *teacher} <= {0, 1}
    assert after <= before + (1e-9 if counted else 0.06)  # the noise of resampling


def test_p_values_are_exact_at_the_margin():
    """A true gap of exactly the margin: p is at most u with chance at most u, over all tables of 40 rows."""
    n, margin = 40, 0.1
    tables = [(b, c, stats.inferiority_p(b, c, n, margin)) for b in range(15) for c in range(15)]
    for discordance in (0.1, 0.15, 0.3):
        up, down = (discordance + margin) / 2, (discordance - margin) / 2
        for level in (0.01, 0.04, 0.05, 0.2):
            rng = np.random.default_rng(3)
            draws = rng.multinomial(n, [up, down, 1 - up - down], size=20_000)[:, :2]
            passed = {(b, c) for b, c, p in tables if p <= level}
            share = np.mean([tuple(draw) in passed for draw in draws.tolist()])
            assert share <= level + 3 * np.sqrt(level * (1 - level) / 20_000)


def test_p_is_the_larger_of_tangos_and_the_exact_one():
    """Either may be the stricter: without discordant rows the exact test, with many of them Tango's."""
    rows = [1] * 21 + [0] * 6 + [1] * 473, [0] * 21 + [1] * 6 + [1] * 473
    near = stats._NORMAL.cdf(float(stats.tango_z(21, 6, 500, 0.05)))
    assert stats.inferiority_p(21, 6, 500, 0.05) < near == stats.non_inferiority_p(*rows, margin=0.05)
    flat = stats.non_inferiority_p([1] * 55, [1] * 55, margin=0.05)
    assert flat == stats.inferiority_p(0, 0, 55, 0.05) > 0.05


def test_no_p_is_finer_than_the_resamples():
    scores = [0.5] * 400
    assert stats.non_inferiority_p(scores, [0.6] * 400, margin=0.3, resamples=100) == 0.01
    assert stats.non_inferiority_p([1, 1], [1, 1], ["a", "a"], margin=0.3) == 1


# building on val -------------------------------------------------------------------------------------------------


def val(gap: float, discordance: float = 0.2, metric: str = "ast", **more: float) -> Val:
    return Val(metric, gap, discordance, **more)


def test_promising_is_rows_needed_against_the_rows_there_are():
    """A fifth discordant, margin 5: 495 rows (docs/decision.md)."""
    found = family.promising([val(0.0)], 495, margin=0.05, alpha=0.05, power=0.8)
    assert (found.promising, found.rows_needed) == (True, 495)
    assert not family.promising([val(0.0)], 494, margin=0.05, alpha=0.05, power=0.8).promising
    assert family.promising([val(-0.3)], 495, margin=0.05, alpha=0.05, power=0.8).rows_needed == 495
    assert family.promising([val(0.0, design_effect=2.0)], 989, margin=0.05, alpha=0.05, power=0.8).rows_needed == 990
    assert family.promising([val(0.02)], 1374, margin=0.05, alpha=0.05, power=0.8).promising


def test_every_core_metric_has_to_promise():
    found = family.promising([val(0.0, 0.02), val(0.0, 0.2, "f1")], 200, margin=0.05, alpha=0.05, power=0.8)
    assert (found.promising, found.rests_on) == (False, "f1")
    lost = family.promising([val(0.0, 0.02), val(0.05, 0.2, "f1")], 10**6, margin=0.05, alpha=0.05, power=0.8)
    assert (lost.promising, lost.rows_needed) == (False, None)
    assert lost.reason == "on val it is 5 points below the teacher on f1"


def test_building_stops_at_the_first_that_promises():
    good, bad = (family.Prospect(promising, 1, "m", "") for promising in (True, False))
    assert family.nominate({}, NAMES) == "slm"  # to be built next
    assert family.nominate({"slm": bad}, NAMES) == "guided"
    assert family.nominate({"slm": bad, "guided": good}, NAMES) == "guided"
    assert family.nominate(dict.fromkeys(NAMES, bad), NAMES) == "tuned"


def test_the_level_that_a_nominee_would_meet():
    assert family.level_of_nominee("sequence", 0.05, 4, 1) == pytest.approx(0.04)
    assert family.level_of_nominee("sequence", 0.05, 4, 3) == 0.05
    assert family.level_of_nominee("holm", 0.05, 4, 1) == 0.0125
    assert family.level_of_nominee("each", 0.05, 4, 1) == 0.05


def test_the_promise_is_one_sentence_with_one_number():
    assert family.promise("sequence", 0.05, 5).endswith("at most 5 %, however many contenders are judged.")
    assert "is up to 25 %" in family.promise("each", 0.05, 5)
    assert family.promise("each", 0.05, 1) == family.promise("holm", 0.05, 7)
    assert [family.risk(name, 0.05, 3, looks=2) for name in family.FAMILIES] == pytest.approx([0.1, 0.1, 0.3])
