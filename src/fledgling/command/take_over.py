"""Take replies that a log of production holds over as the teacher's, instead of paying for them once more.

    fledgling take-over exports/*.jsonl --track invoices --config config/config.yaml invoices.yaml

A logged call counts where its request is a row's own, word by word (messages, tools, schema), the model is the
teacher's, and its temperature is 0, or `--any-temperature` says that another one is meant. Each reply is marked: the
seal of the predictions and the verdict say how many come from a log. Rows must be prepared (results/data/TRACK).

Never from the log that the rows' own answers are from: the teacher would agree with itself by construction. Where the
rows come from a log, `--independent` states that this one holds other calls.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import Datasheet
from fledgling.config import section
from fledgling.data.sources import Part, open_source
from fledgling.data.traces.take_over import Taken, take_over
from fledgling.errors import UsageError
from fledgling.graph.options import add_config, configured
from fledgling.records import read_examples
from fledgling.teacher.address import address
from fledgling.teacher.requests import Teacher


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("logs", nargs="+", help="files of a log, or globs (docs/traces.md lists the formats)")
    parser.add_argument("--track", required=True, help="whose rows are looked for")
    add_config(parser)
    parser.add_argument("--results", type=Path, default=Path("results"), help="what is built")
    parser.add_argument("--journal", type=Path, help="folder of paid replies (default: the configuration's)")
    parser.add_argument("--model", help="glob for the model that answered (default: teacher.model, dated versions too)")
    parser.add_argument("--any-temperature", action="store_true", help="replies at other temperatures than 0 count too")
    parser.add_argument("--independent", action="store_true", help="the log holds other calls than the rows come from")
    parser.add_argument("--json", action="store_true", help="for programs")


def call(args: argparse.Namespace) -> None:
    """Look, keep, say."""
    config = configured(args)
    if args.track not in config["tracks"]:
        raise UsageError(f"no track {args.track!r}; configured are: {', '.join(config['tracks'])}")
    teacher = Teacher.of(section(config, "teacher"))
    if teacher.provider == "simulated":
        raise UsageError("teacher.provider is simulated: it has no replies that were paid for; configure a real one")
    folder = args.results / "data" / args.track
    sheet = artefacts.read(Datasheet, folder / "datasheet.json")
    parts = [part for pattern in args.logs for part in open_source({"path": pattern}, seed=0, key=pattern)]
    _require_others(sheet, parts, args.independent)
    place = address(teacher)
    found = take_over(
        read_examples(folder / "test.jsonl"),
        parts,
        args.journal or Path(config["journal"]),
        teacher=teacher,
        endpoint=place.endpoint,
        prompt=config["tracks"][args.track].get("prompt", {}),
        model=args.model,
        any_temperature=args.any_temperature,
    )
    print(json.dumps(asdict(found)) if args.json else "\n".join(_said(found)))
    if not found.taken and not args.json:
        print(
            "A row's request has its schema in the system message unless tracks.TRACK.prompt.schema is none; a log that "
            "was made without it holds other requests.",
            file=sys.stderr,
        )


def _require_others(sheet: Datasheet, parts: list[Part], independent: bool) -> None:
    """Refuse the log that the rows' own answers are from."""
    if "traces" not in sheet:
        return
    known = {part["digest"] for source in sheet["sources"] for part in source["parts"]}
    own = next((part.label for part in parts if part.digest in known), None)
    if own is not None:
        raise UsageError(
            f"{own}: the answers of these rows were read from this log, so the teacher would agree with itself by "
            "construction; let it be asked again"
        )
    if not independent:
        raise UsageError(
            "the answers of these rows are logged replies; say --independent if this log holds other calls than those"
        )


def _said(found: Taken) -> list[str]:
    left = ", ".join(f"{why} {calls:,}" for why, calls in sorted(found.left.items(), key=lambda item: -item[1]))
    return [
        f"{found.calls:,} logged calls; {found.taken:,} of {found.rows:,} test rows got a reply, {found.known:,} had one",
        *([f"not taken: {left}"] if left else []),
    ]
