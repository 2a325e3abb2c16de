"""Look at rows in any format that is read, and write a track that runs unedited.

    fledgling init rows.jsonl                            one file, split by group
    fledgling init train.jsonl test.jsonl --name mail    files whose names say their split go there whole
    fledgling init 'logs/*.jsonl' --kind structured      a glob, read as one kind
    fledgling init exports/*.jsonl --name invoices       a log of production: its most frequent task, newest calls as test

Writes NAME.yaml, which goes over config/config.yaml, and says what was seen in the rows, how they split, and what a run
would ask and cost. The embedded checkpoint and the simulated teacher of the default answer until the file says
otherwise: with them a run shows that your rows work, and nothing about a real model.
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Container
from dataclasses import replace
from itertools import count
from pathlib import Path

import yaml

from fledgling import artefacts
from fledgling.artefacts import Datasheet, JsonObject
from fledgling.config import NAME, Config, load
from fledgling.data.draft import Draft, draft, track_name
from fledgling.data.prepare import prepare
from fledgling.errors import DataError, UsageError
from fledgling.files import write_text
from fledgling.forecast.plan import Line, plan, price
from fledgling.records import KINDS

BASE = Path("config/config.yaml")
CANNOT_RUN = "nothing was written, as the drafted track cannot run"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("rows", nargs="+", help=".jsonl or .json files, or globs")
    parser.add_argument("--name", help="name of the track (default: from the first file)")
    parser.add_argument("--kind", choices=KINDS, help="what the answers are (default: what more rows can be read as)")
    parser.add_argument(
        "--log", action="store_true", help="fine-tuning JSONL is a log: its answers are what was logged"
    )
    parser.add_argument("--out", type=Path, help="file to write (default: NAME.yaml)")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.add_argument("--json", action="store_true", help="for programs")


def call(args: argparse.Namespace) -> None:
    """Look, write, say."""
    known = load(BASE)["tracks"] if BASE.exists() else {}
    called = track_name(args.rows[0])
    name = _free(called, known) if args.name is None else _checked(args.name, known)
    out = args.out or Path(f"{name}.yaml")
    if out.exists() and not args.force:
        raise UsageError(f"{out}: is there already; name another with --out, or replace it with --force")
    logging.getLogger().setLevel(logging.WARNING)
    made = draft(args.rows, name=name, kind=args.kind, log=args.log)
    if called in known and args.name is None:
        made = replace(made, notes=(*made.notes, f"the track is called {name}, as {BASE} has one called {called}"))
    others = dict.fromkeys(known)
    text = yaml.safe_dump({"tracks": {**others, name: made.block}}, sort_keys=False, allow_unicode=True)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder, "track.yaml")
        trial.write_text(text, encoding="utf-8")
        config = load(BASE, trial)
        counts = _split(config, name, Path(folder))
        lines = plan(config, results=Path(folder), journal=Path(config["journal"]))
        asked = [line for line in lines if line.rule == "ask"]
    for split in ("train", "val"):
        if not counts[split] and any(line.rule == "train" for line in lines):
            raise DataError(f"{CANNOT_RUN}: of {made.rows:,} rows none is in {split}; give more rows")
    write_text(out, _comment(made, counts) + text)
    if args.json:
        print(json.dumps({"file": str(out), "track": name, "block": made.block, "rows": made.rows, "splits": counts}))
    else:
        print("\n".join(_said(made, counts, asked, out)))


def _free(name: str, known: Container[str]) -> str:
    """A name that no track of the default configuration has, as its other keys would be merged into the drafted one."""
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(free for free in names if free not in known)


def _checked(name: str, known: Container[str]) -> str:
    """A name that was given.

    Raises:
        UsageError: no track can have it, or one of the default configuration has.
    """
    if not NAME.fullmatch(name):  # the schema would say so too, with the name of a file that is gone
        raise UsageError(
            f"--name {name!r}: names are made of a–z, 0–9, - and _, and start with a letter or digit; "
            f"write --name {_free(track_name(name), known)}"
        )
    if name in known:
        raise UsageError(
            f"--name {name}: {BASE} has a track of this name, whose other keys would be merged into yours; take another"
        )
    return name


def _split(config: Config, name: str, folder: Path) -> dict[str, int]:
    """Rows by split, as the rule will make them; the prepared rows lie in the folder for the plan."""
    data = folder / "data" / name
    outputs = {split: data / f"{split}.jsonl" for split in ("train", "val", "test")}
    try:
        sheet = prepare(config["tracks"][name], config["seed"], name=name, outputs=outputs)
    except DataError as error:
        raise DataError(f"{CANNOT_RUN}: {error}") from None
    artefacts.write(Datasheet, data / "datasheet.json", sheet)
    return {split: entry["rows"] for split, entry in sheet["splits"].items()}


def _splits(made: Draft) -> JsonObject:
    found = made.block.get("splits")
    return found if isinstance(found, dict) else {}


def _how(made: Draft) -> str:
    """What the rows are split by: the files' names, time, or groups."""
    splits, sources = _splits(made), made.block["sources"]
    assert isinstance(sources, list)
    entries = [source for source in sources if isinstance(source, dict)]
    if any("split" in source for source in entries):
        shares = " and ".join(split for split, share in splits.items() if share)
        files = ", ".join(f"{source['path']} {source.get('split', shares)}" for source in entries)
        return f"file ({files})"
    return "time" if "test_from" in splits else "group"


def _comment(made: Draft, counts: dict[str, int]) -> str:
    split = ", ".join(f"{rows:,} {name}" for name, rows in counts.items())
    return (
        f"# Drafted by `fledgling init` from {made.rows:,} rows ({split}). It goes over config/config.yaml, whose tracks "
        "it\n# leaves out (null). Keys: config/README.md.\n"
    )


def _said(made: Draft, counts: dict[str, int], asked: list[Line], out: Path) -> list[str]:
    seen, name = made.seen, made.name
    formats = ", ".join(f"{count:,} {form}" for form, count in seen.formats.most_common())
    lines = [
        f"{made.rows:,} rows read, {seen.usable:,} usable as {made.block['kind']} ({formats})",
        *(f"  left out: {count:,} rows, first {seen.first[code]}" for code, count in seen.bad.most_common(5)),
        f"{seen.with_tools:,} with tools, {seen.with_schema:,} with a schema; longest answer about "
        f"{seen.answer_tokens:,} tokens, so max_new_tokens is {made.block['max_new_tokens']}",
        *made.notes,
        f"split by {_how(made)}: {counts['train']:,} train, {counts['val']:,} val, {counts['test']:,} test "
        "(copies and near-copies are kept together or left out)",
    ]
    money = price(asked) or "unknown: set teacher.prices"
    calls = sum(line.calls or 0 for line in asked)
    prompt = sum(line.prompt_tokens or 0 for line in asked)
    completion = sum(line.completion_tokens or 0 for line in asked)
    lines += [
        f"a run asks the teacher {calls:,} times, about {prompt:,} prompt and {completion:,} completion tokens; at the prices of "
        f"config/config.yaml: {money}",
        f"written: {out}",
        "next:",
        f"  snakemake --cores all --configfile {out} -- results/compare/{name}.json",
        "  It asks the simulated teacher and the embedded checkpoint; for real ones put an overlay of config/examples "
        "before it.",
    ]
    return lines
