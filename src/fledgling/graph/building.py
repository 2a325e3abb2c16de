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


class Building:
    """The ladders of all tracks of one configuration, as far as they are built in a results folder.

    `code` holds what the code of each of SCRIPTS means. Keys are made once, and files read once as long as they stay as
    they are, for Snakemake asks many times.
    """

    def __init__(self, config: Config, code: Mapping[str, str], results: Path = Path("results")) -> None:
        self._config = config
        self._code = {script: digest(code[script]) for script in SCRIPTS}
        self._results = results
        self._keys: dict[tuple[str, ...], str] = {}
        self._files: dict[Path, tuple[tuple[int, int, int], dict[str, Any]]] = {}

    def key(self, track: str, contender: str) -> str:
        """Names all that a contender's answer on val rests on: the settings of every rule before it, and their code."""
        place = (track, contender)
        if place not in self._keys:
            self._keys[place] = self._key(track, contender)
        return self._keys[place]

    def gate_key(self, track: str, judged: Sequence[str]) -> str:
        """The same for the gate over these contenders."""
        place = (track, "", *judged)
        if place not in self._keys:
            settings = sees.settings(self._config, "compare", track=track)
            self._keys[place] = digest([[self.key(track, name) for name in judged], settings, self._code["compare"]])
        return self._keys[place]

    def _key(self, track: str, contender: str) -> str:
        config, one = self._config, contenders.of(self._config, contender)
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
        return digest([track, contender, settings, {script: self._code[script] for script in scripts}])

    def on_val(self, track: str) -> list[str]:
        """The contenders that val lets be built, cheapest first, as far as it has been asked; all where it is not."""
        rungs = [one.name for one in contenders.allowed(self._config, track)]
        if not contenders.asks_val(self._config, track):
            return rungs
        for place, name in enumerate(rungs):
            said = self._read(self._results / "ladder" / track / f"{name}.json")
            if said.get("key") != self.key(track, name) or not said.get("goes_on"):
                return rungs[: place + 1]
        return rungs

    def judged(self, track: str) -> list[str]:
        """Those of them that the gate judges."""
        able = {one.name for one in contenders.gated(self._config, track)}
        return [name for name in self.on_val(track) if name in able]

    def built(self, track: str) -> list[str]:
        """All that are built: those that val lets be, and one more where the gate asks for it.

        Where the teacher's rows are bought in looks the gate asks for none, for all have answered before it.
        """
        names, seen = self.on_val(track), self.judged(track)
        if names != seen or not contenders.asks_val(self._config, track) or contenders.in_looks(self._config):
            return names
        said = self._read(self._results / "compare" / f"{track}.json")
        if said.get("next") and said.get("key") == self.gate_key(track, seen):
            return [one.name for one in contenders.allowed(self._config, track)][: len(names) + 1]
        return names

    def _read(self, path: Path) -> dict[str, Any]:
        """A file of the ladder; {} where it is not there, or only half. One that was edited stops the graph.

        Raises:
            DataError: its bytes are not those that were written.
        """
        try:
            stat = path.stat()
            as_it_is = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            known, value = self._files.get(path, (None, {}))
            if known == as_it_is:
                return value
            data = path.read_bytes()
            value = json.loads(data)
        except (OSError, ValueError):
            return {}
        if problem := seals.problem(data, seals.JSON):
            raise DataError(f"{path}: {problem}; delete it and build it again with: snakemake --cores all {path}")
        self._files[path] = (as_it_is, value)
        return value
