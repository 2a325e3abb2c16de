"""Intervals and tests against published values, brute force and simulation."""

import doctest
import math
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledgling import stats

quick = settings(deadline=None, max_examples=60)


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(2, 400))
    b = draw(st.integers(0, n))
    return b, draw(st.integers(0, n - b)), n


def pair(b: int, c: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array([1] * b + [0] * c + [1] * (n - b - c)), np.array([0] * b + [1] * c + [1] * (n - b - c))


# Tango's interval ------------------------------------------------------------------------------------------


def test_tango_agrees_with_the_published_example():
    """Airway hyper-responsiveness, in Fagerland, Lydersen and Laake, Stat. Med. 33 (2014) 2850: −0.517 to −0.026."""
    low, high = stats.tango(1, 7, 21, alpha=0.025)
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


@quick
@given(counts(), st.sampled_from([0.01, 0.025, 0.05, 0.2]))
def test_tango_bounds_solve_the_score_equation(data: tuple[int, int, int], alpha: float):
    """The constrained estimate is searched here, not computed, and the bound is where the statistic is z."""
    b, c, n = data
    high = stats.tango(b, c, n, alpha=alpha)[1]
    assert (b - c) / n - 1e-9 <= high <= 1
    if high < 1 - 1e-6:
        q = np.linspace(max(0, -high), (1 - high) / 2, 200_001)[1:-1]
        with np.errstate(divide="ignore"):
            likelihood = b * np.log(q + high) + c * np.log(q) + (n - b - c) * np.log(1 - high - 2 * q)
        best = float(q[np.argmax(likelihood)])
        z = (b - c - n * high) / math.sqrt(n * (2 * best + high * (1 - high)))
        assert z == pytest.approx(stats._NORMAL.inv_cdf(alpha), abs=0.01)


@quick
@given(counts())
def test_tango_is_symmetric_and_nested(data: tuple[int, int, int]):
    b, c, n = data
    low, high = stats.tango(b, c, n, alpha=0.05)
    mirrored = stats.tango(c, b, n, alpha=0.05)
    assert (low, high) == (-mirrored[1], -mirrored[0])
    wide = stats.tango(b, c, n, alpha=0.01)
    assert wide[0] <= low <= (b - c) / n <= high <= wide[1]


@quick
@given(counts(), st.sampled_from([0.01, 0.05, 0.1]))
def test_bound_below_margin_is_the_score_test(data: tuple[int, int, int], margin: float):
    b, c, n = data
    z = float(stats.tango_z(b, c, n, margin))
    if abs(z - stats._NORMAL.inv_cdf(0.05)) > 1e-6:
        assert (stats.tango(b, c, n, alpha=0.05)[1] < margin) == (z < stats._NORMAL.inv_cdf(0.05))


# the exact test --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("b", "c", "n", "margin"), [(0, 0, 30, 0.1), (1, 2, 25, 0.1), (2, 1, 40, 0.2), (0, 3, 12, 0.3)]
)
def test_exact_p_value_agrees_with_enumeration(b: int, c: int, n: int, margin: float):
    grid = np.linspace(0, (1 - margin) / 2, 400)
    observed = float(stats.tango_z(b, c, n, margin))
    worst = np.zeros_like(grid)
    for x, y in product(range(n + 1), repeat=2):
        if x + y <= n and float(stats.tango_z(x, y, n, margin)) <= observed + 1e-9:
            choose = math.comb(n, x) * math.comb(n - x, y)
            worst += choose * (grid + margin) ** x * grid**y * np.maximum(1 - margin - 2 * grid, 0) ** (n - x - y)
    p = stats.inferiority_p(b, c, n, margin)
    assert p <= float(worst.max()) + 0.001 + 1e-4
    if c == 0:  # the nuisance parameter's interval holds the worst case, 0
        assert p == pytest.approx(float(worst.max()) + 0.001, abs=1e-4)


def test_rows_without_discordance_certify_only_where_the_exact_test_agrees():
    """1.05 rows in 20 would be lost at the margin: 52 rows are enough for Tango's bound, 59 for the promise."""
    for n, bound, exact in ((51, False, False), (52, True, False), (58, True, False), (59, True, True)):
        gap = stats.paired_gap([1] * n, [1] * n, alpha=0.05)
        assert (gap.high < 0.05) is bound
        assert stats.non_inferior(gap, 0.05, alpha=0.05) is exact


def test_eight_rows_certify_nothing():
    gap = stats.paired_gap([1] * 8, [1] * 8, alpha=0.05)
    assert gap.gap == 0
    assert gap.high > 0.2
    assert not stats.non_inferior(gap, 0.2, alpha=0.05)


