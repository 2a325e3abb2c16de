"""Buying the teacher's answers in looks: when to look, at which level, when to stop (docs/decision.md).

A look is the gate over the rows bought so far, at a level of its own; the levels together spend alpha. It ends a verdict
early where a contender passes, or where it is so far behind that going on is futile. Futility is not binding: the
promise holds whether or not one stops for it.

Sources: Lan and DeMets, Biometrika 70 (1983) 659; Armitage, McPherson and Rowe, J. R. Stat. Soc. A 132 (1969) 235;
Jennison and Turnbull, Group Sequential Methods (2000); Glimm, Maurer and Bretz, Stat. Med. 29 (2010) 219, for looks at
several contenders in a fixed order.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fledgling.stats import Gap

Floats = NDArray[np.float64]
Spending = Literal["linear", "obrien_fleming", "pocock"]
FIRST = 60  # rows of the first look, at least
BETA = 0.05  # chance at most that a contender as good as the teacher is given up early
_NORMAL = NormalDist()
_GRID = 1_001  # points of the density between two looks, an odd number; levels move by less than 1e-6 from there on
_REACH = 8.0  # standard deviations kept on the open side


def spent(spending: Spending, share: float, alpha: float) -> float:
    """How much of alpha is spent once this share of the rows is looked at.

    `linear` spends alpha · share: of those that keep most of the power on a fixed split it saves the most. The others are
    Lan and DeMets' versions of O'Brien and Fleming's and of Pocock's bounds, for comparison.
    """
    if share >= 1:
        return alpha
    if spending == "linear":
        return alpha * share
    if spending == "pocock":
        return alpha * math.log1p((math.e - 1) * share)
    return math.erfc(-_NORMAL.inv_cdf(alpha / 2) / math.sqrt(2 * share))  # 2 (1 − Φ(z_{α/2} / √share))


@lru_cache(maxsize=256)
def nominal_levels(shares: tuple[float, ...], cumulative: tuple[float, ...]) -> tuple[float, ...]:
    """One-sided levels of single looks, at these shares of the rows, that together spend alpha as `cumulative` says.

    The recursion of Armitage, McPherson and Rowe over the density of a Brownian motion that no look has stopped yet.

    Raises:
        ValueError: shares do not rise to 1, or nothing is spent at some look.
    """
    from scipy.special import ndtr  # slow to import

    if list(shares) != sorted(set(shares)) or not shares or shares[0] <= 0 or abs(shares[-1] - 1) > 1e-9:
        raise ValueError(f"looks are shares that rise to 1; found {shares}")
    if len(cumulative) != len(shares) or any(b <= a for a, b in pairwise((0.0, *cumulative))):
        raise ValueError(f"every look spends something of alpha; found {cumulative}")
    levels: list[float] = []
    points: Floats = np.zeros(1)
    mass: Floats = np.ones(1)  # density times quadrature weight at `points`
    before, used = 0.0, 0.0
    for share, total in zip(shares, cumulative, strict=True):
        step, low, high = math.sqrt(share - before), -_REACH, _REACH + 2
        while high - low > 1e-11:
            middle = (low + high) / 2
            if float(mass @ ndtr((points - middle * math.sqrt(share)) / step)) > total - used:
                low = middle
            else:
                high = middle
        bound = high * math.sqrt(share)
        levels.append(math.erfc(high / math.sqrt(2)) / 2)
        grid = np.linspace(-_REACH * math.sqrt(share), bound, _GRID)
        mass = _step(points, mass, grid, 0.0, step) * _simpson(grid)
        points, before, used = grid, share, total
    return tuple(levels)


def _step(points: Floats, mass: Floats, grid: Floats, drift: float, deviation: float) -> Floats:
    """The density on `grid` after a normal step from `points`."""
    z = (grid[:, None] - points[None, :] - drift) / deviation
    density: Floats = (np.exp(-0.5 * z * z) @ mass) / (deviation * math.sqrt(2 * math.pi))
    return density


def _simpson(grid: Floats) -> Floats:
    weights = np.full(len(grid), 2.0)
    weights[1::2] = 4.0
    weights[0] = weights[-1] = 1.0
    scaled: Floats = weights * (grid[-1] - grid[0]) / (3 * (len(grid) - 1))
    return scaled


def doubling(rows: int, first: int = FIRST) -> tuple[int, ...]:
    """Numbers of rows to look at: all of them, half of them and so on, as long as `first` rows are left."""
    if rows < 1:
        raise ValueError(f"{rows} rows: there is nothing to look at")
    looks = [rows]
    while looks[0] / 2 >= first:
        looks.insert(0, math.ceil(looks[0] / 2))
    return tuple(looks)


@dataclass(frozen=True, slots=True)
class Plan:
    """When to look at a split of `rows` rows, decided before any is bought.

    `looks` are numbers of rows, each at the end of a group; `levels` the level of the gate at each; `futile` the level at
    which a contender as good as the teacher is given up at each, 0 at the last.
    """

    rows: int
    looks: tuple[int, ...]
    alpha: float
    beta: float
    spending: Spending
    levels: tuple[float, ...]
    futile: tuple[float, ...]


def plan(
    rows: int | Sequence[Hashable],
    *,
    alpha: float,
    beta: float = BETA,
    first: int = FIRST,
    spending: Spending = "linear",
) -> Plan:
    """The looks at a split: `rows` is their number, or the group of every row in the order of buying.

    `beta` is the chance at most that a contender as good as the teacher is given up early.

    Raises:
        ValueError: no rows, or alpha or beta out of range.
    """
    groups = None if isinstance(rows, int) else list(rows)
    total = rows if isinstance(rows, int) else len(rows)
    looks = doubling(total, first)
    if groups is not None:
        ends = [place for place in range(1, total) if groups[place] != groups[place - 1]] + [total]
        looks = tuple(sorted({next(end for end in ends if end >= look) for look in looks}))
    return planned_at(looks, alpha=alpha, beta=beta, spending=spending)


def next_look(planned: Plan, rows: int) -> int | None:
    """How many rows the next look needs where `rows` are bought; None once all are."""
    return next((look for look in planned.looks if look > rows), None)


def level_at(planned: Plan, rows: int) -> float:
    """The level of the gate at the look over exactly these rows.

    Raises:
        ValueError: there is no look there.
    """
    return planned.levels[_place(planned, rows)]


def level_for(planned: Plan, rows: int, alpha: float) -> float:
    """The level of the gate at the look over these rows where another share of alpha is spent over the same looks.

    Raises:
        ValueError: there is no look there, or alpha is out of range.
    """
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}; it lies between 0 and 0.5")
    return _levels(planned.looks, planned.spending, alpha)[_place(planned, rows)]


def _levels(looks: Sequence[int], spending: Spending, alpha: float) -> tuple[float, ...]:
    shares = tuple(look / looks[-1] for look in looks)
    return nominal_levels(shares, tuple(spent(spending, share, alpha) for share in shares))


def planned_at(looks: Sequence[int], *, alpha: float, beta: float = BETA, spending: Spending = "linear") -> Plan:
    """The plan of looks at these numbers of rows, the last of which is all.

    Raises:
        ValueError: the numbers do not rise from above 0, or alpha or beta is out of range.
    """
    if not 0 < alpha < 0.5 or not 0 < beta < 0.5:
        raise ValueError(f"alpha is {alpha}, beta is {beta}; they lie between 0 and 0.5")
    levels = _levels(looks, spending, alpha)
    # Evenly by look: nothing that is promised rests on beta, and one far behind is then given up at the first looks.
    shares = tuple(look / looks[-1] for look in looks)
    even = nominal_levels(shares, tuple(beta * place / len(looks) for place in range(1, len(looks) + 1)))
    return Plan(looks[-1], tuple(looks), alpha, beta, spending, levels, (*even[:-1], 0.0))


def _place(planned: Plan, rows: int) -> int:
    if rows not in planned.looks:
        raise ValueError(f"no look is planned at {rows} rows; looks are at {', '.join(map(str, planned.looks))}")
    return planned.looks.index(rows)


def futile(planned: Plan, rows: int, gaps: Sequence[Gap], margin: float) -> bool:
    """Whether a contender is given up at this look: on some core metric above the margin, and shown to be no equal.

    `gaps` are teacher − contender on the core metrics. Never at the last look, where the gate decides alone.
    """
    level = planned.futile[_place(planned, rows)]
    return level > 0 and any(
        gap.gap > margin and behind(gap) > _NORMAL.inv_cdf(1 - level) for gap in gaps if gap.discordance > 0
    )


def behind(gap: Gap) -> float:
    """z of "as good as the teacher": (b − c)/√(b + c) for counts, the same with sums of squares, over √ design effect."""
    return gap.gap * math.sqrt(gap.n / (gap.discordance * gap.design_effect))


State = Literal["passed", "futile", "open"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a look comes to: `stop` with `deploy` (None: the teacher stays), or go on to `next_look` rows."""

    rows: int
    stop: bool
    deploy: str | None
    next_look: int | None
    reason: str


