"""What is in the outbox goes to its receivers, for as long as they take it and no longer than somebody will wait.

The sending runs on a thread that never keeps a process from ending: a receiver that hangs, or lets its reply drip,
costs the time that the caller allows. What a request that was left behind did is found out by sending it again.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fledgling.errors import FledglingError
from fledgling.files import json_line
from fledgling.progress import Bar
from fledgling.tracing.outbox import Kept, Outbox
from fledgling.tracing.records import Context, Line
from fledgling.tracing.web import Away, Refused

SILENCE_S = 4.0  # without a request that was taken, after which a receiver counts as away
LINES = 100  # sent together
BYTES = 2_000_000  # of lines sent together, as they are kept
PAUSES_S = (0.25, 0.5, 1.0, 2.0)  # after one failure, two, …
TRIES = 8  # of one batch, also for a receiver that always asks for patience
LONGEST_WAIT_S = 120.0  # that a receiver's Retry-After is believed


class Receiver(Protocol):
    """Who takes what is in the outbox."""

    kind: str
    address: str

    def listen(self, heard: Callable[[], None]) -> None:
        """Have something called after every request that was taken."""

    def send(self, context: Context, lines: Sequence[Line]) -> None:
        """Send some lines of a parcel; raises Away or Refused."""


@dataclass
class Outcome:
    """What became of one kind of receiver: lines confirmed now, refused now, and why some are still kept."""

    kind: str
    sent: int = 0
    refused: int = 0
    why: str = ""


@dataclass
class _State:
    """What the thread that sends and the one that waits both know."""

    stop: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    alive_until: float = 0.0
    error: BaseException | None = None


def deliver(
    outbox: Outbox,
    receivers: Mapping[str, Receiver | str],
    *,
    total_s: float | None = None,
    silence_s: float = SILENCE_S,
    bar: Bar | None = None,
) -> list[Outcome]:
    """Send what is kept, by kind of receiver; a text in the place of one says why nothing is sent to it.

    Ends when all is sent, when every receiver is away for good, after `total_s` seconds, or when for `silence_s` no
    request was taken and no receiver asked for patience.

    Raises:
        ConfigError: the folder's file system has no locks. DataError: a parcel is damaged.
    """
    outcomes = {kind: Outcome(kind, why=one if isinstance(one, str) else "") for kind, one in receivers.items()}
    there = {kind: one for kind, one in receivers.items() if not isinstance(one, str)}
    if not there or not any(outbox.kept(kind) for kind in there):
        return list(outcomes.values())
    if total_s is not None and total_s <= 0:
        for kind in there:
            outcomes[kind].why = "trace.wait_s is 0"
        return list(outcomes.values())
    state = _State(alive_until=time.monotonic() + silence_s)
    pump = _Pump(outbox, there, outcomes, state, silence_s, bar)
    began = time.monotonic()
    threading.Thread(target=pump.run, name="trace-sender", daemon=True).start()
    while not state.done.is_set():
        last = state.alive_until if total_s is None else min(began + total_s, state.alive_until)
        if (left := last - time.monotonic()) <= 0:
            break
        state.done.wait(left)
    state.stop.set()
    if state.error is not None:
        raise state.error
    for kind in there:
        if not outcomes[kind].why and outbox.kept(kind):
            waited = time.monotonic() - began
            outcomes[kind].why = f"{there[kind].address.split(' ')[1]} did not take all of it within {waited:.0f} s"
    return list(outcomes.values())


class _Pump:
    """The thread that sends."""

    def __init__(
        self,
        outbox: Outbox,
        receivers: Mapping[str, Receiver],
        outcomes: Mapping[str, Outcome],
        state: _State,
        silence_s: float,
        bar: Bar | None,
    ) -> None:
        self._outbox, self._receivers, self._outcomes = outbox, dict(receivers), outcomes
        self._state, self._silence_s, self._bar = state, silence_s, bar
        for receiver in receivers.values():
            receiver.listen(self._heard)

    def run(self) -> None:
        """Send until nothing is left, everybody is away, or somebody says stop."""
        try:
            with self._outbox.sending(self._state.stop.is_set) as mine:
                while mine and self._receivers and not self._state.stop.is_set():
                    todo = [one for one in self._outbox.waiting() if set(one.open_for) & self._receivers.keys()]
                    if not todo:
                        break
                    for kept in todo:
                        self._parcel(kept)
        except FledglingError as error:
            self._state.error = error
        except Exception as error:  # a fault of ours must not look like a server that is slow
            self._state.error = error
        finally:
            self._state.done.set()

    def _heard(self) -> None:
        self._state.alive_until = max(self._state.alive_until, time.monotonic() + self._silence_s)

    def _parcel(self, kept: Kept) -> None:
        for kind in kept.open_for:
            receiver = self._receivers.get(kind)
            if receiver is None or self._state.stop.is_set():
                continue
            try:
                context, lines = kept.read(receiver.address)
                batches = _batches(lines)
                batch = next(batches, [])
                while True:
                    refused = self._until_taken(receiver, context, batch)
                    if refused is None:
                        return
                    kept.confirm(receiver.address, len(batch), refused)
                    self._confirmed(kind, len(batch), refused)
                    if self._state.stop.is_set() or not (batch := next(batches, [])):
                        break
            except Away as away:
                self._outcomes[kind].why = away.reason
                del self._receivers[kind]

    def _confirmed(self, kind: str, count: int, refused: int) -> None:
        self._outcomes[kind].sent += count - refused
        self._outcomes[kind].refused += refused
        if self._bar:
            self._bar.update(count)

    def _until_taken(self, receiver: Receiver, context: Context, batch: Sequence[Line]) -> int | None:
        """Send a batch, again while its receiver is only away for a while; returns lines refused, None: told to stop."""
        tries = 0
        while not self._state.stop.is_set():
            try:
                return self._taken(receiver, context, batch)
            except Away as away:
                self._outcomes[receiver.kind].why = away.reason
                if away.final or tries == TRIES:
                    raise
                pause = PAUSES_S[min(tries, len(PAUSES_S) - 1)]
                if away.wait_s is not None:
                    pause = min(max(away.wait_s, pause), LONGEST_WAIT_S)
                    self._state.alive_until = max(self._state.alive_until, time.monotonic() + pause + self._silence_s)
                tries += 1
                self._state.stop.wait(pause)
        return None

    def _taken(self, receiver: Receiver, context: Context, batch: Sequence[Line]) -> int:
        """Send a batch; where it is refused, its halves, until the lines that are refused are alone. Returns their number."""
        try:
            if batch:
                receiver.send(context, batch)
        except Refused as error:
            if len(batch) == 1:
                self._outbox.set_aside(receiver.address, str(error), context, batch[0])
                return 1
            half = len(batch) // 2
            return sum(self._taken(receiver, context, part) for part in (batch[:half], batch[half:]))
        self._outcomes[receiver.kind].why = ""
        return 0


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(json_line(line))
        if len(batch) >= LINES or size >= BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
