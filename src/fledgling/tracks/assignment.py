"""Best assignments of a model's calls to the expected ones, which have no order."""

from collections.abc import Callable, Sequence
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def best(mine: Sequence[A], theirs: Sequence[B], weight: Callable[[A, B], int]) -> list[tuple[int, int]]:
    """Pairs (position in mine, position in theirs) of the one-to-one assignment with the largest sum of weights."""
    if not mine or not theirs:
        return []
    if len(mine) == len(theirs) == 1:
        return [(0, 0)]
    return _assign([[weight(a, b) for b in theirs] for a in mine])


def perfect(mine: Sequence[A], theirs: Sequence[B], fits: Callable[[A, B], bool]) -> bool:
    """Whether both can be paired off so that every pair fits."""
    if len(mine) != len(theirs):
        return False
    if all(map(fits, mine, theirs)):
        return True
    if len(mine) == 1:
        return False
    matrix = [[fits(a, b) for b in theirs] for a in mine]
    return all(map(any, matrix)) and all(matrix[row][column] for row, column in _assign(matrix))


def _assign(weights: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(weights, maximize=True)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))
