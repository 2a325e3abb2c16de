"""The first screen: the verdict, what to do next, what it saves, how sure it is, what is weak."""

from dataclasses import dataclass
from typing import Literal

from fledgling.artefacts import GapOnMetric, SliceGap
from fledgling.decision.buying import in_words
from fledgling.report import plots, text, words
from fledgling.report.load import TEACHER, Inputs

View = dict[str, object]
Kind = Literal["swap", "keep", "fine_tune", "inconclusive", "invalid"]
DEFAULT_MARGIN = 0.05  # decision.margin of config/config.yaml
WEAK = 5  # weakest slices that the first screen names


@dataclass(frozen=True, slots=True)
class Case:
    """What kind of answer a verdict is.

    fine_tune: what needs no training is not good enough, and nothing was trained. `trained` says whether anything was; `why` parts
    the undecided by what stops them.
    """

    kind: Kind
    trained: bool
    why: Literal["rows", "noise", "coverage", "regression", ""] = ""


def case(inputs: Inputs) -> Case:
    """The kind of answer that the first screen is designed for."""
    verdict, decisive = inputs.verdict, inputs.decisive
    trained = any(rung["adapter"] for rung in inputs.ladder)
    if any(body["finding"] == "invalid" for body in verdict["comparisons"].values()):
        return Case("invalid", trained)
    if verdict["deploy"] in verdict["comparisons"]:
        return Case("swap", trained)
    regression = verdict["regressions"].get(decisive["contender"])
    lost = decisive["finding"] == "as_good" and regression is not None and regression["status"] != "none"
    if verdict["deploy"] == TEACHER:
        if not trained and inputs.gate["decision"] == "fine_tune":
            return Case("fine_tune", trained)
        return Case("keep", trained, "regression" if lost else "")
    if any(noise["refused"] for noise in verdict["noise"].values()):
        return Case("inconclusive", trained, "noise")
    coverage = decisive["coverage"]
    if coverage is not None and coverage < verdict["min_coverage"]:
        return Case("inconclusive", trained, "coverage")
    return Case("inconclusive", trained, "regression" if lost else "rows")


def label(inputs: Inputs, name: str) -> str:
    """What people call somebody who answers: the teacher, a contender by its label, a floor by what it does."""
    if name == TEACHER:
        return TEACHER
    found = next((rung["label"] for rung in inputs.ladder if rung["name"] == name), None)
    return text.clean(found, 60) if found else words.floor(name)


def checkpoint(inputs: Inputs, model: str) -> str:
    """A checkpoint by where it comes from, as the configuration says it; by its name there where that says nothing."""
    block = inputs.section("models").get(model)
    place = (block.get("repo_id") or block.get("path")) if isinstance(block, dict) else None
    return (
        f"{text.clean(str(place), 100)} (models.{text.clean(model, 60)})"
        if place
        else f"models.{text.clean(model, 60)}"
    )


def headline(inputs: Inputs) -> View:
    """The answer in a few words, the verdict's own sentence, and what training has to do with it."""
    verdict, found = inputs.verdict, case(inputs)
    heads = {
        "swap": f"Move to {label(inputs, verdict['deploy'])}",
        "keep": "Keep the teacher",
        "fine_tune": "Keep the teacher for now: train next",
        "inconclusive": "Undecided: keep the teacher for now",
        "invalid": "No verdict: the numbers cannot be trusted",
    }
    return {
        "kind": found.kind,
        "headline": heads[found.kind],
        "tone": {"swap": "good", "invalid": "bad"}.get(found.kind, ""),
        "statement": text.prose(verdict["statement"]),
        "tried": _tried(inputs, found),
        "reasons": [text.prose(reason) for reason in verdict["reasons"]],
        "rows": text.count(verdict["n"]),
        "margin": text.size(verdict["margin"]),
        "weighted": "requests" in inputs.decisive,
        "confidence": text.percent(1 - verdict["alpha"], 0),
        "gate": {
            "swap": "before training: good enough",
            "fine_tune": "before training: not good enough",
            "inconclusive": "before training: undecided",
            "invalid": "before training: no verdict",
        }[inputs.gate["decision"]],
        "gate_statement": text.prose(inputs.gate["statement"]),
        "trained": found.trained,
    }


