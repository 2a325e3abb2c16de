"""One error rate for all contenders of a track: which of them pass, and which is the cheapest (docs/decision.md).

Sources: Maurer, Hothorn and Lehmacher, in Vollmar, Biometrie in der chemisch-pharmazeutischen Industrie 6 (1995) 3, and
Wiens, Pharm. Stat. 2 (2003) 211, for tests in a fixed order; Holm, Scand. J. Stat. 6 (1979) 65.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fledgling import stats

Name = Literal["sequence", "holm", "each"]
FAMILIES: tuple[Name, ...] = ("sequence", "holm", "each")
NOMINEE = 0.8  # of alpha, for the sequence from the nominee down; the rest is kept for one rung above it
FURTHER = 0.2


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the test rows say about one contender: `p` of "not as good as the teacher", None where it was not built.

    `rests_on` names the metric or floor that p comes from; `label` is what people call the contender.
    """

    name: str
    p: float | None
    rests_on: str = ""
    label: str = ""

    @property
    def called(self) -> str:
        """Its label, else its name."""
        return self.label or self.name


@dataclass(frozen=True, slots=True)
class Held:
    """One contender against its level. `level` is 0 and `passed` False where it was not tested; `why` says why not."""

    name: str
    p: float | None
    level: float
    tested: bool
    passed: bool
    why: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What a family of contenders comes to; `rungs` cheapest first, as they were given."""

    family: Name
    alpha: float
    nominee: str | None
    rungs: tuple[Held, ...]
    stopped: str

    @property
    def passed(self) -> tuple[str, ...]:
        """Names of the contenders that are shown to be as good as the teacher, cheapest first."""
        return tuple(rung.name for rung in self.rungs if rung.passed)

    @property
    def cheapest(self) -> str | None:
        """What may be deployed; None where nothing passed."""
        return next(iter(self.passed), None)

    def of(self, name: str) -> Held:
        """One contender's part."""
        return next(rung for rung in self.rungs if rung.name == name)


def evidence(
    name: str, metrics: Mapping[str, float], floors: Mapping[str, Mapping[str, float]], *, sound: bool = True
) -> Evidence:
    """A contender's p-value: the largest over its core metrics and over every floor on every metric that has floors.

    All of them have to hold (an intersection–union test), so the largest is the p-value of all together. Without
    `sound` (coverage too low, an invalid baseline) nothing is shown, whatever the scores: p is 1.
    """
    parts = [
        *((p, metric) for metric, p in metrics.items()),
        *((p, f"{metric} against {floor}") for floor, by in floors.items() for metric, p in by.items()),
    ]
    if not metrics:
        raise ValueError(f"{name}: no core metric to judge by")
    p, rests_on = max(parts, key=lambda part: part[0])
    return Evidence(name, p if sound else 1.0, rests_on)


def settle(
    family: Name,
    found: Sequence[Evidence],
    *,
    alpha: float,
    nominee: str | None = None,
    further: bool = True,
    passed_over: Collection[str] = (),
    at: Callable[[float], float] = float,
) -> Settled:
    """Which contenders pass, at which level each was tested, and why it ended there.

    `found` holds all contenders of the track, cheapest first, those not built with p None. `nominee` is the dearest that
    was built before the test rows were opened (`nominate`): only val and the configuration may have a say in it. Without
    one it is the last contender of all, which is then the first to be tested. `further` keeps 0.2 alpha back for one rung
    above a nominee that fails. A sequence goes on below those in `passed_over` without testing them: contenders of which
    val leaves no hope, so that one that is worse than a cheaper one does not stand in its way. `at` gives the level of a
    test for which a share of alpha is spent; where rows are bought in looks it is the level at the present one.

    Raises:
        ValueError: no contenders, a name twice, an unknown family or nominee, or alpha out of range.
    """
    names = [one.name for one in found]
    if not found or len(set(names)) != len(names):
        raise ValueError(f"contenders have one name each, cheapest first; found {names}")
    if nominee is not None and nominee not in names:
        raise ValueError(f"the nominee {nominee!r} is none of the contenders {', '.join(names)}")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}; it lies between 0 and 0.5")
    if family == "sequence":
        return _sequence(
            found, alpha, len(found) - 1 if nominee is None else names.index(nominee), further, passed_over, at
        )
    if family == "holm":
        return _holm(found, alpha, at)
    if family == "each":
        return _each(found, alpha, at)
    raise ValueError(f"decision.family is {family!r}; it is one of {', '.join(FAMILIES)}")


