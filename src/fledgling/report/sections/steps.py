"""What to do next: concrete steps for each kind of verdict, each with the command that takes it."""

import math
import shlex
from dataclasses import dataclass

from fledgling.report import text
from fledgling.report.load import TEACHER, Inputs
from fledgling.report.sections import money
from fledgling.report.sections.answer import Case, case, checkpoint, label

FAR = 20  # so many times the rows there are is no plan


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, and what to type for it ("": nothing)."""

    what: str
    command: str = ""


def steps(inputs: Inputs) -> list[Step]:
    """The next steps, the first one first."""
    found = case(inputs)
    made = {
        "swap": _swap,
        "keep": _keep,
        "fine_tune": _train,
        "inconclusive": _undecided,
        "invalid": _invalid,
    }[found.kind](inputs, found)
    if inputs.verdict["simulated"] and found.kind != "invalid":
        made.append(
            Step(
                "This was a rehearsal. For evidence, put your rows, teacher and model into a configuration "
                "(config/phi4-mini.yaml is one); see what it would run and cost:",
                "snakemake -n --configfile config/phi4-mini.yaml -- all",
            )
        )
    return made


def _again(inputs: Inputs) -> str:
    return f"snakemake --cores all -- {shlex.quote(f'results/report/{text.clean(inputs.track, 200)}.html')}"


def _key(inputs: Inputs, name: str) -> str:
    return f"tracks.{text.clean(inputs.track, 100)}.{name}"


def _swap(inputs: Inputs, _: Case) -> list[Step]:
    rung = inputs.rung(inputs.verdict["deploy"])
    name = label(inputs, rung["name"])
    if rung["adapter"]:
        place = f"results/adapters/{text.clean(inputs.track, 100)}/{rung['adapter']}"
        serve = Step(
            f"Serve {name}: the checkpoint {checkpoint(inputs, rung['model'])} with the adapter in {place}. To publish the adapter, set "
            "publish.repo_id, then:",
            f"snakemake --cores all -- {shlex.quote(f'results/hub/{text.clean(inputs.track, 200)}.json')}",
        )
    else:
        serve = Step(
            f"Serve {name}: the checkpoint {checkpoint(inputs, rung['model'])}, asked as it was here (see Where it comes from)."
        )
    return [
        *_not_yet(inputs),
        serve,
        Step(
            "Move a small part of the traffic first. Then add rows from those days to the sources and measure again:",
            _again(inputs),
        ),
    ]


def _not_yet(inputs: Inputs) -> list[Step]:
    """A word before a move that costs more than it saves, whether it is known to be good enough or still open."""
    name = inputs.verdict["decisive"]
    known = money.of(inputs, name)
    if known.saved is None or known.saved >= 0:
        return []
    from_ = f" A move pays from {text.count(known.break_even)} requests a day." if known.break_even else ""
    if name == inputs.verdict["deploy"]:
        return [Step(f"Good enough, but at the stated traffic a move costs more than it saves: wait with it.{from_}")]
    return [
        Step(
            "At the stated traffic a move costs more than it saves, whatever more rows say: go on only if the traffic "
            f"grows or the machine gets cheaper.{from_}"
        )
    ]


def _train(inputs: Inputs, _: Case) -> list[Step]:
    return [
        Step(
            f"Train: set {_key(inputs, 'finetune')} to auto (what needs no training is not good enough here). What it would run and cost:",
            f"snakemake -n -- {shlex.quote(f'results/report/{text.clean(inputs.track, 200)}.html')}",
        ),
        Step("Then train, and judge again by the same rows:", _again(inputs)),
    ]


def _keep(inputs: Inputs, found: Case) -> list[Step]:
    if not found.trained:
        return [Step("Try a stronger model: another checkpoint under models, then:", _again(inputs))]
    if found.why == "regression":
        first = "Read the rows that training broke (filter the rows below), add such rows to the sources, train again:"
    else:
        trained = [text.count(one["rows"]) for one in inputs.training.values()]
        learnt = f" (it learnt from {' and '.join(trained)})" if trained else ""
        first = f"Give training more rows{learnt}: add some to the sources of this track, then:"
    return [
        Step(first, _again(inputs)),
        Step(
            "Or change the recipe (epochs, rank, learning_rate) or try a larger checkpoint under models: same command."
        ),
    ]


def _undecided(inputs: Inputs, found: Case) -> list[Step]:
    name = label(inputs, inputs.verdict["decisive"])
    if found.why == "noise":
        return [
            Step(
                "Make answers repeat: temperature 0 and a fixed seed for the teacher (teacher.temperature, teacher.seed), "
                "one model version; then:",
                _again(inputs),
            )
        ]
    if found.why == "coverage":
        return [Step(f"Some rows have no answer of {name} yet. The same command asks for those alone:", _again(inputs))]
    if found.why == "regression":
        return [
            Step(f"Whether training cost {name} anything is open. More test rows would tell; then:", _again(inputs))
        ]
    return [*_not_yet(inputs), _more_rows(inputs), *([] if found.trained else [_or_train(inputs)])]


def _more_rows(inputs: Inputs) -> Step:
    verdict = inputs.verdict
    missing = verdict["rows_missing"]
    if not missing:
        return Step("More rows will not settle this at the gap that was measured. A better contender would.")
    if missing > FAR * verdict["n"]:
        return Step(
            f"About {_about(missing)} more test rows would be needed, because the gap lies so close to the margin: that "
            "is no plan. A better contender would be."
        )
    splits = inputs.datasheet["splits"]
    share = splits["test"]["rows"] / max(1, sum(part["rows"] for part in splits.values()))
    return Step(
        f"Add about {_about(missing)} test rows, which is {_about(missing / share)} rows of this kind in the sources. Add "
        "them at once (adding until the answer is right is looking many times), then:",
        _again(inputs),
    )


def _or_train(inputs: Inputs) -> Step:
    return Step(
        f"Or train without waiting, as the better a model is, the fewer rows show it: set {_key(inputs, 'finetune')} to always."
    )


def _about(rows: float) -> str:
    """A number of rows to two digits, upwards: a plan is no more exact."""
    unit = 10 ** max(0, len(str(math.ceil(rows))) - 2)
    return text.count(math.ceil(rows / unit) * unit)


def _invalid(inputs: Inputs, _: Case) -> list[Step]:
    """A remedy for every cause that the files show."""
    verdict, decisive = inputs.verdict, inputs.decisive
    found = []
    bodies = list(verdict["comparisons"].values())
    if not all(body["metrics"] for body in bodies):
        found.append(
            "The files do not hold the same rows. Delete results/predictions and results/metrics of this track and build "
            "them again; replies that were paid for are kept and not paid for twice:"
        )
    answered = decisive["answered"]
    if answered and answered["teacher"] < verdict["min_coverage"] * decisive["n"]:
        found.append(
            f"The teacher left {text.count(decisive['n'] - answered['teacher'])} of {text.count(decisive['n'])} rows without "
            "an answer. Check its key and limits; the same command asks for those rows alone:"
        )
    mixed = [name for name, models in decisive["models"].items() if len(models) > 1]
    mixed += [name for name, prints in decisive["fingerprints"].items() if len(prints) > 1 and name not in mixed]
    if mixed:
        found.append(
            f"Answers of {' and '.join(label(inputs, name) for name in mixed)} come from several models or versions. Pin one "
            f"and ask again{', or accept the mixture with teacher.allow_mixed_models' if TEACHER in mixed else ''}:"
        )
    if any(not entry["beaten"] for metrics in decisive["teacher_floors"].values() for entry in metrics.values()):
        found.append(
            "Today's model is no better than answers that need no model. Check the endpoint and the labels (read rows "
            "below on which the teacher is wrong), then:"
        )
    return [Step(one, _again(inputs)) for one in found or ["Mend what the reasons below name, then:"]]
