"""Whether the prepared test rows can suffice, before anybody is asked: a sentence a track."""

from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import Datasheet
from fledgling.config import Config
from fledgling.decision.power import Power, power, sentence
from fledgling.records import read_examples


def power_of(test: Path, datasheet: Path, *, margin: float, alpha: float, chance: float) -> Power | None:
    """What a test split can show at a margin; None where it has no rows. `chance` is `decision.power`.

    Raises:
        DataError: a file is damaged.
    """
    rows = [(example.group, example.weight) for example in read_examples(test)]
    if not rows:
        return None
    source = None
    if datasheet.exists():
        source = sum(one["rows"]["read"] for one in artefacts.read(Datasheet, datasheet)["sources"])
    return power(
        [group for group, _ in rows],
        margin=margin,
        alpha=alpha,
        power=chance,
        weights=[weight for _, weight in rows],
        source_rows=source or None,
    )


def sentences(config: Config, *, results: Path) -> list[str]:
    """For each track whose rows are prepared, how often an equally good model would pass."""
    said, decision = [], config["decision"]
    for track, block in config["tracks"].items():
        folder = results / "data" / track
        if not (folder / "test.jsonl").exists():
            continue
        found = power_of(
            folder / "test.jsonl",
            folder / "datasheet.json",
            margin=block.get("margin", decision["margin"]),
            alpha=decision["alpha"],
            chance=decision["power"],
        )
        said.append(f"{track}: {sentence(found)}" if found else f"{track}: no test rows")
    return said
