"""Which rows go into a batch: rows of like length, halved where memory runs out."""

import random
from collections.abc import Callable, Iterator

from fledgling.slm.engine import Answer, Found, Request

Generate = Callable[[list[Request]], list[Answer]]


class OutOfMemory(Exception):
    """The batch does not fit on the device; nothing of it was kept."""


def longest_first(requests: list[Request]) -> list[int]:
    """Positions by length of prompt, so that little is padded and memory runs out at the start or not at all."""
    return sorted(range(len(requests)), key=lambda i: (-len(requests[i].prompt), i))


def by_adapter(requests: list[Request]) -> list[list[int]]:
    """Positions of the requests of each adapter, without one first: a batch is answered under one adapter."""
    found: dict[str, list[int]] = {}
    for place, request in enumerate(requests):
        found.setdefault("" if request.adapter is None else str(request.adapter), []).append(place)
    return [found[name] for name in sorted(found)]


def shuffled(requests: list[Request], seed: int) -> list[int]:
    """Positions in a drawn order: a row meets other rows in its batch than it does in any sorted order."""
    order = list(range(len(requests)))
    random.Random(seed).shuffle(order)
    return order


def batched(
    requests: list[Request], order: list[int], size: int, generate: Generate, found: Found | None = None
) -> Iterator[tuple[list[int], list[Answer]]]:
    """Yield (positions, answers) of batches of at most `size` rows, in the order given.

    A batch that
    does not fit is cut in half and so are all later ones; a row that does not fit alone has no
    tokens. No row is lost or asked twice. `found` may hold the answers of a batch already.
    """
    while order:
        positions, rest = order[:size], order[size:]
        batch = [requests[i] for i in positions]
        answers = found(batch) if found else None
        if answers is None:
            try:
                answers = generate(batch)
            except OutOfMemory:
                if len(batch) > 1:
                    size = (len(batch) + 1) // 2
                    continue
                answers = [Answer(tokens=None, latency_s=0.0)]
        yield positions, answers
        order = rest
