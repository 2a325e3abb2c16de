"""Intervals and tests for scores in [0, 1], most of them for two contenders on the same rows.

Sources: Wilson, J. Am. Stat. Assoc. 22 (1927); Tango, Stat. Med. 17 (1998) 891; Röhmel and Mansmann,
Biom. J. 41 (1999) 149; Berger and Boos, J. Am. Stat. Assoc. 89 (1994) 1012; Rubin, Ann. Stat. 9 (1981) 130;
Gaffke, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
variable", Math. Methods Stat. 14 (2005) 451; Holm, Scand. J. Stat. 6 (1979) 65. docs/decision.md derives what is used where.

`weights`, wherever they are taken: how many requests a row stands for, a number above 0. A row of weight w is w equal rows
of one group, so that every figure is what those rows would give, and no bound takes it for w rows of evidence.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Groups = Sequence[Hashable] | None
_NORMAL = NormalDist()
_GAMMA = 0.001  # confidence given up for the nuisance parameter of the exact test (Berger and Boos)
_CELLS = 2_000_000  # random numbers held at once
_KINDS = 4_096  # different differences that are resampled one by one
_MANY = 5_000  # differing groups from which on a sum of random signs counts as normal


@dataclass(frozen=True, slots=True)
class Gap:
    """Teacher minus contender on the same rows, in score points of 1.

    `low` and `high` are one-sided bounds, each at level alpha. Of n rows, both were right on `both`, only
    the teacher on `teacher_only`, only the contender on `contender_only`, none on `neither`; where scores
    are not 0 or 1, these count who scored higher, equal scores above 0, and equal scores of 0. Rows with
    weights count as the requests that they stand for, in `n` as in the counts; `groups` counts what is independent.
    `discordance` is the mean squared difference (the share of discordant rows where scores are binary),
    `design_effect` by how much groups inflate the variance, `method` "tango" or "bootstrap".
    """

    gap: float
    low: float
    high: float
    n: int
    groups: int
    both: int
    teacher_only: int
    contender_only: int
    neither: int
    discordance: float
    design_effect: float
    method: str

    @property
    def counts(self) -> dict[str, int]:
        """The four discordance counts; they add up to n."""
        return {
            "both": self.both,
            "teacher_only": self.teacher_only,
            "contender_only": self.contender_only,
            "neither": self.neither,
        }


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Differences of two contenders, first − second, with what is needed to resample them."""

    first: Floats
    second: Floats
    difference: Floats
    weights: Floats
    codes: NDArray[np.int64]
    groups: int
    exact: bool
    """Scores of 0 and 1, each row alone and standing for itself: counts tell everything."""

    @classmethod
    def of(cls, first: ArrayLike, second: ArrayLike, groups: Groups, weights: ArrayLike | None) -> "_Pairs":
        left, right = _scores(first), _scores(second)
        n = len(left)
        if n == 0:
            raise ValueError("no examples to compare")
        if len(right) != n or (groups is not None and len(groups) != n):
            raise ValueError(
                f"lengths differ: {n} teacher, {len(right)} contender"
                f"{'' if groups is None else f', {len(groups)} groups'}"
            )
        weight, (codes, count) = _weights(weights, n), _codes(groups, n)
        binary = bool(np.isin(left, (0.0, 1.0)).all() and np.isin(right, (0.0, 1.0)).all())
        alone = count == n and bool((weight == 1).all())
        return cls(left, right, left - right, weight, codes, count, binary and alone)

    def count(self, where: NDArray[np.bool_]) -> int:
        """How many requests these rows stand for."""
        return round(float(self.weights[where].sum()))

    @property
    def more(self) -> int:
        return self.count(self.difference > 0)

    @property
    def less(self) -> int:
        return self.count(self.difference < 0)


