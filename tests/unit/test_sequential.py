"""Looks: their levels against published ones, when they stop, what they cost."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledgling import stats
from fledgling.bought import order
from fledgling.decision import sequential
from fledgling.decision.sequential import Plan, decide_at, expected, nominal_levels, plan, spent

quick = settings(deadline=None, max_examples=20)
EVEN = {k: tuple((place + 1) / k for place in range(k)) for k in (2, 3, 4, 5)}


def bounds(shares: tuple[float, ...], cumulative: list[float]) -> list[float]:
    return [-NormalDist().inv_cdf(level) for level in nominal_levels(shares, tuple(cumulative))]


@pytest.mark.parametrize(
    ("shares", "spending", "published"),
    [
        # gsDesign::gsDesign(test.type = 1, alpha = 0.025, sfu = …)$upper$bound
        (EVEN[3], "sfLDOF", (3.710303, 2.511427, 1.993048)),  # gsDesign2, article check_gs_power_npe
        (EVEN[4], "sfLDOF", (4.332634, 2.963131, 2.359044, 2.014090)),
        (EVEN[2], "sfLDOF", (2.962588, 1.968596)),
        ((0.5, 0.75, 1.0), "sfLDOF", (2.962588, 2.359018, 2.014084)),  # gsdmvn, reference of gs_b
        (EVEN[4], "sfLDPocock", (2.368328, 2.367524, 2.358168, 2.350036)),
        (EVEN[3], "sfHSD(1)", (2.283141, 2.284441, 2.301255)),
        (EVEN[5], "sfPower(2)", (3.090232, 2.714112, 2.472777, 2.279863, 2.114028)),
    ],
)
def test_levels_are_those_of_gsdesign(shares: tuple[float, ...], spending: str, published: tuple[float, ...]):
    alpha = 0.025
    functions = {
        "sfLDOF": lambda t: spent("obrien_fleming", t, alpha),
        "sfLDPocock": lambda t: spent("pocock", t, alpha),
        "sfHSD(1)": lambda t: alpha * (1 - math.exp(-t)) / (1 - math.exp(-1)),
        "sfPower(2)": lambda t: alpha * t**2,
    }
    assert bounds(shares, [functions[spending](share) for share in shares]) == pytest.approx(published, abs=1e-4)


def test_levels_of_the_looks_that_a_user_gets():
    """As in docs/decision.md; linear spending over doubling looks."""
    made = plan(2000, alpha=0.05)
    assert made.looks == (63, 125, 250, 500, 1000, 2000)
    assert made.levels == pytest.approx((0.0016, 0.0019, 0.0037, 0.0077, 0.0159, 0.0335), abs=5e-5)
    assert plan(500, alpha=0.05).levels == pytest.approx((0.0063, 0.0080, 0.0161, 0.0336), abs=5e-5)
    assert made.futile[-1] == 0


@quick
@given(
    st.integers(1, 5000), st.sampled_from([0.01, 0.04, 0.05]), st.sampled_from(["linear", "obrien_fleming", "pocock"])
)
def test_levels_spend_alpha_and_no_more(rows: int, alpha: float, spending: sequential.Spending):
    made = plan(rows, alpha=alpha, spending=spending)
    assert all(0 < level <= alpha + 1e-12 for level in made.levels)
    assert sum(made.levels) >= alpha - 1e-9  # dependent looks: the levels add up to more than what they spend
    assert max(made.levels) < alpha or len(made.looks) == 1
    assert len(made.looks) == len(made.levels) == len(made.futile)


def test_what_is_spent_is_what_brownian_motion_spends():
    made = plan(1000, alpha=0.05)
    rng = np.random.default_rng(1)
    steps = np.diff(np.array([0, *made.looks])) / made.rows
    paths = (rng.standard_normal((200_000, len(steps))) * np.sqrt(steps)).cumsum(axis=1)
    z = paths / np.sqrt(np.array(made.looks) / made.rows)
    limits = np.array([-NormalDist().inv_cdf(level) for level in made.levels])
    crossed = np.maximum.accumulate(z > limits, axis=1).mean(axis=0)
    assert crossed == pytest.approx([0.05 * look / 1000 for look in made.looks], abs=0.002)


def test_doubling_looks():
    assert sequential.doubling(500) == (63, 125, 250, 500)
    assert sequential.doubling(119) == (119,)
    assert sequential.doubling(120) == (60, 120)
    assert sequential.doubling(1) == (1,)
    with pytest.raises(ValueError, match="nothing to look at"):
        sequential.doubling(0)


# the order of buying ---------------------------------------------------------------------------------------------


def test_rows_are_bought_in_an_order_that_others_do_not_change():
    groups = [f"g{place % 40}" for place in range(200)]
    bought = [groups[place] for place in order(groups, "key")]
    assert sorted(bought) == sorted(groups)
    assert [a for a, b in zip(bought, ["", *bought], strict=False) if a != b] == list(dict.fromkeys(bought))  # whole
    more = [*groups, *["new"] * 3]
    assert [more[place] for place in order(more, "key") if more[place] != "new"] == bought
    assert order(groups, "key") != order(groups, "other")


def test_looks_end_where_groups_end():
    groups = [place // 7 for place in range(700)]
    made = plan(groups, alpha=0.05)
    assert all(look % 7 == 0 for look in made.looks)
    assert made.looks == (91, 175, 350, 700)
    assert plan(["one"] * 300, alpha=0.05).looks == (300,)


# deciding --------------------------------------------------------------------------------------------------------

MADE = plan(500, alpha=0.05)


def test_looks_come_one_after_the_other_and_end():
    assert [sequential.next_look(MADE, rows) for rows in (0, 62, 63, 100, 250, 500, 600)] == [
        63,
        63,
        125,
        125,
        500,
        None,
        None,
    ]
    assert sequential.level_at(MADE, 250) == MADE.levels[2]
    with pytest.raises(ValueError, match="looks are at 63, 125, 250, 500"):
        sequential.level_at(MADE, 200)


def test_the_answer_is_settled_once_the_cheapest_left_has_passed():
    states = [("slm", "futile"), ("tuned", "passed")]
    result = decide_at(MADE, 125, states)
    assert (result.stop, result.deploy, result.next_look) == (True, "tuned", None)
    waits = decide_at(MADE, 125, [("slm", "open"), ("tuned", "passed")])
    assert (waits.stop, waits.deploy, waits.next_look) == (False, "tuned", 250)
    end = decide_at(MADE, 500, [("slm", "open"), ("tuned", "passed")])
    assert (end.stop, end.deploy) == (True, "tuned")
    none = decide_at(MADE, 63, [("slm", "futile"), ("tuned", "futile")])
    assert (none.stop, none.deploy) == (True, None)
    assert none.reason == "no contender can catch up after 63 of 500 rows"
    assert decide_at(MADE, 500, [("slm", "open")]).deploy is None


def gap_of(b: int, c: int, n: int) -> stats.Gap:
    return stats.paired_gap([1] * b + [0] * c + [1] * (n - b - c), [0] * b + [1] * c + [1] * (n - b - c), alpha=0.05)


def test_futility_needs_a_gap_above_the_margin_that_an_equal_contender_would_not_show():
    assert sequential.behind(gap_of(22, 6, 125)) == pytest.approx((22 - 6) / math.sqrt(28))
    assert sequential.futile(MADE, 125, [gap_of(22, 6, 125)], 0.05)
    assert not sequential.futile(MADE, 125, [gap_of(22, 6, 125)], 0.15)  # z is large, the gap below the margin
    assert not sequential.futile(MADE, 125, [gap_of(9, 2, 125)], 0.05)  # 5.6 points, but it may be chance
    assert not sequential.futile(MADE, 500, [gap_of(300, 6, 500)], 0.05)  # at the end the gate decides
    assert not sequential.futile(MADE, 125, [gap_of(0, 0, 125)], 0.05)
    assert sequential.futile(MADE, 125, [gap_of(0, 0, 125), gap_of(30, 3, 125)], 0.05)


def test_copies_of_rows_are_no_more_futile_than_the_rows():
    one = gap_of(22, 6, 125)
    twice = stats.paired_gap(
        [1] * 44 + [0] * 12 + [1] * 194,
        [0] * 44 + [1] * 12 + [1] * 194,
        [*np.repeat(range(22), 2), *np.repeat(range(100, 106), 2), *np.repeat(range(200, 297), 2)],
        alpha=0.05,
    )
    assert sequential.behind(twice) == pytest.approx(sequential.behind(one), rel=0.02)


# the price before a call -----------------------------------------------------------------------------------------


def simulated(made: Plan, discordance: float, gap: float, draws: int = 4000) -> tuple[float, float, float]:
    """Mean and median of the rows asked, and how many pass, with the gate's normal-theory bound."""
    rng = np.random.default_rng(5)
    shares = [(discordance + gap) / 2, (discordance - gap) / 2, 1 - discordance]
    used, passed, live = np.zeros(draws), np.zeros(draws, bool), np.ones(draws, bool)
    b = c = np.zeros(draws)
    before = 0
    for look, level, give in zip(made.looks, made.levels, made.futile, strict=True):
        step = rng.multinomial(look - before, shares, size=draws)
        b, c, before = b + step[:, 0], c + step[:, 1], look
        used[live] = look
        good = live & (stats.tango_z(b, c, look, 0.05) < NormalDist().inv_cdf(level))
        passed |= good
        bad = np.zeros(draws, bool)
        if give:
            z = (b - c) / np.sqrt(np.maximum(b + c, 1))
            bad = live & ((b - c) / look > 0.05) & (z > -NormalDist().inv_cdf(give))
        live &= ~good & ~bad
    return float(used.mean()), float(np.median(used)), float(passed.mean())


