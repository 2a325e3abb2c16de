"""Whether calls are the expected ones by JSON Schema equality: names and all arguments, in any order.

`allowed` is [{"name", "arguments": {argument: [allowed value…]}}], one entry a call; "" among the values: the argument
may be left out. An object among them holds a list of allowed values per key.
"""

from typing import Any

from fledgling import strict_json
from fledgling.files import Object
from fledgling.tracks.assignment import perfect
from fledgling.tracks.bounds import in_one_order, too_many
from fledgling.tracks.dialects import Call


def all_exact(calls: list[Call], allowed: list[Object]) -> bool:
    """Whether calls can be paired off with those allowed so that every pair is equal."""
    if len(calls) == len(allowed) and too_many(len(calls), allowed):
        return all(map(_exact, *in_one_order(calls, allowed)))
    return perfect(calls, allowed, _exact)


def right_arguments(call: Call, expected: Object) -> int:
    """How many arguments of a call are right; none where the name is wrong."""
    options = expected["arguments"]
    if call.name != expected["name"]:
        return 0
    return sum(name in options and accepts(value, options[name]) for name, value in call.arguments.items())


def accepts(value: Any, options: list[Any]) -> bool:
    """Whether a value is one of those allowed for an argument."""
    return any(_equals(value, option) for option in options)


def _exact(call: Call, expected: Object) -> bool:
    options = expected["arguments"]
    return (
        call.name == expected["name"]
        and right_arguments(call, expected) == len(call.arguments)
        and all(name in call.arguments or "" in values for name, values in options.items())
    )


def _equals(value: Any, option: Any) -> bool:
    if not isinstance(option, (dict, list)):
        return strict_json.equal(value, option)
    if isinstance(option, dict) and all(isinstance(values, list) for values in option.values()):
        return (
            isinstance(value, dict)
            and all(key in option and accepts(item, option[key]) for key, item in value.items())
            and all(key in value or "" in values for key, values in option.items())
        )
    if isinstance(option, list):
        return (
            isinstance(value, list)
            and len(value) == len(option)
            and all(_equals(mine, theirs) for mine, theirs in zip(value, option, strict=True))
        )
    return strict_json.equal(value, option)
