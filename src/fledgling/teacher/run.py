"""One run over the rows that are left: who works on what, in which order replies are kept, and why it ends."""

import asyncio
import logging
import shlex
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from fledgling.errors import ConfigError, Unavailable
from fledgling.failpoints import failpoint
from fledgling.journal import Journal
from fledgling.journal.places import Keys
from fledgling.progress import Bar
from fledgling.teacher.address import Address, headers, secret
from fledgling.teacher.answers import read
from fledgling.teacher.batch import Batches, OpenBatches
from fledgling.teacher.board import NEXT_TOKEN, Board
from fledgling.teacher.client import Client, Token, entra
from fledgling.teacher.commits import Commits
from fledgling.teacher.first_replies import FirstReplies, Sent
from fledgling.teacher.limiter import Pace, Pause, Window, backoff_s
from fledgling.teacher.prices import prompt_tokens
from fledgling.teacher.requests import Request, Teacher
from fledgling.teacher.signals import Signals
from fledgling.teacher.spending import NoRoomYet, Spent, Tokens
from fledgling.teacher.states import Rows, State
from fledgling.teacher.taxonomy import Action, Reply, judge
from fledgling.teacher.waits import MAX_PAUSE_S, reset_s

log = logging.getLogger(__name__)

GRACE_S = 10.0  # how long calls in flight may go on after a first signal
BREAKER_ROWS = 10  # rows in a row that failed: the provider is down, not the rows
REFUSED_ROWS = 3  # rows at the start that are all refused: the request is wrong, not the rows
REFUSALS_A_TRY = 10  # a 429 is about the rate, not about the row, so it counts as a tenth of a try
PAID_TRIES = 3  # a reply that is paid for and cannot be read is asked for so often at most
RESPONSE_BYTES = 4096  # room kept free for one reply
ROOM_POLL_S = 0.05  # how often the budget is looked at again while calls are under way
KEPT_BYTES = 64 << 10  # of a reply that is no answer but was paid for
Server = Callable[[Address], AbstractAsyncContextManager[Address]]


class Stopped(Exception):
    """The run is ending; whatever a worker waits for is no longer of use."""


