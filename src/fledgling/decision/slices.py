"""A verdict's rows in parts: where a contender is weak although it is good on the whole."""

from fledgling import stats
from fledgling.artefacts import Interval, Slice
from fledgling.decision.choice import Rows
from fledgling.decision.pairing import gap, p_value, rounded, span
from fledgling.decision.rule import Rule
from fledgling.decision.scored import Scored


def slices(rule: Rule, rows: Rows) -> dict[str, dict[str, Slice]]:
    """Per slice the first core metric of all contenders; p-values are Holm's over all slices of a contender."""
    metric = rule.core[0]
    places: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(rows.teacher.slices):
        for dimension, value in row.items():
            if value is not None:
                places.setdefault((dimension, str(value)), []).append(index)
    sizes: dict[str, int] = {}
    for dimension, _ in places:
        sizes[dimension] = sizes.get(dimension, 0) + 1
    shown = sorted(key for key in places if sizes[key[0]] > 1)
    parts = {key: {one.name: one.take(places[key]) for one in (rows.teacher, *rows.contenders)} for key in shown}
    result: dict[str, dict[str, Slice]] = {}
    for key in shown:
        teacher = parts[key][rows.teacher.name]
        result.setdefault(key[0], {})[key[1]] = {
            "n": len(places[key]),
            "teacher": agreement(teacher, metric),
            "contenders": {},
        }
    for one in rows.contenders:
        gaps, raw = {}, []
        for key in shown:
            teacher, contender = parts[key][rows.teacher.name], parts[key][one.name]
            gaps[key] = gap(rule, teacher, contender, metric)
            difference = teacher.scores[metric] - contender.scores[metric]
            raw.append(
                stats.sign_flip_p(
                    difference, teacher.groups, resamples=rule.resamples, seed=rule.seed, weights=teacher.weights
                )
            )
        for key, p, adjusted in zip(shown, raw, stats.holm(raw), strict=True):
            result[key[0]][key[1]]["contenders"][one.name] = {
                "value": rounded(parts[key][one.name].mean(metric)),
                **span(gaps[key]),
                "p": p_value(p),
                "p_holm": p_value(adjusted),
                "differs": adjusted <= rule.alpha,
            }
    return result


def agreement(one: Scored, metric: str) -> Interval:
    """How often one contender agrees with gold, with a two-sided 95 % interval."""
    found = stats.interval(one.scores[metric], one.groups, weights=one.weights)
    return {"value": round(found.value, 6), "low": round(found.low, 6), "high": round(found.high, 6)}
