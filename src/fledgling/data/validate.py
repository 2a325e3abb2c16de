"""Whether a row makes sense in itself: tools, schema and gold fit together."""

from typing import Any

from fledgling import schema as json_schema
from fledgling.data.formats import Parsed
from fledgling.data.invalid import Unusable


def check(row: Parsed, kind: str) -> str | None:
    """None, or a warning: gold arguments that their tool's schema refuses (real gold does that).

    Raises:
        Unusable: an invalid schema or tool, gold that calls a tool which is not there, gold that the
            row's own schema refuses; says which key and what to do.
    """
    if kind == "toolcall":
        return _toolcall(row)
    _structured(row)
    return None


def _structured(row: Parsed) -> None:
    if not isinstance(row.answer, dict | list):
        raise Unusable("answer", f"the answer is {type(row.answer).__name__}; a structured track answers an object")
    if row.schema is None:
        return
    if problems := _compiled(row.schema, "schema").errors(row.answer):
        raise Unusable("schema_refuses_gold", f"the schema refuses the answer at {problems[0]}; correct one of them")


def _toolcall(row: Parsed) -> str | None:
    if row.tools is None:
        return None
    parameters: dict[str, json_schema.Schema] = {}
    for index, tool in enumerate(row.tools):
        function = tool["function"]
        if function["name"] in parameters:
            raise Unusable("tools", f"tools[{index}]: a second tool named {function['name']!r}; names are unique")
        parameters[function["name"]] = _compiled(
            function.get("parameters") or {}, f"tools[{index}].function.parameters"
        )
    if row.answer is None and not row.tools:
        raise Unusable("tools", "some call is right, but there are no tools; correct the answer or the tools")
    problems: list[str] = []
    for call in row.answer or ():
        if call["name"] not in parameters:
            raise Unusable(
                "unknown_tool",
                f"the answer calls {call['name']!r}, which is none of the row's tools"
                f" ({', '.join(parameters) or 'there are none'}); correct the name or add the tool",
            )
        problems += [f"{call['name']}{problem}" for problem in parameters[call["name"]].errors(call["arguments"])]
    _check_allowed(row)
    return problems[0] if problems else None


def _check_allowed(row: Parsed) -> None:
    if row.allowed is None:
        return
    gold, allowed = ([call["name"] for call in calls] for calls in (row.answer or [], row.allowed))
    if sorted(gold) != sorted(allowed):
        raise Unusable("allowed", f"the allowed calls {allowed} are not those of the answer {gold}")


def _compiled(schema: Any, key: str) -> json_schema.Schema:
    try:
        return json_schema.compiled(schema)
    except ValueError as error:
        raise Unusable("invalid_schema", f"{key}: not a valid JSON Schema ({error})") from None
