"""The stage: one track into the outbox, and out of it whatever its receivers take."""

import os
from collections.abc import Mapping, Sequence

from fledgling import artefacts
from fledgling.artefacts import JsonObject, TracedRun, TraceMarker
from fledgling.errors import ConfigError
from fledgling.progress import Bar
from fledgling.redaction import on_this_machine, redacted
from fledgling.tracing import addresses
from fledgling.tracing.addresses import LANGFUSE, OTLP
from fledgling.tracing.collect import Collector, Sources
from fledgling.tracing.masking import Mask
from fledgling.tracing.outbox import Outbox
from fledgling.tracing.send import Outcome, Receiver, deliver

FOLDER = ".outbox"
WAIT_S = 4.0
EXTRA = "pip install -e '.[trace]'"


def keep(sources: Sources, settings: Mapping[str, JsonObject], outbox: Outbox) -> TraceMarker:
    """Put everything about one track into the outbox, masked; returns the marker, which says what that is.

    What waits there already, or was delivered to where it is to go, is not put there again. The marker depends on
    the files and the settings alone, not on what becomes of the outbox.

    Raises:
        DataError: a file is missing, damaged, or not made from the others.
    """
    chosen = settings.get("trace", {})
    kinds, masks = _texts(chosen.get("to"), [LANGFUSE]), _texts(chosen.get("mask"), [])
    collector = Collector(sources, settings, Mask(masks, os.environ), masks)
    receivers = [(kind, _address(kind)) for kind in kinds]
    names, datasets = [], []
    for parcel in collector.parcels():
        # OTLP has no word for rows; each answer carries its own.
        takers = [one for one in receivers if parcel.order > 1 or one[0] != OTLP]
        if takers:
            outbox.put(parcel, takers)
        names.append(f"{parcel.order}-{parcel.key[:16]}")
        datasets += [parcel.context["dataset"]["name"]] if parcel.order == 1 and parcel.context["dataset"] else []
    runs: list[TracedRun] = [
        {"name": one.run, "contender": one.contender, "split": one.split, "rows": one.metrics["n"]}
        for one in collector.answers
    ]
    return {
        "format": "fledgling/trace/1",
        "made_from": artefacts.digests(*sources.all()),
        "track": sources.track,
        "to": kinds,
        "datasets": datasets,
        "runs": runs,
        "parcels": names,
    }


def send(outbox: Outbox, *, total_s: float | None = None, bar: Bar | None = None) -> list[Outcome]:
    """Send what is kept to the receivers that this environment names.

    Raises:
        ConfigError: a variable, or the outbox's folder, cannot be used. DataError: a parcel is damaged.
    """
    kinds = sorted({kind for one in outbox.waiting() for kind in one.open_for})
    return deliver(outbox, {kind: receiver(kind) for kind in kinds}, total_s=total_s, bar=bar)


def said(outbox: Outbox, outcomes: Sequence[Outcome]) -> list[str]:
    """What a person should know of a sending, a sentence a kind of receiver."""
    lines = []
    for one in outcomes:
        kept = outbox.kept(one.kind)
        words = [f"{one.sent:,} sent"] if one.sent or not kept else []
        words += [f"{one.refused:,} refused, see {outbox.folder / 'refused.jsonl'}"] if one.refused else []
        words += [f"{kept:,} kept in the outbox ({one.why}); send them with: fledgling trace"] if kept else []
        lines.append(f"{one.kind}: {', '.join(words)}")
    return lines


def receiver(kind: str) -> Receiver | str:
    """The receiver of a kind that this environment names, or why there is none.

    Raises:
        ConfigError: a variable cannot be used.
    """
    if reason := addresses.off(kind, os.environ):
        return reason
    secrets = on_this_machine()

    def says(text: str) -> str:
        return redacted(text, secrets)

    try:
        if kind == LANGFUSE:
            from fledgling.tracing.langfuse import Langfuse

            return Langfuse(os.environ, says)
        from fledgling.tracing.otlp import Otlp

        return Otlp(os.environ, says)
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed; {EXTRA}"


def _address(kind: str) -> str | None:
    """Where a receiver is, if that is known; a wrong variable is told when it is used, and keeps nothing from the disk."""
    try:
        return addresses.address(kind, os.environ)
    except ConfigError:
        return None


def _texts(value: object, default: list[str]) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else default