def test_better_needs_an_exact_test_too():
    """Three discordant rows to none: Tango's bound is above 0, a fair coin does that once in eight."""
    gap = stats.paired_gap(*pair(3, 0, 50), alpha=0.05)
    assert gap.low > 0
    assert not stats.better(gap, alpha=0.05)
    assert stats.better(stats.paired_gap(*pair(5, 0, 50), alpha=0.05), alpha=0.05)


def test_mcnemar_is_scipys_binomial_test():
    from scipy.stats import binomtest

    for b, c in product(range(12), repeat=2):
        expected = binomtest(b, b + c).pvalue if b + c else 1.0
        assert stats.mcnemar_p(b, c) == pytest.approx(expected, abs=1e-12)


# paired_gap ------------------------------------------------------------------------------------------------


def test_counts_add_up():
    gap = stats.paired_gap([1, 1, 0, 0, 1], [1, 0, 1, 0, 0], alpha=0.05)
    assert gap.counts == {"both": 1, "teacher_only": 2, "contender_only": 1, "neither": 1}
    assert (gap.n, gap.method, gap.gap) == (5, "tango", 0.2)
    assert gap.discordance == 0.6


@quick
@given(st.lists(st.tuples(*[st.sampled_from([0, 0.25, 0.5, 1])] * 2), min_size=2, max_size=40), st.randoms())
def test_gap_does_not_depend_on_the_order_of_rows(rows: list[tuple[float, float]], random):
    one = stats.paired_gap([t for t, _ in rows], [c for _, c in rows], alpha=0.05, resamples=200)
    random.shuffle(rows)
    other = stats.paired_gap([t for t, _ in rows], [c for _, c in rows], alpha=0.05, resamples=200)
    assert (one.low, one.high) == (other.low, other.high)
    assert one.gap == pytest.approx(other.gap)
    assert -1 <= one.low <= one.gap + 1e-9 <= one.high + 2e-9 <= 1 + 2e-9


def test_same_call_same_interval():
    rng = np.random.default_rng(0)
    left, right = rng.random(50), rng.random(50)
    assert stats.paired_gap(left, right, alpha=0.05) == stats.paired_gap(left, right, alpha=0.05)


def test_wrong_input_is_refused():
    for teacher, contender, groups in (
        ([], [], None),
        ([1], [1, 0], None),
        ([1, 0], [1, 0], ["a"]),
        ([2.0], [1.0], None),
    ):
        with pytest.raises(ValueError, match=r"no examples|lengths differ|outside"):
            stats.paired_gap(teacher, contender, groups, alpha=0.05)
    with pytest.raises(ValueError, match="outside"):
        stats.paired_gap([float("nan")], [1.0], alpha=0.05)
    with pytest.raises(ValueError, match="alpha"):
        stats.paired_gap([1.0], [1.0], alpha=0.7)


def test_one_row_or_one_group_bounds_nothing():
    for gap in (
        stats.paired_gap([1], [1], alpha=0.05),
        stats.paired_gap([0.5], [0.2], alpha=0.05),
        stats.paired_gap([1] * 100, [1] * 100, ["a"] * 100, alpha=0.05),
    ):
        assert (gap.low, gap.high) == (-1, 1)


def test_groups_of_one_are_no_groups():
    teacher, contender = pair(9, 4, 60)
    assert stats.paired_gap(teacher, contender, list(range(60)), alpha=0.05) == stats.paired_gap(
        teacher, contender, alpha=0.05
    )


def test_repeating_every_row_in_its_group_adds_no_evidence():
    """100 records asked five times each are 100 records."""
    rng = np.random.default_rng(1)
    teacher, contender = rng.choice([0, 0.5, 1], 100), rng.choice([0, 0.5, 1], 100)
    once = stats.paired_gap(teacher, contender, alpha=0.05)
    copies = [np.repeat(values, 5) for values in (teacher, contender, np.arange(100))]
    five = stats.paired_gap(copies[0], copies[1], copies[2].tolist(), alpha=0.05)
    assert (five.low, five.high) == pytest.approx((once.low, once.high))
    assert five.design_effect == pytest.approx(5)
    naive = stats.paired_gap(copies[0], copies[1], alpha=0.05)
    assert naive.high - naive.low < 0.6 * (five.high - five.low)


