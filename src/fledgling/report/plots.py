"""Pictures as inline SVG: drawn by matplotlib, coloured by the page, so that they follow light, dark and print.

One unit of a picture is one CSS pixel. Colours are names of the page's CSS variables; every mark that
colour tells apart differs in shape or text as well.
"""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

from fledgling.report.text import clean

# matplotlib wants real colours: each stands for a CSS variable and is replaced by it afterwards.
INK, MUTED, LINE, ACCENT, WARN, PAPER, SOFT, SHADE = (f"#0f1e{number:02x}" for number in range(8))
_VARIABLES = dict(
    zip(
        (INK, MUTED, LINE, ACCENT, WARN, PAPER, SOFT, SHADE),
        ("ink", "muted", "line", "accent", "warn", "paper", "soft", "shade"),
        strict=True,
    )
)
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fledgling",
    "font.family": "DejaVu Sans",
    "font.size": 13,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.facecolor": "none",
    "xtick.color": MUTED,
    "ytick.color": INK,
    "text.color": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "lines.solid_capstyle": "round",
    "hatch.color": LINE,
    "hatch.linewidth": 0.6,
}
WIDTH = 960
# How each contender is marked: colour, marker, whether it is filled.
MARKS = {"teacher": (INK, "s", True), "plain": (INK, "o", False), "adapter": (ACCENT, "o", True)}