class Run:
    """Asks the rows that are left, each reply under one key of the journal, within limits and budget.

    `why` gives the reason why a row has no answer, by its key, after `complete`.
    """

    def __init__(
        self,
        kept: Journal,
        spent: Spent,
        opened: OpenBatches,
        teacher: Teacher,
        place: Address,
        rows: Rows,
        board: Board,
        track: str,
        base_s: float,
    ) -> None:
        self._kept = kept
        self._spent = spent
        self._opened = opened
        self._teacher = teacher
        self._place = place
        self._key = _key(teacher, place)
        self._headers = headers(teacher)
        self._rows = rows
        self._failed = Keys()
        self.why: dict[str, str] = {}
        self._track = track
        self._base_s = base_s
        self._pause = Pause(board=board, most_s=MAX_PAUSE_S)
        self._requests_pace = Pace(teacher.requests_per_minute, board=board)
        self._tokens_pace = Pace(teacher.tokens_per_minute, board=board, cell=NEXT_TOKEN)
        self._window = Window(teacher.concurrency, board=board, sleep=self._sleep)
        self._first_replies = FirstReplies(teacher)
        self._warned = False
        self._failed_in_a_row = 0
        self._refused_first = 0
        self._unread_first = 0
        self._reached = False
        self._alone: str | None = None  # the key of the row that goes first
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
        self._commits = Commits(self._kept)
        total = len(self._rows)
        self._bar = Bar(desc=f"teacher {self._track}", total=total, initial=total - self._rows.count(State.LEFT))
        with Signals(self._on_signal):
            try:
                async with (
                    server(self._place) as place,
                    Client(place, self._key, timeout_s=self._teacher.timeout_s, headers=self._headers) as self._client,
                ):
                    await self._until_none_is_left(self._batches())
            except Stopped:
                pass
            finally:
                self._bar.close()
        if self._error:
            raise self._error

    def _batches(self) -> Batches:
        return Batches(
            self._kept,
            self._client,
            self._place,
            self._opened,
            self._spent.marks(),
            self._teacher.max_tries,
            self._sleep,
            self._afford,
            self._collected,
            self._uncollected,
        )

    async def _until_none_is_left(self, batches: Batches) -> None:
        while self._rows.count(State.LEFT) and not self._error:
            if self._opened.token or self._teacher.batch:
                await self._batch(batches)
            if not self._teacher.batch:
                await self._pass()
            await self._others()

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

    async def _batch(self, batches: Batches) -> None:
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
        stop = asyncio.create_task(self._stopping.wait())
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
            for ended in (*workers, stop):
                ended.cancel()
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
        except Stopped:
            return

    async def _row(self, call: Request) -> State:
        """Ask one row until its reply is final or its tries are used up."""
        try:
            return await self._tried(call)
        finally:
            self._let_others(call)

    async def _tried(self, call: Request) -> State:
        tries = 0.0
        while True:
            action = await self._attempt(call)
            if action.kind == "finished":
                self._failed_in_a_row = 0
                return State.ANSWERED
            if action.kind == "stop":
                self._stop(action.error)
                raise Stopped
            tries += self._weight(action)
            if action.kind == "rejected" or tries >= self._teacher.max_tries:
                self._fail(call.key, action.message, rejected=action.kind == "rejected")
                return State.FAILED
            pause = action.pause_s
            if pause is None:
                pause = backoff_s(int(tries), self._base_s)
            if action.rate_limited or action.pause_s is not None:
                self._pause.begin(pause)
            else:
                await self._sleep(pause)

    def _weight(self, action: Action) -> float:
        """How much of a row's tries a reply takes."""
        if action.rate_limited:
            return 1 / REFUSALS_A_TRY
        paid = action.billed == "yes" or action.unread
        return max(1.0, self._teacher.max_tries / PAID_TRIES) if paid else 1

    def _fail(self, key: str, why: str, *, rejected: bool = False) -> None:
        self._failed.add(key)
        self.why[key] = why
        log.warning("a row failed and will be asked again by the next run: %s", why)
        if rejected:
            return  # the endpoint is there, and does not want this row
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self._breaker():
            failed = f"{self._failed_in_a_row} rows in a row failed, the last with {why}"
            self._stop(Unavailable(f"{failed}; {self._remedy()}"))

    def _remedy(self) -> str:
        """What to do about a provider that is down."""
        host, key = self._place.endpoint.host, self._place.names.endpoint
        return f"see whether {host} is up and {key} right, then run the same command: what is answered is kept"

    def _breaker(self) -> int:
        """How many rows in a row may fail; rows that are to be given up come together when others are answered."""
        some = self._teacher.give_up and self._rows.count(State.ANSWERED)
        return max(BREAKER_ROWS, len(self._rows) // 3) if some else BREAKER_ROWS

    async def _attempt(self, call: Request) -> Action:
        """One call; until one got through, one row alone finds out whether key, address and request are right."""
        if not self._reached and self._alone != call.key:
            await self._first.acquire()
            self._alone = call.key
            if self._reached:
                self._let_others(call)
        action = await self._send(call)
        if self._alone == call.key:
            self._reached = action.kind not in ("stop", "rejected") and not action.unread
            self._check_first(action)
            if self._reached:
                self._let_others(call)
        return action

    def _let_others(self, call: Request) -> None:
        """Let the other rows go, if this one held them up."""
        if self._alone == call.key:
            self._alone = None
            self._first.release()

    def _check_first(self, action: Action) -> None:
        """End the run where nobody listens, or where the endpoint takes none of the first rows."""
        if action.message.startswith("connect"):
            self._stop(Unavailable(f"the first call failed ({action.message}); {self._remedy()}"))
            raise Stopped
        self._refused_first += action.kind == "rejected"
        self._unread_first += action.unread
        if self._rows.count(State.ANSWERED):
            return  # the same request has been answered for other rows
        if self._unread_first == REFUSED_ROWS or self._refused_first == min(REFUSED_ROWS, len(self._rows)):
            count = self._unread_first if action.unread else self._refused_first
            some = "call" if count == 1 else f"{count} calls"
            address = f"; check {self._place.names.endpoint}" if action.unread else ""
            self._stop(ConfigError(f"the first {some} failed ({action.message}){address}"))
            raise Stopped

    async def _send(self, call: Request) -> Action:
        async with self._window:
            guessed = prompt_tokens(call.body)
            await self._permit(guessed)
            try:
                await self._intend(call, self._spent.bound(guessed))
                return await self._exchange(call, guessed)
            except Unavailable as error:  # the disk or the budget
                self._stop(error)
                raise Stopped from None

    async def _permit(self, guessed: int) -> None:
        """Wait for the pace and the pause."""
        wait = self._requests_pace.take()
        if self._teacher.tokens_per_minute:
            wait = max(wait, self._tokens_pace.take(guessed + self._spent.usual_completion()))
        while wait > 0:
            await self._sleep(wait)
            wait = self._pause.wait_s()
        while (wait := self._pause.wait_s()) > 0:
            await self._sleep(wait)
        if self._stopping.is_set():
            raise Stopped

    async def _intend(self, call: Request, bound: Tokens) -> None:
        """Note that a call may be billed from now on, unless the budget or the disk forbids it."""

        def require() -> None:
            self._kept.require_space(RESPONSE_BYTES * self._teacher.concurrency)
            self._spent.begin(call.key, bound)

        most = [bound.prompt, bound.completion]
        record = {"host": self._place.endpoint.host, "most": most, **self._spent.marks()}
        while True:
            try:
                self._kept.append("intent", [(call.key, record)], require)
                return
            except NoRoomYet:
                await self._sleep(ROOM_POLL_S)

    async def _exchange(self, call: Request, guessed: int) -> Action:
        """One call, between its intent and its result."""
        in_flight = self._window.in_flight
        action = None
        try:
            await self._commits.commit()
            failpoint("ask.before_send")
            sent = self._window.clock()
            reply = await self._client.send(call.body)
            failpoint("ask.after_reply")
            self._pause.begin(reset_s(reply.headers))
            action = judge(reply, self._place.names)
            self._keep(call, reply, action, guessed, in_flight)
        finally:
            if action is None:  # cancelled: whether it was billed is not known
                self._spent.fail(call.key, billed=True)
        if action.rate_limited:
            self._window.refused(sent)
        await self._commits.commit()
        return action

    def _keep(self, call: Request, reply: Reply, action: Action, guessed: int, in_flight: int) -> None:
        """Write what a call brought into the journal, and count it."""
        if action.kind != "finished":
            most = self._spent.fail(call.key, action.billed != "no", action.usage)
            failure = {
                "status": reply.status,
                "billed": action.billed,
                "message": action.message,
                "most": [most.prompt, most.completion],
                **self._spent.marks(),
            }
            if action.billed != "no" and reply.text:
                failure["body"] = reply.text[:KEPT_BYTES]
            self._kept.append("failure", [(call.key, failure)])
            return
        record = {
            "status": reply.status,
            "body": reply.text,
            "latency_s": reply.latency_s,
            "in_flight": in_flight,
            **self._spent.marks(),
        }
        self._kept.append("result", [(call.key, record)])
        usage = action.usage
        if usage and self._teacher.tokens_per_minute:
            self._tokens_pace.correct(sum(usage.values()) - guessed - self._spent.usual_completion())
        self._spent.answer(call.key, usage, action.billed != "no")
        self._window.succeeded()
        self._look(call, reply, guessed)

    def _look(self, call: Request, reply: Reply, guessed: int) -> None:
        """Look at one of the first replies; where all show one fault, none of them counts and the run ends."""
        answer = read(reply.status or 0, reply.text or "")
        if answer is None or (self._warned and not self._error):
            return
        if self._warned:  # the run is ending for what the first replies showed: this one was sent before
            self._kept.take_back([call.key], self._taken("sent before the fault was seen"))
            return
        why = self._first_replies.look(Sent(call.key, call.body, guessed, answer))
        for warning in self._first_replies.warnings:
            log.warning("%s", warning)
        self._first_replies.warnings.clear()
        if why is None:
            return
        self._warned = True
        if self._teacher.first_replies == "warn":
            log.warning("%s", why)
            return
        count = self._kept.take_back(self._first_replies.blamed, self._taken(why))
        self._stop(
            ConfigError(
                f"{why}. {count} replies that show it were taken back; the rest is not asked "
                "(teacher.first_replies: warn goes on all the same)"
            )
        )

    def _taken(self, why: str) -> dict[str, str]:
        return {"why": why, **self._spent.marks()}

    def _afford(self, call: Request) -> bool:
        """Whether a call of a batch fits the budget; the run ends, resumable, after the batch where one does not."""
        try:
            self._spent.begin(call.key, self._spent.bound(prompt_tokens(call.body)))
        except NoRoomYet:
            self._error = self._error or Unavailable(
                f"the budget of {self._teacher.budget.get('money'):g} has no room for the rest of the batch; "
                "raise teacher.budget.money or run again"
            )
            return False
        except Unavailable as error:
            self._error = self._error or error
            return False
        return True

    def _collected(self, key: str, record: Mapping[str, Any]) -> None:
        """A batch brought a reply."""
        answer = read(record["status"], record["body"])
        self._spent.answer(key, answer.usage if answer else {}, 200 <= record["status"] < 300)

    def _uncollected(self, key: str, why: str, billed: bool) -> None:
        """A batch ended without a reply."""
        self._spent.fail(key, billed)
        self._fail(key, why, rejected=True)

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
            f"Resume with: {shlex.join(['python', *sys.argv])}",
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
            raise Stopped

    def _report(self) -> None:
        log.info(
            "%s: %d calls, %d answered, %d rows failed, %d still to ask; %s",
            self._track,
            self._spent.calls,
            self._spent.answered,
            self._rows.count(State.FAILED),
            self._rows.count(State.LEFT),
            self._spent.words(),
        )


def _key(teacher: Teacher, place: Address) -> str | Token:
    """What opens the door: a key of the environment, a token of Entra ID, or nothing for the simulated endpoint."""
    if teacher.provider == "simulated":
        return "none"
    return entra() if teacher.auth == "entra" else secret(place)


def _wake(sleeper: "asyncio.Future[None]") -> None:
    if not sleeper.done():
        sleeper.set_result(None)
