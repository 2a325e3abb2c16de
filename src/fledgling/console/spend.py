"""What was paid: confirmed, possibly billed, and what the journal saved, by track and by run."""

from fledgling.console.reading import Cached, Folder, Object, obj, real, text, whole
from fledgling.console.runs import Runs
from fledgling.teacher.ledger import Account, account


class Spend:
    """The account of the teacher's journal, made again when the journal has changed."""

    def __init__(self, folder: Folder, runs: Runs) -> None:
        self._folder, self._runs = folder, runs
        self._accounts: Cached[Account] = Cached(2)

    def read(self) -> Object:
        """All that is known of what was spent. None is unknown, which is never 0."""
        config, _ = self._folder.configuration()
        teacher = obj(config.get("teacher"))
        prices, budget = obj(teacher.get("prices")), obj(teacher.get("budget"))
        path = self._folder.root / (text(config.get("journal")) or ".journal") / "teacher.jsonl"
        known = self._accounts.get((path,), lambda: account(path) if path.is_file() else Account())
        prompt, completion = known.tokens["prompt_tokens"], known.tokens["completion_tokens"]
        return {
            "simulated": teacher.get("provider") == "simulated",
            "confirmed": {
                "replies": known.finished,
                "calls": known.calls,
                "failed": known.failures,
                "possiblyBilled": known.lost,
                "promptTokens": prompt,
                "completionTokens": completion,
                "money": _cost(prices, prompt, completion),
                "currency": prices.get("currency"),
            },
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


def _cost(prices: Object, prompt: int, completion: int) -> float | None:
    one, other = real(prices.get("input_per_million")), real(prices.get("output_per_million"))
    return None if one is None or other is None else (one * prompt + other * completion) / 1e6
