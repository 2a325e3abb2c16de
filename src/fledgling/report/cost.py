"""What answering costs, and from which volume on a machine of one's own is cheaper."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DAY = 86_400


@dataclass(frozen=True, slots=True)
class Economy:
    """Prices per 1,000 requests (None: unknown) and the volume where both cost the same.

    `break_even` is in requests a day: price_per_hour × 24 / (teacher's price of one request). `capacity` is
    what one machine answers in a day at the measured time a row (a batch's time over its rows).
    `per_unit` is the same break-even for a machine that costs 1 unit of currency an hour, and needs no
    price of the machine.
    """

    currency: str | None
    teacher: float | None
    contender: float | None
    break_even: float | None
    capacity: float | None
    per_unit: float | None


def economy(teacher: Mapping[str, Any], contender: Mapping[str, Any], price_per_hour: float | None) -> Economy:
    """Compare two metrics documents; what is unknown stays unknown and is never taken as 0."""
    amount, currency = teacher["cost"]["amount"], teacher["cost"]["currency"]
    each = amount / teacher["n"] if amount is not None and teacher["n"] else None
    latency = (contender["latency_s"] or {}).get("mean")
    return Economy(
        currency=currency,
        teacher=None if each is None else 1_000 * each,
        contender=None if price_per_hour is None or not latency else 1_000 * price_per_hour * latency / 3_600,
        break_even=None if price_per_hour is None or not each else 24 * price_per_hour / each,
        capacity=DAY / latency if latency else None,
        per_unit=24 / each if each else None,
    )
