"""How far up the ladder the graph builds, read from files that a checkpoint of Snakemake has written.

A file that an edit has made old says nothing: its `key` names every setting and all code that it rests on, so that no
training starts because of an answer that is about to be given anew.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fledgling import contenders, seals
from fledgling.config import Config
from fledgling.errors import DataError
from fledgling.files import digest
from fledgling.graph import sees

# The scripts whose code an answer on val rests on, with what trains and chooses where a contender needs it.
ON_VAL = ("fetch", "prepare", "ask", "answer", "score", "try_on_val")
TRAINED = ("train", "select_adapter")
SHOTS = ("choose_shots",)
SCRIPTS = (*ON_VAL, *TRAINED, *SHOTS, "compare")
Code = Mapping[str, str]


def key(config: Config, track: str, contender: str, code: Code) -> str:
    """Names all that a contender's answer on val rests on: the settings of every rule before it, and their code."""
    one = contenders.of(config, contender)
    scripts = [*ON_VAL, *(TRAINED if one.adapter else ()), *(SHOTS if one.shots else ())]
    named: list[dict[str, Any]] = [{"rule": "fetch", "model": one.model}, {"rule": "prepare"}]
    named += [{"rule": rule, "contender": contenders.TEACHER} for rule in ("ask", "score")]
    named += [{"rule": rule, "contender": contender} for rule in ("answer", "score", "try_on_val")]
    if one.shots:
        named.append({"rule": "choose_shots", "contender": contender})
    if one.adapter:
        named.append({"rule": "train", "adapter": one.adapter})
        named.append({"rule": "select_adapter"})
        named += [{"rule": "answer", "contender": each} for each in contenders.candidates(config, one.adapter)]
    settings = [sees.settings(config, track=track, **each) for each in named]
    return digest([track, contender, settings, {script: code[script] for script in scripts}])


def gate_key(config: Config, track: str, judged: Sequence[str], code: Code) -> str:
    """The same for the gate over these contenders."""
    keys = [key(config, track, name, code) for name in judged]
    return digest([keys, sees.settings(config, "compare", track=track), code["compare"]])


def on_val(config: Config, track: str, code: Code, *, results: Path = Path("results")) -> list[str]:
    """The contenders that val lets be built, cheapest first, as far as it has been asked; all where it is not asked."""
    rungs = [one.name for one in contenders.allowed(config, track)]
    if not contenders.asks_val(config, track):
        return rungs
    for place, name in enumerate(rungs):
        said = _read(results / "ladder" / track / f"{name}.json")
        if said.get("key") != key(config, track, name, code) or not said.get("goes_on"):
            return rungs[: place + 1]
    return rungs


def judged(config: Config, track: str, code: Code, *, results: Path = Path("results")) -> list[str]:
    """Those of them that the gate judges."""
    able = {one.name for one in contenders.gated(config, track)}
    return [name for name in on_val(config, track, code, results=results) if name in able]


def built(config: Config, track: str, code: Code, *, results: Path = Path("results")) -> list[str]:
    """All that are built: those that val lets be, and one more where the gate asks for it."""
    names = on_val(config, track, code, results=results)
    if not contenders.asks_val(config, track):
        return names
    seen = [name for name in names if name in {one.name for one in contenders.gated(config, track)}]
    said = _read(results / "compare" / f"{track}.json")
    following = said.get("next")
    if seen == names and following and said.get("key") == gate_key(config, track, seen, code):
        rungs = [one.name for one in contenders.allowed(config, track)]
        return rungs[: len(names) + 1]
    return names


def _read(path: Path) -> dict[str, Any]:
    """A file of the ladder; {} where it is not there, or only half. One that was edited stops the graph."""
    try:
        data = path.read_bytes()
        value = json.loads(data)
    except (OSError, ValueError):
        return {}
    if problem := seals.problem(data, seals.JSON):
        raise DataError(f"{path}: {problem}; delete it and build it again with: snakemake --cores all {path}")
    return value if isinstance(value, dict) else {}
