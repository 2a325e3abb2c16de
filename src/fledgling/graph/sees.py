"""What each rule sees of the configuration: one table. A change to anything else re-runs nothing of that rule.

Snakemake compares params by their repr, so the settings of a rule travel as one canonical JSON text. What says where
and how fast work is done ("where" keys, fledgling.config.WHERE), and what only counts money or is judged later (prices,
teacher.allow_mixed_models), reaches the jobs through the environment instead (fledgling.graph.driver).
"""

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any

from fledgling import config as configuration
from fledgling import contenders
from fledgling.config import SLM, Config
from fledgling.errors import UsageError
from fledgling.graph import options

Settings = dict[str, Any]  # what a script gets: JSON, of the shape that the table below gives its rule
ALL = ("*",)
TEACHER = (
    "provider",
    "model",
    "base_url",
    "temperature",
    "seed",
    "max_tokens",
    "context_tokens",
    "max_tokens_key",
    "response_format",
    "batch",
    "give_up",
    "simulated",
)

# rule: {what the script finds in its settings: keys of it}. `track` is the track's own block, `slm` the section as it
# is for the contender; names that are no section of the configuration are made by the functions below.
SEES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "fetch": {"model": ALL, "seed": ALL},
    "prepare": {"seed": ALL, "track": ("kind", "sources", "splits", "split_key", "leaks")},
    "ask": {
        "seed": ALL,
        "teacher": TEACHER,
        "track": ("kind", "prompt"),
    },
    "buy": {
        "seed": ALL,
        "teacher": TEACHER,
        "decision": ALL,
        "allow_mixed_models": ALL,
        "ladder": ALL,
        "looks": ALL,
        "track": ("kind", "prompt", "finetune", "margin"),
    },
    "answer": {
        "seed": ALL,
        SLM: ("engine", "precision", "batch_size", "max_prompt_tokens", "tool_dialect", "schema_guided"),
        "track": ("kind", "prompt", "max_new_tokens"),
    },
    "floor": {"track": ("kind",)},
    "score": {"track": ("kind",), "prices": ALL},
    "choose_shots": {
        "seed": ALL,
        SLM: ("engine", "precision", "batch_size", "max_prompt_tokens", "tool_dialect", "schema_guided"),
        "shots": ALL,
        "core": ALL,
        "track": ("kind", "prompt", "max_new_tokens"),
    },
    "try_on_val": {
        "decision": ALL,
        "seed": ALL,
        "allow_mixed_models": ALL,
        "trained": ALL,
        "looks": ALL,
        "track": ("kind", "title", "finetune", "margin"),
    },
    "compare": {
        "decision": ALL,
        "seed": ALL,
        "simulated": ALL,
        "allow_mixed_models": ALL,
        "ladder": ALL,
        "looks": ALL,
        "track": ("kind", "title", "finetune", "margin"),
    },
    "decide": {
        "decision": ALL,
        "seed": ALL,
        "simulated": ALL,
        "allow_mixed_models": ALL,
        "ladder": ALL,
        "costs": ALL,
        "looks": ALL,
        "track": ("kind", "title", "finetune", "margin"),
    },
    "train": {"recipe": ALL, "seed": ALL, SLM: ("tool_dialect",), "track": ("kind", "prompt")},
    "select_adapter": {"core": ALL},
    "report": {
        "teacher": ALL,
        SLM: ALL,
        "decision": ALL,
        "recipe": ALL,
        "models": ALL,
        "contenders": ALL,
        "adapters": ALL,
        "track": ("kind", "title", "finetune", "margin", "recipe", "requests_per_month"),
    },
    "publish": {"publish": ALL, "track": ("kind", "title")},
    "trace": {"trace": ALL, "teacher": ("provider",)},
}