def paired_gap(
    teacher: ArrayLike,
    contender: ArrayLike,
    groups: Groups = None,
    *,
    alpha: float,
    resamples: int = 10_000,
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> Gap:
    """Gap in score points, teacher − contender, with a one-sided bound at level alpha on either side.

    Both hold one score in [0, 1] per example, in the same order; `groups` (same length) marks rows that
    stem from one source record, `weights` how many requests each stands for. Binary scores without shared groups
    or weights use Tango's score interval; everything else a Bayesian bootstrap over groups, with one pseudo-group at
    the worst possible gap (Gaffke's bound), so that identical rows never give an interval without width. One row, or
    one group, bounds nothing: [-1, 1].

    Raises:
        ValueError: lengths differ, there are no examples, a score is outside [0, 1], or a weight is not a number
            above 0.
    """
    _check_level(alpha)
    pairs = _Pairs.of(teacher, contender, groups, weights)
    more, less, level = pairs.more, pairs.less, pairs.difference == 0
    both, neither = pairs.count(level & (pairs.first > 0)), pairs.count(level & (pairs.first == 0))
    n = more + less + both + neither
    if pairs.groups == 1:
        low, high = -1.0, 1.0
    elif pairs.exact:
        low, high = tango(more, less, n, alpha=alpha)
    else:
        low, high = _bounds(*_resampled(pairs.difference, pairs, resamples, seed), alpha)
    return Gap(
        gap=_mean(pairs.difference, pairs.weights),
        low=low,
        high=high,
        n=n,
        groups=pairs.groups,
        both=both,
        teacher_only=more,
        contender_only=less,
        neither=neither,
        discordance=_mean(pairs.difference**2, pairs.weights),
        design_effect=_design_effect(pairs),
        method="tango" if pairs.exact else "bootstrap",
    )


def non_inferior(gap: Gap, margin: float, *, alpha: float) -> bool:
    """Whether the contender is shown to be less than `margin` below the teacher, at level alpha.

    The upper bound lies below the margin. Tango's bound is a large-sample one: with rare discordance it lets
    up to about 7 % through where 5 % are stated, so the exact test has to agree.
    """
    if gap.high >= margin:
        return False
    return gap.method != "tango" or inferiority_p(gap.teacher_only, gap.contender_only, gap.n, margin) <= alpha


def better(gap: Gap, *, alpha: float) -> bool:
    """Whether the first of the two (the teacher's place) is shown to score above the second, at level alpha."""
    if gap.low <= 0:
        return False
    return gap.method != "tango" or _binomial_tail(gap.teacher_only, gap.contender_only) <= alpha


def non_inferiority_p(
    teacher: ArrayLike,
    contender: ArrayLike,
    groups: Groups = None,
    *,
    margin: float,
    resamples: int = 10_000,
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> float:
    """The smallest level at which `non_inferior` holds for these rows: p of "worse by the margin or more".

    For counts the larger of Tango's p-value and the exact one; otherwise the bootstrap's bound is inverted. It says
    nothing finer than 1/resamples, and 1.0 where one row or one group is all there is.
    """
    pairs = _Pairs.of(teacher, contender, groups, weights)
    if pairs.groups == 1:
        return 1.0
    if pairs.exact:
        n = len(pairs.difference)
        approximate = _NORMAL.cdf(float(tango_z(pairs.more, pairs.less, n, margin)))
        return max(approximate, inferiority_p(pairs.more, pairs.less, n, margin))
    _, highs = _resampled(pairs.difference, pairs, resamples, seed)
    return _inverted(int((highs >= margin).sum()), resamples)


def superiority_p(
    first: ArrayLike,
    second: ArrayLike,
    groups: Groups = None,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> float:
    """The smallest level at which `better` holds for these rows: p of "the first is no better than the second"."""
    pairs = _Pairs.of(first, second, groups, weights)
    if pairs.groups == 1:
        return 1.0
    if pairs.exact:
        n = len(pairs.difference)
        return max(_NORMAL.cdf(-float(tango_z(pairs.more, pairs.less, n, 0.0))), _binomial_tail(pairs.more, pairs.less))
    lows, _ = _resampled(pairs.difference, pairs, resamples, seed)
    return _inverted(int((lows <= 0).sum()), resamples)


def _inverted(beyond: int, resamples: int) -> float:
    """The smallest alpha whose quantile leaves out the draws beyond; 1/resamples where there are none."""
    return min(1.0, max(beyond / (resamples - 1), 1 / resamples))


def tango_z(teacher_only: ArrayLike, contender_only: ArrayLike, n: ArrayLike, gap: ArrayLike) -> Floats:
    """Tango's score statistic of "the gap is `gap`"; arrays broadcast.

    Large and negative: the data lie far below that gap. The discordance is estimated under the hypothesis.
    """
    b, c, rows, delta = (np.asarray(value, dtype=np.float64) for value in (teacher_only, contender_only, n, gap))
    linear = (2 * rows - b + c) * delta - b - c
    root = np.sqrt(np.maximum(linear**2 + 8 * rows * c * delta * (1 - delta), 0))
    share = (root - linear) / (4 * rows)
    distance = b - c - rows * delta
    spread = np.sqrt(np.maximum(rows * (2 * share + delta * (1 - delta)), 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        z: Floats = np.where((spread == 0) & (distance == 0), 0.0, distance / spread)
    return z


def tango(teacher_only: int, contender_only: int, n: int, *, alpha: float) -> tuple[float, float]:
    """Bounds (low, high) of the gap of two binary contenders on n rows, each one-sided at level alpha.

    At alpha = 0.025 these are the limits of Tango's two-sided 95 % interval.
    """
    return -_tango_high(contender_only, teacher_only, n, alpha), _tango_high(teacher_only, contender_only, n, alpha)


def _tango_high(b: int, c: int, n: int, alpha: float) -> float:
    level = -_NORMAL.inv_cdf(1 - alpha)
    inside, outside = (b - c) / n, 1.0
    while outside - inside > 1e-12:
        middle = (inside + outside) / 2
        if middle in (inside, outside):
            break
        if float(tango_z(b, c, n, middle)) > level:
            inside = middle
        else:
            outside = middle
    return outside


def inferiority_p(teacher_only: int, contender_only: int, n: int, margin: float) -> float:
    """Exact p-value of "the contender is worse by the margin or more", for binary scores.

    The chance, at a gap of exactly `margin`, of data that speak as strongly against it by Tango's statistic;
    the largest over every discordance that a 99.9 % interval leaves possible, plus the 0.1 % left out.
    (The tail is monotone in both counts, so no larger gap gives more: Röhmel and Mansmann.)
    """
    from scipy.special import bdtr, betaincinv, xlogy  # slow to import

    observed = float(tango_z(teacher_only, contender_only, n, margin)) + 1e-9
    largest = (1 - margin) / 2
    first = betaincinv(contender_only, n - contender_only + 1, _GAMMA / 2) if contender_only else 0.0
    last = betaincinv(contender_only + 1, n - contender_only, 1 - _GAMMA / 2) if contender_only < n else 1.0
    first, last = min(first, largest), min(last, largest)
    nuisance = np.unique([0.0 if first == 0 else first, *(first + (last - first) * np.linspace(0, 1, 129) ** 2)])
    most = int(min(n, n * last + 9 * math.sqrt(n * last) + 20))
    contender = np.arange(most + 1, dtype=np.float64)
    # For each count of the contender, the largest count of the teacher that speaks as strongly.
    low, high = np.full(most + 1, -1.0), n - contender
    while (low < high).any():
        middle = np.ceil((low + high) / 2)
        inside = tango_z(middle, contender, n, margin) <= observed
        low, high = np.where(inside, middle, low), np.where(inside, high, middle - 1)
    reach = low >= 0
    contender, low = contender[reach], low[reach]
    log_choose = np.array([math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in contender])
    worst = 0.0
    for q in nuisance:
        weight = np.exp(log_choose + xlogy(contender, q) + xlogy(n - contender, 1 - q))
        keep = weight > 1e-14
        rest = min((q + margin) / (1 - q), 1.0)
        tail = bdtr(low[keep], (n - contender[keep]).astype(np.int64), rest)
        worst = max(worst, float(weight[keep] @ tail))
    return min(1.0, worst + _GAMMA)


def mcnemar_p(teacher_only: int, contender_only: int) -> float:
    """Exact two-sided p-value of "both are equally often right" (McNemar); 1.0 without discordant rows."""
    return min(1.0, 2 * _binomial_tail(max(teacher_only, contender_only), min(teacher_only, contender_only)))


def _binomial_tail(more: int, less: int) -> float:
    """Chance of at most `less` heads in more + less throws of a fair coin."""
    n = more + less
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2) for k in range(less + 1)]
    return min(1.0, math.fsum(math.exp(value) for value in logs))


def sign_flip_p(
    difference: ArrayLike,
    groups: Groups = None,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> float:
    """Two-sided p-value of "no difference": how often random signs, one a group, give as large a sum.

    Binary differences without shared groups or weights are computed exactly, and this is McNemar's exact test.
    """
    values = np.asarray(difference, dtype=np.float64)
    codes, count = _codes(groups, len(values))
    weight = _weights(weights, len(values))
    if count == len(values) and np.isin(values, (-1.0, 0.0, 1.0)).all() and (weight == 1).all():
        return mcnemar_p(int((values > 0).sum()), int((values < 0).sum()))
    sums = np.bincount(codes, weights=weight * values, minlength=count)
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0
    if len(sums) > _MANY:
        return math.erfc(abs(float(sums.sum())) / math.sqrt(2 * float((sums**2).sum())))
    total, rng, hits, left = abs(sums.sum()) - 1e-9, np.random.default_rng(seed), 0, resamples
    while left:
        size = min(left, max(1, _CELLS // len(sums)))
        signs = rng.integers(0, 2, size=(size, len(sums)), dtype=np.int8) * 2.0 - 1.0
        hits += int((np.abs(signs @ sums) >= total).sum())
        left -= size
    return (hits + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: the family-wise error stays at the level they are held against."""
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def wilson(k: float, n: float, *, level: float = 0.95) -> tuple[float, float]:
    """Two-sided Wilson score interval of a rate of k in n; (0, 1) where n is 0."""
    if n == 0:
        return 0.0, 1.0
    z = _NORMAL.inv_cdf((1 + level) / 2)
    rate, shrink = k / n, z * z / n
    centre = (rate + shrink / 2) / (1 + shrink)
    half = z / (1 + shrink) * math.sqrt(rate * (1 - rate) / n + shrink / (4 * n))
    return (0.0 if k == 0 else max(0.0, centre - half)), (1.0 if k == n else min(1.0, centre + half))


def mean_interval(
    values: ArrayLike,
    groups: Groups = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> tuple[float, float]:
    """Two-sided interval of the mean of scores in [0, 1]: the bootstrap of paired_gap; (0, 1) below two groups."""
    scores = _scores(values)
    if len(scores) < 2:
        return 0.0, 1.0
    pairs = _Pairs.of(scores, np.zeros_like(scores), groups, weights)
    if pairs.groups < 2:
        return 0.0, 1.0
    low, high = _bounds(*_resampled(scores, pairs, resamples, seed, floor=0.0), (1 - level) / 2)
    return max(low, 0.0), high


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over requests with its two-sided interval; `k` of `n` requests scored 1, None where scores are not 0 or 1."""

    value: float
    low: float
    high: float
    n: int
    k: int | None
    method: str


def interval(
    values: ArrayLike,
    groups: Groups = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> Interval:
    """The mean of scores in [0, 1] with the interval that suits them.

    Wilson's for scores of 0 and 1, each row alone and standing for itself; the group bootstrap for everything else, so
    that a metric is no surer of itself than the verdict that rests on it.

    Raises:
        ValueError: there are no scores, lengths differ, a score is outside [0, 1], or a weight is not a number
            above 0.
    """
    scores = _scores(values)
    pairs = _Pairs.of(scores, np.zeros_like(scores), groups, weights)
    n = pairs.count(np.ones(len(scores), dtype=bool))
    k = pairs.count(scores == 1) if bool(np.isin(scores, (0.0, 1.0)).all()) else None
    if pairs.exact and k is not None:
        low, high = wilson(k, n, level=level)
        method = "wilson"
    else:
        low, high = mean_interval(scores, groups, level=level, resamples=resamples, seed=seed, weights=weights)
        method = "bootstrap"
    return Interval(_mean(scores, pairs.weights), low, high, n, k, method)


def mean(values: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean over requests: rows count as often as their weight says."""
    numbers = np.asarray(values, dtype=np.float64)
    return _mean(numbers, _weights(weights, len(numbers)))


def rows_needed(
    discordance: float, margin: float, *, alpha: float, power: float, gap: float = 0.0, method: str = "tango"
) -> int:
    """Paired rows at which a contender whose true gap is `gap` (0: as good) passes with chance `power`.

    `discordance` is the share of rows on which only one of the two is right; for means the mean squared
    difference. discordance · (z_alpha + z_power)² / (margin − gap)², the usual formula, is too small where
    discordance is rare against the margin; there the variance under the hypothesis (Tango's) takes over,
    and below that the rows without which not even identical contenders pass: log(alpha) / log(1 − margin).
    `method` "bootstrap": the n at which n · room reaches z_power · s + 1 + sqrt((z_alpha · s)² + (log(1/alpha) − 1)²),
    s = sqrt(n · discordance), where the last two terms are what that bound adds on n rows, its pseudo-row included.

    Raises:
        ValueError: gap is not below the margin (no number of rows is enough), or an argument is out of range.
    """
    _check_level(alpha)
    if not 0 < power < 1 or not 0 < margin < 1 or not 0 <= discordance <= 1:
        raise ValueError(f"out of range: discordance {discordance}, margin {margin}, power {power}")
    if gap >= margin:
        raise ValueError(f"a gap of {gap} is not below the margin of {margin}: no number of rows is enough")
    z_alpha, z_power = _NORMAL.inv_cdf(1 - alpha), _NORMAL.inv_cdf(power)
    room, least = margin - gap, math.log(alpha) / math.log1p(-margin)
    if method == "bootstrap":
        low, high = math.ceil(least), 1 << 60
        while low < high:
            n = (low + high) // 2
            deviation = math.sqrt(discordance * n)
            bound = 1 + math.hypot(z_alpha * deviation, -math.log(alpha) - 1)
            low, high = (low, n) if n * room >= bound + z_power * deviation else (n + 1, high)
        return low
    spread = max(min(discordance, 1.5 * margin), abs(gap))
    linear = (2 - gap) * margin - spread
    share = (math.sqrt(linear**2 + 4 * (spread - gap) * margin * (1 - margin)) - linear) / 4
    under = 2 * share + margin * (1 - margin)
    rare = (z_alpha * math.sqrt(under) + z_power * math.sqrt(spread - gap**2)) ** 2 / room**2
    usual = discordance * (z_alpha + z_power) ** 2 / room**2
    return math.ceil(max(usual, rare, least) - 1e-9)


def rows_to_separate(discordance: float, gap: float, *, alpha: float, power: float) -> int:
    """Paired rows at which a true difference of `gap` > 0 is seen at level alpha with chance `power`."""
    _check_level(alpha)
    if gap <= 0:
        raise ValueError(f"a difference of {gap} is not above 0: no number of rows is enough")
    reach = (_NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)) ** 2
    return math.ceil(max(discordance * reach / gap**2, math.log(alpha) / math.log(0.5)) - 1e-9)


def _check_level(alpha: float) -> None:
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}; it lies between 0 and 0.5")


def _scores(values: ArrayLike) -> Floats:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"expected one score a row, found {scores.ndim} dimensions")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("a score is outside [0, 1]")
    return scores


def _codes(groups: Groups, n: int) -> tuple[NDArray[np.int64], int]:
    """Each row's group as a number from 0, and how many groups there are."""
    if groups is None:
        return np.arange(n), n
    known: dict[Hashable, int] = {}
    codes = np.array([known.setdefault(group, len(known)) for group in groups], dtype=np.int64)
    return codes, len(known)


def _weights(weights: ArrayLike | None, n: int) -> Floats:
    """How many requests each row stands for; 1 where nothing is said."""
    if weights is None:
        return np.ones(n)
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (n,):
        raise ValueError(f"lengths differ: {n} rows, {given.size} weights")
    if not ((given > 0) & np.isfinite(given)).all():
        wrong = given[~((given > 0) & np.isfinite(given))][0]
        raise ValueError(f"a weight is {wrong:g}; it is how many requests a row stands for, a number above 0")
    return given


def _mean(values: Floats, weights: Floats) -> float:
    """The mean over requests; plain rows keep numpy's own summation, and with it every bit of older figures."""
    if (weights == 1).all():
        return float(values.mean())
    return float((weights * values).sum() / weights.sum())


def _resampled(
    values: Floats, pairs: _Pairs, resamples: int, seed: int, *, floor: float = -1.0
) -> tuple[Floats, Floats]:
    """Resampled means of values in [floor, 1], with the pseudo-group at floor and at 1.

    Every group gets an exponential weight (Rubin's Bayesian bootstrap), and so does one pseudo-group of
    typical size whose rows all lie at the end of the range (Gaffke). Groups of equal sum and size are
    drawn together: their weights add up to a gamma variable.
    """
    sums = np.bincount(pairs.codes, weights=pairs.weights * values, minlength=pairs.groups)
    sizes = np.bincount(pairs.codes, weights=pairs.weights, minlength=pairs.groups)
    kinds: Floats
    kinds, counts = np.unique(np.stack([sizes, sums]), axis=1, return_counts=True)
    times: Floats = counts.astype(np.float64)
    if len(times) > _KINDS:  # neighbours become one kind of their mean; what this takes off the variance is below 1e-6
        edges = np.linspace(0, len(times), _KINDS + 1).astype(np.int64)[:-1]
        total = np.add.reduceat(kinds * times, edges, axis=1)
        times = np.add.reduceat(times, edges).astype(np.float64)
        kinds = total / times
    typical = float((sizes**2).sum() / sizes.sum())
    rng = np.random.default_rng(seed)
    lows, highs = np.empty(resamples), np.empty(resamples)
    for start in range(0, resamples, step := max(1, _CELLS // len(times))):
        part = slice(start, min(start + step, resamples))
        size = part.stop - start
        weights = rng.standard_gamma(times, size=(size, len(times)))
        extra = rng.standard_exponential(size) * typical
        rows, total = weights @ kinds[0] + extra, weights @ kinds[1]
        lows[part], highs[part] = (total + floor * extra) / rows, (total + extra) / rows
    return lows, highs


def _bounds(lows: Floats, highs: Floats, alpha: float) -> tuple[float, float]:
    """Bounds of the mean, each one-sided at alpha."""
    low = float(np.quantile(lows, alpha, method="lower"))
    high = float(np.quantile(highs, 1 - alpha, method="higher"))
    return max(low, -1.0), min(high, 1.0)


def _design_effect(pairs: _Pairs) -> float:
    """Variance of the mean over groups, as a multiple of what independent requests would give; at least 1."""
    if pairs.groups == len(pairs.difference) and (pairs.weights == 1).all():
        return 1.0
    rest = pairs.difference - _mean(pairs.difference, pairs.weights)
    requests = float((pairs.weights * rest**2).sum())
    if requests == 0 or pairs.groups == 1:
        return kish(np.bincount(pairs.codes, weights=pairs.weights, minlength=pairs.groups))
    sums = np.bincount(pairs.codes, weights=pairs.weights * rest, minlength=pairs.groups)
    return max(1.0, float((sums**2).sum()) / requests)


def kish(sizes: ArrayLike) -> float:
    """The design effect of groups of these sizes whose rows are all alike (Kish): the size of a typical request's group."""
    counts = np.asarray(sizes, dtype=np.float64)
    return float((counts**2).sum() / counts.sum())
