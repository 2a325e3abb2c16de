"""The stage that asks the teacher every row of a split: each reply is paid for once and kept for good."""

import asyncio
import dataclasses
import logging
import os
import shlex
import signal
import sys
import tempfile
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fledgling.errors import ConfigError, Unavailable
from fledgling.failpoints import failpoint
from fledgling.graph.driver import DRIVER
from fledgling.journal import Journal, decode
from fledgling.journal.places import Keys
from fledgling.progress import progress_bar
from fledgling.records import Example, Outcome, Prediction
from fledgling.sealing import write_predictions
from fledgling.teacher.batch import Batches, OpenBatches
from fledgling.teacher.client import Address, Client, address, secret
from fledgling.teacher.limiter import Gate, Pace, Window, backoff_s
from fledgling.teacher.prices import Prices, prompt_tokens
from fledgling.teacher.requests import Request, Teacher, request
from fledgling.teacher.states import Rows, State
from fledgling.teacher.taxonomy import Verdict, judge, prediction, read, reset_s

log = logging.getLogger(__name__)

GRACE_S = 10.0  # how long calls in flight may go on after a first signal
SAME_SIGNAL_S = 0.5  # a terminal and a driver may both pass on one Ctrl-C
BREAKER_ROWS = 10  # rows in a row that failed: the provider is down, not the rows
REFUSALS_A_TRY = 10  # a 429 is about the rate, not about the row, so it counts as a tenth of a try
GUESS_FACTOR = 1.5  # no tokenizer is that far from the guess
RESPONSE_BYTES = 4096  # room kept free for one reply


class _Stopped(Exception):
    """The run is ending; whatever a worker waits for is no longer of use."""


def ask(
    *,
    data: str | os.PathLike[str],
    teacher: Teacher,
    prompt: Mapping[str, Any],
    journal: str | os.PathLike[str],
    out: str | os.PathLike[str],
    track: str = "rows",
    repeat: int = 0,
    backoff_base_s: float = 0.5,
) -> None:
    """Ask every row of a split that the journal does not know yet, and publish all predictions in data order.

    A row whose tries were exhausted has the outcome `error` in this run and is asked again by the next. `repeat` 1 asks
    everything a second time, under keys of its own.

    Raises:
        ConfigError: something is missing, refused or cannot be written; at most one call was made.
        Unavailable: the provider, the disk or the budget gave out; the same command goes on from there.
        SystemExit: 130 or 143 after a signal.
    """
    if teacher.batch and teacher.provider == "simulated":
        raise ConfigError("teacher.batch: the simulated teacher has no batch endpoint; set it to false")
    place = address(teacher)
    _require_folder(Path(out))
    spent, opened = Spent(Prices.of(teacher.prices)), OpenBatches()

    def call(example: Example) -> Request:
        return request(example, teacher, place.endpoint, prompt, repeat)

    def observe(line: bytes) -> None:
        spent.observe(line)
        opened.observe(line)

    with Journal(journal, "teacher", observe) as kept:

        def state(call: Request) -> State:
            if call.key in kept:
                return State.ANSWERED
            return State.TOO_LONG if _is_too_long(call, teacher) else State.LEFT

        rows = Rows(data, call, state)
        left = rows.count(State.LEFT)
        log.info("%s: %d rows, %d of them to be asked", track, len(rows), left)
        if left:
            run = _Run(kept, spent, opened, teacher, place, rows, track, backoff_base_s)
            run.complete(_server(data, teacher, prompt))
        models = _publish(rows, kept, out, data)
    if len(models) > 1 and not teacher.allow_mixed_models:
        log.warning(
            "the deployment switched its model (%s); the gate will call this baseline invalid unless "
            "teacher.allow_mixed_models is true",
            ", ".join(f"{name}: {models[name]} rows" for name in sorted(models)),
        )


def _is_too_long(call: Request, teacher: Teacher) -> bool:
    """Whether a row exceeds the context for certain, so that it is an outcome and no call."""
    return bool(teacher.context_tokens) and prompt_tokens(call.body) > GUESS_FACTOR * (teacher.context_tokens or 0)


UNANSWERED: Mapping[State, Outcome] = {State.TOO_LONG: "length", State.FAILED: "error"}


