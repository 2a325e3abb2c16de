"""The configuration: read, validated against config/schemas, with errors that name file, line, key and remedy."""

import difflib
import glob
import math
import os
import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

from fledgling import selection
from fledgling.errors import ConfigError

Config = dict[str, Any]
Problem = tuple[list[str | int], str]
NAME = re.compile("[a-z0-9][a-z0-9_-]*")  # of tracks, models, contenders and adapters, as the schema has it
CHECKOUT = Path(__file__).parents[2]
SCHEMA = "config/schemas/config.schema.yaml"
# "Where" keys: they say where and how fast work is done, never what comes out, so they re-run nothing.
WHERE: dict[str, tuple[str, ...]] = {
    "slm": ("gpus",),
    "teacher": (
        "auth",
        "headers",
        "first_replies",
        "timeout_s",
        "max_tries",
        "concurrency",
        "requests_per_minute",
        "tokens_per_minute",
        "budget",
    ),
    "training": ("gpus", "micro_batch_tokens", "deepspeed", "compile", "cuda_graphs"),
    "trace": ("in_all", "outbox", "wait_s"),
}
# Not "where", but no part of what a paid call or a GPU job makes: they count money, or are judged later.
BESIDE: dict[str, tuple[str, ...]] = {"teacher": ("prices", "allow_mixed_models")}
SLM = selection.MODEL  # also the section on how local models answer
MODEL_PATH = "SLM_MODEL_PATH"  # the folder of a checkpoint that takes the place of models.slm
# What a configuration may leave out.
DEFAULTS: Config = {
    "contenders": {"slm": {}, "tuned": {"adapter": "sft", "after": "slm"}},
    "adapters": {"sft": {}},
    "repeats": [],
    "trace": {},
}
TRACK_DEFAULTS: Config = {
    "splits": {"train": 0.6, "val": 0.15, "test": 0.25},
    "finetune": "auto",
    "max_new_tokens": 256,
}
BEFORE_TEST: Config = {"train": 0.8, "val": 0.2}  # shares of what is older than splits.test_from
# Sections of named blocks, and what one of these is: a later file removes a block by setting it to null.
BLOCKS = {"tracks": "a track", "contenders": "a contender", "adapters": "an adapter", "models": "a model"}
OF_LOGS = ("where", "gold", "feedback", "turns", "tool_errors")  # keys of a source that only logs have a use for
# libyaml where PyYAML was built with it: a dry run reads the schema each time.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(*files: str | os.PathLike[str], root: str | os.PathLike[str] = CHECKOUT, selected: bool = True) -> Config:
    """Merge configuration files, later ones over earlier ones, and validate the result.

    `selected` puts the model that was chosen for this folder (model_selection.json) in the place of models.slm.

    Raises:
        ConfigError: a file is missing or no YAML, a key is wrong, or the selection cannot be used.
    """
    merged: Config = {}
    for file in files:
        try:
            with open(file, encoding="utf-8") as stream:
                value = yaml.load(stream, Loader=_Loader)
        except FileNotFoundError:
            raise ConfigError(f"{file}: no such file") from None
        except IsADirectoryError:
            raise ConfigError(f"{file}: this is a folder; name a file of YAML in it") from None
        except yaml.MarkedYAMLError as error:
            line = f":{error.problem_mark.line + 1}:{error.problem_mark.column + 1}" if error.problem_mark else ""
            what = error.problem or "it cannot be parsed"
            remedy = "keys of one block stand below each other, indented by spaces"
            raise ConfigError(f"{file}{line}: not YAML ({what}); {remedy}") from None
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none, not in quotes
            raise ConfigError(f"{file}: not YAML: {error}") from None
        if not isinstance(value, dict):
            raise ConfigError(f"{file}: expected keys and values, found {type(value).__name__}")
        _merge(merged, value)
    return validate(selection.apply(merged, Path(root)) if selected else merged, files=files, root=root)