def decide_at(planned: Plan, rows: int, states: Sequence[tuple[str, State]]) -> Decision:
    """Whether to go on after a look; `states` are all contenders that are judged, cheapest first.

    One that passed at an earlier look stays passed. The answer is settled once the cheapest that has not been given up
    has passed, or all have been given up; and at the last look in any case.

    Raises:
        ValueError: no look is planned there, or there is no contender.
    """
    if not states:
        raise ValueError("no contenders")
    _place(planned, rows)
    following = next_look(planned, rows)
    passed = next((name for name, state in states if state == "passed"), None)
    waiting = next((name for name, state in states if state != "futile"), None)
    if waiting is None:
        return Decision(rows, True, None, None, f"no contender can catch up after {rows:,} of {planned.rows:,} rows")
    if waiting == passed:
        return Decision(rows, True, passed, None, f"{passed} passed at {rows:,} of {planned.rows:,} rows")
    if following is None:
        return Decision(rows, True, passed, None, f"all {rows:,} rows are looked at, and {waiting} has not passed")
    return Decision(
        rows, False, passed, following, f"{waiting} is open at {rows:,} rows; the next look is at {following:,}"
    )


@dataclass(frozen=True, slots=True)
class Expected:
    """Rows that a plan asks for: the fewest, the most, and mean and median where the gap is the one assumed."""

    fewest: int
    most: int
    mean: float
    median: int
    passes: float
    given_up: float
    gap: float
    discordance: float
    shares: tuple[float, ...] = ()
    """By look, the chance that it is the last."""


