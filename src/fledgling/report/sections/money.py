"""What answering costs and what moving saves: a month at the stated traffic, or which keys to set to know it."""

from fledgling.artefacts import JsonObject
from fledgling.config import SLM
from fledgling.report import plots, text
from fledgling.report.cost import Economy, economy
from fledgling.report.load import TEACHER, Inputs
from fledgling.report.sections.answer import View, case, label


def requests(inputs: Inputs) -> float | None:
    """Requests a month, tracks.{track}.requests_per_month."""
    return _number(inputs.section("track"), "requests_per_month")


def price(inputs: Inputs, name: str) -> float | None:
    """What an hour of a contender's machine costs: its own price_per_hour, else that of `slm`."""
    block = inputs.section("contenders").get(name)
    own = block if isinstance(block, dict) else {}
    return _number(inputs.section(SLM) | own, "price_per_hour")


def _number(block: JsonObject, key: str) -> float | None:
    value = block.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def of(inputs: Inputs, name: str) -> Economy:
    """The economy of one contender against the teacher."""
    return economy(inputs.metrics[TEACHER], inputs.metrics[name], price(inputs, name), requests(inputs))


def month(inputs: Inputs) -> View | None:
    """What moving to the contender that the verdict rests on saves a month; None where nothing can be trusted."""
    found = case(inputs)
    if found.kind == "invalid":
        return None
    name = inputs.verdict["decisive"]
    known = of(inputs, name)
    return {
        "heading": {
            "swap": "What it saves a month",
            "inconclusive": "What a move would save a month",
        }.get(found.kind, "What a good enough model would save a month"),
        "big": _saved(known),
        "lines": _lines(inputs, known, name),
        "asks": asks(inputs, known),
    }


def _saved(known: Economy) -> str:
    saved = known.saved
    if saved is None:
        return "Not known yet"
    amount = text.money(abs(saved), known.currency, whole=True)
    return amount if saved >= 0 else f"Nothing: it costs {amount} more"


def _lines(inputs: Inputs, known: Economy, name: str) -> list[str]:
    lines = []
    if known.saved is not None:
        machines = "one machine" if known.machines == 1 else f"{text.count(known.machines)} machines"
        lines.append(
            f"At {text.count(known.requests)} requests a month: teacher {text.money(known.teacher_month, known.currency, whole=True)}, "
            f"{machines} always on {text.money(known.own_month, known.currency, whole=True)}."
        )
    elif known.teacher_month is not None:
        lines.append(
            f"At {text.count(known.requests)} requests a month the teacher costs "
            f"{text.money(known.teacher_month, known.currency, whole=True)}."
        )
    elif known.teacher is not None:
        lines.append(f"The teacher costs {text.money(known.teacher, known.currency)} for 1,000 requests.")
    if known.break_even is not None:
        lines.append(f"A machine always on pays for itself from {text.count(known.break_even)} requests a day.")
    elif known.per_unit is not None:
        lines.append(
            f"Each {known.currency or 'unit of money'} that a machine costs an hour pays for itself from "
            f"{text.count(known.per_unit)} requests a day."
        )
    return lines


def asks(inputs: Inputs, known: Economy) -> list[tuple[str, str]]:
    """(key, what it is) of everything that has to be set before the saving is known."""
    wanted = []
    if known.teacher is None:
        wanted.append(("teacher.prices", "what the teacher's tokens cost"))
    if known.price is None:
        wanted.append(("slm.price_per_hour", "what an hour of your machine costs"))
    if known.requests is None:
        wanted.append((f"tracks.{text.clean(inputs.track, 100)}.requests_per_month", "how many requests a month"))
    return wanted


def side(inputs: Inputs) -> list[View]:
    """Quality, cost and time of everybody who answers, side by side."""
    metric = inputs.verdict["core"][0]
    found = []
    for name in inputs.answerers:
        document = inputs.metrics[name]
        latency = document["latency_s"] or {}
        found.append(
            {
                "label": text.capital(label(inputs, name)),
                "deploy": name == inputs.verdict["deploy"],
                "rate": text.rate(document["metrics"][metric]),
                "cost": _thousand(inputs, name),
                "p50": text.seconds(latency.get("p50")),
                "estimated": bool(document["cost"].get("estimated")),
            }
        )
    return found


def _thousand(inputs: Inputs, name: str) -> str:
    amount, currency = _amount(inputs, name)
    return "price not set" if amount is None else text.money(amount, currency)