def validate(
    config: Config, *, files: Sequence[str | os.PathLike[str]] = (), root: str | os.PathLike[str] = CHECKOUT
) -> Config:
    """The configuration with its defaults and without removed blocks, checked key by key.

    `files` are searched for line numbers. SLM_MODEL_PATH, where it is set, is models.slm from here on, so that a
    change of it counts as one of the configuration.

    The schema is that of the checkout `root`; the paths of sources are relative to where the run is.

    Raises:
        ConfigError: lists every wrong key with its file, line and a remedy.
    """
    import jsonschema_rs

    read = _read(files)
    _refuse([problem for one in read for problem in _of_keys(one)])
    problems = _removed_in_vain(config, read) if len(read) == len(set(files)) else []
    with open(Path(root, SCHEMA), encoding="utf-8") as stream:
        schema = yaml.load(stream, Loader=_Loader)
    config = _whole(_with_defaults(_dates_as_text(config)), schema, schema["$defs"])
    if isinstance(config.get("contenders"), dict):
        config["contenders"] = _in_order(config["contenders"], read)
    problems += [
        problem
        for error in jsonschema_rs.validator_for(schema).iter_errors(config)
        for problem in _explain(error, schema)
    ]
    if not problems:
        problems = _contradictions(config)
    _refuse([(_place(read, path), message) for path, message in problems])
    return config


def _refuse(problems: Sequence[tuple[str, str]]) -> None:
    """Raise what is wrong, each with its place before it; nothing where there is nothing."""
    if problems:
        from fledgling.secrets import mask  # slow to import, and needed where a key may stand in a wrong place

        lines = [f"  {place}{mask(message, {})}" for place, message in problems]
        raise ConfigError("the configuration cannot be used:\n" + "\n".join(lines))


class _File(NamedTuple):
    """One file of the configuration: the nodes that YAML makes of it, which know their lines, and its value."""

    name: str | os.PathLike[str]
    node: Any
    value: Any


def _read(files: Sequence[str | os.PathLike[str]]) -> list[_File]:
    """The files, each once, without those that cannot be read: who merged them has said so."""
    read = []
    for file in dict.fromkeys(files):
        try:
            text = Path(file).read_text(encoding="utf-8")
            read.append(_File(file, yaml.compose(text, Loader=_Loader), yaml.load(text, Loader=_Loader)))
        except (OSError, ValueError, yaml.YAMLError):
            continue
    return read


def _of_keys(file: _File) -> list[tuple[str, str]]:
    """The keys of a file that YAML reads otherwise than they are written, as (place, what is wrong), at every depth.

    Of a key that occurs twice in one block YAML keeps the last alone, and `no` or 2024 as a key is no text.
    """
    found: list[tuple[int, str, str]] = []
    waiting: list[tuple[Any, str]] = [(file.node, "")]
    seen: set[int] = set()  # an alias leads to the same node again
    while waiting:
        node, path = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, f"{path}{number}.") for number, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                waiting.append((value, path))
                continue
            name, line = str(key.value), key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                no_text = f"a key is text, which YAML does not take this one for; write it in quotes: '{name}'"
                found.append((line, f"{path}{name}", no_text))
            elif name in lines:
                twice = f"this key is on line {lines[name]} already, and YAML keeps the last alone; put both into one"
                found.append((line, f"{path}{name}", twice))
            else:
                lines[name] = line
            waiting.append((value, f"{path}{name}."))
    return [(f"{file.name}:{line}: {path}: ", message) for line, path, message in sorted(found)]


def _removed_in_vain(config: Config, read: Sequence[_File]) -> list[Problem]:
    """Blocks that are set to null where no file has them: a misspelt name would leave the block that was meant."""
    problems: list[Problem] = []
    for section, what in BLOCKS.items():
        removed = config.get(section)
        if not read or not isinstance(removed, dict):
            continue
        found = [DEFAULTS.get(section), *(one.value.get(section) for one in read if isinstance(one.value, dict))]
        known = {
            name for blocks in found if isinstance(blocks, dict) for name, block in blocks.items() if block is not None
        }
        problems += [
            (
                [section, name],
                f"null removes {what}, and there is none of this name; {_did_you_mean(name, sorted(known))}",
            )
            for name, block in removed.items()
            if block is None and name not in known
        ]
    return problems


