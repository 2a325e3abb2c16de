"""Tool definitions of every common form, written as OpenAI's.

Read are OpenAI's own (`{"type": "function", "function": {…}}`, also without that wrapper), MCP's `inputSchema`,
Anthropic's `input_schema`, Gemini's `functionDeclarations`, Bedrock's `toolSpec`, Cohere's `parameter_definitions`, and
parameters written flat (`{"city": {"type": "str"}}`, or a list of named ones) with Python's types. What says nothing of
its parameters keeps saying nothing. Nulls that a table gave to every tool for the keys of the others are dropped.
"""

from fledgling.artefacts import Json, JsonObject
from fledgling.data.invalid import Unusable
from fledgling.data.python_types import annotated, json_type, python_type
from fledgling.data.values import as_list, as_object, decoded

_SCHEMA_KEYS = (
    "parameters",
    "inputSchema",
    "input_schema",
    "parametersJsonSchema",
    "parameters_json_schema",
    "parameter_definitions",
)
_GROUPS = ("functionDeclarations", "function_declarations")
_APPLICATORS = frozenset(("$ref", "allOf", "anyOf", "oneOf", "patternProperties", "additionalProperties"))
_NULL_MEANS_NULL = frozenset(("const", "default", "example"))
_SCHEMAS_BY_NAME = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
_SCHEMAS = frozenset(
    (
        "items",
        "additionalProperties",
        "not",
        "if",
        "then",
        "else",
        "contains",
        "propertyNames",
        "additionalItems",
        "unevaluatedItems",
        "unevaluatedProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "prefixItems",
    )
)
_JSON_TYPES = frozenset(("string", "integer", "number", "boolean", "object", "array", "null"))


def tools(value: Json, key: str = "tools") -> list[JsonObject] | None:
    """The tools of a row, in OpenAI's form; None where it has none to speak of.

    Raises:
        Unusable: not a list of definitions.
    """
    value = decoded(value, key)
    if value is None:
        return None
    if isinstance(value, dict):
        value = [value]
    found: list[JsonObject] = []
    for index, given in enumerate(as_list(value, key)):
        place = f"{key}[{index}]"
        tool = as_object(decoded(given, place), place)
        group = next((tool[name] for name in _GROUPS if isinstance(tool.get(name), list)), None)
        if isinstance(group, list):
            found += [_tool(as_object(item, place), place) for item in group]
        else:
            found.append(_tool(tool, place))
    return found


def _tool(tool: JsonObject, key: str) -> JsonObject:
    inner = next((tool[name] for name in ("function", "toolSpec", "tool_spec") if tool.get(name) is not None), tool)
    function = as_object(decoded(inner, f"{key}.function"), f"{key}.function")
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise Unusable("tools", f"{key}.function.name: expected text")
    made: JsonObject = {}
    for part, value in function.items():
        if part in _SCHEMA_KEYS:
            if value is not None and "parameters" not in made:
                made["parameters"] = _parameters(decoded(value, f"{key}.{part}"), f"{key}.{part}")
        elif value is not None and not (part == "type" and function is tool):
            made[part] = value
    return {"type": "function", "function": made}


def _parameters(value: Json, key: str) -> Json:
    if isinstance(value, dict) and value.keys() == {"json"}:
        value = value["json"]  # Bedrock
    if isinstance(value, list):
        named = [as_object(item, key) for item in value]
        return _from_flat({str(item.get("name")): _without(item, "name") for item in named}, key)
    if not isinstance(value, dict):
        return value  # refused as a schema, with its place
    return schema(value) if _is_schema(value) else _from_flat(value, key)


def _is_schema(value: JsonObject) -> bool:
    """Whether parameters are a JSON Schema and not one description a parameter, which may well be called type."""
    given = {name: item for name, item in value.items() if item is not None}
    properties = given.get("properties")
    if isinstance(properties, dict) and all(isinstance(item, (dict, bool, type(None))) for item in properties.values()):
        return True
    if isinstance(given.get("type"), str) and not all(isinstance(item, (dict, str)) for item in given.values()):
        return True
    if str(given.get("type")).lower() in ("object", "dict"):
        return True
    return not given or not _APPLICATORS.isdisjoint(given) or isinstance(given.get("type"), list)


def _from_flat(parameters: JsonObject, key: str) -> JsonObject:
    """JSON Schema of parameters that are described one by one."""
    properties: JsonObject = {}
    required: list[Json] = []
    listed = parameters.get("required")
    for name, given in parameters.items():
        if given is None or (name == "required" and isinstance(given, list)):
            continue
        about: JsonObject = (
            {"type": given} if isinstance(given, str) else as_object(given, f"{key}: parameter {name!r}")
        )
        says = about.get("type")
        typed, optional = annotated(says) if isinstance(says, str) else ({}, False)
        rest = schema(_without(about, "type" if isinstance(says, str) else "", "required", "optional"))
        properties[name] = {**typed, **rest}
        if isinstance(listed, list):
            needed = name in listed
        elif isinstance(about.get("required"), bool):
            needed = about["required"] is True
        else:
            needed = not optional and about.get("optional") is not True and "default" not in about
        if needed:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required}


def schema(value: JsonObject) -> JsonObject:
    """A JSON Schema without nulls that mean nothing, its types by JSON's names where it uses Python's or Gemini's.

    `required: true` on a property, as in JSON Schema's third draft, moves into its parent's list.
    """
    made: JsonObject = {}
    needed: list[Json] = []
    for key, item in value.items():
        if item is None and key not in _NULL_MEANS_NULL:
            continue
        if key == "type":
            made.update(_typed(item))
        elif key in _SCHEMAS_BY_NAME and isinstance(item, dict):
            made[key] = {name: _part(part) for name, part in item.items() if part is not None}
            if key == "properties":
                needed += [
                    name for name, part in item.items() if isinstance(part, dict) and part.get("required") is True
                ]
        elif key in _SCHEMAS:
            made[key] = [_part(part) for part in item] if isinstance(item, list) else _part(item)
        elif not (key in ("required", "optional") and isinstance(item, bool)):
            made[key] = item
    if needed and "required" not in made:
        made["required"] = needed
    return made


def _part(value: Json) -> Json:
    return schema(value) if isinstance(value, dict) else value


def _typed(value: Json) -> JsonObject:
    """`type` by JSON's names; a Python type with brackets says more; what is no type at all stays, to be refused."""
    if isinstance(value, list):
        return {"type": [json_type(item) or item if isinstance(item, str) else item for item in value]}
    if not isinstance(value, str) or value in _JSON_TYPES:
        return {"type": value}
    if value.strip().lower() == "any":
        return {}
    named = json_type(value)
    return {"type": named} if named else python_type(value) or {"type": value}


def _without(value: JsonObject, *keys: str) -> JsonObject:
    return {key: item for key, item in value.items() if key not in keys}
