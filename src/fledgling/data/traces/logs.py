"""The register of log formats, and the calls of a file: containers opened, halves joined, turns taken apart."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fledgling.artefacts import Json, JsonObject
from fledgling.data.invalid import Unusable
from fledgling.data.text_files import Raw
from fledgling.data.traces import helicone, langfuse, litellm, openai, openinference, otel, spans, stored
from fledgling.data.traces.record import Record


@dataclass(frozen=True, slots=True)
class Log:
    """One format of logs: what tells it from others, and its reader (None: the row is no call of a model)."""

    told_by: Callable[[JsonObject], bool]
    read: Callable[[JsonObject], Record | None]


LOGS: dict[str, Log] = {
    "stored": Log(stored.told_by, stored.read),
    "helicone": Log(helicone.told_by, helicone.read),
    "litellm": Log(litellm.told_by, litellm.read),
    "otel": Log(otel.told_by, otel.read),
    "openinference": Log(openinference.told_by, openinference.read),
    "langfuse": Log(langfuse.told_by, langfuse.read),
    "openai": Log(openai.told_by, openai.read),
}
_PAGE = frozenset(("object", "meta"))  # beside `data`, in the answers of APIs
CONTAINERS = frozenset(("resourceSpans", "resourceLogs"))


class NoCall:
    """A row of a log that is no call of a model: a tool's span, an agent's, an event."""


def of(row: JsonObject) -> str | None:
    """The log format of a row; None where it has none."""
    return next((name for name, log in LOGS.items() if log.told_by(row)), None)


def is_logged(row: JsonObject) -> bool:
    """Whether a row can only come from a log; fine-tuning JSONL may also be a data set that somebody wrote."""
    if CONTAINERS & row.keys() or _is_page(row) or stored.messages_of(row) is not None:
        return True
    return of(row) not in (None, "openai")


def calls(rows: Iterator[Raw], *, named: bool, turns: str | None = None) -> Iterator[Raw]:
    """The calls in the rows of a file: each a Record, an Unusable, or NoCall; places as the rows have them.

    `named` says that all rows are a log's; else rows of other formats pass as they are. `turns` is the source's key.
    """
    pairs = stored.Pairs()
    for number, raw in rows:
        if not isinstance(raw, dict) or not (named or is_logged(raw)):
            yield number, raw
            continue
        try:
            for item in list(_opened(raw)):
                for place, whole in pairs.take(number, item):
                    yield from ((place, one) for one in _read(whole, turns))
        except Unusable as problem:
            yield number, problem
    for place, whole in pairs.rest():
        yield from ((place, one) for one in _read(whole, turns))


def _opened(row: JsonObject) -> Iterator[JsonObject]:
    """What stands in a container, one by one; a row that is none stands for itself."""
    if CONTAINERS & row.keys():
        yield from spans.opened(row)
    elif _is_page(row):
        data = row["data"]
        yield from (item for item in (data if isinstance(data, list) else []) if isinstance(item, dict))
    else:
        yield row


def _is_page(row: JsonObject) -> bool:
    """Whether a row is a page of calls, as the APIs of OpenAI and Langfuse list them."""
    data = row.get("data")
    if not isinstance(data, list) or not data or not isinstance(data[0], dict) or not _PAGE & row.keys():
        return False
    return of(data[0]) is not None


def _read(row: object, turns: str | None) -> Iterator[object]:
    if not isinstance(row, dict):
        yield row
        return
    try:
        name = of(row)
        if name is None:
            if "attributes" in row:
                yield NoCall()
                return
            keys = ", ".join(sorted(map(str, row)))[:200]
            raise Unusable("unknown_log", f"the keys ({keys}) belong to no log that is read: {', '.join(LOGS)}")
        record = LOGS[name].read(row)
    except Unusable as problem:
        yield problem
        return
    if record is None:
        yield NoCall()
    elif (turns or ("each" if record.log == "openai" else "reply")) == "reply":
        yield record
    else:
        yield from each_turn(record)


def each_turn(record: Record) -> Iterator[Record]:
    """Every assistant's turn of a trajectory as a call of its own: what stands before it is its prompt.

    A turn whose `weight` is 0 is none, as in OpenAI's fine-tuning; nor is one that follows another of the assistant's.
    """
    before = record.messages if isinstance(record.messages, list) else []
    whole: list[Json] = [*before, record.reply, *record.later]
    last = len(before)
    spoken = [at for at, turn in enumerate(whole) if isinstance(turn, dict) and turn.get("role") == "assistant"]
    for number, at in enumerate(spoken):
        turn = whole[at]
        if not isinstance(turn, dict) or (turn.get("weight") is not None and not turn["weight"]):
            continue
        following = spoken[number + 1] if number + 1 < len(spoken) else len(whole)
        yield replace(
            record,
            messages=whole[:at],
            reply=turn,
            later=tuple(whole[at + 1 : following]),
            finish=record.finish if at == last else None,
            id=None if record.id is None else f"{record.id}#{at}",
        )