def _publish(rows: Rows, kept: Journal, out: str | os.PathLike[str], data: str | os.PathLike[str]) -> Counter[str]:
    """Write the predictions in data order; returns how many rows each model answered."""
    models: Counter[str] = Counter()

    def predictions() -> Iterator[dict[str, Any]]:
        for example, call, state in rows:
            record = kept.get(call.key)
            if record is not None:
                answer = prediction(example.id, call.key, record)
                models.update([answer.model] if answer.model else [])
                yield answer.to_json()
            elif state in UNANSWERED:
                yield Prediction(example.id, UNANSWERED[state], request=call.key).to_json()
            else:
                raise Unavailable(f"{kept.path} lost the reply to row {example.id!r}; run the same command again")

    failpoint("ask.before_publish")
    write_predictions(out, predictions(), made_from=[data])
    return models


def _require_folder(out: Path) -> None:
    """Fail before the first call where the predictions could not be written after the last."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"{out.parent} cannot be written by user {os.getuid()} ({error.strerror}); nothing was asked"
        ) from None


Server = Callable[[Address], Any]


def _server(data: str | os.PathLike[str], teacher: Teacher, prompt: Mapping[str, Any]) -> Server:
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


class Spent:
    """Calls and tokens of one run; a run is all stages of one driver, or one process started by hand."""

    def __init__(self, prices: Prices | None) -> None:
        self.run = os.environ.get(DRIVER) or uuid.uuid4().hex
        self.prices = prices
        self.calls = 0
        self.answered = 0
        self.tokens = [0, 0]
        self.others_calls = 0
        self.others_tokens = [0, 0]
        self._mark = f'"run":"{self.run}"'.encode()

    def observe(self, line: bytes) -> None:
        """Count a line of the journal that another process of the same run has written."""
        if self._mark in line:
            entry = decode(line)
            self.others_calls += entry.kind == "intent"
            if entry.kind == "result":
                _add(self.others_tokens, _usage(entry.record))

    def answer(self, usage: Mapping[str, int]) -> None:
        """Count a reply of this process."""
        self.answered += 1
        _add(self.tokens, usage)

    def cost(self) -> float | None:
        """Money that this run has spent so far, or None where prices are unknown."""
        return self.prices.cost(*map(sum, zip(self.tokens, self.others_tokens, strict=True))) if self.prices else None


def _add(tokens: list[int], usage: Mapping[str, int]) -> None:
    tokens[0] += usage.get("prompt_tokens", 0)
    tokens[1] += usage.get("completion_tokens", 0)


def _usage(record: Mapping[str, Any]) -> Mapping[str, int]:
    answer = read(record["status"], record["body"])
    return answer.usage if answer else {}


class _Run:
    """One run over the rows that are left: who works on what, what was spent, and why it ends."""

    def __init__(
        self,
        kept: Journal,
        spent: Spent,
        opened: OpenBatches,
        teacher: Teacher,
        place: Address,
        rows: Rows,
        track: str,
        base_s: float,
    ) -> None:
        self._kept = kept
        self._spent = spent
        self._opened = opened
        self._teacher = teacher
        self._place = place
        self._key = secret(place) if teacher.provider != "simulated" else "none"
        self._rows = rows
        self._failed = Keys()
        self._track = track
        self._base_s = base_s
        self._prices = spent.prices
        if teacher.budget.get("money") is not None and self._prices is None:
            raise ConfigError("teacher.budget.money needs teacher.prices; unknown prices cannot be added up")
        self._gate = Gate()
        self._requests_pace = Pace(teacher.requests_per_minute)
        self._tokens_pace = Pace(teacher.tokens_per_minute)
        self._window = Window(teacher.concurrency)
        self._reserved: dict[str, float] = {}
        self._reserved_money = 0.0
        self._failed_in_a_row = 0
        self._reached = False
        self._sleepers: set[asyncio.Future[None]] = set()
        self._error: BaseException | None = None

    def complete(self, server: Server) -> None:
        """Ask until no row is left; those that failed in this run are noted as FAILED."""
        self._kept.require_space(RESPONSE_BYTES * self._rows.count(State.LEFT))
        try:
            asyncio.run(self._main(server))
        finally:
            self._report()

    async def _main(self, server: Server) -> None:
        self._stopping = asyncio.Event()
        self._first = asyncio.Lock()
        self._commits = _Commits(self._kept)
        total = len(self._rows)
        self._bar = progress_bar(
            desc=f"teacher {self._track}", total=total, initial=total - self._rows.count(State.LEFT)
        )
        with _signals(self._on_signal):
            try:
                async with (
                    server(self._place) as place,
                    Client(place, self._key, timeout_s=self._teacher.timeout_s) as self._client,
                ):
                    batches = Batches(
                        self._kept,
                        self._client,
                        self._place,
                        self._opened,
                        self._spent.run,
                        self._teacher.max_tries,
                        self._sleep,
                        self._afford,
                        self._collected,
                        self._uncollected,
                    )
                    while self._rows.count(State.LEFT) and not self._error:
                        if self._opened.token or self._teacher.batch:
                            await self._batches(batches)
                        if not self._teacher.batch:
                            await self._pass()
                        await self._others()
            except _Stopped:
                pass
            finally:
                self._bar.close()
        if self._error:
            raise self._error

    def _left(self) -> Iterator[tuple[int, Request]]:
        """The rows without an outcome; those that got one in another way are noted when their turn comes."""
        for number, call in self._rows.left():
            if call.key in self._kept:
                self._note(number, State.ANSWERED)
            elif call.key in self._failed:
                self._note(number, State.FAILED)
            else:
                yield number, call

    def _note(self, number: int, state: State) -> None:
        self._rows.note(number, state)
        self._bar.update()

    async def _batches(self, batches: Batches) -> None:
        """Collect the batches of earlier runs, and send the rows that are left where this is a run of batches."""
        try:
            await batches.collect(call.key for _, call in self._left())
            if self._teacher.batch:
                await batches.ask(call for _, call in self._left())
        finally:
            deque(self._left(), maxlen=0)  # looks at each, so that what the batches brought is noted

    async def _pass(self) -> None:
        """Work once through the rows: ask what no other process works on."""
        shared = self._left()
        workers = [asyncio.create_task(self._work(shared)) for _ in range(self._teacher.concurrency)]
        stop: asyncio.Task[Any] = asyncio.create_task(self._stopping.wait())
        try:
            pending: set[asyncio.Task[Any]] = set(workers)
            while pending and not self._stopping.is_set():
                _, pending = await asyncio.wait([*pending, stop], return_when=asyncio.FIRST_COMPLETED)
                pending.discard(stop)
                for task in workers:
                    if task.done() and task.exception():
                        self._stop(task.exception())
            if pending:
                await asyncio.wait(pending, timeout=GRACE_S)
        finally:
            for task in (*workers, stop):
                task.cancel()
            await asyncio.gather(*workers, stop, return_exceptions=True)

    async def _others(self) -> None:
        """Wait until a row that another process works on is finished or free."""
        self._kept.refresh()
        _, call = next(self._left(), (0, None))
        while call and call.key not in self._kept and not self._error:
            holder = self._opened.token.get(call.key, call.key)
            if self._kept.claim(holder):
                self._kept.release(holder)
                return
            await self._sleep(0.1)
            self._kept.refresh()

    async def _work(self, rows: Iterator[tuple[int, Request]]) -> None:
        try:
            for number, call in rows:
                if not self._kept.claim(call.key):
                    continue
                try:
                    if call.key in self._kept:
                        state = State.ANSWERED
                    elif call.key in self._opened.token:
                        continue
                    else:
                        state = await self._row(call)
                finally:
                    self._kept.release(call.key)
                self._note(number, state)
        except _Stopped:
            return

    async def _row(self, call: Request) -> State:
        """Ask one row until its reply is final or its tries are used up."""
        tries = 0.0
        while True:
            verdict = await self._attempt(call)
            if verdict.kind == "finished":
                self._failed_in_a_row = 0
                return State.ANSWERED
            if verdict.kind == "stop":
                self._stop(verdict.error)
                raise _Stopped
            tries += 1 / REFUSALS_A_TRY if verdict.rate_limited else 1
            if verdict.kind == "rejected" or tries >= self._teacher.max_tries:
                self._fail(call, verdict)
                return State.FAILED
            pause = verdict.pause_s
            if pause is None:
                pause = backoff_s(int(tries), self._base_s)
            if verdict.rate_limited or verdict.pause_s is not None:
                self._gate.close(pause)
            else:
                await self._sleep(pause)

    def _fail(self, call: Request, verdict: Verdict) -> None:
        self._failed.add(call.key)
        self._failed_in_a_row += 1
        log.warning("a row failed and will be asked again by the next run: %s", verdict.message)
        if self._failed_in_a_row >= BREAKER_ROWS:
            self._stop(Unavailable(f"{BREAKER_ROWS} rows in a row failed, the last with {verdict.message}"))

    async def _attempt(self, call: Request) -> Verdict:
        if not self._reached:
            async with self._first:  # one call alone finds out whether key, address and request are right
                if not self._reached:
                    verdict = await self._send(call)
                    if verdict.kind == "rejected" or verdict.message.startswith("connect"):
                        error = ConfigError if verdict.kind == "rejected" else Unavailable
                        self._stop(error(f"the first call failed ({verdict.message})"))
                        raise _Stopped
                    self._reached = verdict.kind != "stop"
                    return verdict
        return await self._send(call)

    async def _send(self, call: Request) -> Verdict:
        async with self._window:
            guessed = prompt_tokens(call.body) if self._teacher.tokens_per_minute or self._prices else 0
            await self._permit(guessed)
            try:
                self._intend(call, guessed)
                try:
                    return await self._exchange(call, guessed)
                finally:
                    self._settle(call.key)
            except Unavailable as error:  # the disk or the budget
                self._stop(error)
                raise _Stopped from None

    async def _permit(self, guessed: int) -> None:
        """Wait for the pace and the gate."""
        wait = self._requests_pace.take()
        if self._teacher.tokens_per_minute:
            wait = max(wait, self._tokens_pace.take(guessed + self._usual_completion()))
        while wait > 0:
            await self._sleep(wait)
            wait = self._gate.wait_s()
        while (wait := self._gate.wait_s()) > 0:
            await self._sleep(wait)
        if self._stopping.is_set():
            raise _Stopped

    def _intend(self, call: Request, guessed: int) -> None:
        """Note that a call may be billed from now on, unless the budget or the disk forbids it."""

        def require() -> None:
            self._kept.require_space(RESPONSE_BYTES * self._teacher.concurrency)
            self._spend(call, guessed)

        record = {"host": self._place.endpoint.host, "run": self._spent.run}
        self._kept.append("intent", [(call.key, record)], require)

    async def _exchange(self, call: Request, guessed: int) -> Verdict:
        """One call, between its intent and its result."""
        await self._commits.commit()
        failpoint("ask.before_send")
        sent = self._window.clock()
        reply = await self._client.send(call.body)
        failpoint("ask.after_reply")
        self._gate.close(reset_s(reply.headers))
        verdict = judge(reply, self._place.names)
        if verdict.kind == "finished":
            record = {"status": reply.status, "body": reply.text, "latency_s": reply.latency_s, "run": self._spent.run}
            self._kept.append("result", [(call.key, record)])
            usage = verdict.usage
            if usage and self._teacher.tokens_per_minute:
                self._tokens_pace.correct(sum(usage.values()) - guessed - self._usual_completion())
            self._spent.answer(usage)
            self._window.succeeded()
        else:
            failure = {"status": reply.status, "billed": verdict.billed, "message": verdict.message}
            self._kept.append("failure", [(call.key, failure)])
        if verdict.rate_limited:
            self._window.refused(sent)
        await self._commits.commit()
        return verdict

    def _usual_completion(self) -> float:
        return self._spent.tokens[1] / self._spent.answered if self._spent.answered else self._teacher.max_tokens

    def _afford(self, call: Request) -> bool:
        """Whether a call of a batch fits the budget; the run ends, resumable, after the batch where one does not."""
        try:
            self._spend(call, prompt_tokens(call.body) if self._prices else 0)
        except Unavailable as error:
            self._error = self._error or error
            return False
        return True

    def _collected(self, key: str, record: Mapping[str, Any]) -> None:
        """A batch brought a reply."""
        self._settle(key)
        self._spent.answer(_usage(record))

    def _uncollected(self, key: str, why: str) -> None:
        """A batch ended without a reply."""
        self._settle(key)
        self._failed.add(key)
        log.warning("a row failed and will be asked again by the next run: %s", why)

    def _spend(self, call: Request, guessed: int) -> None:
        """Set aside what a call may cost at most, or raise Unavailable where the budget has no room for it."""
        most = self._prices.cost(guessed, self._teacher.max_tokens) if self._prices else 0.0
        calls, money = self._teacher.budget.get("calls"), self._teacher.budget.get("money")
        if calls is not None and self._spent.calls + self._spent.others_calls >= calls:
            raise Unavailable(f"the budget of {calls:,} calls is used up; raise teacher.budget.calls or run again")
        spent = self._spent.cost()
        if money is not None and spent is not None and spent + self._reserved_money + most > money:
            raise Unavailable(
                f"the next call could exceed the budget of {money:g} ({spent:.4f} are spent); "
                "raise teacher.budget.money or run again"
            )
        self._spent.calls += 1
        if money is not None:
            self._reserved[call.key] = most
            self._reserved_money += most

    def _settle(self, key: str) -> None:
        """What was set aside for a call is spent or free."""
        self._reserved_money -= self._reserved.pop(key, 0.0)

    def _stop(self, error: BaseException | None) -> None:
        """End the run for this reason, unless it ends already."""
        if self._error is None:
            self._error = error
        self._stopping.set()
        for sleeper in self._sleepers:
            _wake(sleeper)

    def _on_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        print(
            f"{name}: no new calls; up to {GRACE_S:g} s for those in flight (again: stop at once). "
            f"Resume with: {shlex.join(_command())}",
            file=sys.stderr,
        )
        self._stop(SystemExit(128 + number))

    async def _sleep(self, seconds: float) -> None:
        """Sleep, unless the run ends first."""
        if not self._stopping.is_set():
            loop = asyncio.get_running_loop()
            woken = loop.create_future()
            self._sleepers.add(woken)
            timer = loop.call_later(seconds, _wake, woken)
            try:
                await woken
            finally:
                timer.cancel()
                self._sleepers.discard(woken)
        if self._stopping.is_set():
            raise _Stopped

    def _report(self) -> None:
        cost = self._prices.cost(*self._spent.tokens) if self._prices else None
        log.info(
            "%s: %d calls, %d answered, %d rows failed, %d still to ask; %d prompt and %d completion tokens; cost %s",
            self._track,
            self._spent.calls,
            self._spent.answered,
            self._rows.count(State.FAILED),
            self._rows.count(State.LEFT),
            *self._spent.tokens,
            "unknown (no teacher.prices)"
            if cost is None or not self._prices
            else f"{cost:.4f} {self._prices.currency}",
        )


def _wake(sleeper: "asyncio.Future[None]") -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _command() -> list[str]:
    return ["python", *sys.argv]


class _Commits:
    """Group commit: callers that wait at the same time share one fsync, made on another thread."""

    def __init__(self, kept: Journal) -> None:
        self._kept = kept
        self._loop = asyncio.get_running_loop()
        self._waiting: list[asyncio.Future[None]] = []
        self._running = False

    async def commit(self) -> None:
        """Return when everything appended so far is on disk."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(done)
        if not self._running:
            self._start()
        await done

    def _start(self) -> None:
        self._running = True
        served, self._waiting = self._waiting, []
        sync = self._loop.run_in_executor(None, self._kept.sync)
        sync.add_done_callback(lambda result: self._finish(result, served))

    def _finish(self, result: "asyncio.Future[None]", served: "list[asyncio.Future[None]]") -> None:
        error = result.exception()
        for done in served:
            if not done.done():
                if error:
                    done.set_exception(error)
                else:
                    done.set_result(None)
        self._running = False
        if self._waiting:
            self._start()


class _signals:
    """SIGINT and SIGTERM: the first asks the run to end, the second ends the process."""

    def __init__(self, callback: Callable[[int], None]) -> None:
        self._callback = callback
        self._first: float | None = None

    def __enter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in self._before:
            self._loop.add_signal_handler(number, self._on, number)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            self._loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def _on(self, number: int) -> None:
        now = self._loop.time()
        if self._first is None:
            self._first = now
            self._callback(number)
        elif now - self._first > SAME_SIGNAL_S:
            os._exit(128 + number)
