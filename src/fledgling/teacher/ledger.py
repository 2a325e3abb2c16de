"""What a journal has kept of a provider: requests, calls, tokens, outcomes and runs; and what is to be asked again."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fledgling.errors import UsageError
from fledgling.files import read_jsonl
from fledgling.journal import Journal
from fledgling.journal.care import whole_lines
from fledgling.journal.line import Entry, decode
from fledgling.records import OUTCOMES
from fledgling.teacher.answers import read


@dataclass
class Account:
    """Sums over one journal. `lost` counts calls without a reply that may have been billed."""

    finished: int = 0
    results: int = 0
    calls: int = 0
    failures: int = 0
    taken: int = 0
    lost: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    runs: dict[str, "Run"] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """The account for people."""
        yield f"{self.finished:,} finished requests ({self.results:,} results)"
        if self.calls:
            yield f"{self.calls:,} calls, {self.failures:,} of them failed"
            yield f"{self.lost:,} calls without a reply that may have been billed"
        if self.taken:
            yield f"{self.taken:,} results were taken back"
        if self.tokens:
            yield f"{self.tokens['prompt_tokens']:,} prompt and {self.tokens['completion_tokens']:,} completion tokens"
        if self.outcomes:
            yield "outcomes: " + ", ".join(f"{name} {count:,}" for name, count in sorted(self.outcomes.items()))
        for name, run in self.runs.items():
            yield f"run {name}: {run.results:,} results, {run.first} to {run.last}"


@dataclass
class Run:
    """One run in a journal: results that count, time of the first and the last."""

    first: str
    last: str
    results: int = 0


def account(path: Path) -> Account:
    """What a journal holds."""
    found, owed = Account(), Counter[str]()
    kept: dict[str, tuple[str, str]] = {}  # outcome and run of each finished request
    for entry in map(decode, whole_lines(path)):
        if entry.kind == "intent":
            found.calls += 1
            owed[entry.key] += 1
            continue
        if entry.kind == "taken":
            found.taken += 1
            kept.pop(entry.key, None)
            continue
        owed[entry.key] -= 1
        if entry.kind == "failure":
            found.failures += 1
            found.lost += entry.record.get("billed") != "no"
            continue
        found.results += 1
        run = str(entry.record.get("run", "")) or "unnamed"
        seen = found.runs.setdefault(run, Run(entry.at, entry.at))
        seen.last = entry.at
        kept[entry.key] = (_outcome(entry), run)
        found.tokens.update(_tokens(entry))
    found.finished = len(kept)
    found.lost += sum(count for count in owed.values() if count > 0)
    found.outcomes = Counter(outcome for outcome, _ in kept.values() if outcome)
    for _, run in kept.values():
        found.runs[run].results += 1
    return found


def chosen(
    path: Path,
    *,
    outcome: str | None = None,
    run: str | None = None,
    requests: frozenset[str] = frozenset(),
) -> list[str]:
    """The keys whose result counts and fits everything that is asked for.

    Raises:
        UsageError: nothing is asked for, or no such outcome.
    """
    if outcome is None and run is None and not requests:
        raise UsageError("say what to take back: --row, --request, --outcome or --run")
    if outcome is not None and outcome not in OUTCOMES:
        raise UsageError(f"no outcome {outcome!r}; known are: {', '.join(OUTCOMES)}")
    keys: dict[str, None] = {}
    for entry in map(decode, whole_lines(path)):
        if entry.kind not in ("result", "taken"):
            continue
        keys.pop(entry.key, None)
        fits = (
            entry.kind == "result"
            and (outcome is None or _outcome(entry) == outcome)
            and (run is None or entry.record.get("run") == run)
            and (not requests or entry.key in requests)
        )
        if fits:
            keys[entry.key] = None
    return list(keys)


def requests_of(predictions: Path, rows: list[str]) -> frozenset[str]:
    """The requests behind rows of a predictions file.

    Raises:
        UsageError: a row is not there.
    """
    known = {str(row.get("id")): row.get("request") for _, row in read_jsonl(predictions)}
    if missing := [row for row in rows if not known.get(row)]:
        raise UsageError(f"{predictions} has no row {missing[0]!r} with a request")
    return frozenset(str(known[row]) for row in rows)


def take_back(path: Path, keys: list[str], why: str) -> int:
    """Make results count no more, so that the next run asks them again; the rest stays as it is."""
    with Journal(path.parent, path.stem) as journal:
        return journal.take_back(keys, {"why": why})


def _outcome(entry: Entry) -> str:
    if "body" not in entry.record:  # a local answer
        return str(entry.record.get("outcome", ""))
    answer = read(entry.record.get("status", 0), entry.record["body"] or "")
    return answer.outcome if answer else "error"


def _tokens(entry: Entry) -> dict[str, int]:
    answer = read(entry.record.get("status", 0), entry.record.get("body") or "")
    return answer.usage if answer else {}