def settings(
    config: Config,
    rule: str,
    *,
    track: str | None = None,
    contender: str | None = None,
    model: str | None = None,
    adapter: str | None = None,
    repeat: int = 0,
) -> Settings:
    """What a rule sees of the configuration, for one track, contender, model or adapter.

    Raises:
        UsageError: the configuration has no such track, contender, model or adapter.
    """
    for what, name, known in (
        ("track", track, config["tracks"]),
        ("model", model, config["models"]),
        ("adapter", adapter, config["adapters"]),
    ):
        if name is not None and name not in known:
            raise UsageError(f"no {what} {name!r}; configured are: {', '.join(known)}")
    made: dict[str, Callable[[], object]] = {
        "simulated": lambda: simulated(config, track),
        "allow_mixed_models": lambda: config["teacher"].get("allow_mixed_models", False),
        "looks": lambda: config["teacher"].get("looks"),
        "trained": lambda: contenders.of(config, contender or "").adapter is not None,
        "shots": lambda: contenders.of(config, contender or "").shots,
        "costs": lambda: costs(config),
        "ladder": lambda: [one.rung() for one in contenders.ladder(config)],
        "prices": lambda: config["teacher"].get("prices") if contender == contenders.TEACHER else None,
        "core": lambda: config["decision"]["core"][config["tracks"][track]["kind"]],
        "model": lambda: config["models"][model],
        "recipe": lambda: config["recipe"] if adapter is None else contenders.recipe(config, adapter, track or ""),
        SLM: lambda: config[SLM] if contender is None else contenders.answering(config, contender),
        "track": lambda: _track(config, track, contender),
    }
    chosen: Settings = {}
    for name, keys in SEES[rule].items():
        value = made[name]() if name in made else configuration.section(config, name)
        if name == "looks" and value is None:
            continue  # what they do not touch is as it was before there were any
        if keys == ALL:
            chosen[name] = configuration.without_where(name, value)
        elif isinstance(value, dict):
            chosen[name] = {key: value[key] for key in keys if key in value}
    return chosen | ({"repeat": repeat} if repeat else {})


def _track(config: Config, track: str | None, contender: str | None) -> dict[str, object]:
    block: dict[str, object] = config["tracks"][track]
    if contender is None or track is None or not contenders.is_local(config, contender):
        return block
    return block | contenders.limits(config, contender, track)


def costs(config: Config) -> dict[str, object]:
    """What an hour of the machine costs on which each contender answers, and in which currency."""
    prices = {
        one.name: contenders.answering(config, one.name).get("price_per_hour") for one in contenders.ladder(config)
    }
    return {"prices": prices, "currency": (config["teacher"].get("prices") or {}).get("currency")}


def simulated(config: Config, track: str | None) -> bool:
    """Whether anything in an answer is made up: the teacher, a checkpoint of a contender, or the rows."""
    sources = config["tracks"][track]["sources"]
    return (
        config["teacher"]["provider"] == "simulated"
        or any(config["models"][one.model]["source"] == "embedded" for one in contenders.ladder(config))
        or any("embedded" in source for source in sources)
    )


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """The two ways in which a script gets its settings: from the graph, or by hand from configuration files."""
    parser.add_argument("--settings", type=json.loads, help="what the graph hands over, as one JSON text")
    options.add_config(parser)


def of_arguments(
    args: argparse.Namespace,
    rule: str,
    *,
    contender: str | None = None,
    model: str | None = None,
    adapter: str | None = None,
    repeat: int = 0,
) -> Settings:
    """The settings of a script that was called with `add_arguments`; config/config.yaml where neither is given.

    By hand, the "where" part of the configuration reaches the script as it does in the graph.

    Raises:
        UsageError: both ways at once. ConfigError: the configuration cannot be used.
    """
    if args.settings is not None:
        if args.config:
            raise UsageError("--settings and --config are two ways to say the same; give one")
        found: Settings = args.settings
        return found
    from fledgling.graph import driver

    config = options.configured(args)
    driver.hand_over(configuration.where(config))
    track = getattr(args, "track", None)
    return settings(config, rule, track=track, contender=contender, model=model, adapter=adapter, repeat=repeat)