def test_identical_scores_still_have_a_width():
    """Nothing but zeros among n differences: a loss of 1 on a row is possible up to 1 − alpha^(1/n)."""
    gap = stats.paired_gap([0.3] * 40, [0.3] * 40, alpha=0.05, resamples=40_000)
    assert gap.method == "bootstrap"
    assert gap.high == pytest.approx(1 - 0.05 ** (1 / 40), rel=0.03)
    assert gap.low == pytest.approx(-gap.high, rel=0.05)
    level = stats.paired_gap([0.9] * 40, [0.5] * 40, alpha=0.05)
    assert level.low < 0.4 < level.high


def test_bootstrap_of_zeros_and_ones_is_clopper_pearson():
    from scipy.special import betaincinv

    low, high = stats.mean_interval([1] * 7 + [0] * 23, level=0.9, resamples=100_000)
    assert low == pytest.approx(betaincinv(7, 24, 0.05), abs=0.003)
    assert high == pytest.approx(betaincinv(8, 23, 0.95), abs=0.003)


def test_many_different_values_are_merged_without_loss(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(5)
    left, right = rng.random(6000), rng.random(6000)
    monkeypatch.setattr(stats, "_KINDS", 10_000)
    apart = stats.paired_gap(left, right, alpha=0.05, resamples=2000)
    monkeypatch.setattr(stats, "_KINDS", 500)
    merged = stats.paired_gap(left, right, alpha=0.05, resamples=2000)
    assert (merged.low, merged.high) == pytest.approx((apart.low, apart.high), abs=6e-4)


def test_bootstrap_of_many_rows_is_the_normal_interval():
    rng = np.random.default_rng(2)
    difference = rng.uniform(-0.2, 0.3, 4000)
    gap = stats.paired_gap(np.maximum(difference, 0), np.maximum(-difference, 0), alpha=0.05, resamples=4000)
    half = 1.645 * difference.std() / math.sqrt(4000)
    assert gap.high - gap.gap == pytest.approx(half, rel=0.1)
    assert gap.gap - gap.low == pytest.approx(half, rel=0.1)


# planning --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("margin", "rows"), [(0.01, 12_366), (0.05, 495), (0.1, 124)])
def test_rows_needed_at_a_fifth_discordant(margin: float, rows: int):
    assert stats.rows_needed(0.2, margin, alpha=0.05, power=0.8) == rows


@quick
@given(st.floats(0, 1), st.floats(0.01, 0.3), st.sampled_from(["tango", "bootstrap"]))
def test_rows_needed_is_monotone(discordance: float, margin: float, method: str):
    def needed(d: float, m: float, power: float = 0.8, gap: float = 0.0) -> int:
        return stats.rows_needed(d, m, alpha=0.05, power=power, gap=gap, method=method)

    rows = needed(discordance, margin)
    assert rows >= math.log(0.05) / math.log(1 - margin)
    assert needed(min(1.0, discordance * 1.2 + 0.01), margin) >= rows
    assert needed(discordance, margin * 1.2) <= rows
    assert needed(discordance, margin, power=0.9) >= rows
    assert needed(discordance, margin, gap=margin / 3) >= rows


def test_no_number_of_rows_closes_a_real_gap():
    with pytest.raises(ValueError, match="no number of rows"):
        stats.rows_needed(0.2, 0.05, alpha=0.05, power=0.8, gap=0.05)
    with pytest.raises(ValueError, match="no number of rows"):
        stats.rows_to_separate(0.2, 0.0, alpha=0.05, power=0.8)
    with pytest.raises(ValueError, match="out of range"):
        stats.rows_needed(0.2, 0.0, alpha=0.05, power=0.8)


# the promise, in short; benchmarks/false_swap.py is the long version ------------------------------------------


@pytest.mark.parametrize("n", [20, 55, 200, 2000])
@pytest.mark.parametrize(("discordance", "margin"), [(0.02, 0.02), (0.05, 0.05), (0.1, 0.05), (0.4, 0.05)])
def test_false_swaps_stay_below_alpha(benchmark, n: int, discordance: float, margin: float):
    rng = np.random.default_rng(n)
    gate, point = benchmark.binary(n, discordance, margin, margin, 0.05, 10_000, rng)
    assert gate <= benchmark.tolerance(0.05, 10_000)
    assert point > 0.3  # what the historical rule does with the same draws


@pytest.mark.parametrize(("discordance", "margin"), [(0.02, 0.05), (0.05, 0.05), (0.1, 0.05), (0.2, 0.05), (0.4, 0.1)])
def test_rows_needed_gives_the_power(benchmark, discordance: float, margin: float):
    n = stats.rows_needed(discordance, margin, alpha=0.05, power=0.8)
    passed = benchmark.binary(n, discordance, 0.0, margin, 0.05, 10_000, np.random.default_rng(3))[0]
    assert 0.75 <= passed <= 0.87


def test_means_and_groups_keep_the_promise(benchmark):
    rng = np.random.default_rng(4)
    for draw in (lambda: benchmark.f1(100, 0.2, 0.05, rng), lambda: benchmark.grouped(60, 0.2, 0.05, 0.5, rng)):
        gate, point = benchmark.judged(draw, 0.05, 0.05, 400)
        assert gate <= benchmark.tolerance(0.05, 400)
        assert point > 0.3
    n = stats.rows_needed(0.2 * float((benchmark.F1**2).mean()), 0.05, alpha=0.05, power=0.8, method="bootstrap")
    assert benchmark.judged(lambda: benchmark.f1(n, 0.2, 0.0, rng), 0.05, 0.05, 400)[0] >= 0.75 - 0.06


# the rest --------------------------------------------------------------------------------------------------


def test_wilson_agrees_with_newcombe():
    """Newcombe, Stat. Med. 17 (1998) 857, table I, method 3."""
    for k, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert stats.wilson(k, n) == pytest.approx((low, high), abs=5e-5)
    assert stats.wilson(0, 0) == (0, 1)
    assert stats.wilson(20, 20)[1] == 1


def test_holm_steps_down():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]