@dataclass(frozen=True, slots=True)
class Interval:
    """One line of a picture: a point with its interval, all in the units of the axis; None draws nothing."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    note: str = ""
    good: bool = False
    mark: str = "plain"


@dataclass(frozen=True, slots=True)
class Group:
    """Lines under a heading."""

    heading: str
    lines: Sequence[Interval]


P = ParamSpec("P")


def _styled(draw: Callable[P, str]) -> Callable[P, str]:
    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> str:
        from matplotlib import rc_context

        with rc_context(_STYLE):
            return draw(*args, **kwargs)

    return styled


@_styled
def gaps(groups: Sequence[Group], margin: float, *, key: str, title: str, desc: str, stamp: str = "") -> str:
    """Gaps (score points × 100) with their one-sided bounds against the margin; returns an <svg>."""
    rows = sum(len(group.lines) for group in groups)
    figure, axes = _figure(78 + 29 * rows, left=260, right=215, top=26, bottom=52)
    bounds = [bound for group in groups for line in group.lines for bound in (line.low, line.high) if bound is not None]
    low, high = min([*bounds, -margin]), max([*bounds, margin])
    pad = 0.06 * (high - low)
    low, high = low - pad, high + pad
    axes.set(xlim=(low, high), ylim=(rows - 0.35, -0.65), yticks=[])
    axes.axvspan(margin, high, facecolor=SHADE, edgecolor="none", zorder=0)
    axes.axvline(0, color=LINE, linewidth=1)
    axes.axvline(margin, color=WARN, linewidth=1.4, dashes=(4, 3))
    axes.annotate(
        f"margin {_number(margin)}",
        (margin, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        color=WARN,
        fontweight="bold",
    )
    y = -1
    for number, group in enumerate(groups):
        if number:
            axes.axhline(y + 0.5, color=LINE, linewidth=0.6)
        _beside(axes, y + 1, group.heading, left=True, fontweight="bold", x=-260)
        for line in group.lines:
            y += 1
            colour = ACCENT if line.good else WARN
            _beside(axes, y, line.label, left=True, x=-185)
            _beside(axes, y, line.note, left=False, color=colour, fontweight="bold")
            if line.value is None or line.low is None or line.high is None:
                continue
            axes.plot([line.low, line.high], [y, y], color=colour, linewidth=2.2)
            axes.plot([line.high] * 2, [y - 0.2, y + 0.2], color=colour, linewidth=2.2)
            axes.plot(
                line.value,
                y,
                marker="o" if line.good else "D",
                color=colour,
                markersize=7.5 if line.good else 6.5,
                markerfacecolor=colour if line.good else PAPER,
                markeredgewidth=1.8,
            )
    axes.set_xlabel("gap in score points: teacher − contender   (further right = contender worse)", labelpad=8)
    axes.grid(axis="x", zorder=-1)
    axes.set_axisbelow(True)
    return _finish(figure, key, title, desc, stamp)


@_styled
def metrics(groups: Sequence[Group], *, key: str, title: str, desc: str, stamp: str = "") -> str:
    """Rates (percent) of all contenders with intervals, one metric a group, floors as ticks; returns an <svg>."""
    rows = sum(0.62 * len(group.lines) + 0.7 for group in groups)
    figure, axes = _figure(40 + 25 * rows + 46, left=290, right=80, top=16, bottom=46)
    axes.set(xlim=(-1, 101), ylim=(rows - 0.1, -0.5), yticks=[])
    y = 0.0
    for number, group in enumerate(groups):
        if number:
            axes.axhline(y - 0.52, color=LINE, linewidth=0.6, xmin=-0.5, clip_on=False)
        _beside(axes, y, group.heading, left=True, x=-290, fontweight="bold")
        for line in group.lines:
            colour, marker, filled = MARKS.get(line.mark, (MUTED, "|", True))
            floor = line.mark not in MARKS
            _beside(axes, y, line.label, left=True, x=-10, ha="right", color=MUTED if floor else INK)
            _beside(axes, y, line.note, left=False, color=MUTED if floor else INK)
            if line.low is not None and line.high is not None:
                axes.plot([line.low, line.high], [y, y], color=colour, linewidth=1.1 if floor else 2)
            if line.value is not None:
                axes.plot(
                    line.value,
                    y,
                    marker=marker,
                    color=colour,
                    markersize=8 if floor else 6.5,
                    markerfacecolor=colour if filled else PAPER,
                    markeredgewidth=1.8,
                    clip_on=False,
                )
            y += 0.62
        y += 0.7
    axes.set_xlabel("share of all rows, percent", labelpad=8)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    return _finish(figure, key, title, desc, stamp)


@_styled
def readings(groups: Sequence[Group], *, key: str, title: str, desc: str, stamp: str = "") -> str:
    """Strict against lenient rates (percent): value is the strict one, high the lenient one; returns an <svg>."""
    rows = sum(0.62 * len(group.lines) + 0.7 for group in groups)
    figure, axes = _figure(40 + 25 * rows + 46, left=290, right=80, top=16, bottom=46)
    axes.set(xlim=(-1, 101), ylim=(rows - 0.1, -0.5), yticks=[])
    y = 0.0
    for group in groups:
        _beside(axes, y, group.heading, left=True, x=-290, fontweight="bold")
        for line in group.lines:
            colour = MARKS.get(line.mark, (MUTED, "|", True))[0]
            _beside(axes, y, line.label, left=True, x=-10, ha="right")
            _beside(axes, y, line.note, left=False)
            if line.value is not None and line.high is not None:
                axes.plot([line.value, line.high], [y, y], color=colour, linewidth=2)
                axes.plot(line.high, y, "D", color=colour, markerfacecolor=PAPER, markersize=6, markeredgewidth=1.6)
                axes.plot(line.value, y, "o", color=colour, markersize=5.5)
            y += 0.62
        y += 0.7
    axes.set_xlabel("share of all rows, percent      ● strict   ◇ lenient", labelpad=8)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    return _finish(figure, key, title, desc, stamp)


@_styled
def curve(
    train: Sequence[tuple[float, float]],
    held_out: Sequence[tuple[float, float]],
    *,
    key: str,
    title: str,
    desc: str,
    stamp: str = "",
) -> str:
    """Loss over steps, of training rows and (dashed, with points) of validation rows; returns an <svg>."""
    figure, axes = _figure(280, left=56, right=100, top=20, bottom=46)
    axes.tick_params(axis="y", labelcolor=MUTED)
    axes.plot(*zip(*train, strict=True), color=ACCENT, linewidth=1.8)
    axes.annotate(
        "train", train[-1], xytext=(8, 0), textcoords="offset points", va="center", color=ACCENT, fontweight="bold"
    )
    if held_out:
        axes.plot(*zip(*held_out, strict=True), color=INK, linewidth=1.4, dashes=(4, 3), marker="o", markersize=4)
        axes.annotate(
            "validation", held_out[-1], xytext=(8, 10), textcoords="offset points", va="center", fontweight="bold"
        )
    axes.set_ylim(bottom=0)
    axes.set(xlabel="step", ylabel="loss")
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    return _finish(figure, key, title, desc, stamp)


def _figure(height: float, *, left: float, right: float, top: float, bottom: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 72, height / 72))
    axes = figure.add_axes(
        (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - top - bottom) / height)
    )
    axes.tick_params(length=0)
    return figure, axes


def _beside(axes: Any, y: float, text: str, *, left: bool, x: float = 12, ha: str = "left", **style: Any) -> None:
    """Write beside the axes at the height of a line; x is in pixels from the left (or right) edge of the axes."""
    axes.annotate(
        clean(text, 60),
        (0 if left else 1, y),
        xycoords=("axes fraction", "data"),
        xytext=(x, 0),
        textcoords="offset points",
        ha=ha,
        va="center",
        annotation_clip=False,
        **style,
    )


def _number(value: float) -> str:
    return f"{value:g}"


def _finish(figure: Any, key: str, title: str, desc: str, stamp: str) -> str:
    if stamp:
        figure.text(
            1 - 4 / WIDTH, 0.012, stamp, ha="right", va="bottom", color=WARN, fontweight="bold", fontstyle="italic"
        )
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue(), key, title, desc)


def _inline(text: str, key: str, title: str, desc: str) -> str:
    """A picture as part of a page: ids of its own, a name and a description, CSS variables for colours."""
    root = ET.fromstring(text)
    for metadata in root.findall(f"{_SVG}metadata"):
        root.remove(metadata)
    for defs in root.findall(f"{_SVG}defs"):
        if defs.find(f"{_SVG}style") is not None:
            root.remove(defs)
    used = {match for element in root.iter() for match in _references(element)}
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        identity = element.attrib.pop("id", None)
        if identity in used:
            element.set("id", f"{key}-{identity}")
        if (target := element.attrib.pop(_HREF, None)) is not None:
            element.set("href", f"#{key}-{target[1:]}")
        for name in ("clip-path", "style", "fill", "stroke"):
            if name in element.attrib:
                element.set(name, _restyle(element.attrib[name], key))
    width, height = (float(root.attrib.pop(name).removesuffix("pt")) for name in ("width", "height"))
    root.attrib = {
        "viewBox": f"0 0 {width:g} {height:g}",
        "role": "img",
        "aria-labelledby": f"{key}-title {key}-desc",
        "style": f"max-width: {width:g}px",
    }
    for place, (tag, words) in enumerate((("title", title), ("desc", desc))):
        element = ET.Element(tag, {"id": f"{key}-{tag}"})
        element.text = words
        root.insert(place, element)
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)


def _references(element: ET.Element) -> list[str]:
    found = re.findall(r"url\(#([^)]+)\)", " ".join(element.attrib.values()))
    return [*found, element.attrib[_HREF][1:]] if _HREF in element.attrib else found


def _restyle(style: str, key: str) -> str:
    style = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", style)
    style = style.replace("'DejaVu Sans'", "var(--sans)")
    return re.sub(
        r"#[0-9a-f]{6}", lambda match: f"var(--{_VARIABLES[match[0]]})" if match[0] in _VARIABLES else match[0], style
    )
