"""The datasheet of a track: counts, rejects with reasons, copies, links."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np

from fledgling.data.leaks import KINDS, Link
from fledgling.data.sources import Part
from fledgling.data.split import SPLITS
from fledgling.data.table import NOWHERE, Table
from fledgling.data.traces.traffic import Traffic, day
from fledgling.data.validate import UNWINNABLE
from fledgling.files import Object, sha256_file

EXAMPLES = 5  # places listed per reason


@dataclass(slots=True)
class Counts:
    """What became of the rows of one source."""

    read: int = 0
    duplicates: int = 0
    beyond_limit: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    messages: dict[str, list[str]] = field(default_factory=dict)
    warned: int = 0
    warnings: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    nulls: int = 0
    without: int = 0
    any_call: int = 0
    outside: Counter[str] = field(default_factory=Counter)

    def note(self, format: str, name: str | None, ignored: Sequence[str]) -> None:
        """Count a usable row: its format, the data set that it names, its keys that nothing reads."""
        self.formats[format] += 1
        self.names[name or "unnamed"] += 1
        self.ignored.update(ignored)

    def reject(self, code: str, message: str) -> None:
        """Count a row that cannot be used; the first messages of a code are kept."""
        self.rejected[code] += 1
        shown = self.messages.setdefault(code, [])
        if len(shown) < EXAMPLES:
            shown.append(message)

    def copy(self, message: str) -> None:
        """Count a row that another one stands for."""
        self.duplicates += 1
        if len(self.copies) < EXAMPLES:
            self.copies.append(message)

    def warn(self, message: str) -> None:
        """Count a row whose gold arguments its own tool refuses."""
        self.warned += 1
        if len(self.warnings) < EXAMPLES:
            self.warnings.append(message)


def source(settings: Object, parts: Sequence[Part], counts: Counts) -> Object:
    """One entry of "sources": the settings as given, every file with its digest, what became of the rows."""
    rejected, outside = counts.rejected.total(), counts.outside.total()
    return {
        "settings": settings,
        "parts": [{"name": part.label, "digest": part.digest} for part in parts],
        "formats": _sorted(counts.formats),
        "names": _sorted(counts.names),
        "rows": {
            "read": counts.read,
            "rejected": rejected,
            "duplicates": counts.duplicates,
            "beyond_limit": counts.beyond_limit,
            **({"not_asked_for": outside} if outside else {}),
            "used": counts.read - rejected - counts.duplicates - counts.beyond_limit - outside,
        },
        **({"not_asked_for": _sorted(counts.outside)} if outside else {}),
        "rejected": {
            code: {"rows": rows, "first": counts.messages[code]} for code, rows in _sorted(counts.rejected).items()
        },
        "copies": counts.copies,
        "without_tools_or_schema": counts.without,
        "nulls_left_out": counts.nulls,
        "gold_outside_tool_schema": {"rows": counts.warned, "first": counts.warnings},
        "ignored_keys": _sorted(counts.ignored),
    }


def logged(table: Table, traffic: Sequence[Traffic]) -> Object:
    """What is known of the logged calls that were taken as rows, over all sources that have such."""
    rows = np.concatenate([np.array(one.rows, dtype=np.int64) for one in traffic])
    later = np.concatenate([np.array(one.later_turns, dtype=np.int64) for one in traffic])
    times = table["time"][rows]
    times = times[~np.isnan(times)]
    repeated = len(rows) - len(np.unique(table["prompt"][rows]))
    models: Counter[str] = sum((one.models for one in traffic), Counter())
    return {
        "calls": len(rows),
        "models": _sorted(models),
        "sampled": sum(one.sampled for one in traffic),
        "temperature_unknown": sum(one.temperature_unknown for one in traffic),
        "repeated": repeated,
        "repeated_share": round(repeated / len(rows), 6),
        "first": day(float(times.min())) if len(times) else None,
        "last": day(float(times.max())) if len(times) else None,
        "later_turns": len(later),
        "trajectories": len(np.unique(table["group"][later])),
        "tool_errors": sum(len(one.erred()) for one in traffic),
        "prompt_tokens": sum(one.prompts.tokens for one in traffic),
        "prompt_tokens_repeated": sum(one.prompts.repeated() for one in traffic),
    }


def unwinnable(sources: Sequence[Counts]) -> Object:
    """Rows that nobody could get right, so that they were not taken: how many, why, the first ones."""
    reasons = Counter(dict.fromkeys(UNWINNABLE, 0))
    first: list[str] = []
    for counts in sources:
        for code in UNWINNABLE:
            reasons[code] += counts.rejected[code]
            first += counts.messages.get(code, [])
    return {
        "rows": reasons.total(),
        "reasons": {code: rows for code, rows in _sorted(reasons).items() if rows},
        "first": first[:EXAMPLES],
    }


def summary(track: str, sources: Sequence[Counts], described: Mapping[str, Mapping[str, Any]]) -> str:
    """What became of all rows, in one line."""
    rejected = sum((counts.rejected for counts in sources), Counter[str]())
    duplicates = sum(counts.duplicates for counts in sources)
    beyond = sum(counts.beyond_limit for counts in sources)
    outside = sum((counts.outside for counts in sources), Counter[str]())
    read, used = sum(counts.read for counts in sources), sum(part["rows"] for part in described.values())
    leaks = read - used - rejected.total() - duplicates - beyond - outside.total()
    reasons = ", ".join(f"{code} {rows:,}" for code, rows in rejected.most_common())
    unasked = ", ".join(f"{why} {rows:,}" for why, rows in outside.most_common())
    gone = [
        f"{outside.total():,} not asked for ({unasked})" if outside else "",
        f"{rejected.total():,} rejected ({reasons})" if rejected else "",
        f"{duplicates:,} copies that others stand for" if duplicates else "",
        f"{leaks:,} left out as copies of rows in a later split" if leaks else "",
        f"{beyond:,} beyond the limit" if beyond else "",
    ]
    without = sum(counts.without for counts in sources)
    any_call = sum(counts.any_call for counts in sources)
    return (
        f"{track}: {read:,} rows read, {used:,} used ("
        + ", ".join(f"{name} {part['rows']:,}" for name, part in described.items())
        + ")"
        + "".join(f"; {text}" for text in gone if text)
        + (f"; {without:,} without tools or schema of their own" if without else "")
        + (f"; {any_call:,} whose answer is null, so that any call is right" if any_call else "")
    )


def splits(
    table: Table,
    outputs: Mapping[str, str | PathLike[str]],
    kind: str,
    categories: Sequence[str],
    schemas: Sequence[str],
    regrouped: Sequence[int],
) -> Object:
    """What describes the written splits; `categories` and `schemas` name the numbers in the table.

    `weight` is how many requests the rows stand for, `near_copies` how many rows got the group of another one that says
    the same or nearly.

    `calls` counts the rows by their gold calls (1 where any call is right), `conflicting_answers` the
    rows whose prompt occurs before them with another answer.
    """
    chosen = table["split"]
    kept = chosen != NOWHERE
    each = {}
    for index, name in enumerate(SPLITS):
        rows = chosen == index
        lengths = np.sort(table["length"][rows])
        each[name] = {
            "rows": int(np.count_nonzero(rows)),
            "sha256": sha256_file(outputs[name]),
            "weight": float(table["weight"][rows].sum()),
            "groups": len(np.unique(table["group"][rows])),
            "near_copies": int(np.count_nonzero(rows[list(regrouped)])),
            "categories": _tally(table["category"][rows], categories),
            **(
                {"calls": _tally(table["calls"][rows])}
                if kind == "toolcall"
                else {"schemas": _tally(table["schema"][rows], schemas)}
            ),
            "request_characters": {
                str(quantile): int(lengths[round(quantile * (len(lengths) - 1))]) if len(lengths) else None
                for quantile in (0.0, 0.5, 0.9, 0.99, 1.0)
            },
        }
    prompts = table["prompt"][kept]
    contents = len(np.unique(table["content"][kept]))
    return {"splits": each, "conflicting_answers": contents - len(np.unique(prompts))}


def links(found: Sequence[Link], table: Table, threshold: float | None) -> Object:
    """Links between splits that were found and cut: rows by kind, and rows left out by split."""
    dropped = {link.row: link.split for link in found}
    tests = int(np.count_nonzero(table["split"] == SPLITS.index("test")))
    near = {link.later for link in found if link.kind == "near_duplicate" and link.later_split == SPLITS.index("test")}
    return {
        "near_duplicate": threshold,
        "links": {kind: sum(link.kind == kind for link in found) for kind in KINDS},
        "dropped": {name: sum(split == index for split in dropped.values()) for index, name in enumerate(SPLITS[:2])},
        "near_duplicate_ratio": round(len(near) / tests, 6) if tests else None,
    }


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _tally(values: Any, names: Sequence[str] | None = None) -> dict[str, int]:
    """How often each value occurs, by its name."""
    found, counts = np.unique(values, return_counts=True)
    pairs = [(names[value] if names else str(value), int(count)) for value, count in zip(found, counts, strict=True)]
    return dict(pairs if names is None else sorted(pairs))
