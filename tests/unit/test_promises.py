"""The promises over several contenders and several looks, in short; benchmarks/false_swap.py is the long version."""

from functools import partial

import numpy as np
import pytest


@pytest.mark.parametrize(("contenders", "rho", "n"), [(2, 0.85, 200), (3, 0.6, 200), (5, 0.85, 1000), (8, 0.95, 200)])
def test_a_family_swaps_wrongly_as_often_as_one_contender(benchmark, contenders: int, rho: float, n: int):
    """All exactly at the margin; the same draws under "the cheapest that passes" are shown to exceed what is promised."""
    draws = 2000
    found = benchmark.judge(n, [0.05] * contenders, rho, "binary", 0.05, 0.8, draws, np.random.default_rng(contenders))
    assert found["sequence"].false <= benchmark.tolerance(0.05, draws)
    assert found["holm"].false <= benchmark.tolerance(0.05, draws)
    assert found["each"].false > (0.065 if contenders == 2 else 0.08)


@pytest.mark.parametrize(("scores", "n"), [("f1", 500), ("groups", 700)])
def test_a_family_of_means_or_groups_keeps_the_promise(benchmark, scores: str, n: int):
    found = benchmark.judge(n, [0.05] * 5, 0.6, scores, 0.05, 0.8, 250, np.random.default_rng(6))
    assert found["sequence"].false <= benchmark.tolerance(0.05, 250)
    assert found["holm"].false <= benchmark.tolerance(0.05, 250)


def test_a_sequence_finds_the_good_rung_of_a_staircase(benchmark):
    for gaps in benchmark.STAIRCASES.values():
        found = benchmark.judge(500, gaps, 0.85, "binary", 0.05, 0.8, 600, np.random.default_rng(7))
        assert found["sequence"].good >= found["each"].good - 0.04 - 0.01
        assert found["sequence"].false <= benchmark.tolerance(0.05, 600)
        assert found["sequence"].built < found["holm"].built


@pytest.mark.parametrize(("n", "discordance"), [(200, 0.2), (500, 0.1), (1000, 0.2), (2000, 0.3)])
def test_looks_swap_wrongly_as_often_as_one_look(benchmark, n: int, discordance: float):
    """The plain gate at each of the same looks does so two to three times as often."""
    found = benchmark.looks(n, discordance, 0.05, 0.05, 10_000, np.random.default_rng(n))
    assert found.passed <= benchmark.tolerance(0.05, 10_000)
    assert found.peeking > (0.1 if n > 200 else 0.06)


def test_looks_at_means_and_groups_keep_the_promise(benchmark):
    rng = np.random.default_rng(8)
    for draw in (partial(benchmark.f1, 500, 0.2, 0.05, rng), partial(benchmark.grouped, 100, 0.2, 0.05, 0.5, rng)):
        assert benchmark.looks_drawn(draw, 0.05, 150).passed <= benchmark.tolerance(0.05, 150)


def test_looks_ask_for_few_rows_where_the_answer_is_plain(benchmark):
    """N 2,000, a fifth discordant: an equal contender needs at most 0.4 N, one ten points behind N/8 (medians)."""
    rng = np.random.default_rng(9)
    equal = benchmark.looks(2000, 0.2, 0.0, 0.05, 4000, rng)
    assert equal.median <= 0.4 * 2000
    assert equal.passed > equal.once - 0.06
    assert benchmark.looks(2000, 0.2, 0.1, 0.05, 4000, rng).median <= 2000 / 8


def test_a_family_bought_in_looks_keeps_the_promise_of_one_verdict(benchmark):
    """Whatever ends the buying: any of three passes at any look. With all of alpha at each look it is two to three times that."""
    draws = 600
    found = benchmark.family_looks(1000, 3, 0.85, "binary", 0.05, draws, np.random.default_rng(8))
    for paid, free in found.values():
        assert paid <= benchmark.tolerance(0.05, draws)
        assert free > 0.08
