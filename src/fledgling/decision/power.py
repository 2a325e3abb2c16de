"""Whether the rows can suffice: how often a contender as good as the teacher passes, before anybody is asked.

Rows that stand alone are counted exactly: the chance of every pair of counts that the gate passes. Groups, and rows that
stand for several requests, are drawn (a group answers as one, which is the worst case), and the gate's bound is a tail of
a sum of exponential weights, by Lugannani and Rice, Adv. Appl. Probab. 12 (1980) 475.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fledgling import stats

Floats = NDArray[np.float64]
DISCORDANCES = (0.02, 0.05, 0.1, 0.2, 0.4)
TYPICAL, SAFE = 0.05, 0.1  # discordance that "passes about half the time" speaks of; at which "safe" is safe
LOW = 0.5  # below this chance a paid training or a paid teacher deserves a warning
REALISTIC = 100_000  # test rows; beyond, more rows are no advice
_EXACT = 10  # counts up to which the exact test tells where Tango's bound does not
_DRAWS = 4_000
_SIZES = 48  # different group sizes that are drawn apart
_NORMAL = NormalDist()


def chance(
    rows: int | Sequence[float], margin: float, discordance: float, *, alpha: float, gap: float = 0.0, seed: int = 0
) -> float:
    """The chance that a contender passes whose true gap is `gap` (0: as good as the teacher), for scores of 0 and 1.

    `rows` is the number of rows that stand alone, or how many requests each group stands for; `discordance` the share of
    requests on which only one of the two is right. On several core metrics the chance is at most the smallest.

    Raises:
        ValueError: no rows, or an argument out of range.
    """
    if not 0 < margin < 1 or not 0 < alpha < 0.5 or not abs(gap) <= discordance <= 1 or discordance == 0:
        raise ValueError(f"out of range: margin {margin}, alpha {alpha}, discordance {discordance}, gap {gap}")
    sizes = np.ones(rows) if isinstance(rows, int) else np.asarray(rows, dtype=np.float64)
    if not len(sizes) or (sizes <= 0).any():
        raise ValueError("no rows, or a group that stands for no request")
    shares = (discordance + gap) / 2, (discordance - gap) / 2
    if len(sizes) == 1:
        return 0.0
    if (sizes == 1).all():
        return _alone(len(sizes), margin, shares, alpha)
    values, times = _merged(sizes)
    return _grouped(values, times, margin, shares, alpha, seed)


@lru_cache(maxsize=1_024)
def _alone(n: int, margin: float, shares: tuple[float, float], alpha: float) -> float:
    """The gate's region, count of the contender by count, under the multinomial distribution."""
    from scipy.special import bdtr  # slow to import

    level, share = _NORMAL.inv_cdf(alpha), shares[1]
    spread = math.sqrt(n * share)
    first, last = max(0, int(n * share - 8 * spread) - 5), min(n, int(n * share + 8 * spread) + 20)
    contender = np.arange(first, last + 1)
    low, high = np.full(len(contender), -1.0), (n - contender).astype(np.float64)
    while (low < high).any():  # the largest count of the teacher that Tango's bound lets pass
        middle = np.ceil((low + high) / 2)
        inside = stats.tango_z(middle, contender, n, margin) < level
        low, high = np.where(inside, middle, low), np.where(inside, high, middle - 1)
    for place, count in enumerate(contender.tolist()):
        if count > _EXACT:
            break
        while low[place] >= 0 and stats.inferiority_p(int(low[place]), count, n, margin) > alpha:
            low[place] -= 1
    keep = low >= 0
    contender, low = contender[keep], low[keep]
    if share == 0:
        weight: Floats = np.where(contender == 0, 1.0, 0.0)
    else:
        choose = np.array([math.lgamma(n + 1) - math.lgamma(c + 1) - math.lgamma(n - c + 1) for c in contender])
        weight = np.exp(choose + contender * math.log(share) + (n - contender) * math.log1p(-share))
    return float(weight @ bdtr(low, n - contender, min(1.0, shares[0] / (1 - share))))


