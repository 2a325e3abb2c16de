"""Whether calls are right by the AST semantics of the Berkeley Function-Calling Leaderboard.

After BFCL v4's `ast_checker.py` (Patil et al., github.com/ShishirPatil/gorilla), which compares parsed calls with
lists of allowed values. Three of its oddities are not copied: parallel calls are matched greedily there (here by
the best assignment), 1 passes for true inside an object (here never), and an integer is refused inside an array
of numbers although it is accepted as a number (here it is accepted in both).
"""

import functools
from typing import Any, NamedTuple

from fledgling import strict_json
from fledgling.files import Object
from fledgling.tracks.assignment import perfect
from fledgling.tracks.bounds import in_one_order, too_many
from fledgling.tracks.declared import UNKNOWN, Declared, declared
from fledgling.tracks.dialects import Call

_IGNORED = str.maketrans({**dict.fromkeys(" ,./-_*^", None), "'": '"'})


def ast_match(calls: list[Call] | None, allowed: list[Object] | None, tools: list[Object] | None) -> bool:
    """Whether calls are what `allowed` asks for, in any order.

    `allowed` is [{"name", "arguments": {argument: [allowed value…]}}], one entry a call; "" among the values: the
    argument may be left out. An object among them holds a list of allowed values per key. [] means that no call
    is right (no `calls`, or None, are); None that any call is. `tools` are OpenAI tool definitions: they give the
    parameters' types and which are required; calls of a tool that is not among them, or that has no parameters, are
    compared without types. Lists that are too long to compare every call with every other are compared in one order.
    """
    if allowed is None:
        return bool(calls)
    calls = calls or []
    if len(calls) != len(allowed):
        return False
    known = {tool["function"]["name"]: declared(tool["function"].get("parameters")) for tool in tools or []}

    def fits(call: Call, expected: Object) -> bool:
        return mismatch(call, expected, known.get(call.name, UNKNOWN)) is None

    if too_many(len(calls), allowed):
        return all(map(fits, *in_one_order(calls, allowed)))
    return perfect(calls, allowed, fits)


def allowed_of(answer: list[Object]) -> list[Object]:
    """The `allowed` list of gold calls without alternatives: every argument exactly its value.

    An argument whose value is "" may then be left out, for that is what the form means by "".
    """
    return [
        {"name": call["name"], "arguments": {name: [_option(value)] for name, value in call["arguments"].items()}}
        for call in answer
    ]


def _option(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: [_option(item)] for key, item in value.items()}
    return [_option(item) for item in value] if isinstance(value, list) else value


class Mismatch(NamedTuple):
    """Why a call is not the one expected: a code, and the argument (or the tool) that it is about."""

    code: str
    about: str

    def __str__(self) -> str:
        return MISMATCHES[self.code].format(self.about)


MISMATCHES = {
    "name": "the expected tool is {!r}",
    "without_allowed_value": "argument {!r} has no allowed value",
    "undeclared_argument": "the tool declares no argument {!r}",
    "outside_allowed": "the value of argument {!r} is not among those that its list allows by the tool's types",
    "missing_argument": "argument {!r} is left out",
    "required": "the tool requires argument {!r}, which is left out",
}


def mismatch(call: Call, expected: Object, tool: Declared) -> Mismatch | None:
    """Why a call is not the one expected; None where it is."""
    if call.name != expected["name"]:
        return Mismatch("name", expected["name"])
    options, arguments = expected["arguments"], call.arguments
    for name, value in arguments.items():
        if name not in options:
            return Mismatch("without_allowed_value", name)
        if name not in tool.names and not tool.open:
            return Mismatch("undeclared_argument", name)
        if not _argument(value, options[name], tool.types(name), tool.item_types(name)):
            return Mismatch("outside_allowed", name)
    for name, values in options.items():
        if name not in arguments and "" not in values:
            return Mismatch("missing_argument", name)
    for name in tool.required:
        if name not in arguments:
            return Mismatch("required", name)
    return None


def _argument(value: Any, options: list[Any], types: list[str], item_types: list[str]) -> bool:
    kind = _kind(value)
    answer = _answer_kind(options)
    fitting = next((name for name in types if name == kind or (name == "number" and kind == "integer")), None)
    declared = fitting or next(iter(types), None) or answer or kind
    if declared == "number" and kind == "integer":
        kind = "number"
    if kind != declared:  # a variable in the place of a value: the answer has another type than the definition says
        return kind == answer and _plainly(value, options)
    if kind == "array" and item_types:
        kinds = set(map(_kind, value))
        if not any(not isinstance(option, list) or _items(kinds, option, item_types) for option in options):
            return False
    if answer not in (None, declared):
        return _plainly(value, options)
    if kind == "object":
        return any(isinstance(option, dict) and _object(value, option) for option in options)
    if kind == "array":
        return any(_array(value, option, objects=item_types == ["object"]) for option in options)
    if kind == "string":
        return any(isinstance(option, str) and _standard(value) == _standard(option) for option in options)
    return _plainly(value, options)


def _kind(value: Any) -> str:
    return _KINDS[type(value)]


_KINDS: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    strict_json.ExactFloat: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}


def _answer_kind(options: list[Any]) -> str | None:
    return next((_kind(option) for option in options if option != ""), None)


def _items(kinds: set[str], option: list[Any], declared: list[str]) -> bool:
    widened = {*declared, "integer"} if "number" in declared else set(declared)
    return kinds <= widened.union(map(_kind, option))


def _plainly(value: Any, options: list[Any]) -> bool:
    return any(strict_json.equal(value, option) for option in options)


def _array(value: list[Any], option: Any, *, objects: bool) -> bool:
    if option == "":  # an argument that may be left out may also be an empty array
        return value == []
    if not isinstance(option, list) or len(value) != len(option):
        return False
    if objects:
        return all(
            isinstance(mine, dict) and isinstance(theirs, dict) and _object(mine, theirs)
            for mine, theirs in zip(value, option, strict=True)
        )
    return all(_item(mine, theirs) for mine, theirs in zip(value, option, strict=True))


def _object(value: Object, option: Object) -> bool:
    options = {key: values if isinstance(values, list) else [values] for key, values in option.items()}
    return all(
        key in options and any(_item(item, allowed) for allowed in options[key]) for key, item in value.items()
    ) and all(key in value or "" in values for key, values in options.items())


def _item(value: Any, option: Any) -> bool:
    if isinstance(value, str) and isinstance(option, str):
        return _standard(value) == _standard(option)
    if isinstance(value, dict) and isinstance(option, dict):
        return _object(value, option)
    return _inside(value, option)


def _inside(value: Any, option: Any) -> bool:
    """What stands in a list in a list: strings count to the letter this deep."""
    if isinstance(value, dict) and isinstance(option, dict):
        return _object(value, option)
    if isinstance(value, list) and isinstance(option, list):
        return len(value) == len(option) and all(map(_inside, value, option))
    return strict_json.equal(value, option)


@functools.lru_cache(maxsize=64)  # a long text is compared with every allowed value of every expected call
def _standard(text: str) -> str:
    return text.translate(_IGNORED).lower()
