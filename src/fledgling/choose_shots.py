"""Which answered rows of train are put before every row of a contender: chosen on val, the same for all rows."""

import contextlib
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import Shots, Tried
from fledgling.config import SLM
from fledgling.errors import DataError
from fledgling.files import Object, sha256_file, write_jsonl
from fledgling.models import checkpoint
from fledgling.models.offline import importing, offline_and_quiet
from fledgling.prompting import shots, template
from fledgling.prompting.turns import schema_place
from fledgling.records import Example, read_examples
from fledgling.score import score
from fledgling.sealing import verify_rows
from fledgling.slm.answer import Ask, answer_all

log = logging.getLogger(__name__)

COUNTS = (2, 4, 8)  # of shots, that auto tries
SETS = 2  # drawn by a hash, each of them tried


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of shots."""

    k: int
    set: int
    rows: tuple[Example, ...]


def choose(
    *,
    track: str,
    contender: str,
    train: Path,
    val: Path,
    model: Path,
    adapter: Path | None,
    settings: Object,
    journal: Path,
    out: Path,
) -> None:
    """Write the shots (`out`, JSON Lines) and, beside them, how they were chosen.

    A number in `settings["shots"]` is taken as it is; auto lets the contender answer val with each of six choices and
    keeps the best by the core metrics, of equals the one with fewer tokens. A choice with which a row of val would not
    fit that fits without is lowered, for all rows: none is ever cut. The answers lie in the journal, so that asking val
    again costs nothing.

    Raises:
        DataError: train has too few groups with an answer, or a file is damaged.
    """
    offline_and_quiet()
    asked = settings["shots"]
    verify_rows(train)
    verify_rows(val)
    rows = list(read_examples(train))
    _refuse_links(rows, val)
    fits = _Fit(model, val, settings)
    if asked == "auto":
        choices = [one for k in COUNTS for number in range(SETS) if (one := _drawn(rows, k, number))]
        fitting = [one for one in choices if fits.all(one.rows)]
        reason = "" if fitting else "no choice leaves room for all rows of val"
    else:
        whole = Choice(asked, 0, tuple(shots.choose(rows, asked)))
        lowered = next((k for k in range(asked, 0, -1) if fits.all(whole.rows[:k])), 0)
        fitting = [Choice(lowered, 0, whole.rows[:lowered])]
        reason = "" if lowered == asked else f"{asked} do not leave room for all rows of val, {lowered} do"
    tried: list[Tried] = []
    kept = fitting[0] if fitting else Choice(0, 0, ())
    if asked == "auto" and len(fitting) > 1:
        tried = _try(fitting, track, val, model, adapter, settings, journal)
        kept = fitting[best(tried, settings["core"])]
        reason = f"best of {len(fitting)} choices on val"
    if reason:
        log.log(logging.INFO if tried else logging.WARNING, "%s %s: %d shots: %s", track, contender, kept.k, reason)
    beside = out.with_suffix(".json")
    beside.unlink(missing_ok=True)  # until the new rows are whole, nothing vouches for them
    write_jsonl(out, [row.to_json() for row in kept.rows])
    made: Shots = {
        "format": "fledgling/shots/1",
        "made_from": artefacts.digests(train, val, model, *([adapter] if adapter else [])),
        "track": track,
        "contender": contender,
        "asked": asked,
        "k": kept.k,
        "set": kept.set,
        "reason": reason or "as the configuration says",
        "sha256": sha256_file(out),
        "tried": tried,
    }
    artefacts.write(Shots, beside, made)


def best(tried: Sequence[Tried], core: Sequence[str]) -> int:
    """The place of the highest metrics, the first of `core` first; of equals the one with fewer tokens a row."""

    def rank(place: int) -> tuple[tuple[float, ...], float, int]:
        one = tried[place]
        return tuple(one["metrics"][name] for name in core), -one["prompt_tokens"], -place

    return max(range(len(tried)), key=rank)


def _refuse_links(rows: Sequence[Example], val: Path) -> None:
    """Shots come from other source records than the rows that they are judged on."""
    groups = {row.group for row in rows}
    if shared := next((row for row in read_examples(val) if row.group in groups), None):
        raise DataError(f"{val}: row {shared.id!r} is of a source record that train has too; prepare the rows again")


def _drawn(rows: Sequence[Example], k: int, number: int) -> Choice | None:
    with contextlib.suppress(DataError):  # fewer groups than that: not tried
        return Choice(k, number, tuple(shots.choose(rows, k, number)))
    return None


class _Fit:
    """Whether rows of val still fit with shots before them."""

    def __init__(self, model: Path, val: Path, settings: Object) -> None:
        with importing():
            from transformers import AutoTokenizer

        folder = checkpoint.load(model, verify=False).checkpoint
        tokenizer = AutoTokenizer.from_pretrained(folder.resolve(), local_files_only=True)
        self._chat = template.chat(tokenizer, settings[SLM].get("tool_dialect", "auto"))
        self._schema = schema_place(settings["track"].get("prompt", {}))
        self._most = settings[SLM]["max_prompt_tokens"]
        rows = list(read_examples(val))
        self._rows = [row for row, size in zip(rows, self._sizes(rows, ()), strict=True) if size <= self._most]

    def all(self, before: Sequence[Example]) -> bool:
        """Whether all do that fit without."""
        return all(size <= self._most for size in self._sizes(self._rows, before))

    def _sizes(self, rows: Sequence[Example], before: Sequence[Example]) -> list[int]:
        texts = []
        for row in rows:
            try:
                texts.append(self._chat.prompt(row, schema=self._schema, shots=before))
            except template.Refused:
                texts.append("")  # an outcome of its own when it is asked
        return [len(ids) for ids in self._chat.tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []


def _try(
    choices: Sequence[Choice],
    track: str,
    val: Path,
    model: Path,
    adapter: Path | None,
    settings: Object,
    journal: Path,
) -> list[Tried]:
    """What each choice reaches on val, all by one start of the engine."""
    with tempfile.TemporaryDirectory() as folder:
        asks = []
        for place, choice in enumerate(choices):
            given = Path(folder, f"shots-{place}.jsonl")
            write_jsonl(given, [row.to_json() for row in choice.rows])
            asks.append(Ask(val, adapter, Path(folder, f"{place}.jsonl"), given))
        answer_all(asks, track=track, model=model, settings=settings, journal=journal)
        found: list[Tried] = []
        for choice, ask in zip(choices, asks, strict=True):
            assert ask.out is not None
            reached = score(val, ask.out, settings["track"]["kind"], Path(folder, "metrics.json"))
            found.append(
                {
                    "k": choice.k,
                    "set": choice.set,
                    "metrics": {name: reached["metrics"][name]["value"] for name in settings["core"]},
                    "prompt_tokens": round(reached["tokens"]["prompt"] / reached["n"], 1),
                }
            )
        return found