def _sequence(
    found: Sequence[Evidence],
    alpha: float,
    nominee: int,
    further: bool,
    passed_over: Collection[str],
    at: Callable[[float], float],
) -> Settled:
    """From the nominee down, each at 0.8 alpha, until one fails; where the nominee fails, one above it at 0.2 alpha.

    Where there is nothing above the nominee, or it will not be built, nothing has to be kept back, and the sequence has
    all of alpha.
    """
    above = nominee + 1
    last = above == len(found) or not further
    level = at(alpha if last else NOMINEE * alpha)
    held: dict[int, Held] = {}
    failed: int | None = None
    skipped = {place for place in range(nominee) if found[place].name in passed_over}
    for place in range(nominee, -1, -1):
        if place in skipped:
            continue
        held[place] = _hold(found[place], level)
        if not held[place].passed:
            failed = place
            break
    first = found[nominee].called
    named = found[nominee].name
    if failed is None:
        stopped = f"all from {first} down passed at {percent(level)}"
    elif failed < nominee:
        cheapest = found[min(place for place, one in held.items() if one.passed)].called
        rest = [found[place] for place in range(failed) if place not in skipped]
        stopped = f"{_failing(found[failed], level)}, so {cheapest} is the cheapest that did" + (
            f", and {_listed(rest)} {_were(len(rest))} not tested" if rest else ""
        )
    elif last:
        stopped = f"{_failing(found[nominee], level)}" + _untested(found[:nominee])
    else:
        one, kept = found[above], at(FURTHER * alpha)
        if one.p is None:
            stopped = f"{_failing(found[nominee], level)}, and {one.called} was not built"
            stopped += _untested(found[:nominee])
        else:
            held[above] = _hold(one, kept)
            stopped = (
                f"{_failing(found[nominee], level)}; {one.called}, the one further that is allowed, "
                f"{'passed' if held[above].passed else 'did not'} at {percent(kept)}"
            )
    rungs = []
    for place, one in enumerate(found):
        if place in held:
            rungs.append(held[place])
        elif place in skipped:
            rungs.append(Held(one.name, one.p, 0.0, False, False, "not tested: on val its gap is above the margin"))
        elif place > above or one.p is None or (last and place == above):
            rungs.append(Held(one.name, one.p, 0.0, False, False, "not needed" if one.p is None else "beyond its turn"))
        elif place == above:
            rungs.append(Held(one.name, one.p, 0.0, False, False, f"not needed: {first} passed"))
        else:
            dearer = found[failed].called if failed is not None else first
            rungs.append(Held(one.name, one.p, 0.0, False, False, f"not tested: {dearer} did not pass"))
    return Settled("sequence", alpha, named, tuple(rungs), stopped)


def _holm(found: Sequence[Evidence], alpha: float, at: Callable[[float], float]) -> Settled:
    """The smallest p against alpha/K, the next against alpha/(K − 1), until one fails; unbuilt contenders count in K."""
    order = sorted(range(len(found)), key=lambda place: 1.0 if (p := found[place].p) is None else p)
    held: dict[int, Held] = {}
    stopped = "every contender passed"
    for rank, place in enumerate(order):
        one, level = found[place], at(alpha / (len(found) - rank))
        if one.p is None:
            stopped = "every contender that was built passed"
            break
        held[place] = _hold(one, level)
        if not held[place].passed:
            stopped = f"{one.called} did not pass at {percent(level)}" + (
                f", and with it {_listed(rest)}" if (rest := [found[other] for other in order[rank + 1 :]]) else ""
            )
            break
    rungs = tuple(
        held.get(place, Held(one.name, one.p, 0.0, False, False, "not built" if one.p is None else "not tested"))
        for place, one in enumerate(found)
    )
    return Settled("holm", alpha, None, rungs, stopped)


def _each(found: Sequence[Evidence], alpha: float, at: Callable[[float], float]) -> Settled:
    """Every contender at alpha: what is promised holds for each, not for all together."""
    rungs = tuple(
        _hold(one, at(alpha)) if one.p is not None else Held(one.name, None, 0.0, False, False, "not built")
        for one in found
    )
    cheapest = next((one.called for one, rung in zip(found, rungs, strict=True) if rung.passed), None)
    stopped = "none passed" if cheapest is None else f"{cheapest} is the cheapest that passed"
    return Settled("each", alpha, None, rungs, f"{stopped}, each at {percent(at(alpha))}")