def _tried(inputs: Inputs, found: Case) -> str:
    """Whether training was tried and what it brought, where the headline leaves that open."""
    if found.kind in ("swap", "invalid"):
        return ""
    if not found.trained:
        return {
            "never": "Training was not tried: the policy of this track is never to train.",
            "always": "Training was asked for, but no contender has an adapter: nothing was trained.",
            "auto": "Training was not tried: it starts only where nothing that needs none promises to pass on val.",
        }[inputs.verdict["policy"]]
    metric = inputs.verdict["core"][0]
    parts = []
    for rung in inputs.ladder:
        before, after = rung["after"], rung["name"]
        if rung["adapter"] and before and before in inputs.metrics:
            parts.append(
                f"{label(inputs, after)} has {_value(inputs, after, metric)}, "
                f"{label(inputs, before)} {_value(inputs, before, metric)}"
            )
    what = f": {'; '.join(parts)} (teacher {_value(inputs, TEACHER, metric)})" if parts else ""
    return f"Training was tried{what}."


def _value(inputs: Inputs, name: str, metric: str) -> str:
    return text.percent(inputs.metrics[name]["metrics"][metric]["value"])


def sure(inputs: Inputs) -> View:
    """How sure the answer is: one number for one risk, the number of the look, the margin where it is unusual."""
    verdict, found = inputs.verdict, case(inputs)
    big, metric = _certainty(inputs, found)
    unusual = verdict["margin"] != DEFAULT_MARGIN
    margin = f"Too bad: {text.size(verdict['margin'])} points or more below the teacher (the margin)."
    if unusual:
        more = "more" if verdict["margin"] > DEFAULT_MARGIN else "less"
        margin += f" The usual margin is {text.size(DEFAULT_MARGIN)}: this track allows {more}."
    return {
        "big": big,
        "metric": words.label(metric) if metric else "",
        "chance": chance(inputs) if found.kind != "invalid" else "",
        "margin": margin,
        "unusual": unusual,
        "rows": _evidence(inputs),
    }


def chance(inputs: Inputs) -> str:
    """The one number for the one risk that this project promises to keep small, with the number of the look."""
    looks = inputs.verdict["looks"]
    risk = text.percent(looks["false_swap_at_most"] if looks else inputs.verdict["alpha"], 0)
    if not looks:
        seen = "earlier verdicts on these rows are not counted"
    elif looks["number"] == 1:
        seen = "first verdict on these rows"
    else:
        seen = f"verdict number {text.count(looks['number'])} on these rows; this is for all of them together"
    if len(inputs.ladder) > 1:
        seen = f"any of {len(inputs.ladder)} contenders; {seen}"
    return f"Chance that we call a too-bad model good: {risk} ({seen})."


def _certainty(inputs: Inputs, found: Case) -> tuple[str, str]:
    """The largest words of the panel, and the metric that they are about."""
    known = {name: entry for name, entry in inputs.decisive["metrics"].items() if entry["core"]}
    if found.kind == "invalid" or not known:
        return "Not at all", ""
    if found.why == "noise":
        return "Answers do not repeat", ""
    if found.why == "regression":
        return "Worse than before training" if found.kind == "keep" else "Perhaps worse than before training", ""
    if found.kind == "swap":
        metric = inputs.verdict["core"][0]
        return bound(known[metric]), metric
    if found.kind in ("keep", "fine_tune"):
        metric = max(known, key=lambda name: known[name]["gap"])
        entry = known[metric]
        proven = (
            f"At least {text.gap(entry['low'])}"
            if entry["low"] > 0
            else f"Measured {text.gap(entry['gap'])}, not proven"
        )
        return proven, metric
    unproven = {name: entry for name, entry in known.items() if not entry["non_inferior"]} or known
    metric = max(unproven, key=lambda name: unproven[name]["high"])
    entry = unproven[metric]
    return (f"Could be up to {text.gap(entry['high'])}: not proven" if entry["high"] > 0 else "Not proven"), metric


