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
from pathlib import Path

import yaml

from fledgling import artefacts
from fledgling.artefacts import Datasheet, JsonObject
from fledgling.config import Config, load
from fledgling.data.draft import Draft, draft, track_name
from fledgling.data.prepare import prepare
from fledgling.errors import UsageError
from fledgling.files import write_text
from fledgling.forecast.plan import Line, plan
from fledgling.records import KINDS

BASE = Path("config/config.yaml")


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
    name = args.name or track_name(args.rows[0])
    out = args.out or Path(f"{name}.yaml")
    if out.exists() and not args.force:
        raise UsageError(f"{out}: is there already; name another with --out, or replace it with --force")
    logging.getLogger().setLevel(logging.WARNING)
    made = draft(args.rows, name=name, kind=args.kind, log=args.log)
    known = load(BASE)["tracks"] if BASE.exists() else {}
    others = {track: None for track in known if track != name}
    text = yaml.safe_dump({"tracks": {**others, name: made.block}}, sort_keys=False, allow_unicode=True)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder, "track.yaml")
        trial.write_text(text, encoding="utf-8")
        config = load(BASE, trial)
        counts = _split(config, name, Path(folder))
        asked = plan(config, results=Path(folder), journal=Path(config["journal"]))[0]
    write_text(out, _comment(made, counts) + text)
    if args.json:
        print(json.dumps({"file": str(out), "track": name, "block": made.block, "rows": made.rows, "splits": counts}))
    else:
        print("\n".join(_said(made, counts, asked, out)))


def _split(config: Config, name: str, folder: Path) -> dict[str, int]:
    """Rows by split, as the rule will make them; the prepared rows lie in the folder for the plan."""
    data = folder / "data" / name
    outputs = {split: data / f"{split}.jsonl" for split in ("train", "val", "test")}
    sheet = prepare(config["tracks"][name], config["seed"], name=name, outputs=outputs)
    artefacts.write(Datasheet, data / "datasheet.json", sheet)
    return {split: entry["rows"] for split, entry in sheet["splits"].items()}


def _splits(made: Draft) -> JsonObject:
    found = made.block.get("splits")
    return found if isinstance(found, dict) else {}


def _comment(made: Draft, counts: dict[str, int]) -> str:
    split = ", ".join(f"{rows:,} {name}" for name, rows in counts.items())
    return (
        f"# Drafted by `fledgling init` from {made.rows:,} rows ({split}). It goes over config/config.yaml, whose tracks "
        "it\n# leaves out (null). Keys: config/README.md.\n"
    )


def _said(made: Draft, counts: dict[str, int], asked: Line, out: Path) -> list[str]:
    seen, name = made.seen, made.name
    formats = ", ".join(f"{count:,} {form}" for form, count in seen.formats.most_common())
    lines = [
        f"{made.rows:,} rows read, {seen.usable:,} usable as {made.block['kind']} ({formats})",
        *(f"  left out: {count:,} rows, first {seen.first[code]}" for code, count in seen.bad.most_common(5)),
        f"{seen.with_tools:,} with tools, {seen.with_schema:,} with a schema; longest answer about "
        f"{seen.answer_tokens:,} tokens, so max_new_tokens is {made.block['max_new_tokens']}",
        *made.notes,
        f"split by {'time' if 'test_from' in _splits(made) else 'group'}: {counts['train']:,} train, {counts['val']:,} val, {counts['test']:,} test "
        "(copies and near-copies are kept together or left out)",
    ]
    money = "unknown: set teacher.prices" if asked.money is None else f"{asked.money:.2f} {asked.currency}"
    lines += [
        f"a run asks the teacher {asked.calls:,} times, about {asked.prompt_tokens:,} prompt and "
        f"{asked.completion_tokens:,} completion tokens; at the prices of config/config.yaml: {money}",
        f"written: {out}",
        "next:",
        f"  snakemake --cores all --configfile {out} -- results/compare/{name}.json",
        "  It asks the simulated teacher and the embedded checkpoint; for real ones put an overlay of config/examples "
        "before it.",
    ]
    return lines
