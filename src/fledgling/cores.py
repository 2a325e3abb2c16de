"""Tensor work on a CPU: two parts at a time, whatever its cores, so that a sum is divided alike on every machine.

A tiny model's operators are too short to share: torch's own threads wait for each other longer than they compute, and
for the other's core where another job runs beside. Two parts of a batch meet only at its end.
"""

import ctypes
import functools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Part = TypeVar("Part")
Found = TypeVar("Found")

PARTS = 2

# glibc's malloc.h: blocks up to so many bytes come from the heap, and that much of it stays once it is free. Otherwise
# each large tensor is mapped, cleared by the kernel and unmapped anew.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT, _FROM_HEAP = 1 << 30, 1 << 25


class TwoAtATime:
    """Threads that take the parts of something; torch's own threads share out what cores are left."""

    def __init__(self) -> None:
        _share()
        keep_memory()
        self._threads = ThreadPoolExecutor(PARTS)

    def map(self, work: Callable[[Part], Found], parts: Iterable[Part]) -> list[Found]:
        """What `work` finds for each part, in their order, once all have ended.

        Raises:
            Exception: what the first part that failed raised.
        """
        futures = [self._threads.submit(work, part) for part in parts]
        wait(futures)
        return [future.result() for future in futures]


@functools.cache
def _share() -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // PARTS))


@functools.cache
def keep_memory() -> None:
    """Have this process keep memory that it freed, up to a gigabyte; where the C library is not glibc, nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
        mallopt(_M_MMAP_THRESHOLD, _FROM_HEAP)
