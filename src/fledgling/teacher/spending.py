"""Calls, tokens and money of one run, what may have been billed counted at its upper bound."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from fledgling.errors import ConfigError, Unavailable
from fledgling.graph.driver import run_of_driver
from fledgling.journal.line import decode
from fledgling.teacher.answers import read
from fledgling.teacher.prices import Prices
from fledgling.teacher.requests import Teacher

GUESS_FACTOR = 1.5  # no tokenizer is that far from the guess
TEMPLATE_TOKENS = 16  # what an endpoint's own template may add


@dataclass(frozen=True, slots=True)
class Tokens:
    """Prompt and completion tokens."""

    prompt: float = 0
    completion: float = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    @classmethod
    def of(cls, usage: Mapping[str, int]) -> "Tokens | None":
        """What a reply says that it took, or None where it does not say both."""
        try:
            return cls(usage["prompt_tokens"], usage["completion_tokens"])
        except KeyError:
            return None


class NoRoomYet(Exception):
    """The budget has no room for a call while others are under way; it may when they are over."""


class Spent:
    """What one run has spent; a run is all stages of one driver, or one process started by hand.

    Every call is either answered (its own count of tokens), possibly billed (no reply, or none that says: at most
    what was asked and the longest reply), or under way (the same bound, set aside). As an observer of the journal it
    counts what other processes of the run have written.

    Raises:
        ConfigError: a budget of money without prices.
    """

    def __init__(self, teacher: Teacher) -> None:
        self.run = run_of_driver() or uuid.uuid4().hex
        self.by = uuid.uuid4().hex[:12]
        self.prices = Prices.of(teacher.prices)
        self.calls = 0
        self.answered = 0
        self.unanswered = 0  # calls that may have been billed without a reply that can be used
        self.tokens = Tokens()
        self.possible = Tokens()
        self._most_calls, self._most_money = teacher.budget.get("calls"), teacher.budget.get("money")
        self._most_completion = teacher.max_tokens
        self._open: dict[str, Tokens] = {}
        self._open_sum = Tokens()
        self._mark = f'"run":"{self.run}"'.encode()
        self._mine = f'"by":"{self.by}"'.encode()
        self.restart()
        if self._most_money is not None and self.prices is None:
            raise ConfigError("teacher.budget.money needs teacher.prices; unknown prices cannot be added up")

    def marks(self) -> dict[str, str]:
        """What this process writes into its records, to know its own again."""
        return {"run": self.run, "by": self.by}

    def restart(self) -> None:
        """The journal is read again from its start."""
        self._others_calls = 0
        self._others = Tokens()
        self._others_open: dict[str, Tokens] = {}

    def observe(self, line: bytes) -> None:
        """Count a line of the journal that another process of the same run has written."""
        if self._mark not in line or self._mine in line:
            return
        entry = decode(line)
        most = Tokens(*entry.record.get("most", (0, 0)))
        if entry.kind == "intent":
            self._others_calls += 1
            self._lose(entry.key)
            self._others_open[entry.key] = most
        elif entry.kind == "result":
            answer = read(entry.record["status"], entry.record["body"])
            most = self._others_open.pop(entry.key, Tokens())
            if 200 <= entry.record["status"] < 300 or (answer is not None and answer.raw is not None):
                self._others += (Tokens.of(answer.usage) if answer else None) or most
        elif entry.kind == "failure":
            self._others_open.pop(entry.key, None)
            if entry.record.get("billed") != "no":
                self._others += most

    def bound(self, guessed: int) -> Tokens:
        """The most that a call can cost whose prompt has about so many tokens."""
        return Tokens(int(GUESS_FACTOR * guessed) + TEMPLATE_TOKENS, self._most_completion)

    def begin(self, key: str, bound: Tokens) -> None:
        """Count a call that is about to be sent, and set aside what it may cost.

        Raises:
            Unavailable: the budget has no room for it.
            NoRoomYet: it has none as long as calls of this process are under way.
        """
        if self._most_calls is not None and self.calls + self._others_calls >= self._most_calls:
            raise Unavailable(
                f"the budget of {self._most_calls:,} calls is used up; raise teacher.budget.calls or run again"
            )
        if self._most_money is not None and self.prices is not None:
            spent = self._spent()
            most = self._cost(spent + self._open_sum + bound + sum(self._others_open.values(), Tokens()))
            if most > self._most_money and self._open:
                raise NoRoomYet
            if most > self._most_money:
                raise Unavailable(
                    f"the next call could exceed the budget of {self._most_money:g} ({self._cost(spent):.4f} are spent); "
                    "raise teacher.budget.money or run again"
                )
        self._lose(key)
        self.calls += 1
        self._open[key] = bound
        self._open_sum += bound

    def answer(self, key: str, usage: Mapping[str, int], billed: bool = True) -> None:
        """A reply of this process is final; without a count of tokens it counts at its bound."""
        bound = self._settle(key)
        self.answered += 1
        counted = Tokens.of(usage)
        if counted is not None:
            self.tokens += counted
        elif billed:
            self.unanswered += 1
            self.possible += bound

    def fail(self, key: str, billed: bool, usage: Mapping[str, int] | None = None) -> Tokens:
        """A call brought nothing that can be used; returns what it counts as."""
        bound = self._settle(key)
        if not billed:
            return Tokens()
        if (counted := Tokens.of(usage or {})) is not None:
            self.tokens += counted
            return counted
        self.unanswered += 1
        self.possible += bound
        return bound

    def usual_completion(self) -> float:
        """How long replies are, for the pace of tokens."""
        return self.tokens.completion / self.answered if self.answered else self._most_completion

    def words(self) -> str:
        """Tokens and cost of this process, for the log."""
        counted = f"{self.tokens.prompt:.0f} prompt and {self.tokens.completion:.0f} completion tokens"
        maybe = ""
        if self.unanswered:
            maybe = f"{self.unanswered:,} calls that may have been billed without a usable reply"
        if self.prices is None:
            return f"{counted}; cost unknown (no teacher.prices)" + (f"; {maybe}" if maybe else "")
        cost = f"{counted}; cost {self._cost(self.tokens):.4f} {self.prices.currency}"
        return cost + (f", and up to {self._cost(self.possible):.4f} more for {maybe}" if maybe else "")

    def _lose(self, key: str) -> None:
        """A request is asked again: what was under way for it ended with its process, and may have been billed."""
        self._others += self._others_open.pop(key, Tokens())

    def _spent(self) -> Tokens:
        return self.tokens + self.possible + self._others

    def _cost(self, tokens: Tokens) -> float:
        return self.prices.cost(tokens.prompt, tokens.completion) if self.prices else 0.0

    def _settle(self, key: str) -> Tokens:
        bound = self._open.pop(key, Tokens())
        self._open_sum += Tokens(-bound.prompt, -bound.completion)
        return bound
