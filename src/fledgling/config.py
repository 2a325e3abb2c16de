"""The configuration: read, validated against config/schemas, with errors that name file, line, key and remedy."""

import difflib
import glob
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fledgling.errors import ConfigError

Config = dict[str, Any]
CHECKOUT = Path(__file__).parents[2]
SCHEMA = "config/schemas/config.schema.yaml"
# "Where" keys: they say where and how fast work is done, never what comes out, so they re-run nothing.
WHERE: dict[str, tuple[str, ...]] = {
    "slm": ("gpus",),
    "teacher": ("timeout_s", "max_tries", "concurrency", "requests_per_minute", "tokens_per_minute", "budget"),
    "training": ("gpus", "micro_batch_tokens", "deepspeed"),
}
# libyaml where PyYAML was built with it: a dry run reads the schema each time.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(*files: str | os.PathLike[str], root: str | os.PathLike[str] = CHECKOUT) -> Config:
    """Merge configuration files, later ones over earlier ones, and validate the result.

    Raises:
        ConfigError: a file is missing or no YAML, or a key is wrong.
    """
    merged: Config = {}
    for file in files:
        try:
            with open(file, encoding="utf-8") as stream:
                value = yaml.load(stream, Loader=_Loader)
        except FileNotFoundError:
            raise ConfigError(f"{file}: no such file") from None
        except yaml.YAMLError as error:
            raise ConfigError(f"{file}: not YAML: {error}") from None
        if not isinstance(value, dict):
            raise ConfigError(f"{file}: expected keys and values, found {type(value).__name__}")
        _merge(merged, value)
    return validate(merged, files=files, root=root)


def validate(
    config: Config, *, files: Sequence[str | os.PathLike[str]] = (), root: str | os.PathLike[str] = CHECKOUT
) -> Config:
    """The configuration without removed tracks, checked key by key; `files` are searched for line numbers.

    The schema is that of the checkout `root`; the paths of sources are relative to where the run is.

    Raises:
        ConfigError: lists every wrong key with its file, line and a remedy.
    """
    import jsonschema_rs

    tracks = config.get("tracks")
    if isinstance(tracks, dict):
        config = {**config, "tracks": {name: track for name, track in tracks.items() if track is not None}}
    with open(Path(root, SCHEMA), encoding="utf-8") as stream:
        schema = yaml.load(stream, Loader=_Loader)
    problems = [
        problem
        for error in jsonschema_rs.validator_for(schema).iter_errors(config)
        for problem in _explain(error, schema)
    ]
    if not problems:
        problems = _contradictions(config)
    if problems:
        lines = [f"  {_place(files, path)}{message}" for path, message in problems]
        raise ConfigError("the configuration cannot be used:\n" + "\n".join(lines))
    return config


def where(config: Config) -> Config:
    """The part of the configuration that says where work is done; a change to it re-runs nothing."""
    sections = {name: {key: config[name][key] for key in keys if key in config[name]} for name, keys in WHERE.items()}
    return {**sections, "journal": config["journal"]}


def section(config: Config, name: str) -> Any:
    """One section of the configuration without its "where" keys."""
    value = config[name]
    return {key: item for key, item in value.items() if key not in WHERE[name]} if name in WHERE else value


def _merge(into: Config, other: Config) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


Problem = tuple[list[str | int], str]


def _explain(error: Any, schema: Any) -> list[Problem]:
    path, kind = list(error.instance_path), error.kind
    name = type(kind).__name__.removeprefix("ValidationErrorKind_")
    if name == "AdditionalProperties":
        known = _known_keys(schema, list(error.schema_path))
        return [([*path, key], f"unknown key; {_did_you_mean(key, known)}") for key in kind.unexpected]
    if name == "Required":
        return [([*path, kind.property], "this key is missing")]
    if name == "PropertyNames":
        return [(path, "names are made of a–z, 0–9, - and _, and start with a letter or digit")]
    if name in ("OneOfNotValid", "OneOfMultipleValid"):
        return [(path, "a source has exactly one of: path, hub, embedded")]
    if name == "Type" and isinstance(error.instance, str) and _is_number(error.instance):
        return [
            (
                path,
                f"{error.instance!r} is text, not a number; write {float(error.instance)!r} "
                "(YAML reads 2e-4 as text, 2.0e-4 as a number)",
            )
        ]
    if name == "Enum":
        allowed = [str(option) for option in kind.options] if hasattr(kind, "options") else []
        hint = f"; {_did_you_mean(str(error.instance), allowed)}" if allowed else ""
        return [(path, f"{error.message}{hint}")]
    return [(path, error.message)]


def _known_keys(schema: Any, path: list[str | int]) -> list[str]:
    node = schema
    for step in path[:-1]:
        node = node[step]
        while isinstance(node, dict) and "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return list(node.get("properties", {}))


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(sorted(known))}"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _contradictions(config: Config) -> list[Problem]:
    """What a schema cannot say: sums, files that must exist, names that must fit together."""
    problems: list[Problem] = []
    recipe_keys = sorted(config["recipe"])
    place = (config["publish"]["repo_id"] or "{track}") + (config["publish"].get("path_in_repo") or "")
    if "{track}" not in place and len(config["tracks"]) > 1:
        problems.append((["publish", "repo_id"], "several tracks would overwrite each other; put {track} into it"))
    for name, track in config["tracks"].items():
        here: list[str | int] = ["tracks", name]
        shares = track.get("splits")
        if shares and not math.isclose(sum(shares.values()), 1, abs_tol=1e-9):
            problems.append(([*here, "splits"], f"the shares add up to {sum(shares.values()):g}, not 1"))
        if not shares and any("split" not in source and not source.get("evaluate_only") for source in track["sources"]):
            problems.append(([*here, "splits"], "this key is missing: a source without `split` needs the shares"))
        for index, source in enumerate(track["sources"]):
            there = [*here, "sources", index]
            if "path" in source and not glob.glob(source["path"], recursive=True):
                problems.append(([*there, "path"], f"no such file: {source['path']} (relative to {Path.cwd()})"))
            if source.get("embedded", track["kind"]) != track["kind"]:
                problems.append(
                    ([*there, "embedded"], f"rows of kind {source['embedded']} in a track of kind {track['kind']}")
                )
            if "embedded" in source and "rows" not in source:
                problems.append(([*there, "rows"], "this key is missing: how many rows to generate"))
        for key in track.get("recipe", {}):
            if key == "candidates":  # the files of a training are known before a track is
                problems.append(([*here, "recipe", key], "the same for all tracks; set recipe.candidates"))
            elif key not in recipe_keys:
                problems.append(([*here, "recipe", key], f"unknown key; {_did_you_mean(key, recipe_keys)}"))
    return problems


def _place(files: Sequence[str | os.PathLike[str]], path: list[str | int]) -> str:
    """'file:line: key: ' of the deepest part of a path that some file holds; the last file wins."""
    key = ".".join(str(part) for part in path)
    found: tuple[int, str] = (0, "")
    for file in files:
        try:
            node = yaml.compose(Path(file).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError):
            continue
        depth, line = _locate(node, path)
        if depth and depth >= found[0]:
            found = (depth, f"{file}:{line}: ")
    return f"{found[1]}{key}: " if key else found[1]


def _locate(node: Any, path: list[str | int]) -> tuple[int, int]:
    line = 0
    for depth, part in enumerate(path):
        if isinstance(node, yaml.MappingNode):
            match = [(key, value) for key, value in node.value if key.value == str(part)]
            if not match:
                return depth, line
            line, node = match[-1][0].start_mark.line + 1, match[-1][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return depth, line
    return len(path), line