def _merged(sizes: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Group sizes and how often each occurs; neighbours become one size once there are many."""
    values, times = np.unique(sizes, return_counts=True)
    if len(values) > _SIZES:
        edges = np.unique(np.linspace(0, len(values), _SIZES + 1).astype(np.int64)[:-1])
        total = np.add.reduceat(values**2 * times, edges)
        times = np.add.reduceat(times, edges)
        values = np.sqrt(total / times)
    return values.astype(np.float64), times.astype(np.int64)


def _grouped(
    values: Floats, times: NDArray[np.int64], margin: float, shares: tuple[float, float], alpha: float, seed: int
) -> float:
    """The share of draws in which the bound of the group bootstrap lies below the margin."""
    rng = np.random.default_rng(seed)
    rest = max(0.0, 1 - sum(shares))
    counts = np.concatenate([rng.multinomial(k, [*shares, rest], size=_DRAWS) for k in times], axis=1)
    # What a group of this size adds to "sum of differences − margin · requests" with an exponential weight of 1.
    sums = np.concatenate([value * np.array([1 - margin, -1 - margin, -margin]) for value in values])
    pseudo = float((values**2) @ times / (values @ times)) * (1 - margin)
    return float((_tail(counts, sums, pseudo) <= alpha).mean())


def _tail(counts: NDArray[np.int64], sums: Floats, pseudo: float) -> Floats:
    """For each draw the chance that Σ w · sum, with the pseudo-group's, reaches 0: Lugannani and Rice's formula.

    The weights w are exponential, so K(t) = −Σ count · log(1 − t · sum); the saddlepoint is where K' is 0.
    """
    counts = np.concatenate([counts, np.ones((len(counts), 1), dtype=np.int64)], axis=1)
    sums = np.append(sums, pseudo)
    mean = counts @ sums
    tail: Floats = np.ones(len(counts))
    inside = mean < -1e-9 * np.abs(sums).max()  # otherwise the chance is about a half or more
    part = counts[inside].astype(np.float64)
    largest = np.where(part > 0, sums, 0.0).max(axis=1)
    low, high = np.zeros(len(part)), (1 - 1e-12) / largest
    for _ in range(60):
        middle = (low + high) / 2
        below = (part * sums / (1 - middle[:, None] * sums)).sum(axis=1) < 0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    point = (low + high) / 2
    scale = 1 - point[:, None] * sums
    log = np.where(part > 0, np.log(np.maximum(scale, 1e-300)), 0.0)
    w = np.sqrt(np.maximum(2 * (part * log).sum(axis=1), 1e-12))
    u = point * np.sqrt((part * (sums / scale) ** 2).sum(axis=1))
    normal = np.array([_NORMAL.cdf(-value) for value in w])
    density = np.exp(-0.5 * w**2) / math.sqrt(2 * math.pi)
    tail[inside] = np.where(w < 0.05, 0.5, normal + density * (1 / u - 1 / w))
    return tail


def safe(rows: int | Sequence[float], margin: float, discordance: float, *, alpha: float, power: float) -> int | None:
    """Rows at which an equal contender passes with chance `power`; None where no realistic number does.

    For groups the number of requests, if more groups come in the sizes that there are.
    """
    if isinstance(rows, int) or all(size == 1 for size in rows):
        needed = stats.rows_needed(discordance, margin, alpha=alpha, power=power)
        return needed if needed <= REALISTIC else None
    values, times = _merged(np.asarray(rows, dtype=np.float64))
    total, shares = float(values @ times), (discordance / 2, discordance / 2)
    typical = stats.kish(rows)
    guess = typical * stats.rows_needed(discordance, margin, alpha=alpha, power=power, method="bootstrap")

    def enough(requests: float) -> bool:
        scaled = np.maximum(1, np.rint(times * requests / total)).astype(np.int64)
        return _grouped(values, scaled, margin, shares, alpha, 0) >= power

    low, high = 0.0, guess
    while not enough(high):
        low, high = high, 1.5 * high
        if high > 4 * guess:
            break
    while high - low > 0.02 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    needed = math.ceil(high)
    return needed if needed <= REALISTIC * max(1.0, total / len(rows)) else None


def requests(groups: Sequence[Hashable], weights: Sequence[float] | None = None) -> list[float]:
    """How many requests each group of a split stands for, from its rows' groups and weights."""
    sizes: dict[Hashable, float] = {}
    for place, group in enumerate(groups):
        sizes[group] = sizes.get(group, 0) + (1 if weights is None else weights[place])
    return list(sizes.values())


@dataclass(frozen=True, slots=True)
class Power:
    """What a split can show at a margin: the chance that an equal contender passes, by discordance.

    `rows` are the split's rows, `counts_as` the independent rows that they are worth (the groups at their worst);
    `safe_rows` those at which it would pass with chance `power` at a discordance of 10 %, `safe_source` the rows of the
    sources that would give as many; both None where no realistic number does.
    """

    rows: int
    counts_as: int
    margin: float
    alpha: float
    power: float
    chances: Mapping[float, float]
    safe_rows: int | None
    safe_source: int | None

    @property
    def low(self) -> bool:
        """Whether an equal contender fails more often than it passes, at a typical discordance."""
        return self.chances[TYPICAL] < LOW


def power(
    groups: int | Sequence[Hashable],
    *,
    margin: float,
    alpha: float,
    power: float,
    weights: Sequence[float] | None = None,
    source_rows: int | None = None,
) -> Power:
    """What a split can show: `groups` is its number of rows, or the group of every row.

    `source_rows` is how many rows of the sources this split was cut from; the same share of more rows is assumed.

    Raises:
        ValueError: no rows, or an argument out of range.
    """
    rows = groups if isinstance(groups, int) else len(groups)
    sizes: list[float] = [1] * rows if isinstance(groups, int) else requests(groups, weights)
    alone = all(size == 1 for size in sizes)
    chances = {share: chance(rows if alone else sizes, margin, share, alpha=alpha) for share in DISCORDANCES}
    needed = safe(rows if alone else sizes, margin, SAFE, alpha=alpha, power=power)
    if needed is not None and not alone:  # in requests; a row stands for as many as here
        needed = math.ceil(needed * rows / sum(sizes))
    return Power(
        rows=rows,
        counts_as=rows if alone else max(1, round(sum(sizes) / stats.kish(sizes))),
        margin=margin,
        alpha=alpha,
        power=power,
        chances=chances,
        safe_rows=needed,
        safe_source=None if needed is None or not source_rows else math.ceil(needed * source_rows / rows),
    )


def sentence(found: Power) -> str:
    """Both numbers that matter, for a log, a datasheet and the plan."""
    few, many = found.chances[DISCORDANCES[0]], found.chances[SAFE]
    worth = "" if found.counts_as == found.rows else f" that count as {found.counts_as:,}"
    head = f"{found.rows:,} test {_rows(found.rows)}{worth}, margin {100 * found.margin:g} points: "
    head += f"an equally good model {passes(found.chances[TYPICAL])}"
    if f"{few:.0%}" != f"{many:.0%}":
        head += (
            f" ({100 * few:.0f} % where the two differ on {100 * DISCORDANCES[0]:g} % of the rows, "
            f"{100 * many:.0f} % on {100 * SAFE:g} %)"
        )
    if found.safe_rows is not None and found.rows >= found.safe_rows:
        return f"{head}."
    if found.safe_rows is None:
        return f"{head}; no realistic number of rows (up to {REALISTIC:,}) would make it safe."
    source = "" if found.safe_source is None else f" ({rounded(found.safe_source):,} rows in the sources)"
    return f"{head}; about {rounded(found.safe_rows):,}{source} would make it safe."


def passes(share: float) -> str:
    """How often something passes, in plain words."""
    if share < 0.005:
        return "cannot pass"
    if share < 0.05:
        return "hardly ever passes"
    for limit, words in (
        (0.15, "about one time in ten"),
        (0.225, "about one time in five"),
        (0.29, "about a quarter of the time"),
        (0.42, "about a third of the time"),
        (0.58, "about half the time"),
        (0.71, "about two thirds of the time"),
        (0.78, "about three quarters of the time"),
        (0.85, "about four times in five"),
        (0.93, "about nine times in ten"),
    ):
        if share < limit:
            return f"passes {words}"
    return "nearly always passes"


def needed_in_words(rows: int | None, *, what: str = "test rows") -> str:
    """A number of rows as advice: "about 1,374 test rows", or that no realistic number will do."""
    if rows is None or rows > REALISTIC:
        return f"no realistic number of {what} (more than {REALISTIC:,})"
    return f"about {rows:,} {what}"


def rounded(rows: int) -> int:
    """To two digits, as people speak of rows."""
    unit = 10 ** max(0, len(str(rows)) - 2)
    return round(rows / unit) * unit


def _rows(count: int) -> str:
    return "row" if count == 1 else "rows"