def _evidence(inputs: Inputs) -> str:
    decisive = inputs.decisive
    said = f"{text.count(decisive['n'])} test rows"
    groups = decisive.get("groups")
    if groups and groups < decisive["n"]:
        said += f" from {text.count(groups)} source records"
    if decisive["coverage"] is not None and decisive["coverage"] < 1:
        said += f", {text.percent(decisive['coverage'])} of them answered by both"
    if "requests" in decisive:
        said += f", standing for {text.count(decisive['requests'])} requests"
    said = f"{said}, the same for everybody."
    bought = inputs.verdict.get("bought")
    return said if bought is None else f"{said} {text.prose(in_words(bought))}"


def bound(entry: GapOnMetric) -> str:
    """The end of the interval that decides, in words."""
    if entry["high"] < 0:
        return f"At least {text.gap(entry['high'])}"
    return f"At most {text.gap(entry['high'])}" if float(text.size(entry["high"])) else "No worse at all"


def says(inputs: Inputs, name: str, entry: GapOnMetric) -> tuple[str, plots.Mark]:
    """What one gap shows, in words, and its mark: green only where the verdict deploys, nothing where it is void."""
    margin = inputs.verdict["margin"]
    if case(inputs).kind == "invalid":
        return "not judged", "void"
    if entry["non_inferior"]:
        return bound(entry).lower(), "good" if name == inputs.verdict["deploy"] else "holds"
    if entry["gap"] > margin:
        return text.gap(entry["gap"]), "bad"
    return f"could be up to {text.gap(entry['high'])}: not proven", "open"


def gaps(inputs: Inputs) -> View | None:
    """The core gaps of all contenders against the margin; None where rows could not be paired."""
    verdict = inputs.verdict
    margin = 100 * verdict["margin"]
    known = [(rung["name"], verdict["comparisons"][rung["name"]]) for rung in inputs.ladder]
    entries = [
        (name, metric, body["metrics"][metric])
        for name, body in known
        for metric in verdict["core"]
        if metric in body["metrics"]
    ]
    if not entries:
        return None
    edges = [100 * entry[end] for _, _, entry in entries for end in ("low", "high")]
    axis = plots.Axis.around([0, margin, *edges])
    groups = []
    for name, _ in known:
        lanes = []
        for owner, metric, entry in entries:
            if owner == name:
                said, mark = says(inputs, name, entry)
                point = plots.Point(100 * entry["gap"], 100 * entry["low"], 100 * entry["high"], mark)
                lanes.append(
                    {
                        "name": words.metric(metric),
                        "note": said,
                        "mark": mark,
                        "bar": plots.lane(axis, point, margin=margin, zero=True, cap=True),
                    }
                )
        groups.append({"name": text.capital(label(inputs, name)), "lanes": lanes})
    return {
        "groups": groups,
        "scale": plots.scale(axis, [_tick(tick) for tick in axis.ticks], margin=(margin, f"margin {margin:g}")),
    }


def _tick(value: float) -> str:
    return f"{abs(value):g}" if value >= 0 else f"{text.MINUS}{abs(value):g}"


def table(inputs: Inputs) -> list[View]:
    """All gaps in numbers, core metrics first."""
    found = []
    for rung in inputs.ladder:
        for metric, entry in inputs.verdict["comparisons"][rung["name"]]["metrics"].items():
            said, mark = says(inputs, rung["name"], entry)
            counts = entry["counts"]
            found.append(
                {
                    "contender": text.capital(label(inputs, rung["name"])),
                    "metric": words.metric(metric),
                    "core": entry["core"],
                    "teacher": text.percent(entry["teacher"]),
                    "value": text.percent(entry["contender"]),
                    "gap": text.gap(entry["gap"]),
                    "span": text.span(entry["low"], entry["high"]),
                    "alone": f"{text.count(counts['teacher_only'])}, {text.count(counts['contender_only'])}",
                    "p": None if entry["mcnemar_p"] is None else text.p_value(entry["mcnemar_p"]),
                    "says": said if entry["core"] else "",
                    "mark": mark,
                }
            )
    return found


@dataclass(frozen=True, slots=True)
class Weak:
    """A slice of the rows on which a contender is behind by more than the margin at the low end of its interval."""

    dimension: str
    value: str
    rows: int
    entry: SliceGap


