"""Batches of rows of like length, halved where memory runs out."""

from collections.abc import Callable, Iterator

from fledgling.slm.engine import Answer, Found, Request

Generate = Callable[[list[Request]], list[Answer]]


class OutOfMemory(Exception):
    """The batch does not fit on the device; nothing of it was kept."""


def batched(
    requests: list[Request], size: int, generate: Generate, found: Found | None = None
) -> Iterator[tuple[list[int], list[Answer]]]:
    """Yield (positions, answers) of batches of at most `size` rows, longest prompts first.

    The longest batch comes first, so that memory runs out at the start or not at all. A batch that
    does not fit is cut in half and so are all later ones; a row that does not fit alone has no
    tokens. No row is lost or asked twice. `found` may hold the answers of a batch already.
    """
    order = sorted(range(len(requests)), key=lambda i: (-len(requests[i].prompt), i))
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
