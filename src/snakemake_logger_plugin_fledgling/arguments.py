"""Mistakes of a command line, said before Snakemake meets them in a traceback: each with what to type instead.

Snakemake reads its configuration files before it reads the Snakefile, so nothing later could say it.
"""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

FILES = ("--configfile", "--configfiles")
VALUES = ("--config", "-C")
DIRECTORY = ("--directory", "-d")
HELP = {"--help", "-h", "--version", "-v"}  # which need no folder
YAML = (".yaml", ".yml", ".json")


def check(argv: Sequence[str]) -> None:
    """End with exit code 2 or 3 where a configuration file is missing, is no YAML, or was given as KEY=VALUE, and where
    nobody may write into the folder of the run.

    `argv` is a whole command line; one that is not Snakemake's is passed over.
    """
    program = Path(argv[0]) if argv else Path()
    if program.name not in ("snakemake", "__main__.py") or "snakemake" not in program.as_posix():
        return
    for found in _problems(list(argv)):
        code, message = found
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(code)


def folder(argv: Sequence[str]) -> Path:
    """The folder of the run: where the command was typed, or --directory; Snakemake goes there later."""
    named = [value for option, value in pairwise(argv) if option in DIRECTORY]
    named += [argument.partition("=")[2] for argument in argv if argument.startswith(f"{DIRECTORY[0]}=")]
    return Path.cwd().joinpath(*named[-1:])


def _problems(argv: list[str]) -> Iterator[tuple[int, str]]:
    place_of_run = folder(argv)
    if place_of_run.is_dir() and not os.access(place_of_run, os.W_OK) and not HELP & set(argv):
        elsewhere = ["snakemake", DIRECTORY[0], "DIR", *argv[1:]]
        yield (
            3,
            (
                f"{place_of_run}: nothing can be written there, and a run keeps its results and its state in its folder; make "
                f"it writable for this user, or type with a folder of your own for DIR: {_typed(elsewhere)}"
            ),
        )
    for place, argument in enumerate(argv):
        if argument == "--":
            return
        if argument in VALUES:
            given = [value for value in _values(argv, place) if value.endswith(YAML) and "=" not in value]
            if given:
                mended = [*argv[:place], "--configfile", *argv[place + 1 :]]
                yield 2, f"{argument} takes KEY=VALUE, and {given[0]} is a file; type: {_typed(mended)}"
        if argument in FILES:
            for offset, value in enumerate(_values(argv, place), start=place + 1):
                if problem := _unreadable(argv, offset, value):
                    yield problem


def _unreadable(argv: list[str], place: int, value: str) -> tuple[int, str] | None:
    import yaml

    try:
        yaml.load(Path(value).read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError:
        if value.endswith(YAML if argv[place - 1] in FILES else YAML[:2]):
            return 3, f"{value}: no such file; --configfile takes files of configuration, relative to {Path.cwd()}"
        mended = [*argv[:place], "--", *argv[place:]]
        return 2, (
            f"{value} is taken for a file of configuration, as --configfile takes all that follows it up to `--`; "
            f"type: {_typed(mended)}"
        )
    except OSError as error:
        return 3, f"{value}: cannot be read ({error.strerror}); make it readable, or name another file"
    except UnicodeDecodeError as error:
        return 3, f"{value}: not UTF-8 at byte {error.start}; save the file as UTF-8"
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        what = getattr(error, "problem", None) or "it cannot be parsed"
        return 3, f"{value}{line}: not YAML ({what}); keys of one block stand below each other, indented by spaces"
    return None


def _values(argv: list[str], place: int) -> list[str]:
    """What follows an option, up to the next one."""
    found = []
    for argument in argv[place + 1 :]:
        if argument.startswith("-"):
            break
        found.append(argument)
    return found


def _typed(argv: list[str]) -> str:
    return shlex.join(["snakemake", *argv[1:]])
