"""How often does the gate swap in a contender that is worse by exactly the margin?

    python benchmarks/false_swap.py [gate] [family] [looks] [family_looks] [--draws 20000] [--alpha 0.05] [--power 0.8] [--seed 1]
    python benchmarks/false_swap.py family --scores f1 --rows 1000 --correlation 0.6    # a part of its table

gate: draws pairs of contenders whose true gap is the margin, lets the gate judge them, and prints the share of swaps
beside that of the rule this project once used (the measured gap is below the margin). Then draws contenders
that are as good as the teacher, on as many rows as `rows_needed` asks for, and prints the share that passes.
family: the same for 2 to 8 contenders that resemble each other, judged as `decision.family` says, beside "first that
passes"; then staircases, on which some contender is good, with the share of worlds in which a good one is deployed.
As in the graph, val says where building stops, and which contenders the sequence passes over.
looks: the same for one contender whose teacher's rows are bought in looks, beside a gate that looks as often
without paying for it, and the rows that are asked.
family_looks: both at once, with the share of worlds in which any contender passes at any look.
Exit code 1 where a share leaves its tolerance: alpha plus three standard errors, power minus five points (four, on staircases).
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from statistics import NormalDist

import numpy as np

from fledgling import stats
from fledgling.decision import family, sequential

ROWS = (20, 50, 100, 200, 500, 1000, 2000)
DISCORDANCE = (0.02, 0.05, 0.1, 0.2, 0.4)
MARGINS = (0.02, 0.05, 0.1)
MARGIN = 0.05  # of families and looks
TEACHER = 0.93
F1 = np.array([0.2, 1 / 3, 0.5, 2 / 3, 1.0])  # by how much F1 differs on a discordant row


@cache
def most(n: int, contender_only: int, margin: float, alpha: float) -> int:
    """The largest count of rows only the teacher has right at which the gate still swaps; -1 where there is none."""
    level = NormalDist().inv_cdf(alpha)
    teacher_only = np.arange(n - contender_only + 1)
    last = int((stats.tango_z(teacher_only, contender_only, n, margin) < level).sum()) - 1
    while last >= 0 and stats.inferiority_p(last, contender_only, n, margin) > alpha:
        last -= 1
    return last


def binary(
    n: int, discordance: float, gap: float, margin: float, alpha: float, draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Shares of draws that the gate and the point estimate swap, for scores of 0 and 1."""
    shares = [(discordance + gap) / 2, (discordance - gap) / 2, 1 - discordance]
    counts, times = np.unique(rng.multinomial(n, shares, size=draws)[:, :2], axis=0, return_counts=True)
    gate = np.array([b <= most(n, int(c), margin, alpha) for b, c in counts])
    point = (counts[:, 0] - counts[:, 1]) / n < margin - 1e-12
    return float(times[gate].sum() / draws), float(times[point].sum() / draws)


def judged(
    draw: Callable[[], tuple[np.ndarray, np.ndarray | None]], margin: float, alpha: float, draws: int
) -> tuple[float, float]:
    """The same for any scores: `draw` gives the rows' differences and their groups."""
    gate = point = 0
    for number in range(draws):
        difference, groups = draw()
        if difference.mean() >= margin:  # neither rule swaps: the bound lies above the measured gap
            continue
        point += 1
        gap = stats.paired_gap(
            np.maximum(difference, 0),
            np.maximum(-difference, 0),
            None if groups is None else groups.tolist(),
            alpha=alpha,
            resamples=1000,
            seed=number,
        )
        gate += stats.non_inferior(gap, margin, alpha=alpha)
    return gate / draws, point / draws


def f1(n: int, discordance: float, gap: float, rng: np.random.Generator) -> tuple[np.ndarray, None]:
    """Differences of a score such as F1, on a share of the rows, of either sign."""
    up = (1 + gap / (discordance * F1.mean())) / 2
    signs = np.where(rng.random(n) < up, 1.0, -1.0)
    return (rng.random(n) < discordance) * rng.choice(F1, n) * signs, None