def weak(inputs: Inputs, name: str) -> list[Weak]:
    """The slices on which a contender's low bound is above the margin, largest gap first."""
    found = [
        Weak(dimension, value, part["n"], part["contenders"][name])
        for dimension, values in inputs.verdict["slices"].items()
        for value, part in values.items()
        if part["contenders"][name]["low"] > inputs.verdict["margin"]
    ]
    return sorted(found, key=lambda one: (-one.entry["gap"], one.dimension, one.value))


def weakest(inputs: Inputs) -> View:
    """What the first screen says of slices, about the contender that the verdict rests on."""
    name = inputs.verdict["decisive"]
    found = _other_rows(weak(inputs, name)) if case(inputs).kind != "invalid" else []
    return {
        "contender": label(inputs, name),
        "lines": [
            {
                "what": f"{words.dimension(one.dimension)}: {text.clean(one.value, 80)}",
                "gap": text.gap(one.entry["gap"]),
                "rest": f"at least {text.size(one.entry['low'])}, on {text.count(one.rows)} rows",
                "proof": "proven"
                if one.entry["differs"]
                else f"not proven after correction for many looks (p {text.p_value(one.entry['p_holm'])})",
            }
            for one in found[:WEAK]
        ],
        "more": max(0, len(found) - WEAK),
        "looked": sum(len(values) for values in inputs.verdict["slices"].values()),
    }


def _other_rows(found: list[Weak]) -> list[Weak]:
    """The same without slices that hold the rows of one before them under another name."""
    kept: dict[tuple[int, float, float, float], Weak] = {}
    for one in found:
        kept.setdefault((one.rows, one.entry["gap"], one.entry["low"], one.entry["high"]), one)
    return list(kept.values())


def caveats(inputs: Inputs) -> list[str]:
    """Everything that a reader should know beside the answer: the verdict's caveats, and what only the files show."""
    return [*(text.sentence(text.prose(one)) for one in inputs.verdict["caveats"]), *map(text.sentence, _own(inputs))]


def _own(inputs: Inputs) -> list[str]:
    said = []
    known = " ".join(inputs.verdict["caveats"])
    for name, seal in inputs.seals.items():
        for limit in seal["limits"] if name in inputs.answerers else ():
            if limit["rows"] and limit["key"] not in known:
                said.append(
                    f"{limit['key']} ({text.count(limit['value'])}) decided {text.count(limit['rows'])} rows of "
                    f"{label(inputs, name)}: {text.prose(limit['what'])}"
                )
        if name in inputs.answerers and seal["given_up"] and "given up without an answer" not in known:
            said.append(f"{text.count(seal['given_up'])} rows of {label(inputs, name)} were given up without an answer")
    unwinnable = inputs.datasheet["unwinnable"]["rows"]
    if unwinnable:
        said.append(
            f"{text.count(unwinnable)} rows of the sources were left out, since nobody could get them right: their own "
            "rules refuse their gold"
        )
    power = inputs.gate.get("split_power")
    if power and power["low"] and inputs.verdict["deploy"] not in inputs.verdict["comparisons"]:
        said.append(text.prose(power["sentence"]).removesuffix("."))
    for name in inputs.answerers:
        document = inputs.metrics[name]
        unread = sum(number for code, number in document["reasons"].items() if code.startswith("invalid"))
        if unread > document["n"] / 2:
            said.append(
                f"{text.percent(unread / document['n'])} of the replies of {label(inputs, name)} cannot be read: more "
                "likely a wrong chat template or dialect than a weak model; read some raw replies first"
            )
    if inputs.verdict["simulated"] and not inputs.datasheet["generated"] and _embedded(inputs):
        said.append(
            "the small model is the embedded one, which knows nothing but its generated rows: on rows of your own "
            "its scores say nothing about a real small model"
        )
    return said


def _embedded(inputs: Inputs) -> bool:
    models = inputs.section("models")
    used = {rung["model"] for rung in inputs.ladder}
    return any(
        isinstance(block, dict) and block.get("source") == "embedded" for name, block in models.items() if name in used
    )