def _whole(value: Any, node: Any, defs: Config) -> Any:
    """The same with whole numbers where the schema asks for them: to JSON Schema 3.0 is one, to Python it is not."""
    if "$ref" in node:
        node = defs[node["$ref"].rpartition("/")[2]]
    if isinstance(value, dict):
        known, other = node.get("properties", {}), node.get("additionalProperties") or {}
        return {key: _whole(item, known.get(key, other), defs) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item, node.get("items", {}), defs) for item in value]
    wanted = any("integer" in option.get("type", ()) for option in (node, *node.get("oneOf", ())))
    return int(value) if wanted and isinstance(value, float) and value.is_integer() else value


def _in_order(blocks: Config, read: Sequence[_File]) -> Config:
    """Blocks in the order in which the files name them, the first file first: Snakemake's merging turns it around.

    A file that names all that stand before it gives their order anew.
    """
    if len(read) < 2:
        return blocks
    names: list[str] = []
    for one in read:
        found = one.value.get("contenders") if isinstance(one.value, dict) else None
        if isinstance(found, dict):
            again = set(names) <= found.keys()
            names = list(found) if again else [*names, *(name for name in found if name not in names)]
    place = {name: number for number, name in enumerate(names)}
    return dict(sorted(blocks.items(), key=lambda item: place.get(item[0], len(place))))


def where(config: Config) -> Config:
    """The part of the configuration that reaches jobs beside their settings; a change to it re-runs none of them."""
    sections = {
        name: {key: config[name][key] for key in (*keys, *BESIDE.get(name, ())) if key in config[name]}
        for name, keys in WHERE.items()
    }
    # What `prepare` says about its rows, and what makes nothing: a new margin splits no row anew.
    decision = {key: config["decision"][key] for key in ("margin", "alpha", "power")}
    margins = {name: track["margin"] for name, track in config["tracks"].items() if "margin" in track}
    return {
        **sections,
        "journal": config["journal"],
        "decision": decision,
        "margins": margins,
        "spelled": spelled(config),
    }


def spelled(config: Config) -> dict[str, dict[str, str]]:
    """{contender: {key of `slm` or of a track: how the contender's own block spells it}}, so that messages name it.

    Candidates of an adapter, which answer with the keys of its first user, are under `{adapter}.`.
    """
    found: dict[str, dict[str, str]] = {}
    for name, block in config["contenders"].items():
        found[name] = {key: f"contenders.{name}.{key}" for key in sorted(block)}
        if adapter := block.get("adapter"):
            found.setdefault(f"{adapter}.", found[name])
    return {name: keys for name, keys in found.items() if keys}


def section(config: Config, name: str) -> Any:
    """One section of the configuration without its "where" keys."""
    return without_where(name, config[name])


def without_where(name: str, value: Any) -> Any:
    """A value of a section without the section's "where" keys."""
    return {key: item for key, item in value.items() if key not in WHERE[name]} if name in WHERE else value


def _with_defaults(config: Config) -> Config:
    """The configuration with what it may leave out, without blocks that a later file set to null."""
    config = {**DEFAULTS, **config}
    for name in BLOCKS:
        if isinstance(config.get(name), dict):
            config[name] = {key: block for key, block in config[name].items() if block is not None}
    if isinstance(config.get("tracks"), dict):
        config["tracks"] = {
            name: _before_test({**TRACK_DEFAULTS, **track}) if isinstance(track, dict) else track
            for name, track in config["tracks"].items()
        }
    folder = os.environ.get(MODEL_PATH)
    if folder and isinstance(config.get("models"), dict):
        config["models"] = {**config["models"], "slm": {"source": "path", "path": folder}}
    return config


def _before_test(track: Config) -> Config:
    """A track whose test is the newest traffic, with the shares of what is older."""
    shares = track["splits"]
    if not isinstance(shares, dict) or "test_from" not in shares or {"train", "val"} & shares.keys():
        return track
    return {**track, "splits": {**BEFORE_TEST, **shares}}


