"""What answering costs: a request, a month, and from which volume on a machine of one's own is cheaper."""

import math
from dataclasses import dataclass

from fledgling.artefacts import Metrics
from fledgling.decision.climb import per_1000

DAY_S = 86_400
MONTH_H = 730  # hours of a month, 8,760 / 12


@dataclass(frozen=True, slots=True)
class Economy:
    """Costs of a teacher and of a machine that is always on; None is unknown, and never 0.

    `teacher` is the price of 1,000 of its requests. `busy` is that of a machine that is never idle, `shared` that of
    one that answers `requests` a month. `machines` are as many as carry that traffic, spread evenly, at the measured
    time a row. `break_even` is in requests a day: price_per_hour × 24 / (teacher's price of one request);
    `per_unit` is the same for a machine that costs 1 an hour. `capacity` is what one machine answers in a day.
    """

    currency: str
    requests: float | None
    price: float | None
    teacher: float | None
    busy: float | None
    break_even: float | None
    capacity: float | None
    per_unit: float | None
    machines: int | None
    teacher_month: float | None
    own_month: float | None

    @property
    def shared(self) -> float | None:
        """The price of 1,000 requests at the stated traffic."""
        return 1_000 * self.own_month / self.requests if self.own_month is not None and self.requests else None

    @property
    def saved(self) -> float | None:
        """What moving all requests saves a month; below 0 where it costs."""
        if self.teacher_month is None or self.own_month is None:
            return None
        return self.teacher_month - self.own_month


def economy(teacher: Metrics, contender: Metrics, price: float | None, requests: float | None) -> Economy:
    """Compare what two metrics files say was spent and how long it took; `price` is that of a machine's hour."""
    amount = teacher["cost"]["amount"]
    each = amount / teacher["n"] if amount is not None and teacher["n"] else None
    latency = (contender["latency_s"] or {}).get("mean")
    machines = max(1, math.ceil(requests * latency / (3_600 * MONTH_H))) if requests and latency else None
    return Economy(
        currency=teacher["cost"]["currency"] or "",
        requests=requests,
        price=price,
        teacher=None if each is None else 1_000 * each,
        busy=per_1000(contender, price),
        break_even=None if price is None or not each else 24 * price / each,
        capacity=DAY_S / latency if latency else None,
        per_unit=24 / each if each else None,
        machines=machines,
        teacher_month=None if each is None or not requests else each * requests,
        own_month=None if price is None or machines is None else price * MONTH_H * machines,
    )