def test_sign_flips_agree_with_enumeration():
    values = np.array([0.5, 0.25, -0.5, 1.0, 0.75, 0.25, -0.25, 0.5])
    flips = [abs(float(np.dot(values, signs))) for signs in product((1, -1), repeat=len(values))]
    exact = sum(flip >= abs(values.sum()) - 1e-9 for flip in flips) / len(flips)
    assert stats.sign_flip_p(values, resamples=20_000) == pytest.approx(exact, abs=0.01)
    assert stats.sign_flip_p([1, 1, 1, -1, 0]) == stats.mcnemar_p(3, 1)
    assert stats.sign_flip_p([0.0, 0.0, 0.0]) == 1.0
    many = np.array([0.5, -0.5] * 3000 + [0.5] * 150)
    assert stats.sign_flip_p(many) == pytest.approx(math.erfc(75 / math.sqrt(2 * 6150 / 4)), rel=1e-6)
    halves = [index // 2 for index in range(6150)]  # the pairs cancel, 75 do not
    assert stats.sign_flip_p(many, halves) == 1 / 10_001
    assert stats.sign_flip_p([1, 1, 1, 1, 1, 1], ["a"] * 3 + ["b"] * 3) > 0.4  # two groups prove nothing


def test_import_is_cheap():
    code = "import sys; import fledgling.decision.gate, fledgling.decision.verdict; print([m for m in ('scipy', 'torch', 'jsonschema_rs') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_worked_examples_of_the_documentation(root: Path):
    results = doctest.testfile(str(root / "docs" / "decision.md"), module_relative=False)
    assert results.attempted > 10
    assert results.failed == 0


# rows that stand for many requests -------------------------------------------------------------------------------


@st.composite
def weighted(draw: st.DrawFn) -> tuple[list[float], list[float], list[int], list[int]]:
    """Scores of two contenders, group and weight of each row; not every weight is 1."""
    scores = st.sampled_from([0, 1] if draw(st.booleans()) else [0, 0.25, 0.5, 1])
    n = draw(st.integers(2, 40))
    rows = st.lists(scores, min_size=n, max_size=n)
    groups = draw(st.one_of(st.just(list(range(n))), st.lists(st.integers(0, 12), min_size=n, max_size=n)))
    weights = draw(st.lists(st.integers(1, 9), min_size=n - 1, max_size=n - 1))
    return draw(rows), draw(rows), groups, [draw(st.integers(2, 50)), *weights]


def repeated(values: list, weights: list[int]) -> list:
    return [value for value, weight in zip(values, weights, strict=True) for _ in range(weight)]


@quick
@given(weighted())
def test_a_weighted_row_is_its_copies_in_one_group(data):
    """Gap, bounds, counts, discordance, design effect and n: all that is known, but for the last bits."""
    teacher, contender, groups, weights = data
    rows = stats.paired_gap(teacher, contender, groups, alpha=0.05, resamples=400, weights=weights)
    copies = stats.paired_gap(
        *(repeated(column, weights) for column in (teacher, contender, groups)), alpha=0.05, resamples=400
    )
    assert (rows.n, rows.groups, rows.counts, rows.method) == (copies.n, copies.groups, copies.counts, "bootstrap")
    for field in ("gap", "low", "high", "discordance", "design_effect"):
        assert getattr(rows, field) == pytest.approx(getattr(copies, field), abs=1e-9), field
    assert sum(rows.counts.values()) == rows.n == sum(weights)


@quick
@given(weighted())
def test_metrics_of_weighted_rows_are_those_of_their_copies(data):
    scores, other, groups, weights = data
    rows = stats.interval(scores, groups, weights=weights, resamples=400)
    copies = stats.interval(repeated(scores, weights), repeated(groups, weights), resamples=400)
    assert (rows.n, rows.k, rows.method) == (copies.n, copies.k, "bootstrap")
    assert (rows.value, rows.low, rows.high) == pytest.approx((copies.value, copies.low, copies.high), abs=1e-9)
    assert rows.value == pytest.approx(stats.mean(scores, weights))
    difference = np.subtract(scores, other)
    p = stats.sign_flip_p(difference, groups, weights=weights, resamples=400)
    assert p == stats.sign_flip_p(repeated(list(difference), weights), repeated(groups, weights), resamples=400)
    margin = {"margin": 0.1, "resamples": 400}
    assert stats.non_inferiority_p(scores, other, groups, weights=weights, **margin) == stats.non_inferiority_p(
        *(repeated(column, weights) for column in (scores, other, groups)), **margin
    )


@quick
@given(counts(), st.booleans())
def test_weights_of_one_change_nothing(data: tuple[int, int, int], alone: bool):
    teacher, contender = pair(*data)
    groups = None if alone else [place // 2 for place in range(data[2])]
    ones = [1] * data[2]
    assert stats.paired_gap(teacher, contender, groups, alpha=0.05, resamples=200, weights=ones) == stats.paired_gap(
        teacher, contender, groups, alpha=0.05, resamples=200
    )
    assert stats.interval(teacher, groups, weights=ones, resamples=200) == stats.interval(
        teacher, groups, resamples=200
    )


def test_a_row_of_forty_requests_counts_as_forty_and_proves_as_one():
    """One wrong row of 100 that stands for 40 requests: 29 % of the traffic, and no more evidence than a row."""
    teacher, contender = [1] * 100, [0] + [1] * 99
    gap = stats.paired_gap(teacher, contender, alpha=0.05, weights=[40] + [1] * 99)
    assert gap.gap == pytest.approx(40 / 139)
    assert gap.counts == {"both": 99, "teacher_only": 40, "contender_only": 0, "neither": 0}
    assert (gap.n, gap.groups, gap.method) == (139, 100, "bootstrap")
    assert gap.design_effect > 10
    assert gap.low < 0 < gap.high
    plain = stats.paired_gap(repeated(teacher, [40] + [1] * 99), repeated(contender, [40] + [1] * 99), alpha=0.05)
    assert plain.low > 0.2  # what 40 independent rows would have shown


def test_intervals_of_metrics_respect_groups():
    """100 records asked five times each are 100 records, in a rate as in a gap."""
    scores = np.random.default_rng(1).choice([0, 1], 100)
    once = stats.interval(scores)
    five = stats.interval(np.repeat(scores, 5), np.repeat(np.arange(100), 5).tolist())
    assert (once.method, five.method) == ("wilson", "bootstrap")
    assert (five.n, five.k) == (500, 5 * scores.sum())
    assert five.high - five.low == pytest.approx(once.high - once.low, rel=0.1)
    naive = stats.interval(np.repeat(scores, 5))
    assert naive.high - naive.low < 0.6 * (five.high - five.low)
    assert stats.interval([1, 1, 1], ["a"] * 3) == stats.Interval(1.0, 0.0, 1.0, 3, 3, "bootstrap")


def test_weights_need_not_be_whole():
    """Half a request: a sample of one in two. Only their ratios matter for the gap and its bounds."""
    teacher, contender, weights = [1, 1, 0.5, 1, 0], [0, 1, 0.5, 1, 1], [3, 1, 2, 5, 4]
    whole = stats.paired_gap(teacher, contender, alpha=0.05, resamples=400, weights=weights)
    half = stats.paired_gap(teacher, contender, alpha=0.05, resamples=400, weights=[weight / 2 for weight in weights])
    assert (half.gap, half.low, half.high) == pytest.approx((whole.gap, whole.low, whole.high))
    assert sum(half.counts.values()) == half.n


def test_weights_that_are_none_are_refused():
    for weights in ([1, 0], [1, -2], [1, float("nan")], [1, float("inf")], [1]):
        with pytest.raises(ValueError, match=r"a weight is|lengths differ"):
            stats.paired_gap([1, 0], [1, 1], alpha=0.05, weights=weights)
