"""A few things at a time, on threads that never keep a process from ending."""

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def each(work: Callable[[T], None], items: Iterable[T], at_a_time: int) -> None:
    """Do the work on every item, several at a time; the first error ends it, once what is on its way has ended.

    The threads of concurrent.futures are waited for when the interpreter ends; these are not.
    """
    waiting = iter(items)
    lock = threading.Lock()
    errors: list[BaseException] = []

    def go() -> None:
        while True:
            with lock:
                if errors:
                    return
                try:
                    item = next(waiting)
                except StopIteration:
                    return
            try:
                work(item)
            except BaseException as error:
                with lock:
                    errors.append(error)
                return

    threads = [threading.Thread(target=go, daemon=True) for _ in range(at_a_time)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
