"""Send what is kept in the outbox to Langfuse, or to another back-end that takes OpenTelemetry's traces.

    fledgling trace                what is kept goes to its receivers, for as long as they take it
    fledgling trace --list         what is kept, and for whom; nothing is sent

The receivers are those of the environment: LANGFUSE_PUBLIC_KEY, LANGFUSE_SECRET_KEY and LANGFUSE_HOST (or
LANGFUSE_BASE_URL; LANGFUSE_DISABLED=1 sends nothing), OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_HEADERS.
Ends with 0 when all is delivered, 4 when some is kept. With --track, as the graph calls it, a track is put into the
outbox first, the sending takes a few seconds at most, and a receiver that is away is no error.
"""

import argparse
import logging
from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import TraceMarker
from fledgling.errors import FledglingError, Unavailable, UsageError
from fledgling.graph import driver, options, sees
from fledgling.progress import emit, progress_bar
from fledgling.tracing.collect import Sources
from fledgling.tracing.outbox import Outbox
from fledgling.tracing.trace import FOLDER, WAIT_S, keep, said, send

log = logging.getLogger("fledgling.trace")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--list", action="store_true", help="say what is kept, and send nothing")
    parser.add_argument("--outbox", type=Path, help=f"folder (default: the configuration's, {FOLDER})")
    graph = parser.add_argument_group("a track into the outbox, as the graph does it")
    graph.add_argument("--track", help="name of the track")
    graph.add_argument("--verdict", type=Path, help="results/verdict/{track}.json")
    graph.add_argument("--compare", type=Path, help="results/compare/{track}.json")
    graph.add_argument("--data", type=Path, nargs="+", default=[], help="results/data/{track}/{test,val}.jsonl")
    graph.add_argument("--predictions", type=Path, nargs="+", default=[], help="of all who answered (.jsonl)")
    graph.add_argument("--metrics", type=Path, nargs="+", default=[], help="of the same (.json, scored rows beside)")
    graph.add_argument("--training", type=Path, nargs="*", default=[], help="training.json of each adapter")
    graph.add_argument("--out", type=Path, help="marker to write (.json)")
    sees.add_arguments(parser)


def call(args: argparse.Namespace) -> int | None:
    """Put a track into the outbox, or send what is there."""
    if args.track is None:
        return _by_hand(args)
    if missing := [
        f"--{name}"
        for name in ("verdict", "compare", "data", "predictions", "metrics", "out")
        if not getattr(args, name)
    ]:
        raise UsageError(f"--track also needs {', '.join(missing)}")
    settings = sees.of_arguments(args, "trace")
    where = driver.where().get("trace", {})
    outbox = Outbox(args.outbox or Path(where.get("outbox", FOLDER)))
    sources = Sources(args.track, args.verdict, args.compare, args.data, args.predictions, args.metrics, args.training)
    marker = keep(sources, settings, outbox)
    try:
        lines = said(outbox, send(outbox, total_s=float(where.get("wait_s", WAIT_S))))
    except FledglingError as error:
        lines = [f"not sent: {error}"]
    except Exception as error:
        log.exception("a fault of Fledgling itself; what is in the outbox stays there")
        lines = [f"not sent: {type(error).__name__}: {error}; the log has where"]
    for line in lines:
        log.info("%s", line)
        emit("note", message=line)
    artefacts.write(TraceMarker, args.out, marker)
    return None


def _by_hand(args: argparse.Namespace) -> int | None:
    outbox = Outbox(args.outbox or _configured(args))
    waiting = outbox.waiting()
    if not waiting:
        print(f"{outbox.folder}: nothing is kept; all is delivered")
        return None
    if args.list:
        for one in waiting:
            kept = ", ".join(f"{one.lacks(kind):,} of {one.receipt['lines']:,} for {kind}" for kind in one.open_for)
            print(f"{one.name}: {kept}")
        return None
    total = sum(one.lacks(kind) for one in waiting for kind in one.open_for)
    bar = progress_bar(desc="trace", total=total, unit="line")
    try:
        outcomes = send(outbox, bar=bar)
    finally:
        bar.close()
    lines = said(outbox, outcomes)
    print("\n".join(lines))
    if any(outbox.kept(one.kind) for one in outcomes):
        raise Unavailable("not all is delivered; what is kept stays, and the same command goes on from there")
    return None


def _configured(args: argparse.Namespace) -> Path:
    """The outbox of the configuration; the usual one in a folder without a configuration."""
    if not args.config and not options.DEFAULT.is_file():
        return Path(FOLDER)
    return Path(options.configured(args)["trace"].get("outbox", FOLDER))