@pytest.mark.parametrize(("rows", "discordance"), [(500, 0.1), (500, 0.3), (2000, 0.05), (2000, 0.2)])
@pytest.mark.parametrize("gap", [-0.02, 0.0, 0.05, 0.1])
def test_the_price_is_what_simulation_says(rows: int, discordance: float, gap: float):
    if gap > discordance:
        return
    made = plan(rows, alpha=0.05)
    guess = expected(made, margin=0.05, discordance=discordance, gap=gap)
    mean, median, passed = simulated(made, discordance, gap)
    assert guess.mean == pytest.approx(mean, rel=0.2)
    assert guess.passes == pytest.approx(passed, abs=0.05)
    assert guess.median in {median, *(look for look in made.looks if look == 2 * median or 2 * look == median)}
    assert (guess.fewest, guess.most) == (63, rows)
    assert guess.passes + guess.given_up <= 1 + 1e-6


def test_what_looks_save():
    """An equal contender needs at most 0.4 of the rows, one ten points behind an eighth (medians, discordance 20 %)."""
    made = plan(2000, alpha=0.05)
    assert simulated(made, 0.2, 0.0)[1] <= 0.4 * 2000
    assert simulated(made, 0.2, 0.1)[1] <= 2000 / 8


def test_the_dry_run_says_the_price():
    made = plan(2000, alpha=0.05)
    said = sequential.in_words(made, expected(made, margin=0.05, discordance=0.2))
    assert said == "63 to 2,000 calls, about 710 if the contender is as good (discordance 20 %)"
    few = plan(100, alpha=0.05)
    assert "too few rows" in sequential.in_words(few, expected(few, margin=0.05, discordance=0.2))


