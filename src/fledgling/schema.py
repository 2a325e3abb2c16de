"""JSON Schema validation: compiled once a schema, in the schema's own dialect, without a network.

The library is jsonschema-rs: of those that pass every required group of the official suite it is the one
whose numbers are exact at any size, whose patterns are ECMA-262 and cannot backtrack for hours, and which
does not recurse on the Python stack. It would fetch remote references, so it is told not to.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from fledgling import schema_cost, strict_json

MAX_STEPS = 10_000_000  # of one validation; the library takes less than a second for as many
MAX_EXPLAINED = 50_000  # of one that is to say what is wrong: the library remembers every branch that failed
# Read so where a schema names no dialect and is none of 2020-12: tuples under `items`, a boolean `exclusiveMinimum`.
OLDER = ("http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-04/schema#")
MAX_ERRORS = 5  # named in one message; the first ones are what a person reads


@dataclass(frozen=True, slots=True)
class Schema:
    """A compiled JSON Schema; `visits` is what the work of checking a value is bounded by (see schema_cost)."""

    validator: Any
    visits: tuple[int, ...] = (1,)

    def valid(self, value: Any) -> bool:
        """Whether a parsed JSON value satisfies the schema; never raises, whatever a model wrote.

        A value that would take more than MAX_STEPS to check is not valid.
        """
        try:
            return self._steps(value) <= MAX_STEPS and bool(self.validator.is_valid(_foreign(value)))
        except ValueError:  # the library gives up: nested too deep for it, or a pattern ran too long
            return False

    def errors(self, value: Any) -> list[str]:
        """What is wrong with a parsed JSON value, at most MAX_ERRORS of it: "/path/to/it: what is expected"."""
        steps = self._steps(value)
        if steps > MAX_STEPS:
            return [f"/: the schema's references multiply: checking this value may take over {MAX_STEPS:,} steps"]
        if steps > MAX_EXPLAINED:
            return [] if self.valid(value) else ["/: it is not valid; the schema is too branched to say where"]
        found: list[str] = []
        try:
            for error in self.validator.iter_errors(_foreign(value)):
                found.append(f"/{'/'.join(map(str, error.instance_path))}: {_short(error.message)}")
                if len(found) == MAX_ERRORS:
                    break
        except ValueError as error:
            found.append(f"/: {_short(str(error))}")
        return found

    def _steps(self, value: Any) -> int:
        """A bound of the work of checking a value; 0 where no value can make it much."""
        if self.visits[-1] * strict_json.MAX_SIZE <= MAX_STEPS:
            return 0
        deep = min(strict_json.depth(value), len(self.visits) - 1)
        return self.visits[deep] * _parts(value)


def compiled(schema: dict[str, Any] | bool) -> Schema:
    """The compiled form of a JSON Schema; compiling an equal one again costs a look-up.

    `$schema` names the dialect. Where it is absent it is 2020-12, or the first of OLDER that the schema is valid in. `format` is an annotation, in every dialect.
    References reach the schema itself and the published metaschemas, nothing else.

    Raises:
        ValueError: not a valid schema of its dialect, an unknown dialect, or a reference to elsewhere.
    """
    if not isinstance(schema, (dict, bool)):
        raise ValueError(f"a JSON Schema is an object or a boolean, not {type(schema).__name__}")
    return _compiled(strict_json.dumps(schema))


@functools.lru_cache(maxsize=1024)
def _compiled(text: str) -> Schema:
    schema = _foreign(strict_json.loads(text))
    if not isinstance(schema, dict):  # the library looks for the dialect in an object only
        schema = {} if schema else {"not": {}}
    older = [] if "$schema" in schema else [{**schema, "$schema": dialect} for dialect in OLDER]
    why: Exception | None = None
    for candidate in [schema, *older]:
        try:
            validator = jsonschema_rs.validator_for(
                candidate, validate_formats=False, offline=True, registry=_metaschemas()
            )
            return Schema(validator, tuple(schema_cost.visits(schema)))
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
            why = why or error
    raise ValueError(_short(getattr(why, "message", str(why)))) from None


@functools.cache
def _metaschemas() -> jsonschema_rs.Registry:
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]

    return jsonschema_rs.Registry([(uri, REGISTRY.contents(uri)) for uri in REGISTRY])


def _parts(value: Any) -> int:
    """How many values a value is made of, itself among them."""
    count, stack = 0, [value]
    while stack:
        node = stack.pop()
        count += 1
        if isinstance(node, (dict, list)):
            stack.extend(node.values() if isinstance(node, dict) else node)
    return count


def _foreign(value: Any) -> Any:
    """The value as the library takes it: exact numbers as Decimal, no lone surrogates.

    A lone surrogate cannot be passed on as UTF-8; it becomes a private-use character of its own (one of the
    last 2,048), so that lengths and equality stay as they are.
    """
    if _passes(value):
        return value
    if isinstance(value, dict):
        return {_foreign(name): _foreign(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_foreign(item) for item in value]
    if isinstance(value, strict_json.ExactFloat):
        return value.exact
    if isinstance(value, str):
        return _SURROGATE.sub(lambda match: chr(ord(match[0]) - 0xD800 + 0x10F800), value)
    return value


def _passes(value: Any) -> bool:
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            stack.extend(node)
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, str):
            if not node.isascii() and _SURROGATE.search(node):
                return False
        elif type(node) is strict_json.ExactFloat:
            return False
    return True


def _short(message: str, limit: int = 300) -> str:
    return message if len(message) <= limit else f"{message[: limit // 2]} … {message[-limit // 2 :]}"


_SURROGATE = re.compile("[\ud800-\udfff]")
