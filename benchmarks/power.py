"""Does `prepare` say how often an equally good model passes, to within five points?

    python benchmarks/power.py [--draws 4000] [--alpha 0.05] [--margin 0.05] [--seed 1]

What the datasheet says of a test split (`fledgling.decision.power`) beside the share of drawn worlds in which the gate
itself passes a contender that is exactly as good as the teacher: for rows alone, and for groups of 1 to 12 rows that
answer as one, as they are and collapsed to a row with a weight. Exit code 1 where the two are more than five points apart
(for groups, of which fewer are drawn, plus two standard errors of the simulation).
"""

import argparse
import math
import sys
import time

import numpy as np
from false_swap import DISCORDANCE, binary

from fledgling import stats
from fledgling.decision.power import power

ROWS = (20, 50, 74, 100, 200, 500, 1000, 2000)
GROUPS = (40, 120, 400)
SIZES = (1, 1, 1, 2, 5, 12)
NEAR = 0.05


def passing(
    sizes: np.ndarray, discordance: float, margin: float, alpha: float, draws: int, rng: np.random.Generator
) -> float:
    """How often the gate passes an equal contender whose groups answer as one, each a row with a weight."""
    shares = [discordance / 2, discordance / 2, 1 - discordance]
    hits = 0
    for seed in range(draws):
        difference = rng.choice([1.0, -1.0, 0.0], len(sizes), p=shares)
        if np.average(difference, weights=sizes) >= margin:
            continue
        sides = np.maximum(difference, 0), np.maximum(-difference, 0)
        gap = stats.paired_gap(*sides, alpha=alpha, resamples=1000, seed=seed, weights=sizes)
        hits += stats.non_inferior(gap, margin, alpha=alpha)
    return hits / draws


def row(name: str, cells: list[tuple[float, float]]) -> str:
    """A line of the table: what is said and what is simulated, in %."""
    return f"| {name} | " + " | ".join(f"{100 * said:.1f} / {100 * seen:.1f}" for said, seen in cells) + " |"


def main() -> int:
    """Print both tables and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--margin", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    held = {"margin": args.margin, "alpha": args.alpha, "power": 0.8}
    began, worst, far = time.monotonic(), 0.0, 0

    heads = "".join(f" {100 * share:g} % |" for share in DISCORDANCE)
    print(f"said / simulated, %\n\n| rows |{heads}\n|---|{'---|' * len(DISCORDANCE)}")
    for n in ROWS:
        said = power(n, **held).chances
        seen = {share: binary(n, share, 0.0, args.margin, args.alpha, args.draws, rng)[0] for share in DISCORDANCE}
        print(row(f"{n:,}", [(said[share], seen[share]) for share in DISCORDANCE]), flush=True)
        worst = max(worst, *(abs(said[share] - seen[share]) for share in DISCORDANCE))
        far += sum(abs(said[share] - seen[share]) > NEAR for share in DISCORDANCE)
    print(f"\nlargest difference over rows alone: {100 * worst:.1f} points\n")

    draws, worst = max(args.draws // 10, 100), 0.0
    print(f"| groups of 1 to 12 |{heads}\n|---|{'---|' * len(DISCORDANCE)}")
    for n in GROUPS:
        sizes = rng.choice(SIZES, n).astype(float)
        rows = [place for place, size in enumerate(sizes.astype(int)) for _ in range(size)]
        said = power(rows, **held).chances
        collapsed = power(list(range(n)), weights=sizes.tolist(), **held).chances
        seen = {share: passing(sizes, share, args.margin, args.alpha, draws, rng) for share in DISCORDANCE}
        print(row(f"{n:,} ({len(rows):,} rows)", [(said[share], seen[share]) for share in DISCORDANCE]), flush=True)
        for share in DISCORDANCE:
            noise = 2 * math.sqrt(max(said[share] * (1 - said[share]), 0.01) / draws)
            for found in (said[share], collapsed[share]):
                worst = max(worst, abs(found - seen[share]))
                far += abs(found - seen[share]) > NEAR + noise
    print(f"\nlargest difference over groups and weights, {draws} draws: {100 * worst:.1f} points")
    print(f"{time.monotonic() - began:.0f} s; {far} cells too far apart")
    return 1 if far else 0


if __name__ == "__main__":
    sys.exit(main())
