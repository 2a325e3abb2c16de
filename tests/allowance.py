"""The processor's time that a promise allows, on a machine that may be slower or busier than the promise's own."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds that `yardstick` takes on a core of the machine on which the promises were made, nothing else running.
YARDSTICK = 0.0066


def yardstick() -> float:
    """Seconds of processor time that a fixed piece of plain Python takes now."""
    start = time.process_time()
    seen: dict[int, list[int]] = {}
    for number in range(100_000):
        seen.setdefault(number % 1_000, []).append(number)
    return time.process_time() - start


def slowness() -> float:
    """How many times longer than on the promise's machine the same work takes here and now, at least 1."""
    return max(1.0, max(yardstick() for _ in range(5)) / YARDSTICK)


@contextmanager
def within(seconds: float, what: object = "") -> Iterator[None]:
    """Fail when the block takes more processor time than `seconds`, by the measure of this machine at this moment.

    What the tests before left in memory is hidden from the garbage collector meanwhile. The yardstick is laid on
    only when the time is over, so that a fuzz of thousands of rows pays nothing for it.
    """
    gc.freeze()
    try:
        start = time.process_time()
        yield
        took = time.process_time() - start
    finally:
        gc.unfreeze()
    if took > seconds:
        slower = slowness()
        assert took <= seconds * slower, f"{took:.2f} s, {seconds * slower:.2f} s are allowed here: {what}"
