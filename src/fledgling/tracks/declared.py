"""What a tool's JSON Schema says of its arguments, as far as the comparison of calls asks: names, types, which are needed.

A definition may say it through a local `$ref`, `allOf`, `anyOf`, `oneOf`, `then`, `else` or `dependentSchemas`, and it may
take arguments that it does not name (`additionalProperties`, `unevaluatedProperties`, `patternProperties`). Without `properties` everything is taken. References are followed to
a bounded number of places, whatever a schema holds.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

BOUND = 256  # parts of a schema that are looked at for one question; a real one has a handful
_IN_PLACE = ("anyOf", "oneOf")
_OF_OBJECTS = frozenset(("properties", "required", "additionalProperties", "patternProperties", "propertyNames"))
_OF_ARRAYS = frozenset(("items", "prefixItems", "contains", "minItems", "maxItems", "uniqueItems"))


@dataclass(frozen=True, slots=True)
class Declared:
    """The arguments of one tool.

    `names` are the arguments that it has by name, `required` those that a call must have. `open`: it takes others too.
    """

    root: object
    names: Mapping[str, object]
    required: frozenset[str]
    open: bool

    def types(self, name: str) -> list[str]:
        """The declared types of an argument, in order; [] where anything goes."""
        return types(self.names.get(name), self.root)

    def item_types(self, name: str) -> list[str]:
        """The declared types of the items of an argument that is an array; [] where anything goes."""
        return item_types(self.names.get(name), self.root)


UNKNOWN = Declared(None, {}, frozenset(), open=True)


def declared(parameters: object) -> Declared:
    """What `parameters` of a tool's definition declare; UNKNOWN where there are none."""
    if not isinstance(parameters, dict):
        return UNKNOWN
    names: dict[str, object] = {}
    required: set[str] = set()
    spacious, named = False, False
    for part, certain in _parts(parameters, parameters, sometimes=True):
        properties = part.get("properties")
        if isinstance(properties, dict):
            named = True
            for name, schema in properties.items():
                names.setdefault(name, schema)
        needed = part.get("required")
        if certain and isinstance(needed, list):
            required.update(name for name in needed if isinstance(name, str))
        spacious = spacious or bool(part.get("patternProperties"))
        spacious = spacious or any(
            part.get(key) not in (None, False) for key in ("additionalProperties", "unevaluatedProperties")
        )
    return Declared(parameters, names, frozenset(required), open=spacious or not named)


def types(schema: object, root: object) -> list[str]:
    """The types that a schema declares, in order and each once; [] where it leaves them open."""
    found: dict[str, None] = {}
    for part, certain in _parts(schema, root):
        own = part.get("type")
        named = [name for name in (own if isinstance(own, list) else [own]) if isinstance(name, str)]
        found.update(dict.fromkeys(named))
        if part.get("nullable") is True and named:
            found["null"] = None
        if not certain and not named and not any(key in part for key in (*_IN_PLACE, "allOf", "$ref")):
            return []  # one of several ways, and this way takes anything
    return list(found)


def item_types(schema: object, root: object) -> list[str]:
    """The types that a schema declares for the items of an array; [] where it leaves them open."""
    found: dict[str, None] = {}
    for part, _ in _parts(schema, root):
        for key in ("items", "prefixItems"):
            if key not in part:
                continue
            inside = part[key]
            for item in inside if isinstance(inside, list) else [inside]:
                declared = types(item, root)
                if not declared:
                    return []
                found.update(dict.fromkeys(declared))
    return list(found)


def offered(tools: Iterable[Mapping[str, Any]] | None) -> tuple[list[str], frozenset[str]]:
    """The names of a row's tools, and those of all their arguments."""
    functions = [tool["function"] for tool in tools or ()]
    arguments = [name for function in functions for name in declared(function.get("parameters")).names]
    return [str(function["name"]) for function in functions], frozenset(arguments)


def described(schema: object) -> Literal["object", "array", "value"]:
    """What a row's schema asks for: one object, one array, or a value that may be neither or either.

    A schema that names no type but has keywords of one alone is taken for a schema of that one.
    """
    found = set(types(schema, schema)) - {"null"}
    if not found:
        keys = {key for part, _ in _parts(schema, schema) for key in part}
        found |= {"object"} if keys & _OF_OBJECTS else set()
        found |= {"array"} if keys & _OF_ARRAYS else set()
    return "object" if found == {"object"} else "array" if found == {"array"} else "value"


def _parts(schema: object, root: object, *, sometimes: bool = False) -> Iterator[tuple[dict[str, object], bool]]:
    """A schema and all that applies in its place, each with whether it applies for certain; at most BOUND.

    With `sometimes` also what applies only to some values: `then`, `else`, `dependentSchemas`.
    """
    waiting: list[tuple[object, bool]] = [(schema, True)]
    for _ in range(BOUND):
        if not waiting:
            return
        part, certain = waiting.pop(0)
        if not isinstance(part, dict):
            continue
        yield part, certain
        if isinstance(reference := part.get("$ref"), str):
            waiting.append((_at(root, reference), certain))
        together = part.get("allOf")
        waiting += [(item, certain) for item in together] if isinstance(together, list) else []
        for key in _IN_PLACE:
            options = part.get(key)
            if isinstance(options, list):
                waiting += [(item, certain and len(options) == 1) for item in options]
        if sometimes:
            waiting += [(part[key], False) for key in ("then", "else") if key in part]
            dependent = part.get("dependentSchemas")
            waiting += [(item, False) for item in dependent.values()] if isinstance(dependent, dict) else []


def _at(root: object, reference: str) -> object:
    """What a local reference names; None for any other."""
    if not reference.startswith("#"):
        return None
    value = root
    for step in reference[1:].split("/")[1:]:
        if not isinstance(value, dict):
            return None
        value = value.get(step.replace("~1", "/").replace("~0", "~"))
    return value