def expected(
    planned: Plan, *, margin: float, discordance: float, gap: float = 0.0, design_effect: float = 1.0
) -> Expected:
    """What one contender with this true gap costs, before anything is bought (normal theory).

    Raises:
        ValueError: the discordance is not between the gap and 1.
    """
    from scipy.special import ndtr  # slow to import

    if not abs(gap) <= discordance <= 1 or discordance == 0:
        raise ValueError(f"a gap of {gap} needs a discordance from there to 1, above 0; found {discordance}")
    variance = max((discordance - gap**2), 1e-9) * design_effect
    points: Floats = np.zeros(1)
    mass: Floats = np.ones(1)
    before, passes, given_up, stops = 0, 0.0, 0.0, []
    for look, level, give in zip(planned.looks, planned.levels, planned.futile, strict=True):
        drift, deviation = gap * (look - before), math.sqrt(variance * (look - before))
        # Sums of differences below which the gate passes, and above which the contender is given up.
        lower = look * margin - -_NORMAL.inv_cdf(level) * math.sqrt(
            max(discordance, 1.5 * margin) * look * design_effect
        )
        upper = (
            max(look * margin, -_NORMAL.inv_cdf(give) * math.sqrt(discordance * look * design_effect))
            if give
            else math.inf
        )
        good = float(mass @ ndtr((lower - points - drift) / deviation))
        bad = float(mass @ ndtr(-(upper - points - drift) / deviation)) if give else 0.0
        passes, given_up = passes + good, given_up + bad
        rest = max(0.0, 1 - passes - given_up)
        stops.append((look, good + bad if give else good + rest))
        grid = np.linspace(lower, upper if give else lower + 1, _GRID)
        mass = _step(points, mass, grid, drift, deviation) * _simpson(grid)
        points, before = grid, look
    reached, median = 0.0, planned.rows
    for look, share in reversed(stops):
        reached += share
        if reached >= 0.5:
            median = look
            break
    mean = sum(look * share for look, share in stops)
    shares = tuple(share for _, share in stops)
    return Expected(planned.looks[0], planned.rows, mean, median, passes, given_up, gap, discordance, shares)


def in_words(planned: Plan, guess: Expected) -> str:
    """The plan's price in a sentence for the dry run."""
    if len(planned.looks) == 1:
        return f"{planned.rows:,} calls: too few rows for a look before the end"
    if guess.gap == 0:
        where = "the contender is as good"
    else:
        where = f"the contender is {100 * abs(guess.gap):g} points {'behind' if guess.gap > 0 else 'ahead'}"
    return (
        f"{guess.fewest:,} to {guess.most:,} calls, about {about(guess.mean):,} if {where} "
        f"(discordance {100 * guess.discordance:g} %)"
    )


def about(value: float) -> int:
    """A number of rows to two digits."""
    unit = 10 ** max(0, math.floor(math.log10(max(value, 1))) - 1)
    return round(value / unit) * unit


def after_the_end(planned: Plan, looks: int) -> str:
    """What a further look means once alpha is spent, as a sentence; `looks` counts the verdicts with it."""
    return (
        f"All {planned.rows:,} rows are looked at and alpha is spent: more rows on this split are verdict number {looks} "
        f"on it, and the chance that any of them swaps wrongly is up to {100 * min(1.0, looks * planned.alpha):.3g} %. "
        "A fresh split (another split_key) starts again."
    )