def _dates_as_text(value: Any) -> Any:
    """The same with ISO text for dates, which YAML makes of 2026-10-01 and JSON has not."""
    if isinstance(value, dict):
        return {key: _dates_as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_dates_as_text(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def _merge(into: Config, other: Config) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _explain(error: Any, schema: Any) -> list[Problem]:
    path, kind = list(error.instance_path), error.kind
    name = type(kind).__name__.removeprefix("ValidationErrorKind_")
    if path[:2] == ["teacher", "headers"]:  # never its text: it may be the secret itself
        return [(path, "name the variable that holds the header's value, as {Ocp-Apim-Subscription-Key: APIM_KEY}")]
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
    if name in ("Maximum", "ExclusiveMaximum") and path[-1:] == ["margin"] and isinstance(error.instance, int | float):
        share = f"; did you mean {error.instance / 100:g} ({error.instance:g} points)?" if error.instance < 100 else ""
        return [(path, f"{error.instance} is no share; a margin of 5 points is 0.05{share}")]
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
    for index, pattern in enumerate(config["trace"].get("mask", [])):
        try:
            re.compile(pattern)
        except re.error as error:
            problems.append((["trace", "mask", index], f"not a regular expression ({error}); mind YAML's quotes"))
    if secret := _holds_a_secret(config["teacher"].get("base_url") or ""):
        problems.append((["teacher", "base_url"], secret))
    if (config["teacher"].get("budget") or {}).get("money") is not None and config["teacher"].get("prices") is None:
        problems.append(
            (
                ["teacher", "budget", "money"],
                "needs teacher.prices, as unknown prices cannot be added up; fill in your contract's "
                "({input_per_million, output_per_million, currency}), or set money to null",
            )
        )
    place = (config["publish"]["repo_id"] or "{track}") + (config["publish"].get("path_in_repo") or "")
    if "{track}" not in place and len(config["tracks"]) > 1:
        problems.append((["publish", "repo_id"], "several tracks would overwrite each other; put {track} into it"))
    for name, track in config["tracks"].items():
        here: list[str | int] = ["tracks", name]
        if wrong := _of_splits(track.get("splits")):
            problems.append(([*here, "splits"], wrong))
        for index, source in enumerate(track["sources"]):
            there = [*here, "sources", index]
            if "path" in source and not glob.glob(source["path"], recursive=True):
                problems.append(([*there, "path"], f"no such file: {source['path']} (relative to {Path.cwd()})"))
            problems += [([*there, *keys], message) for keys, message in _of_log(source)]
            if source.get("embedded", track["kind"]) != track["kind"]:
                problems.append(
                    ([*there, "embedded"], f"rows of kind {source['embedded']} in a track of kind {track['kind']}")
                )
            if "embedded" in source and "rows" not in source:
                problems.append(([*there, "rows"], "this key is missing: how many rows to generate"))
        if "candidates" in track.get("recipe", {}):  # the files of a training are known before a track is
            problems.append(([*here, "recipe", "candidates"], "the same for all tracks; set recipe.candidates"))
    return [*problems, *_of_contenders(config)]


def _of_splits(shares: Any) -> str | None:
    """What is wrong with the shares of the splits; None where nothing is."""
    if not shares:
        return None
    needed = ("train", "val") if "test_from" in shares else ("train", "val", "test")
    if missing := [name for name in needed if name not in shares]:
        return f"{missing[0]} is missing; needed are {', '.join(needed)}"
    if "test_from" in shares:
        if "test" in shares:
            return "test_from decides what the test is; leave `test` out"
        if not _is_time(shares["test_from"]):
            return f"test_from: {shares['test_from']!r} is no date; write 2026-10-01"
    total = sum(shares[name] for name in needed)
    return (
        None
        if math.isclose(total, 1, abs_tol=1e-9)
        else f"the shares of {', '.join(needed)} add up to {total:g}, not 1"
    )


def _of_log(source: Config) -> Iterable[Problem]:
    """What is wrong with the keys by which a source chooses among the calls of a log."""
    if source.get("format") != "traces":
        for key in OF_LOGS:
            if key in source:
                yield [key], "only a log has a use for this key; set format: traces, or leave it out"
    for key in ("since", "until"):
        if key in source.get("where", {}) and not _is_time(source["where"][key]):
            yield ["where", key], f"{source['where'][key]!r} is no date; write 2026-10-01 or 2026-10-01T12:00:00"
    wants = source.get("gold") == "feedback"
    if wants and "feedback" not in source:
        yield ["feedback"], "this key is missing: which score approves a reply, as {score: correct, at_least: 1}"
    if not wants and "feedback" in source:
        yield ["feedback"], "says nothing without gold: feedback"
    pattern = source.get("feedback", {}).get("path")
    if pattern and not glob.glob(pattern, recursive=True):
        yield ["feedback", "path"], f"no such file: {pattern} (relative to {Path.cwd()})"
    for index, expression in enumerate(source.get("redact", [])):
        try:
            re.compile(expression)
        except re.error as error:
            yield ["redact", index], f"{expression!r} is no regular expression ({error})"


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _of_contenders(config: Config) -> list[Problem]:
    """Names in `contenders`, `adapters` and `repeats` that have to fit together."""
    problems: list[Problem] = []
    blocks, adapters, models = config["contenders"], config["adapters"], config["models"]

    def unknown(path: list[str | int], name: str, known: Iterable[str], what: str) -> None:
        problems.append((path, f"no {what} {name!r}; {_did_you_mean(name, list(known))}"))

    for name, block in adapters.items():
        if (model := block.get("model", "slm")) not in models:
            unknown(["adapters", name, "model"], model, models, "model")
        if "candidates" in block:
            problems.append((["adapters", name, "candidates"], "the same for all adapters; set recipe.candidates"))
    before: list[str] = []
    for name, block in blocks.items():
        here: list[str | int] = ["contenders", name]
        if name == "teacher" or name.startswith("floor-"):
            problems.append((here, "the teacher and the floors have this name; take another"))
        adapter, model, after = block.get("adapter"), block.get("model"), block.get("after")
        if model is not None and model not in models:
            unknown([*here, "model"], model, models, "model")
        if adapter is not None and adapter not in adapters:
            unknown([*here, "adapter"], adapter, adapters, "adapter")
        elif adapter and model and model != adapters[adapter].get("model", "slm"):
            problems.append(
                ([*here, "model"], f"adapter {adapter!r} is trained on model {adapters[adapter].get('model', 'slm')!r}")
            )
        if adapter is not None and "prompt" in block:
            problems.append(([*here, "prompt"], "an adapter answers the prompts it was trained on; set the track's"))
        if after is not None and after not in before:
            problems.append(
                (
                    [*here, "after"],
                    f"no contender {after!r} before this one; {_did_you_mean(after, before or ['none'])}",
                )
            )
        before.append(name)
    if "slm" not in models and any("model" not in block for block in [*blocks.values(), *adapters.values()]):
        problems.append((["models", "slm"], "this key is missing: contenders without `model` are this one"))
    first = next(iter(blocks))
    if blocks[first].get("adapter") is not None:
        why = "the first has an adapter; the cheapest comes first, and the gate judges one that needs no training"
        problems.append((["contenders", first], why))
    for name, track in config["tracks"].items():
        several = [one for one in blocks.values() if "adapter" not in one or track["finetune"] != "never"]
        none = track["splits"].get("val") == 0 and not any(one.get("split") == "val" for one in track["sources"])
        if none and len(several) > 1 and track["finetune"] != "always":
            why = "0 rows cannot say how far contenders are built; give val a share, or set finetune to always"
            problems.append((["tracks", name, "splits", "val"], why))
    for index, name in enumerate(config["repeats"]):
        if name not in ("teacher", *blocks):
            unknown(["repeats", index], name, ["teacher", *blocks], "contender")
    return problems


def _holds_a_secret(url: str) -> str:
    """Why an address must not be in a configuration, which jobs, logs and metadata repeat; never its text."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "this is no address; it looks like https://HOST/v1"
    if parts.username is not None or parts.password is not None:
        return "a user name or password in an address; put the key into OPENAI_API_KEY"
    if parts.query or parts.fragment:
        return "a query in an address; leave it out, and name the variable of a key under teacher.headers"
    from fledgling.secrets import scan  # slow to import, and needed where there is an address

    return "a key in an address; put it into OPENAI_API_KEY" if scan(url.encode("utf-8", "replace"), {}, "") else ""


def _place(read: Sequence[_File], path: list[str | int]) -> str:
    """'file:line: key: ' of the deepest part of a path that some file holds; the last file wins."""
    key = ".".join(str(part) for part in path)
    found: tuple[int, str] = (0, "")
    for one in read:
        depth, line = _locate(one.node, path)
        if depth and depth >= found[0]:
            found = (depth, f"{one.name}:{line}: ")
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
