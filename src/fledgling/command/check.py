"""Say what this machine has, what a run would use of it, and whether each stage can run. Run it once before the first run.

    fledgling check                                                    the embedded default
    fledgling check --config config/config.yaml config/phi4-mini.yaml  the same files as for snakemake
    fledgling check --ask-teacher                                      and ask the teacher one question (one paid call)

Reads the configuration, the variables (secrets are only counted), the checkpoints where they are built, and what
earlier runs left. Memory is an estimate from a checkpoint's config.json; what is unknown is called unknown. Exit code 3
where a run could not start, with everything that is missing.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from fledgling.config import Config
from fledgling.errors import ConfigError
from fledgling.files import write_jsonl
from fledgling.forecast import surroundings
from fledgling.forecast.fit import check
from fledgling.forecast.machine import this_machine
from fledgling.forecast.table import text
from fledgling.graph.options import add_config, configured


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)
    parser.add_argument("--results", type=Path, default=Path("results"), help="what is built")
    parser.add_argument("--ask-teacher", action="store_true", help="ask the teacher one question; one paid call")
    parser.add_argument("--json", action="store_true", help="for programs")


def call(args: argparse.Namespace) -> None:
    """Print what was found; refuse what cannot run."""
    config = configured(args)
    around = surroundings.look(config, results=args.results)
    report = check(config, results=args.results, machine=this_machine())
    if args.json:
        found = {**asdict(report), "surroundings": [asdict(finding) for finding in around]}
        print(json.dumps(found, indent=2, default=str), flush=True)
    else:
        print("surroundings")
        for finding in around:
            print(f"  {finding.what}: {finding.said}")
        print(text(report), flush=True)
    problems = [*dict.fromkeys(finding.problem for finding in around if finding.problem), *report.refusals]
    if problems:
        raise ConfigError("this configuration cannot run here:\n  " + "\n  ".join(problems))
    if args.ask_teacher:
        print(f"teacher: {ask_once(config)}")


def ask_once(config: Config) -> str:
    """What the teacher answers to one harmless question, through the stage's own code; one paid call."""
    from fledgling.teacher.ask import ask
    from fledgling.teacher.requests import Teacher

    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder, "row.jsonl"), Path(folder, "answer.jsonl")
        turns = [{"role": "user", "content": 'Answer with this JSON and nothing else: {"ready": true}'}]
        write_jsonl(data, [{"id": "check", "group": "check", "messages": turns, "answer": {"ready": True}}])
        ask(data=data, teacher=Teacher.of(config["teacher"]), prompt={}, journal=Path(folder, "journal"), out=out)
        row = json.loads(out.read_text(encoding="utf-8"))
    return f"{row['outcome']} from {row['model']}: {(row['raw'] or '')[:80]}"