def grouped(
    groups: int, discordance: float, gap: float, alike: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Binary differences in groups of 1 to 12 rows; a share of the groups answers as one."""
    codes = np.repeat(np.arange(groups), rng.choice([1, 1, 1, 2, 5, 12], groups))
    shares = [(discordance + gap) / 2, (discordance - gap) / 2, 1 - discordance]
    alone = rng.choice([1.0, -1.0, 0.0], len(codes), p=shares)
    together = rng.choice([1.0, -1.0, 0.0], groups, p=shares)[codes]
    return np.where((rng.random(groups) < alike)[codes], together, alone), codes


# several contenders ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Differences teacher − contender, (draws, contenders, rows), and the rows' groups."""

    differences: np.ndarray
    groups: np.ndarray | None
    binary: bool


def world(draws: int, n: int, gaps: Sequence[float], rho: float, scores: str, rng: np.random.Generator) -> World:
    """Contenders whose answers resemble each other: a row is hard for all (correlation rho) and a little for the teacher.

    `scores`: "binary", "f1" (a wrong answer is partly right, by the row), or "groups" (1 to 12 rows a group, of which
    half answer as one).
    """
    groups = None
    unit = np.arange(n)
    if scores == "groups":
        groups = np.repeat(np.arange(n), rng.choice([1, 1, 1, 2, 5, 12], n))[:n]
        together = rng.random(n) < 0.5
        unit = np.where(together[groups], groups, n + np.arange(n))
        unit = np.unique(unit, return_inverse=True)[1]
    lost = rng.choice(F1, n) if scores == "f1" else np.ones(n)
    # The share of right answers at which the gap, partly right answers included, is the one wanted.
    right = [NormalDist().inv_cdf(min(0.9999, TEACHER - gap / lost.mean())) for gap in gaps]
    hard = rng.standard_normal((draws, unit.max() + 1), dtype=np.float32)

    def answers(weight: float, limit: float) -> np.ndarray:
        own = rng.standard_normal(hard.shape, dtype=np.float32)
        return (weight * hard + math.sqrt(1 - weight**2) * own < limit)[:, unit]

    teacher = answers(0.6, NormalDist().inv_cdf(TEACHER)).astype(np.int8)
    found = np.stack([teacher - answers(rho, limit).astype(np.int8) for limit in right], axis=1)
    return World(found * lost if scores == "f1" else found, groups, scores != "f1")


@cache
def exact(b: int, c: int, n: int) -> float:
    return stats.inferiority_p(b, c, n, MARGIN)


def p_values(made: World, alpha: float) -> np.ndarray:
    """The p-value of each contender in each draw; what is above alpha in any case is not told more exactly."""
    draws, contenders, n = made.differences.shape
    if made.binary and made.groups is None:
        b, c = (made.differences == 1).sum(axis=2), (made.differences == -1).sum(axis=2)
        z = stats.tango_z(b, c, n, MARGIN)
        level = NormalDist().inv_cdf(alpha)
        p = np.where(z > level, 0.5, 0.0)
        for place in zip(*np.nonzero(z <= level), strict=True):
            near = NormalDist().cdf(float(z[place]))
            # Beyond 600 rows the exact test costs half a second and agrees with Tango's to the third digit.
            p[place] = near if n > 600 else max(near, exact(int(b[place]), int(c[place]), n))
        return p
    p = np.full((draws, contenders), 0.5)
    codes = None if made.groups is None else made.groups.tolist()
    for place in np.ndindex(draws, contenders):
        difference = made.differences[place].astype(float)
        spread = math.sqrt(float((difference**2).mean()) / n)
        if difference.mean() < MARGIN - spread:  # at this distance p is above 0.15
            p[place] = stats.non_inferiority_p(
                np.maximum(difference, 0),
                np.maximum(-difference, 0),
                codes,
                margin=MARGIN,
                resamples=1000,
                seed=place[0],
            )
    return p


def on_val(made: World, n_test: int, alpha: float, power: float) -> list[tuple[int, list[int]]]:
    """For each draw of val, the rung at which building stops, and those up to it that leave no hope."""
    draws, contenders, _ = made.differences.shape
    mean, square = made.differences.mean(axis=2), (made.differences.astype(float) ** 2).mean(axis=2)
    said = []
    for draw in range(draws):
        hopeless = []
        for rung in range(contenders):
            level = family.level_of_nominee("sequence", alpha, contenders, rung)
            seen = family.Val("score", float(mean[draw, rung]), float(square[draw, rung]))
            prospect = family.promising([seen], n_test, margin=MARGIN, alpha=level, power=power)
            if prospect.rows_needed is None:
                hopeless.append(rung)
            if prospect.promising:
                break
        said.append((rung, hopeless))
    return said


@dataclass(frozen=True)
class Outcome:
    """Shares of draws in which a contender at the margin or worse is deployed, and a good one; rungs built on average."""

    false: float
    good: float
    built: float


def judge(
    n: int,
    gaps: Sequence[float],
    rho: float,
    scores: str,
    alpha: float,
    power: float,
    draws: int,
    rng: np.random.Generator,
) -> dict[str, Outcome]:
    """What each family comes to in the same worlds; val has a fifth of test's rows, 100 at least."""
    bad = [gap >= MARGIN - 1e-9 for gap in gaps]
    names = [f"c{place}" for place in range(len(gaps))]
    results: dict[str, list[tuple[int | None, int]]] = {name: [] for name in family.FAMILIES}
    for start in range(0, draws, step := 200 if scores != "binary" else max(50, 2_000_000 // n)):
        size = min(step, draws - start)
        p = p_values(world(size, n, gaps, rho, scores, rng), alpha)
        said = on_val(world(size, max(100, n // 5), gaps, rho, scores, rng), n, alpha, power)
        for row, (stop, hopeless) in zip(p.tolist(), said, strict=True):
            found = [family.Evidence(*pair) for pair in zip(names, row, strict=True)]
            over = [names[rung] for rung in hopeless]
            for name in family.FAMILIES:
                settled = family.settle(name, found, alpha=alpha, nominee=names[stop], passed_over=over)
                deployed = None if settled.cheapest is None else names.index(settled.cheapest)
                if name == "sequence":
                    built = stop + 1 + (stop + 1 < len(names) and settled.rungs[stop + 1].tested)
                else:
                    built = len(names) if name == "holm" or deployed is None else deployed + 1
                results[name].append((deployed, built))
    return {
        name: Outcome(
            sum(deployed is not None and bad[deployed] for deployed, _ in those) / draws,
            sum(deployed is not None and not bad[deployed] for deployed, _ in those) / draws,
            sum(built for _, built in those) / draws,
        )
        for name, those in results.items()
    }


STAIRCASES = {
    "33, 23, 13, 0, −1 points": (0.33, 0.23, 0.13, 0.0, -0.01),
    "33, 18, 10, 5, −0.5 points": (0.33, 0.18, 0.10, 0.05, -0.005),
    "33, 0, 0, −1, −1 points": (0.33, 0.0, 0.0, -0.01, -0.01),
}


# looks -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bought:
    """Shares of draws that pass, with looks that are paid for and with the plain gate at every look; rows asked."""

    passed: float
    peeking: float
    once: float
    mean: float
    median: float


def looks(n: int, discordance: float, gap: float, alpha: float, draws: int, rng: np.random.Generator) -> Bought:
    """One contender, scores of 0 and 1, rows bought at doubling looks."""
    made = sequential.plan(n, alpha=alpha)
    shares = [(discordance + gap) / 2, (discordance - gap) / 2, 1 - discordance]
    b = c = np.zeros(draws, dtype=np.int64)
    live, passed, peeking = np.ones(draws, bool), np.zeros(draws, bool), np.zeros(draws, bool)
    used, before, once = np.zeros(draws), 0, np.zeros(draws, bool)
    for look, level, give in zip(made.looks, made.levels, made.futile, strict=True):
        step = rng.multinomial(look - before, shares, size=draws)
        b, c, before = b + step[:, 0], c + step[:, 1], look
        used[live] = look
        good = live & passes(b, c, look, level)
        passed |= good
        once = passes(b, c, look, alpha)
        peeking |= once
        far = np.zeros(draws, bool)
        if give:
            z = (b - c) / np.sqrt(np.maximum(b + c, 1))
            far = live & ((b - c) / look > MARGIN) & (z > NormalDist().inv_cdf(1 - give))
        live &= ~good & ~far
    return Bought(
        float(passed.mean()), float(peeking.mean()), float(once.mean()), float(used.mean()), float(np.median(used))
    )


def passes(b: np.ndarray, c: np.ndarray, n: int, level: float) -> np.ndarray:
    """Where the gate swaps; Tango alone beyond 300 rows, where the exact test agrees and is slow."""
    if n > 300:
        return stats.tango_z(b, c, n, MARGIN) < NormalDist().inv_cdf(level)
    counts, back = np.unique(c, return_inverse=True)
    return b <= np.array([most(n, int(count), MARGIN, level) for count in counts])[back]


def looks_drawn(draw: Callable[[], tuple[np.ndarray, np.ndarray | None]], alpha: float, draws: int) -> Bought:
    """The same for any scores: `draw` gives differences and groups, in the order of buying."""
    ends: list[int] = []
    passed = peeking = once = 0
    for number in range(draws):
        difference, groups = draw()
        made = sequential.plan(len(difference) if groups is None else groups.tolist(), alpha=alpha)
        open_, peeked, plain = True, False, False
        for look, level in zip(made.looks, made.levels, strict=True):
            part, codes = difference[:look], None if groups is None else groups[:look].tolist()
            p = 1.0
            if part.mean() < MARGIN:
                p = stats.non_inferiority_p(
                    np.maximum(part, 0), np.maximum(-part, 0), codes, margin=MARGIN, resamples=1000, seed=number
                )
            plain = p <= alpha
            peeked |= plain
            if open_ and p <= level:
                passed, open_ = passed + 1, False
                ends.append(look)
            elif open_:
                gap = stats.paired_gap(
                    np.maximum(part, 0), np.maximum(-part, 0), codes, alpha=alpha, resamples=2, seed=number
                )
                if look == made.looks[-1] or sequential.futile(made, look, [gap], MARGIN):
                    open_ = False
                    ends.append(look)
        peeking, once = peeking + peeked, once + plain
    return Bought(passed / draws, peeking / draws, once / draws, float(np.mean(ends)), float(np.median(ends)))


def family_looks(
    n: int, contenders: int, rho: float, scores: str, alpha: float, draws: int, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Contenders at the margin whose teacher is bought in looks: how often any passes at any look, whatever ends the buying.

    By family: the shares with the levels of the looks, and with the whole of alpha at each.
    """
    names = [f"c{place}" for place in range(contenders)]
    results = {name: [0, 0] for name in ("sequence", "holm")}
    for start in range(0, draws, step := 200 if scores != "binary" else max(50, 2_000_000 // n)):
        size = min(step, draws - start)
        made = world(size, n, [MARGIN] * contenders, rho, scores, rng)
        planned = sequential.plan(n if made.groups is None else made.groups.tolist(), alpha=alpha)
        passed = {name: np.zeros((2, size), bool) for name in results}
        for look in planned.looks:
            part = World(
                made.differences[:, :, :look], None if made.groups is None else made.groups[:look], made.binary
            )
            p = np.maximum(p_values(part, alpha), 1e-3)  # no p of counts or of 1,000 resamples is below
            for row, values in enumerate(p.tolist()):
                found = [family.Evidence(*pair) for pair in zip(names, values, strict=True)]
                for name in results:
                    for place, at in enumerate((partial(sequential.level_for, planned, look), float)):
                        settled = family.settle(name, found, alpha=alpha, nominee=names[-1], further=False, at=at)
                        passed[name][place, row] |= settled.cheapest is not None
        for name, both in passed.items():
            for place in range(2):
                results[name][place] += int(both[place].sum())
    return {name: (both[0] / draws, both[1] / draws) for name, both in results.items()}


def tolerance(alpha: float, draws: int) -> float:
    """The share above which false swaps are more than chance: three standard errors over alpha."""
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / draws)


Check = Callable[[str, float, int], str]


def gate_tables(args: argparse.Namespace, rng: np.random.Generator, check: Check, bad: list[str]) -> None:
    alpha, few = args.alpha, max(200, args.draws // 10)
    print(f"### Scores of 0 and 1, {args.draws:,} draws a cell: false swaps in %, gate / point estimate\n")
    print("| margin | discordance | " + " | ".join(f"n = {n:,}" for n in ROWS) + " |")
    print("|---|---|" + "---|" * len(ROWS))
    for margin in MARGINS:
        for discordance in (value for value in DISCORDANCE if value >= margin):
            cells = []
            for n in ROWS:
                gate, point = binary(n, discordance, margin, margin, alpha, args.draws, rng)
                cells.append(f"{check(f'binary {margin} {discordance} {n}', gate, args.draws)} / {100 * point:.0f}")
            print(f"| {margin:g} | {100 * discordance:g} % | " + " | ".join(cells) + " |", flush=True)

    print(
        f"\n### Means such as F1, and rows in groups, {few:,} draws a cell: false swaps in %, gate / point estimate\n"
    )
    print("| scores | margin | discordance | " + " | ".join(f"n = {n:,}" for n in ROWS) + " |")
    print("|---|---|---|" + "---|" * len(ROWS))
    for name, margin, discordance in (
        ("F1", 0.02, 0.05),
        ("F1", 0.05, 0.1),
        ("F1", 0.05, 0.2),
        ("F1", 0.05, 0.4),
        ("groups, half alike", 0.05, 0.1),
        ("groups, half alike", 0.05, 0.4),
        ("groups, all alike", 0.05, 0.1),
    ):
        cells = []
        for n in ROWS:
            if name == "F1":
                draw = partial(f1, n, discordance, margin, rng)
            else:  # groups have 22/6 rows on average
                draw = partial(grouped, round(n * 6 / 22), discordance, margin, 1.0 if "all" in name else 0.5, rng)
            gate, point = judged(draw, margin, alpha, few)
            cells.append(f"{check(f'{name} {margin} {discordance} {n}', gate, few)} / {100 * point:.0f}")
        print(f"| {name} | {margin:g} | {100 * discordance:g} % | " + " | ".join(cells) + " |", flush=True)

    print(
        f"\n### Contenders as good as the teacher, on `rows_needed` rows for power {args.power:g}: share that passes in %\n"
    )
    print("| scores | margin | " + " | ".join(f"{100 * value:g} %" for value in DISCORDANCE) + " |")
    print("|---|---|" + "---|" * len(DISCORDANCE))
    for name in ("0 and 1", "F1"):
        for margin in MARGINS:
            cells = []
            for discordance in DISCORDANCE:
                if name == "F1":
                    square = discordance * float((F1**2).mean())
                    n = stats.rows_needed(square, margin, alpha=alpha, power=args.power, method="bootstrap")
                    passed, draws = judged(partial(f1, n, discordance, 0.0, rng), margin, alpha, few)[0], few
                else:
                    n = stats.rows_needed(discordance, margin, alpha=alpha, power=args.power)
                    passed, draws = binary(n, discordance, 0.0, margin, alpha, args.draws, rng)[0], args.draws
                slack = 3 * math.sqrt(args.power * (1 - args.power) / draws)
                if passed < args.power - 0.05 - slack:
                    bad.append(f"power {name} {margin} {discordance} n={n}: {passed:.3f}")
                cells.append(f"{100 * passed:.1f} (n = {n:,})")
            print(f"| {name} | {margin:g} | " + " | ".join(cells) + " |", flush=True)


def wanted(args: argparse.Namespace, scores: str, n: int, rho: float) -> bool:
    """Whether a part of the family's tables is asked for."""
    return scores in args.scores and n in (args.rows or [n]) and rho in (args.correlation or [rho])


def family_tables(args: argparse.Namespace, rng: np.random.Generator, check: Check, bad: list[str]) -> None:
    alpha, few = args.alpha, max(200, args.draws // 10)
    print(f"\n### Families, all at the margin: false swaps in %, sequence / holm / each; {few:,} draws a cell\n")
    print("| scores | n | correlation | " + " | ".join(f"{k} contenders" for k in (2, 3, 5, 8)) + " |")
    print("|---|---|---|" + "---|" * 4)
    for scores, n, rho in (
        *(("binary", n, rho) for n in (200, 500, 2000) for rho in (0.6, 0.85, 0.95)),
        *((scores, n, rho) for scores in ("f1", "groups") for n in (200, 1000) for rho in (0.6, 0.95)),
    ):
        if not wanted(args, scores, n, rho):
            continue
        cells, draws = [], few if scores == "binary" else few // 2
        for contenders in (2, 3, 5, 8):
            result = judge(n, [MARGIN] * contenders, rho, scores, alpha, args.power, draws, rng)
            for name in ("sequence", "holm"):
                check(f"{name} {scores} n={n} rho={rho} contenders={contenders}", result[name].false, draws)
            if scores == "binary" and contenders >= 5 and result["each"].false <= 0.08:
                bad.append(f"each {n} {rho} {contenders}: {result['each'].false:.4f}, and it should show more than 8 %")
            cells.append(" / ".join(f"{100 * result[name].false:.1f}" for name in family.FAMILIES))
        print(f"| {scores} | {n:,} | {rho} | " + " | ".join(cells) + " |", flush=True)
    if not wanted(args, "staircases", 500, 0.85):
        return
    print("\n### Staircases of five, n = 500, val 100, correlation 0.85: false / good in %, rungs built\n")
    print("| gaps | " + " | ".join(family.FAMILIES) + " |")
    print("|---|" + "---|" * len(family.FAMILIES))
    for name, gaps in STAIRCASES.items():
        result = judge(500, gaps, 0.85, "binary", alpha, args.power, few, rng)
        print(
            f"| {name} | "
            + " | ".join(f"{100 * one.false:.1f} / {100 * one.good:.1f}, {one.built:.2f}" for one in result.values())
            + " |",
            flush=True,
        )
        if result["sequence"].good < result["each"].good - 0.04:
            bad.append(f"staircase {name}: sequence {result['sequence'].good:.3f}, each {result['each'].good:.3f}")


def look_tables(args: argparse.Namespace, rng: np.random.Generator, check: Check, bad: list[str]) -> None:
    alpha, few = args.alpha, max(200, args.draws // 10)
    print(
        f"\n### Looks, at the margin: false swaps in %, looks / one look / the plain gate at every look; {args.draws:,} draws\n"
    )
    print("| scores | discordance | " + " | ".join(f"N = {n:,}" for n in (200, 500, 1000, 2000)) + " |")
    print("|---|---|" + "---|" * 4)
    for discordance in (0.05, 0.1, 0.2, 0.3):
        cells = []
        for n in (200, 500, 1000, 2000):
            found = looks(n, discordance, MARGIN, alpha, args.draws, rng)
            check(f"looks {n} {discordance}", found.passed, args.draws)
            cells.append(f"{100 * found.passed:.1f} / {100 * found.once:.1f} / {100 * found.peeking:.1f}")
        print(f"| 0 and 1 | {100 * discordance:g} % | " + " | ".join(cells) + " |", flush=True)
    for name, discordance in (("F1", 0.1), ("F1", 0.2), ("groups, half alike", 0.2)):
        cells = []
        for n in (200, 500, 1000, 2000):
            draw = partial(f1, n, discordance, MARGIN, rng)
            if name != "F1":
                draw = partial(grouped, round(n * 6 / 22), discordance, MARGIN, 0.5, rng)
            draws = few if name == "F1" else few // 5  # groups take seconds a draw
            found = looks_drawn(draw, alpha, draws)
            check(f"looks {name} {n} {discordance}", found.passed, draws)
            cells.append(f"{100 * found.passed:.1f} / {100 * found.once:.1f} / {100 * found.peeking:.1f}")
        print(f"| {name} | {100 * discordance:g} % | " + " | ".join(cells) + " |", flush=True)
    print(f"\n### Looks: pass in % (one look in brackets), mean and median of the rows asked; {args.draws:,} draws\n")
    gaps = (-0.02, 0.0, 0.02, 0.05, 0.08, 0.1)
    print("| N | discordance | " + " | ".join(f"gap {100 * gap:+g}" for gap in gaps) + " |")
    print("|---|---|" + "---|" * len(gaps))
    for n in (500, 1000, 2000):
        for discordance in (0.05, 0.1, 0.2, 0.3):
            cells = []
            for gap in gaps:
                if abs(gap) > discordance:
                    cells.append("–")
                    continue
                found = looks(n, discordance, gap, alpha, args.draws, rng)
                cells.append(f"{100 * found.passed:.1f} ({100 * found.once:.1f}), {found.mean:.0f}, {found.median:.0f}")
                if (n, discordance) == (2000, 0.2) and gap in (0.0, 0.1):
                    limit = 0.4 * n if gap == 0 else n / 8
                    if found.median > limit:
                        bad.append(f"rows asked at a gap of {gap}: median {found.median:.0f} > {limit:.0f}")
            print(f"| {n:,} | {100 * discordance:g} % | " + " | ".join(cells) + " |", flush=True)


def family_look_tables(args: argparse.Namespace, rng: np.random.Generator, check: Check, bad: list[str]) -> None:
    draws = max(200, args.draws // 10)
    print(
        f"\n### Families bought in looks, all at the margin, correlation 0.85: in %, any passes at any look, and with all of "
        f"alpha at each look; {draws:,} draws (half of it for F1 and groups)\n"
    )
    print("| scores | N | contenders | sequence | holm |")
    print("|---|---|---|---|---|")
    for scores, n in (("binary", 500), ("binary", 2000), ("f1", 1000), ("groups", 1000)):
        for contenders in (2, 5):
            own = draws if scores == "binary" else draws // 2
            found = family_looks(n, contenders, 0.85, scores, args.alpha, own, rng)
            for name, (paid, _) in found.items():
                check(f"looks {name} {scores} {n} {contenders}", paid, own)
            cells = " | ".join(f"{100 * paid:.1f}, {100 * free:.1f}" for paid, free in found.values())
            print(f"| {scores} | {n:,} | {contenders} | {cells} |", flush=True)


TABLES = {"gate": gate_tables, "family": family_tables, "looks": look_tables, "family_looks": family_look_tables}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[[], *TABLES], help="the tables to make; all, if none is named")
    parser.add_argument("--draws", type=int, default=20_000, help="for scores of 0 and 1; the others take a tenth")
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--power", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=1)
    parts = ("binary", "f1", "groups", "staircases")
    parser.add_argument("--scores", nargs="*", default=parts, choices=parts, help="of the families, only these")
    parser.add_argument("--rows", nargs="*", type=int, help="of the families, only these numbers of rows")
    parser.add_argument("--correlation", nargs="*", type=float, help="of the families, only these correlations")
    args = parser.parse_args()
    alpha, start = args.alpha, time.monotonic()
    rng = np.random.default_rng(args.seed)
    bad: list[str] = []

    def check(name: str, share: float, draws: int) -> str:
        if share > tolerance(alpha, draws):
            bad.append(f"{name}: {share:.4f} false swaps")
        return f"{100 * share:.1f}"

    for name in args.what or TABLES:
        TABLES[name](args, rng, check, bad)

    print(f"\n{time.monotonic() - start:.0f} s", file=sys.stderr)
    for line in bad:
        print(line, file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
