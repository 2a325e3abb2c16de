"""Progress of a stage: a bar on the terminal where there is one, else a line now and then in the log."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], *, desc: str, total: int | None = None, unit: str = "row") -> Iterator[T]:
    """Iterate with a progress bar: on the terminal where there is one, else a line now and then in the log."""
    yield from progress_bar(items, desc=desc, total=total, unit=unit)


def progress_bar(
    items: Iterable[Any] | None = None, *, desc: str, total: int | None = None, initial: int = 0, unit: str = "row"
) -> Any:
    """A tqdm bar in the same style, for work that is not an iteration (`bar.update(n)`, `bar.close()`)."""
    from tqdm import tqdm

    terminal = sys.stdout.isatty()
    return tqdm(
        items,
        desc=desc,
        total=total,
        initial=initial,
        unit=unit,
        file=sys.stdout if terminal else sys.stderr,
        mininterval=0.2 if terminal else 10,
        ascii=not terminal,
        dynamic_ncols=terminal,
        leave=True,
    )