def test_a_look_after_the_end_is_another_verdict():
    said = sequential.after_the_end(MADE, 2)
    assert "verdict number 2" in said
    assert "up to 10 %" in said


def test_wrong_input_is_refused():
    for call in (
        lambda: plan(100, alpha=0.6),
        lambda: nominal_levels((0.5, 0.4, 1.0), (0.01, 0.02, 0.05)),
        lambda: nominal_levels((0.5, 1.0), (0.05, 0.05)),
        lambda: expected(MADE, margin=0.05, discordance=0.05, gap=0.1),
        lambda: decide_at(MADE, 125, []),
    ):
        with pytest.raises(ValueError, match=r"alpha|shares|spends|discordance|contenders"):
            call()


def test_the_levels_of_a_share_of_alpha_are_those_of_a_plan_of_its_own():
    """Holm's shares are spent over the same looks; a share of the level would be another number."""
    for share in (2, 3, 5):
        own = plan(2000, alpha=0.05 / share)
        for rows, level in zip(own.looks, own.levels, strict=True):
            assert sequential.level_for(plan(2000, alpha=0.05), rows, 0.05 / share) == pytest.approx(level, abs=1e-12)
    assert sequential.planned_at(MADE.looks, alpha=MADE.alpha) == MADE


def test_what_is_expected_is_a_share_of_every_look():
    found = expected(plan(2000, alpha=0.05), margin=0.05, discordance=0.2)
    assert sum(found.shares) == pytest.approx(1, abs=1e-3)
    assert sum(look * share for look, share in zip(plan(2000, alpha=0.05).looks, found.shares, strict=True)) == (
        pytest.approx(found.mean)
    )
