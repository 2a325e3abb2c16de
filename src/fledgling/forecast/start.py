"""What keeps a run from starting, known before its first job: all of it at once, before a minute or a cent is spent."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from fledgling.config import Config
from fledgling.contenders import jobs
from fledgling.errors import ConfigError
from fledgling.forecast import earlier
from fledgling.forecast.plan import plan
from fledgling.teacher.address import unset
from fledgling.teacher.requests import Teacher


def require(config: Config, *, asked: Collection[str], prepared: Collection[str], results: Path) -> None:
    """Refuse a run that would stop on the way.

    `asked` are the tracks whose rows go to the teacher, `prepared` those of them whose rows are there and stay.

    Raises:
        ConfigError: lists every variable that is missing, and every budget that cannot suffice.
    """
    problems = [*unset_variables(config).values(), *beyond_budget(config, prepared, results)] if asked else []
    if problems:
        more = "\n  ".join(problems)
        raise ConfigError(f"this run could not reach an answer, so nothing was started:\n  {more}")


def unset_variables(config: Config, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables without which the teacher cannot be asked, each with what is said of it."""
    try:
        return unset(Teacher.of(config["teacher"]), environment)
    except ConfigError as error:
        return {"": str(error)}


def beyond_budget(config: Config, tracks: Collection[str], results: Path) -> list[str]:
    """Why the budget of a run cannot pay for the rows of some tracks; [] where it can, or nothing says."""
    budget = config["teacher"].get("budget") or {}
    calls, money = budget.get("calls"), budget.get("money")
    asking = [(track, job.split or "test") for track in tracks for job in jobs(config, track) if job.rule == "ask"]
    counts = {(track, split): earlier.rows(results, track, split) or 0 for track, split in set(asking)}
    rows = sum(counts[each] for each in asking)
    if not tracks or (money is None and (calls is None or rows <= calls)):
        return []
    only = {**config, "tracks": {track: config["tracks"][track] for track in tracks}}
    lines = [line for line in plan(only, results=results, journal=Path(config["journal"])) if line.rule == "ask"]
    likely = [
        1.0 if line.expected is None else line.expected for line in lines
    ]  # in looks: more may be bought, or less
    needed = round(sum((line.calls or 0) * share for line, share in zip(lines, likely, strict=True)))
    cost, currency = (
        sum((line.money or 0) * share for line, share in zip(lines, likely, strict=True)),
        next((line.currency for line in lines if line.currency), ""),
    )
    problems = []
    if calls is not None and needed > calls:
        problems.append(
            f"teacher.budget.calls: {calls:,} a run, and the rows need {needed:,} calls; set it to {needed:,} or more, "
            "or give the sources of a track a smaller `limit`"
        )
    if money is not None and cost > money:
        problems.append(
            f"teacher.budget.money: {money:g} {currency} a run, and the rows need about {cost:.2f}; raise it, or give "
            "the sources of a track a smaller `limit`"
        )
    return problems