def _hold(one: Evidence, level: float) -> Held:
    if one.p is None:
        return Held(one.name, None, level, True, False, "not built")
    passed = one.p <= level
    return Held(one.name, one.p, level, True, passed, "" if passed else f"p is {one.p:.2g}, from {one.rests_on}")


def _failing(one: Evidence, level: float) -> str:
    return f"{one.called} was not built" if one.p is None else f"{one.called} did not pass at {percent(level)}"


def _untested(below: Sequence[Evidence]) -> str:
    return f", so {_listed(below)} {_were(len(below))} not tested" if below else ""


def _listed(several: Sequence[Evidence]) -> str:
    names = [one.called for one in several]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def percent(level: float) -> str:
    """A level as people write it."""
    return f"{100 * level:.3g} %"


def promise(family: Name, alpha: float, contenders: int) -> str:
    """What is promised to a reader of a verdict, in one sentence."""
    if family == "each" and contenders > 1:
        return (
            f"Each contender that is worse than the teacher by the margin or more passes with a chance of at most "
            f"{percent(alpha)}; that one of {contenders} such contenders does is up to {percent(risk(family, alpha, contenders))}."
        )
    return (
        "The chance that a contender is deployed which is worse than the teacher by the margin or more is at most "
        f"{percent(alpha)}, however many contenders are judged."
    )


def risk(family: Name, alpha: float, contenders: int, looks: int = 1) -> float:
    """The largest chance that any contender worse by the margin passes in any of so many verdicts on the same rows."""
    return min(1.0, alpha * looks * (contenders if family == "each" else 1))


@dataclass(frozen=True, slots=True)
class Val:
    """One core metric of a contender on val: what `stats.paired_gap` of teacher and contender found there."""

    metric: str
    gap: float
    discordance: float
    design_effect: float = 1.0
    method: str = "tango"

    @classmethod
    def of(cls, metric: str, gap: stats.Gap) -> "Val":
        """The same, taken from a gap."""
        return cls(metric, gap.gap, gap.discordance, gap.design_effect, gap.method)


@dataclass(frozen=True, slots=True)
class Prospect:
    """Whether a contender promises to pass on test; `rows_needed` is None where no number of rows would do."""

    promising: bool
    rows_needed: int | None
    rests_on: str
    reason: str


def promising(found: Iterable[Val], n_test: int, *, margin: float, alpha: float, power: float) -> Prospect:
    """Whether the test rows suffice for a contender with the gap and discordance that val shows, on every core metric.

    Where the contender is ahead on val the gap counts as 0. `alpha` is the level that it will be tested at
    (`level_of_nominee`). It decides what is built, never what passes, so nothing that is promised rests on it.

    Raises:
        ValueError: no core metric, or an argument out of range.
    """
    wanted: list[tuple[float, Val]] = []
    for one in found:
        seen = max(one.gap, 0.0)
        if seen >= margin:
            return Prospect(
                False, None, one.metric, f"on val it is {100 * seen:.3g} points below the teacher on {one.metric}"
            )
        rows = stats.rows_needed(one.discordance, margin, alpha=alpha, power=power, gap=seen, method=one.method)
        wanted.append((rows * one.design_effect, one))
    if not wanted:
        raise ValueError("no core metric to judge by")
    most, decisive = max(wanted, key=lambda pair: pair[0])
    rows = int(-(-most // 1))
    return Prospect(
        rows <= n_test,
        rows,
        decisive.metric,
        f"with val's gap on {decisive.metric} about {rows:,} test rows are needed, and there are {n_test:,}",
    )


def level_of_nominee(family: Name, alpha: float, contenders: int, place: int) -> float:
    """The level at which the contender at this place (from 0, cheapest first) would be tested as the nominee.

    Under Holm the sharpest that it may meet.
    """
    if family == "sequence":
        return alpha if place == contenders - 1 else NOMINEE * alpha
    return alpha / contenders if family == "holm" else alpha


def nominate(prospects: Mapping[str, Prospect], names: Sequence[str]) -> str:
    """The rung at which building stops: the cheapest promising one, else the dearest.

    `prospects` may lack rungs that are not built; building goes on until this returns a rung that is.

    Raises:
        ValueError: no contenders.
    """
    if not names:
        raise ValueError("no contenders")
    for name in names:
        if name not in prospects or prospects[name].promising:
            return name
    return names[-1]
