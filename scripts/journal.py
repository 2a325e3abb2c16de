"""Look after the journal: python scripts/journal.py list | verify | compact [--journal DIR].

list     what is kept, what may have been billed without a reply, tokens
verify   check every line's checksum; exit 5 where one is damaged
compact  drop what is superseded; safe beside running stages
"""

import argparse
from collections import Counter
from pathlib import Path

from fledgling.cli import run
from fledgling.errors import ConfigError, DataError
from fledgling.journal import Journal
from fledgling.journal.line import decode, is_whole
from fledgling.teacher.answers import read


def main() -> None:
    """Run one command over every journal in the folder."""
    parser = argparse.ArgumentParser(
        prog="python scripts/journal.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["list", "verify", "compact"])
    parser.add_argument("--journal", type=Path, default=Path(".journal"), help="folder (default: .journal)")
    options = parser.parse_args()
    paths = sorted(options.journal.glob("*.jsonl"))
    if not paths:
        raise ConfigError(f"{options.journal}: no journal here; name its folder with --journal")
    damaged = {path: _COMMANDS[options.command](path) for path in paths}
    if bad := [str(path) for path, lines in damaged.items() if lines]:
        raise DataError(f"{', '.join(bad)}: damaged lines; the next run moves them aside and asks those rows again")


def _list(path: Path) -> int:
    kinds: Counter[str] = Counter()
    owed: Counter[str] = Counter()
    keys: set[str] = set()
    tokens: Counter[str] = Counter()
    billed_failures = 0
    with open(path, "rb") as stream:
        for line in stream:
            if not is_whole(line):
                continue
            entry = decode(line)
            kinds[entry.kind] += 1
            owed[entry.key] += 1 if entry.kind == "intent" else -1
            if entry.kind == "result":
                keys.add(entry.key)
                answer = read(entry.record.get("status", 0), entry.record.get("body", ""))
                tokens.update(answer.usage if answer else {})
            billed_failures += entry.kind == "failure" and entry.record.get("billed") != "no"
    lost = sum(count for count in owed.values() if count > 0)
    print(f"{path}: {path.stat().st_size:,} bytes")
    print(f"  {len(keys):,} finished requests ({kinds['result']:,} results)")
    if kinds["intent"]:
        print(f"  {kinds['intent']:,} calls, {kinds['failure']:,} of them failed")
        print(f"  {lost + billed_failures:,} calls without a reply that may have been billed")
    if tokens:
        print(f"  {tokens['prompt_tokens']:,} prompt and {tokens['completion_tokens']:,} completion tokens")
    return 0


def _verify(path: Path) -> int:
    lines = bad = 0
    with open(path, "rb") as stream:
        for line in stream:
            lines += bool(line.strip())
            if line.strip() and not (line.endswith(b"\n") and is_whole(line)):
                bad += 1
                print(f"{path}: damaged line at byte {stream.tell() - len(line):,}")
    print(f"{path}: {lines - bad:,} of {lines:,} lines are whole")
    return bad


def _compact(path: Path) -> int:
    with Journal(path.parent, path.stem) as journal:
        before, after = journal.compact()
    print(f"{path}: {before:,} bytes before, {after:,} after")
    return 0


_COMMANDS = {"list": _list, "verify": _verify, "compact": _compact}

if __name__ == "__main__":
    run(main)
