"""The stage that buys the teacher's answers to test in looks: no row more than the verdict needs (docs/decision.md).

All others have answered test before. At each look the teacher is asked the next rows, everybody is scored on all rows so
far, and the gate says whether that settles the verdict. Every reply is in the journal before the next is asked, so a run
that was killed buys nothing twice.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fledgling import artefacts
from fledgling.artefacts import AtLook, Bought, Predictions, Rung
from fledgling.bought import ordered
from fledgling.contenders import TEACHER
from fledgling.decision import buying, climb, evidence, sequential
from fledgling.decision.choice import Rows
from fledgling.decision.rule import Rule
from fledgling.decision.scored import Scored, read_rows
from fledgling.failpoints import failpoint
from fledgling.files import read_jsonl
from fledgling.score import score
from fledgling.sealing import seal_of, write_predictions
from fledgling.teacher.ask import ask, require_folder
from fledgling.teacher.requests import Teacher

log = logging.getLogger(__name__)
FilePath = str | os.PathLike[str]


def buy(
    *,
    data: FilePath,
    teacher: Teacher,
    prompt: Mapping[str, object],
    journal: FilePath,
    out: FilePath,
    rule: Rule,
    ladder: Sequence[Rung],
    contenders: Sequence[FilePath],
    floors: Sequence[FilePath],
    ladder_files: Sequence[FilePath],
    backoff_base_s: float = 0.5,
) -> Bought:
    """Buy rows until the verdict is settled, publish the teacher's predictions of these, and say in their seal why no more.

    `contenders` and `floors` are predictions for all rows of the split, named by their files, cheapest first;
    `ladder_files` hold what val said of the contenders.

    Raises:
        ConfigError, Unavailable, DataError: as `fledgling.teacher.ask.ask`; the same command goes on from there.
        DataError: predictions that their seal does not vouch for, or that are of other rows.
    """
    rows = ordered(data, buying.key(rule.track))
    assert rule.first_look is not None
    planned = sequential.plan([group for _, group in rows], alpha=rule.alpha, first=rule.first_look)
    names = [Path(path).stem for path in contenders]
    rule = climb.held(rule, evidence.read_trials([os.fspath(path) for path in ladder_files]), names)
    require_folder(Path(out))
    with TemporaryDirectory(prefix="fledgling-looks-") as folder:
        place = Path(folder)
        others = {Path(path).stem: _scored(data, path, rule, place) for path in (*contenders, *floors)}
        looks: list[AtLook] = []
        answers = place / f"{TEACHER}.jsonl"
        for count in planned.looks:
            wanted = frozenset(name for name, _ in rows[:count])
            ask(
                data=data,
                teacher=teacher,
                prompt=prompt,
                journal=journal,
                out=answers,
                track=rule.track,
                only=wanted,
                backoff_base_s=backoff_base_s,
            )
            failpoint("buy.after_a_look")
            asked = _scored(data, answers, rule, place)
            here = Rows(
                _taken(asked, wanted),
                tuple(_taken(others[name], wanted) for name in names),
                tuple(_taken(others[Path(path).stem], wanted) for path in floors),
            )
            said, decided = buying.look(rule, ladder, here, planned)
            looks.append(said)
            log.info("%s: look at %d of %d rows: %s", rule.track, count, planned.rows, said["reason"])
            if decided.stop:
                break
        record = buying.record(rule, planned, (name for name, _ in rows), looks)
        _publish(answers, out, [data, *contenders, *floors, *ladder_files], record)
    log.info("%s", buying.in_words(record))
    return record


def _scored(data: FilePath, predictions: FilePath, rule: Rule, folder: Path) -> Scored:
    """What one contender scores on every row of the split; a row that was not asked is one that is missing."""
    name = Path(predictions).stem
    rows = folder / f"scored-{name}.jsonl"
    score(data, predictions, rule.kind, folder / f"scored-{name}.json", rows)
    return read_rows(rows, name)


def _taken(one: Scored, wanted: frozenset[str]) -> Scored:
    return one.take([place for place, name in enumerate(one.ids) if name in wanted])


def _publish(answers: Path, out: FilePath, made_from: Sequence[FilePath], record: Bought) -> None:
    sealed = artefacts.read(Predictions, seal_of(answers))
    failpoint("buy.before_publish")
    write_predictions(
        out,
        (row for _, row in read_jsonl(answers)),
        made_from=made_from,
        limits=sealed["limits"],
        given_up=sealed["given_up"],
        logged=lambda: sealed.get("logged", 0),
        bought=record,
    )
