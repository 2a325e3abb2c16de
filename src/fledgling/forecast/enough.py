"""Whether the prepared test rows can suffice, before anybody is asked: in the datasheet, and a sentence a track."""

from collections.abc import Sequence
from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import Datasheet, Prospect, Sourced
from fledgling.config import Config
from fledgling.contenders import asks_val
from fledgling.decision.pairing import rounded
from fledgling.decision.power import Power, power, sentence
from fledgling.decision.trial import LITTLE
from fledgling.files import Object
from fledgling.forecast import earlier
from fledgling.records import read_examples


def prospect(test: Path, sources: Sequence[Sourced], where: Object, track: str) -> Prospect | None:
    """What a split that was just prepared can show, for its datasheet; None where it has no rows.

    `where` is the part of the configuration that reaches jobs beside their settings (fledgling.config.where).

    Raises:
        DataError: the file of rows is damaged.
    """
    decision = where["decision"]
    margin = where.get("margins", {}).get(track, decision["margin"])
    found = power_of(test, sources, margin=margin, alpha=decision["alpha"], chance=decision["power"])
    if found is None:
        return None
    return {
        "rows": found.rows,
        "counts_as": found.counts_as,
        "chances": {f"{share:g}": rounded(value) for share, value in found.chances.items()},
        "safe_rows": found.safe_rows,
        "safe_source": found.safe_source,
        "low": found.low,
        "margin": found.margin,
        "alpha": found.alpha,
        "power": found.power,
        "sentence": sentence(found),
    }


def power_of(
    test: Path, sources: Sequence[Sourced] = (), *, margin: float, alpha: float, chance: float
) -> Power | None:
    """What a test split can show at a margin; None where it has no rows. `chance` is `decision.power`.

    `sources` are those of its datasheet; without them nothing is said about rows of the sources.

    Raises:
        DataError: the file is damaged.
    """
    rows = [(example.group, example.weight) for example in read_examples(test)]
    if not rows:
        return None
    return power(
        [group for group, _ in rows],
        margin=margin,
        alpha=alpha,
        power=chance,
        weights=[weight for _, weight in rows],
        source_rows=sum(one["rows"]["read"] for one in sources) or None,
    )


def sentences(config: Config, *, results: Path) -> list[str]:
    """For each track whose rows are prepared, how often an equally good model would pass."""
    said, decision = [], config["decision"]
    for track, block in config["tracks"].items():
        folder = results / "data" / track
        if not (folder / "test.jsonl").exists():
            continue
        datasheet = folder / "datasheet.json"
        found = power_of(
            folder / "test.jsonl",
            artefacts.read(Datasheet, datasheet)["sources"] if datasheet.exists() else (),
            margin=block.get("margin", decision["margin"]),
            alpha=decision["alpha"],
            chance=decision["power"],
        )
        said.append(f"{track}: {sentence(found)}" if found else f"{track}: no test rows")
        rows = earlier.rows(results, track, "val")
        if rows is not None and rows < LITTLE and asks_val(config, track):
            said.append(
                f"{track}: {rows} rows of val say how far contenders are built; fewer than {LITTLE} tell little, so more "
                "may be built than is needed"
            )
    return said
