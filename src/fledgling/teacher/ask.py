"""The stage that asks the teacher every row of a split: each reply is paid for once and kept for good."""

import dataclasses
import logging
import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from fledgling.artefacts import Limits
from fledgling.errors import ConfigError, Unavailable
from fledgling.failpoints import failpoint
from fledgling.journal import Journal
from fledgling.records import Example, Outcome, Prediction
from fledgling.sealing import verify_rows, write_predictions
from fledgling.teacher.address import Address, address
from fledgling.teacher.answers import prediction
from fledgling.teacher.batch import OpenBatches
from fledgling.teacher.board import Board, board_path
from fledgling.teacher.prices import prompt_tokens
from fledgling.teacher.requests import Request, Teacher, request
from fledgling.teacher.run import Run
from fledgling.teacher.spending import GUESS_FACTOR, Spent
from fledgling.teacher.states import Rows, State

log = logging.getLogger(__name__)

SHOWN = 3  # reasons that a message names
TOO_LONG = "the prompt is longer than teacher.context_tokens"
UNANSWERED: Mapping[State, Outcome] = {State.TOO_LONG: "length", State.FAILED: "error"}


def ask(
    *,
    data: str | os.PathLike[str],
    teacher: Teacher,
    prompt: Mapping[str, object],
    journal: str | os.PathLike[str],
    out: str | os.PathLike[str],
    track: str = "rows",
    repeat: int = 0,
    only: Collection[str] | None = None,
    backoff_base_s: float = 0.5,
) -> None:
    """Ask every row of a split that the journal does not know yet, and publish all predictions in data order.

    Nothing is published until every row has an outcome. With `teacher.give_up` the rows whose tries were used up get
    the outcome `error` with their reason, as long as some row was answered. `repeat` 1 asks everything a second time,
    under keys of its own. `only` are the ids of the rows that are asked and published; all where it is None.

    Raises:
        ConfigError: something is missing, refused or cannot be written; a few calls were made at most.
        Unavailable: the provider, the disk or the budget gave out, or rows are without an answer; the same command
            goes on from there.
        DataError: the rows are not those that their datasheet vouches for.
        SystemExit: 130 or 143 after a signal.
    """
    if teacher.batch and teacher.provider == "simulated":
        raise ConfigError("teacher.batch: the simulated teacher has no batch endpoint; set it to false")
    verify_rows(data)
    place = address(teacher)
    require_folder(Path(out))
    spent, opened = Spent(teacher), OpenBatches()

    def call(example: Example) -> Request:
        return request(example, teacher, place.endpoint, prompt, repeat)

    with Journal(journal, "teacher", spent, opened) as kept:

        def state(call: Request) -> State:
            if call.key in kept:
                return State.ANSWERED
            return State.TOO_LONG if _is_too_long(call, teacher) else State.LEFT

        rows, why = Rows(data, call, state, only), dict[str, str]()
        left = rows.count(State.LEFT)
        log.info("%s: %d rows, %d of them to be asked", track, len(rows), left)
        if left:
            with _board(teacher, place) as board:
                run = Run(kept, spent, opened, teacher, place, rows, board, track, backoff_base_s)
                run.complete(_server(data, teacher, prompt))
            why = run.why
        _require_answers(rows, why, teacher)
        models = _publish(rows, kept, data, out, why, teacher)
    if len(models) > 1 and not teacher.allow_mixed_models:
        log.warning(
            "the deployment switched its model (%s); the gate will call this baseline invalid unless "
            "teacher.allow_mixed_models is true",
            ", ".join(f"{name}: {models[name]} rows" for name in sorted(models)),
        )


def _is_too_long(call: Request, teacher: Teacher) -> bool:
    """Whether a row exceeds the context for certain, so that it is an outcome and no call."""
    return bool(teacher.context_tokens) and prompt_tokens(call.body) > GUESS_FACTOR * (teacher.context_tokens or 0)


