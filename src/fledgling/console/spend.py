"""What was paid: confirmed, possibly billed, and what the journal saved, by track and by run."""

import threading
from collections import Counter
from pathlib import Path

from fledgling.console.reading import Folder, Object, obj, real, text, whole
from fledgling.console.runs import Runs


class Spend:
    """Counts the teacher's journal once and goes on from there."""

    def __init__(self, folder: Folder, runs: Runs) -> None:
        self._folder, self._runs = folder, runs
        self._lock = threading.Lock()
        self._path = Path()
        self._mark: tuple[int, int] = (0, 0)
        self._forget()

    def _forget(self) -> None:
        self._place = 0
        self._kinds: Counter[str] = Counter()
        self._owed: Counter[str] = Counter()
        self._keys: set[str] = set()
        self._tokens: Counter[str] = Counter()
        self._billed = 0

    def read(self) -> Object:
        """All that is known of what was spent. None is unknown, which is never 0."""
        config, _ = self._folder.configuration()
        teacher = obj(config.get("teacher"))
        prices, budget = obj(teacher.get("prices")), obj(teacher.get("budget"))
        with self._lock:
            self._count(self._folder.root / (text(config.get("journal")) or ".journal") / "teacher.jsonl")
            tokens = (self._tokens["prompt_tokens"], self._tokens["completion_tokens"])
            journal: Object = {
                "replies": len(self._keys),
                "calls": self._kinds["intent"],
                "failed": self._kinds["failure"],
                "possiblyBilled": sum(count for count in self._owed.values() if count > 0) + self._billed,
                "promptTokens": tokens[0],
                "completionTokens": tokens[1],
                "money": _cost(prices, *tokens),
                "currency": prices.get("currency"),
            }
        return {
            "simulated": teacher.get("provider") == "simulated",
            "confirmed": journal,
            "tracks": [found for name in self._folder.track_names() if (found := self._track(name))],
            "runs": [
                {key: run[key] for key in ("run", "state", "start", "calls", "kept")}
                for run in self._runs.all()
                if run["calls"] or run["kept"]
            ],
            "budget": {"calls": whole(budget.get("calls")), "money": real(budget.get("money"))},
        }

    def _track(self, name: str) -> Object | None:
        try:
            found = obj(self._folder.json(f"results/metrics/{name}/teacher.json"))
        except ValueError:
            return None
        if not found:
            return None
        cost, tokens = obj(found.get("cost")), obj(found.get("tokens"))
        return {
            "track": name,
            "rows": found.get("n"),
            "promptTokens": tokens.get("prompt"),
            "completionTokens": tokens.get("completion"),
            "money": cost.get("amount"),
            "currency": cost.get("currency"),
            "estimated": cost.get("estimated"),
        }

    def _count(self, path: Path) -> None:
        from fledgling.journal.line import decode, is_whole
        from fledgling.teacher.answers import read

        try:
            found = path.stat()
        except OSError:
            self._forget()
            return
        if (path, found.st_ino) != (self._path, self._mark[0]) or found.st_size < self._place:
            self._forget()  # another journal, or one that was compacted
            self._path = path
        self._mark = (found.st_ino, found.st_size)
        with open(path, "rb") as stream:
            stream.seek(self._place)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._place += len(line)
                if not is_whole(line):
                    continue
                entry = decode(line)
                self._kinds[entry.kind] += 1
                self._owed[entry.key] += 1 if entry.kind == "intent" else -1
                if entry.kind == "result":
                    self._keys.add(entry.key)
                    answer = read(entry.record.get("status", 0), entry.record.get("body", ""))
                    self._tokens.update(answer.usage if answer else {})
                self._billed += entry.kind == "failure" and entry.record.get("billed") != "no"


def _cost(prices: Object, prompt: int, completion: int) -> float | None:
    one, other = real(prices.get("input_per_million")), real(prices.get("output_per_million"))
    return None if one is None or other is None else (one * prompt + other * completion) / 1e6
