"""How often does the gate swap in a contender that is worse by exactly the margin?

    python benchmarks/false_swap.py [--draws 20000] [--alpha 0.05] [--power 0.8] [--seed 1]

Draws pairs of contenders whose true gap is the margin, lets the gate judge them, and prints the share of swaps
beside that of the rule this project once used (the measured gap is below the margin). Then draws contenders
that are as good as the teacher, on as many rows as `rows_needed` asks for, and prints the share that passes.
Exit code 1 where a share leaves its tolerance: alpha plus three standard errors, power minus five points.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from statistics import NormalDist

import numpy as np

from fledgling import stats

ROWS = (20, 50, 100, 200, 500, 1000, 2000)
DISCORDANCE = (0.02, 0.05, 0.1, 0.2, 0.4)
MARGINS = (0.02, 0.05, 0.1)
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


def tolerance(alpha: float, draws: int) -> float:
    """The share above which false swaps are more than chance: three standard errors over alpha."""
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / draws)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20_000, help="for scores of 0 and 1; the others take a tenth")
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--power", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    alpha, few, start = args.alpha, max(200, args.draws // 10), time.monotonic()
    rng = np.random.default_rng(args.seed)
    bad: list[str] = []

    def check(name: str, share: float, draws: int) -> str:
        if share > tolerance(alpha, draws):
            bad.append(f"{name}: {share:.4f} false swaps")
        return f"{100 * share:.1f}"

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

    print(f"\n{time.monotonic() - start:.0f} s", file=sys.stderr)
    for line in bad:
        print(line, file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
