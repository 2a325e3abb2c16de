"""What is known of the logged calls among a track's rows: models, temperatures, tools that failed, prompts that repeat."""

import functools
from array import array
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b

from fledgling.artefacts import JsonObject
from fledgling.data.table import hash64
from fledgling.data.traces import tool_errors
from fledgling.data.traces.record import Record
from fledgling.files import canonical
from fledgling.tokens import text_tokens

SHOWN = 5  # models that a message names


class Traffic:
    """Counts over the logged calls of one source; rows are numbered as in the table."""

    def __init__(self) -> None:
        self.rows = array("Q")
        self.later_turns = array("Q")  # rows whose prompt holds an earlier turn of the assistant's
        self.models: Counter[str] = Counter()
        self.sampled = 0
        self.temperature_unknown = 0
        self.prompts = Prompts()
        self._seen: dict[bool, set[int]] = {True: set(), False: set()}  # calls that ended well, and others
        self._failed: set[int] = set()
        self._calls: list[tuple[int, int]] = []  # row, what one of its calls is known by
        self._erred: set[int] = set()

    def is_new(self, record: Record, *, ended_well: bool) -> bool:
        """Whether a call comes for the first time; exports overlap. One that failed may come again and end well."""
        if record.id is None:
            return True
        identity = hash64(f"{record.log}\0{record.id}")
        known = identity in self._seen[True] or identity in self._seen[ended_well]
        self._seen[ended_well].add(identity)
        return not known

    def note(self, row: int, record: Record, messages: Sequence[JsonObject]) -> None:
        """Count a call that was taken as a row."""
        self.rows.append(row)
        if record.model is not None:
            self.models[record.model] += 1
        temperature = record.temperature
        self.temperature_unknown += temperature is None
        self.sampled += bool(temperature)
        self.prompts.add(record.record or "", messages)
        if any(turn["role"] == "assistant" for turn in messages):
            self.later_turns.append(row)
        belongs = record.record
        if any(bad for _, bad in tool_errors.results([record.reply, *record.later])):
            self._erred.add(row)
        if belongs is not None:
            before = record.messages if isinstance(record.messages, list) else []
            self._failed |= {_of(belongs, call) for call, bad in tool_errors.results(before) if bad}
            named = (call for call in tool_errors.call_ids(record.reply) if not call.startswith("#"))
            self._calls += [(row, _of(belongs, call)) for call in named]

    def erred(self) -> set[int]:
        """Rows one of whose calls a tool answered with an error, as the same row or a later call of its trace shows."""
        return self._erred | {row for row, call in self._calls if call in self._failed}

    def models_in_words(self) -> str:
        """The models, most frequent first."""
        listed = ", ".join(f"{name} {rows:,}" for name, rows in self.models.most_common(SHOWN))
        return listed + (", …" if len(self.models) > SHOWN else "")


class Prompts:
    """About how many tokens prompts have, and how many of these stood in an earlier prompt of the same trajectory."""

    def __init__(self) -> None:
        self._whole: dict[int, int] = {}  # of each prompt, the digest of all its turns: its tokens
        self._parts: list[
            list[tuple[int, int]]
        ] = []  # per prompt of several turns: (digest, tokens) of what it begins with
        self.tokens = 0

    def add(self, belongs: str, messages: Sequence[JsonObject]) -> None:
        """Count one prompt."""
        digest, tokens = blake2b(belongs.encode("utf-8", "surrogatepass"), digest_size=8), 0
        begins: list[tuple[int, int]] = []
        for turn in messages:
            written = canonical(turn)
            digest.update(written.encode("utf-8", "surrogatepass"))
            tokens += _tokens(written)
            begins.append((int.from_bytes(digest.digest(), "big"), tokens))
        self.tokens += tokens
        if begins:
            self._whole[begins[-1][0]] = tokens
        if any(turn["role"] == "assistant" for turn in messages):
            self._parts.append(begins[:-1])

    def repeated(self) -> int:
        """Tokens that an earlier prompt of the same trajectory had too: a server with prefix caching reads them once."""
        return sum(
            next((tokens for digest, tokens in reversed(begins) if digest in self._whole), 0) for begins in self._parts
        )


@functools.lru_cache(maxsize=8_192)  # the turns of a trajectory come again in each prompt after them
def _tokens(written: str) -> int:
    return text_tokens(written)


def day(seconds: float) -> str:
    """A time as ISO text."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _of(belongs: str, call: str) -> int:
    return hash64(f"{belongs}\0{call}")