def _require_answers(rows: Rows, why: Mapping[str, str], teacher: Teacher) -> None:
    """A stage is done when its rows are answered, or given up by a setting that says so."""
    failed = rows.count(State.FAILED)
    if not failed:
        return
    reasons = Counter(why.values()).most_common(SHOWN)
    said = "; ".join(f"{count} with {reason}" if count > 1 else reason for reason, count in reasons)
    if not rows.count(State.ANSWERED):
        raise Unavailable(
            f"none of {len(rows):,} rows has an answer ({said}); nothing is published; run the same command again"
        )
    if not teacher.give_up:
        raise Unavailable(
            f"{failed:,} of {len(rows):,} rows have no answer ({said}); nothing is published, all other replies are kept; "
            "the same command asks these rows again; teacher.give_up: true publishes them as errors"
        )
    log.warning("%d rows are given up (teacher.give_up) and count as wrong: %s", failed, said)


def _publish(
    rows: Rows,
    kept: Journal,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    why: Mapping[str, str],
    teacher: Teacher,
) -> Counter[str]:
    """Write the predictions in data order; returns how many rows each model answered."""
    models, errors, cut_off, logged = Counter[str](), Counter[str](), 0, 0
    too_long = rows.count(State.TOO_LONG)
    limits = list(_limit("teacher.context_tokens", teacher.context_tokens, too_long, "their prompts were not sent"))

    def predictions() -> Iterator[dict[str, Any]]:
        nonlocal cut_off, logged
        for example, call, state in rows:
            record = kept.get(call.key)
            if record is not None:
                answer = prediction(example.id, call.key, record)
                logged += "logged" in record
                models.update([answer.model] if answer.model else [])
                errors.update([answer.reason or ""] if answer.outcome == "error" else [])
                cut_off += answer.outcome == "length" and answer.finish_reason is not None
            elif state in UNANSWERED:
                reason = TOO_LONG if state == State.TOO_LONG else f"given up: {why.get(call.key, 'no answer')}"
                answer = Prediction(example.id, UNANSWERED[state], request=call.key, reason=reason)
            else:
                raise Unavailable(f"{kept.path} lost the reply to row {example.id!r}; run the same command again")
            yield answer.to_json()
        if errors and not teacher.give_up:
            raise Unavailable(
                f"{errors.total():,} kept replies are errors ({next(iter(errors))}); take them back with `"
                "fledgling journal take-back --outcome error`, or set teacher.give_up: true"
            )

        limits.extend(_limit("teacher.max_tokens", teacher.max_tokens, cut_off, "their replies were cut off"))

    failpoint("ask.before_publish")
    sealed = write_predictions(
        out,
        predictions(),
        made_from=[data],
        limits=limits,
        given_up=rows.count(State.FAILED),
        logged=lambda: logged,
    )
    log.info("outcomes: %s", ", ".join(f"{name} {count:,}" for name, count in sealed["outcomes"].items()))
    return models


def _limit(key: str, value: int | None, rows: int, what: str) -> Iterator[Limits]:
    """A setting that decided rows, if there are such rows."""
    if rows and value is not None:
        yield {"key": key, "value": value, "rows": rows, "what": what}


def require_folder(out: Path) -> None:
    """Fail before the first call where the predictions could not be written after the last."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"{out.parent} cannot be written by user {os.getuid()} ({error.strerror}); nothing was asked"
        ) from None


def _board(teacher: Teacher, place: Address) -> Board:
    """Where all processes that ask this provider keep its limits; each simulated endpoint has its own."""
    if teacher.provider == "simulated":
        return Board()
    return Board(board_path(place.endpoint.host, place.endpoint.deployment))


def _server(
    data: str | os.PathLike[str], teacher: Teacher, prompt: Mapping[str, object]
) -> Callable[[Address], AbstractAsyncContextManager[Address]]:
    """Opens the place to ask: starts the simulated endpoint where that is the provider."""

    @asynccontextmanager
    async def at(place: Address) -> AsyncIterator[Address]:
        if teacher.provider != "simulated":
            yield place
            return
        from fledgling.teacher.simulated import Simulated, serve

        model = teacher.model or "simulated-teacher"
        async with serve(Simulated(data, teacher.simulated, model=model, prompt=prompt)) as base_url:
            yield dataclasses.replace(place, base_url=base_url)

    return at
