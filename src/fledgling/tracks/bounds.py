"""What keeps the comparison of calls cheap, whatever a model or a row holds."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fledgling.files import Object
from fledgling.tracks.dialects import Call

COST = 300_000  # arguments times allowed values that are compared before calls are no longer tried in every pairing
EXTRA_CALLS = 64  # calls over those expected that are still paired with them; the reply is wrong in any case
NATIVE_CALLS = 4_096  # calls of one reply in the provider's own form; text has its own cap (strict_json.MAX_SIZE)


def too_many(calls: int, allowed: Sequence[Mapping[str, Any]]) -> bool:
    """Whether comparing that many calls with every one that is allowed passes COST."""
    left = COST // max(1, calls)
    for expected in allowed:
        left -= 1
        stack = [expected["arguments"]]
        while stack and left >= 0:
            node = stack.pop()
            if isinstance(node, (dict, list)):
                left -= len(node)
                stack.extend(node.values() if isinstance(node, dict) else node)
        if left < 0:
            return True
    return False


def in_one_order(calls: Sequence[Call], allowed: Sequence[Object]) -> tuple[list[Call], list[Object]]:
    """Both sorted by what they say, so that a call meets the expected one whose first allowed values it has."""
    return (
        sorted(calls, key=lambda call: (call.name, _text(call.arguments))),
        sorted(allowed, key=lambda expected: (expected["name"], _text(_first(expected["arguments"])))),
    )


def _first(options: Mapping[str, list[Any]]) -> Object:
    return {name: values[0] for name, values in options.items() if values and values[0] != ""}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
