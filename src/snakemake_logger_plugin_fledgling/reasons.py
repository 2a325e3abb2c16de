"""Why a job would run, in words: "decision.margin 0.05 → 0.1" instead of two JSON texts to compare by eye."""

import ast
import json
import re
from collections.abc import Iterator, Mapping

CHANGED = re.compile(
    r"Params have changed since last execution: Union of exclusive params before and now across all output: "
    r"before: (?P<before>.*?) now: (?P<now>.*?) (?=;|$)",
    re.DOTALL,
)
TEXT = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
DIGEST = re.compile(r"[0-9a-f]{64}")  # of all that decides how far contenders are built (graph.building)
OTHERS = {
    "Set of input files has changed since last execution": "it reads other files than last time",
    "Code has changed since last execution": "its code has changed",
    "Forced execution": "asked for by --force",
}
SPELLED = {"prices": "teacher.prices", "allow_mixed_models": "teacher.allow_mixed_models", "core": "decision.core"}
LONGEST = 60  # characters of a value
MOST = 6  # changes that are listed
UNSET = "not set"


def in_words(reason: str, wildcards: Mapping[str, str] | None = None) -> str:
    """Snakemake's reason with its changed params as keys and values, and its files as they are."""
    said = CHANGED.sub(lambda found: _changes(found["before"], found["now"], wildcards or {}), reason)
    for theirs, plain in OTHERS.items():
        said = said.replace(theirs, plain)
    return said


def _changes(before: str, now: str, wildcards: Mapping[str, str]) -> str:
    old, new = _params(before), _params(now)
    settings = list(_differences(old.get("settings"), new.get("settings"), wildcards))
    code = sorted(_code(old.get("code"), new.get("code")))
    before_, now_ = (str(side.get("text") or UNSET) for side in (old, new))
    unreadable = DIGEST.fullmatch(before_) or DIGEST.fullmatch(now_)
    plain = [] if before_ == now_ or unreadable else [f"{before_} → {now_}"]
    found = [*settings, *plain, *([f"the code of {_listed(code)}"] if code else [])]
    if not found:
        return "how far contenders are built has changed" if unreadable else "its settings have changed"
    more = [f"{len(found) - MOST} more"] if len(found) > MOST else []
    return "; ".join([*found[:MOST], *more])


def _params(text: str) -> dict[str, object]:
    """The params of one side: the settings (a JSON object), the digests of its code, and what is no JSON."""
    found: dict[str, object] = {}
    for literal in TEXT.findall(text):
        value = ast.literal_eval(literal)
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            found["text"] = value
        elif parsed and all(name.endswith(".py") or "/" in name for name in parsed):
            found["code"] = parsed
        else:
            found["settings"] = parsed
    return found


def _differences(old: object, new: object, wildcards: Mapping[str, str]) -> Iterator[str]:
    if old is None or new is None:
        return
    for path, before, after in _walk(old, new, ()):
        yield f"{_key(path, wildcards)} {_value(before)} → {_value(after)}"


def _walk(old: object, new: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object, object]]:
    """The innermost places where two JSON values differ; lists of one length entry by entry."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _walk(old.get(key, UNSET), new.get(key, UNSET), (*path, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _walk(before, after, (*path, str(place)))
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield path, old, new


def _key(path: tuple[str, ...], wildcards: Mapping[str, str]) -> str:
    """The key as the configuration spells it; of one contender's own settings only the last name, as a block may set it."""
    from fledgling.config import SLM  # not before the graph has said whose fledgling it is (rules/common.smk)

    if "contender" in wildcards and path[0] in (SLM, "track") and len(path) > 1:
        return ".".join(path[1:])
    if path[0] in ("track", "model") and path[0] in wildcards:
        return ".".join([f"{path[0]}s", wildcards[path[0]], *path[1:]])
    return ".".join([SPELLED.get(path[0], path[0]), *path[1:]])


def _value(value: object) -> str:
    text = value if value is UNSET or value == "" else json.dumps(value, ensure_ascii=False)
    text = str(text).strip('"') or '""'
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _code(old: object, new: object) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from (name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more files" if len(names) > 3 else "")
