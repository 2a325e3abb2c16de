"""Pictures as inline SVG: written by hand, coloured by the page's style sheet, at home on any width.

Positions across are percent of the picture's width and positions down are CSS pixels, so a picture fits a phone as
well as a page, and its text and strokes are never scaled. Every mark that colour tells apart differs in shape too.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

Mark = Literal["good", "holds", "open", "bad", "void", "floor", "base"]
LANE = 28  # height of a lane
MIDDLE = LANE / 2
INSET = 2.5  # percent kept free on both sides, so that a mark at the end is not cut
# Marks as paths around (0, 0): good is filled and round, bad a diamond, what is not settled is hollow.
_ROUND = "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0 -11 0z"
_SHAPES: dict[Mark, str] = {
    "good": _ROUND,
    "holds": _ROUND,
    "open": _ROUND,
    "bad": "M0 -6.5L6.5 0L0 6.5L-6.5 0z",
    "void": "M-4.5 -4.5L4.5 4.5M-4.5 4.5L4.5 -4.5",
    "floor": "M0 -6.5V6.5",
    "base": "M-5 -5H5V5H-5z",
}


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from low to high with the ticks that are labelled; `log` for prices that lie far apart."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    @classmethod
    def around(cls, values: Iterable[float], *, count: int = 5, pad: float = 0.04) -> "Axis":
        """The axis that holds all values, with round ticks."""
        known = list(values)
        low, high = min(known), max(known)
        room = pad * ((high - low) or abs(high) or 1.0)
        low, high = low - room, high + room
        step = _step((high - low) / count)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return cls(low, high, tuple(round(number * step, 10) for number in range(first, last + 1)))

    @classmethod
    def decades(cls, values: Iterable[float]) -> "Axis":
        """A logarithmic axis that holds all values; all have to be above 0."""
        known = list(values)
        low, high = min(known) / 1.6, max(known) * 1.6
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        factors = (1, 2, 5) if last - first < 3 else (1,)
        ticks = [round(factor * 10.0**power, 12) for power in range(first, last + 1) for factor in factors]
        return cls(low, high, tuple(tick for tick in ticks if low <= tick <= high), log=True)

    def at(self, value: float) -> str:
        """Where a value lies, as a percentage of the width."""
        low, high, here = (math.log10(x) if self.log else x for x in (self.low, self.high, value))
        share = min(1.0, max(0.0, (here - low) / (high - low)))
        return f"{INSET + share * (100 - 2 * INSET):.2f}%"


@dataclass(frozen=True, slots=True)
class Point:
    """A value with its interval (None: has none), and how it is marked."""

    value: float | None
    low: float | None = None
    high: float | None = None
    mark: Mark = "base"


def lane(axis: Axis, point: Point, *, margin: float | None = None, zero: bool = False, cap: bool = False) -> Markup:
    """One line of a picture of lines: a point with its interval over the grid.

    With `margin` what lies beyond it is shaded. `zero` draws the line of no difference, `cap` the end of the
    interval that decides.
    """
    parts = []
    if margin is not None:
        edge = axis.at(margin)
        parts.append(f'<rect class="beyond" x="{edge}" y="0" width="{100 - float(edge[:-1]):.2f}%" height="{LANE}"/>')
    parts += [_vertical(axis.at(tick), "grid") for tick in axis.ticks]
    if zero:
        parts.append(_vertical(axis.at(0), "zero"))
    if margin is not None:
        parts.append(_vertical(axis.at(margin), "margin"))
    kind = point.mark
    if point.low is not None and point.high is not None:
        parts.append(
            f'<line class="span {kind}" x1="{axis.at(point.low)}" x2="{axis.at(point.high)}" '
            f'y1="{MIDDLE}" y2="{MIDDLE}"/>'
        )
        if cap:
            end = axis.at(point.high)
            parts.append(f'<line class="span {kind}" x1="{end}" x2="{end}" y1="{MIDDLE - 6}" y2="{MIDDLE + 6}"/>')
    if point.value is not None:
        parts.append(_mark(axis.at(point.value), MIDDLE, kind))
    return _svg("".join(parts), LANE)


def scale(axis: Axis, labels: Sequence[str], *, margin: tuple[float, str] | None = None) -> Markup:
    """The line of numbers under lanes; `margin` (value, words) stands above its own place in bold."""
    parts = [
        f'<text x="{axis.at(tick)}" y="13" class="tick">{escape(label)}</text>'
        for tick, label in zip(axis.ticks, labels, strict=True)
    ]
    if margin is None:
        return _svg("".join(parts), 18)
    value, words = margin
    place = axis.at(value)
    side = "end" if float(place[:-1]) > 75 else "start" if float(place[:-1]) < 25 else "middle"
    parts.append(f'<text x="{place}" y="29" class="tick limit {side}">{escape(words)}</text>')
    return _svg("".join(parts), 34)


@dataclass(frozen=True, slots=True)
class Spot:
    """One contender in the picture of cost and quality; quality with its interval, in percent."""

    label: str
    cost: float
    quality: Point


def scatter(
    spots: Sequence[Spot], x: Axis, y: Axis, x_labels: Sequence[str], *, key: str, title: str, desc: str
) -> str:
    """Cost (across) against quality (up) with intervals; returns an <svg> of any width."""
    height, top, bottom = 240.0, 12.0, 28.0

    def down(value: float) -> float:
        return top + (height - top - bottom) * (1 - (value - y.low) / (y.high - y.low))

    parts = []
    for tick in y.ticks:
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{down(tick):.1f}" y2="{down(tick):.1f}"/>')
        parts.append(f'<text class="tick start" x="0" y="{down(tick) - 3:.1f}">{tick:g} %</text>')
    for tick, label in zip(x.ticks, x_labels, strict=True):
        parts.append(
            f'<line class="grid" x1="{_shift(x.at(tick))}" x2="{_shift(x.at(tick))}" y1="{top}" y2="{height - bottom}"/>'
        )
        parts.append(f'<text class="tick" x="{_shift(x.at(tick))}" y="{height - bottom + 16}">{escape(label)}</text>')
    taken: list[tuple[float, float]] = []
    for spot in sorted(spots, key=lambda one: -(one.quality.value or 0)):
        place = _shift(x.at(spot.cost))
        kind = spot.quality.mark
        if spot.quality.value is None:
            continue
        if spot.quality.low is not None and spot.quality.high is not None:
            parts.append(
                f'<line class="span {kind}" x1="{place}" x2="{place}" y1="{down(spot.quality.low):.1f}" '
                f'y2="{down(spot.quality.high):.1f}"/>'
            )
        middle = down(spot.quality.value)
        parts.append(_mark(place, middle, kind))
        beside = middle
        across = float(place[:-1])
        while any(abs(beside - y) < 16 and abs(across - x) < 50 for x, y in taken):  # names keep clear on any width
            beside += 2
        taken.append((across, beside))
        left = across > 55
        parts.append(
            f'<svg class="free" x="{place}" y="{beside:.1f}"><text class="name {"end" if left else "start"}" '
            f'x="{-11 if left else 11}" y="4">{escape(spot.label)}</text></svg>'
        )
    return _picture("".join(parts), height, key, title, desc)


def curves(
    train: Sequence[tuple[float, float]],
    held_out: Sequence[tuple[float, float]],
    kept: Sequence[float],
    *,
    key: str,
    title: str,
    desc: str,
) -> str:
    """Loss over steps: of training rows (a line), of val rows (points); `kept` are the steps that left a candidate."""
    height, top, bottom = 190.0, 12.0, 28.0
    floor = height - bottom
    x = Axis.around([0.0, *(step for step, _ in [*train, *held_out]), *kept], pad=0.0)
    y = Axis.around([0.0, *(loss for _, loss in [*train, *held_out])], count=4, pad=0.0)

    def down(value: float) -> float:
        return top + (floor - top) * (1 - (value - y.low) / (y.high - y.low))

    parts = []
    for tick in y.ticks:
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{down(tick):.1f}" y2="{down(tick):.1f}"/>')
        parts.append(f'<text class="tick start" x="0" y="{down(tick) - 3:.1f}">{tick:g}</text>')
    for tick in x.ticks:
        parts.append(f'<text class="tick" x="{_shift(x.at(tick))}" y="{height - 10}">{tick:g}</text>')
    for step in kept:
        place = _shift(x.at(step))
        parts.append(f'<line class="kept" x1="{place}" x2="{place}" y1="{top}" y2="{floor}"/>')
    for (before, high), (after, low) in itertools.pairwise(train):
        parts.append(
            f'<line class="curve" x1="{_shift(x.at(before))}" y1="{down(high):.1f}" '
            f'x2="{_shift(x.at(after))}" y2="{down(low):.1f}"/>'
        )
    parts += [_mark(_shift(x.at(step)), down(loss), "open") for step, loss in held_out]
    return _picture("".join(parts), height, key, title, desc)


def _shift(place: str) -> str:
    """The same place right of the numbers that stand on the left edge."""
    return f"{8 + 0.91 * float(place[:-1]):.2f}%"


def _step(wide: float) -> float:
    """The smallest of 1, 2, 5, 10, 20 … (and their parts) that is at least `wide`."""
    power = 10.0 ** math.floor(math.log10(wide))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wide * (1 - 1e-9))


def _vertical(place: str, kind: str) -> str:
    return f'<line class="{kind}" x1="{place}" x2="{place}" y1="0" y2="{LANE}"/>'


def _mark(place: str, down: float, kind: Mark) -> str:
    return f'<svg class="free" x="{place}" y="{down:.1f}"><path class="mark {kind}" d="{_SHAPES[kind]}"/></svg>'


def _svg(inner: str, height: float) -> Markup:
    """A part of a picture whose words stand beside it in the page."""
    return Markup(f'<svg class="bar" width="100%" height="{height:g}" aria-hidden="true">{inner}</svg>')


def _picture(inner: str, height: float, key: str, title: str, desc: str) -> Markup:
    return Markup(
        f'<svg class="plot" width="100%" height="{height:g}" role="img" aria-labelledby="{key}-title {key}-desc">'
        f'<title id="{key}-title">{escape(title)}</title><desc id="{key}-desc">{escape(desc)}</desc>{inner}</svg>'
    )