def _amount(inputs: Inputs, name: str) -> tuple[float | None, str]:
    """What 1,000 requests cost with a contender: at the stated traffic, else on a machine that is never idle."""
    if name == TEACHER:
        known = of(inputs, inputs.verdict["decisive"])
        return known.teacher, known.currency
    known = of(inputs, name)
    return known.shared if known.shared is not None else known.busy, known.currency


def _each(total: float | None, rows: int) -> str:
    return text.ABSENT if total is None or not rows else text.count(total / rows)


def facts(inputs: Inputs) -> list[tuple[str, str]]:
    """What is known of costs, a line a fact; what is unknown has none."""
    name = inputs.verdict["decisive"]
    known = of(inputs, name)
    found = [
        ("teacher, 1,000 requests", text.money(known.teacher, known.currency) if known.teacher is not None else "")
    ]
    if known.busy is not None:
        found.append(
            (
                f"{label(inputs, name)}, 1,000 requests on a machine that is never idle",
                text.money(known.busy, known.currency),
            )
        )
    if known.shared is not None:
        found.append(
            (f"{label(inputs, name)}, 1,000 requests at the stated traffic", text.money(known.shared, known.currency))
        )
    if known.capacity is not None:
        found.append(
            (f"requests that one machine with {label(inputs, name)} answers a day", text.count(known.capacity))
        )
    if known.break_even is not None:
        found.append(("a machine always on pays for itself from, requests a day", text.count(known.break_even)))
    for who in inputs.answerers:
        document = inputs.metrics[who]
        tokens = document["tokens"]
        if tokens.get("prompt"):
            each = f"{_each(tokens['prompt'], document['n'])} in, {_each(tokens.get('completion'), document['n'])} out"
            found.append((f"tokens a request, {label(inputs, who)}", each))
    return [(key, value) for key, value in found if value]


def picture(inputs: Inputs) -> View | None:
    """Cost against quality, for those whose cost is known; None where it is known of one at most."""
    metric = inputs.verdict["core"][0]
    void = case(inputs).kind == "invalid"
    spots, said = [], []
    for name in inputs.answerers:
        amount, currency = _amount(inputs, name)
        rate = inputs.metrics[name]["metrics"][metric]
        if amount is None:
            continue
        mark: plots.Mark = (
            "base" if name == TEACHER else "good" if name == inputs.verdict["deploy"] else "void" if void else "holds"
        )
        point = plots.Point(100 * rate["value"], 100 * rate["low"], 100 * rate["high"], mark)
        spots.append(plots.Spot(label(inputs, name), amount, point))
        said.append(f"{label(inputs, name)}: {text.money(amount, currency)}, {text.percent(rate['value'])}")
    if len(spots) < 2:
        return None
    costs = [spot.cost for spot in spots]
    far = min(costs) > 0 and max(costs) > 20 * min(costs)
    x = plots.Axis.decades(costs) if far else plots.Axis.around([0.0, *costs], count=4)
    ends = [end for spot in spots for end in (spot.quality.low, spot.quality.high) if end is not None]
    y = plots.Axis.around(ends, count=6)
    return {
        "svg": plots.scatter(
            spots,
            x,
            y,
            [f"{tick:g}" for tick in x.ticks],
            key="money",
            title="Cost against quality",
            desc=f"{'; '.join(said)}.",
        ),
        "currency": currency,
        "shared": requests(inputs) is not None,
        "log": far,
    }


def latency(inputs: Inputs) -> View | None:
    """Median and 95th percentile of the time a row takes; None where no time was measured."""
    timed = [(name, inputs.metrics[name]["latency_s"]) for name in inputs.answerers]
    known = [(name, times) for name, times in timed if times]
    if not known:
        return None
    axis = plots.Axis.around([0.0, *(1_000 * times["p95"] for _, times in known)])
    return {
        "lanes": [
            {
                "name": text.capital(label(inputs, name)),
                "note": f"{text.seconds(times['p50'])}, at most {text.seconds(times['p95'])} for 95 %",
                "mark": "",
                "bar": plots.lane(
                    axis,
                    plots.Point(1_000 * times["p50"], 1_000 * times["p50"], 1_000 * times["p95"], "base"),
                    cap=True,
                ),
            }
            for name, times in known
        ],
        "scale": plots.scale(axis, [f"{tick:g}" for tick in axis.ticks]),
    }
