"""Values in portions of so many bytes, as a request or a file takes them."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def portions(
    values: Iterable[T], weigh: Callable[[T], int], *, most_bytes: int, most: int | None = None
) -> Iterator[list[T]]:
    """The values in their order, `most_bytes` by `weigh` and `most` of them a portion; one that is heavier goes alone."""
    portion: list[T] = []
    size = 0
    for value in values:
        weight = weigh(value)
        if portion and (len(portion) == most or size + weight > most_bytes):
            yield portion
            portion, size = [], 0
        portion.append(value)
        size += weight
    if portion:
        yield portion
