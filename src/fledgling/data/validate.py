"""Whether a row makes sense in itself: tools, schema and gold fit together, and the scorer takes the gold for right."""

from dataclasses import dataclass, replace
from typing import Any, cast

from fledgling import schema as json_schema
from fledgling import strict_json
from fledgling.artefacts import Json, JsonObject
from fledgling.data.formats import Parsed
from fledgling.data.invalid import Unusable
from fledgling.data.values import as_list, as_object
from fledgling.files import Object
from fledgling.tracks.bfcl import MISMATCHES, allowed_of, ast_match, mismatch
from fledgling.tracks.declared import UNKNOWN, Declared, declared
from fledgling.tracks.dialects import Call, native_calls, parse_calls
from fledgling.tracks.matching import all_exact

MAX_CALLS = 256  # gold calls of a row
MAX_TOOLS = 2_000  # of a row; providers take 128
MAX_ALLOWED = 20_000  # allowed values of a row, parts of values counted; together they bound the time of one score
# Why nobody can get a row right; codes of Unusable.
UNWINNABLE = (
    "schema_refuses_gold",
    "gold_outside_allowed",
    "gold_not_right",
    *(f"gold_{code}" for code in MISMATCHES),
)


@dataclass(frozen=True, slots=True)
class Checked:
    """A row that can be used, as it is used; what is odd about it.

    `warning`: gold arguments that their tool's schema refuses (real gold does that). `nulls`: arguments that a table had
    added to the gold, left out.
    """

    row: Parsed
    warning: str | None = None
    nulls: int = 0


def check(row: Parsed, kind: str) -> Checked:
    """The row, settled for its track.

    Raises:
        Unusable: an invalid schema or tool, gold that calls a tool which is not there, gold that the row's own schema
            refuses or that scores less than 1 against itself; says which key and what to do.
    """
    checked = _toolcall(row) if kind == "toolcall" else Checked(_structured(row))
    _refuse_unwinnable(checked.row, kind)
    return checked


def _structured(row: Parsed) -> Parsed:
    if not isinstance(row.answer, dict | list):
        raise Unusable("answer", f"the answer is {type(row.answer).__name__}; a structured track answers an object")
    if row.schema is None:
        # Without a schema the answer is an object; that this one is an array has to be said to every contender.
        return replace(row, schema={"type": "array"}) if isinstance(row.answer, list) else row
    compiled = _compiled(row.schema, "schema")
    if problems := compiled.errors(row.answer):
        raise Unusable("schema_refuses_gold", f"the schema refuses the answer at {problems[0]}; correct one of them")
    return row


def _toolcall(row: Parsed) -> Checked:
    answer = None if row.answer is None else [as_object(call, "answer") for call in as_list(row.answer, "answer")]
    if answer is not None and len(answer) > MAX_CALLS:
        raise Unusable("too_many_calls", f"the answer has {len(answer)} calls; rows of up to {MAX_CALLS} are scored")
    if row.allowed is not None and _size(row.allowed, MAX_ALLOWED) > MAX_ALLOWED:
        raise Unusable("too_many_values", f"over {MAX_ALLOWED:,} allowed values; rows of up to as many are scored")
    nulls = 0
    problems: list[str] = []
    if row.tools is not None:
        if len(row.tools) > MAX_TOOLS:
            raise Unusable("too_many_tools", f"{len(row.tools):,} tools; rows of up to {MAX_TOOLS:,} are read")
        parameters = _parameters(row.tools)
        if answer is None and not row.tools:
            raise Unusable("tools", "some call is right, but there are no tools; correct the answer or the tools")
        for call in answer or ():
            name = str(call["name"])
            if name not in parameters:
                raise Unusable(
                    "unknown_tool",
                    f"the answer calls {name!r}, which is none of the row's tools"
                    f" ({', '.join(parameters) or 'there are none'}); correct the name or add the tool",
                )
            arguments = as_object(call["arguments"], "answer")
            added = _nulls_of_a_table(arguments, parameters[name]) - _named(name, row.allowed)
            nulls += len(added)
            call["arguments"] = arguments = {key: value for key, value in arguments.items() if key not in added}
            problems += [f"{name}{problem}" for problem in parameters[name].schema.errors(arguments)]
    allowed = _settled(answer or [], row.allowed)
    return Checked(replace(row, answer=cast(Json, answer), allowed=allowed), problems[0] if problems else None, nulls)


@dataclass(frozen=True, slots=True)
class _Tool:
    schema: json_schema.Schema
    declared: Declared


def _parameters(tools: list[JsonObject]) -> dict[str, _Tool]:
    found: dict[str, _Tool] = {}
    for index, tool in enumerate(tools):
        function = as_object(tool["function"], f"tools[{index}].function")
        name = str(function["name"])
        if name in found:
            raise Unusable("tools", f"tools[{index}]: a second tool named {name!r}; names are unique")
        given = function.get("parameters")
        key = f"tools[{index}].function.parameters"
        found[name] = _Tool(_compiled({} if given is None else given, key), declared(given))
    return found


def _nulls_of_a_table(arguments: JsonObject, tool: _Tool) -> set[str]:
    """Arguments that are null although the tool has none of that name, or one that may be left out and is never null.

    A table gives every call the arguments that any call has. A null that the tool takes is the row's own, and stays.
    """
    return {name for name, value in arguments.items() if value is None and not _takes_null(name, tool.declared)}


def _named(name: str, allowed: list[JsonObject] | None) -> set[str]:
    """The arguments of a tool that the row's allowed values speak of."""
    return {key for call in allowed or () if call["name"] == name for key in as_object(call["arguments"], "allowed")}


def _takes_null(name: str, tool: Declared) -> bool:
    if name not in tool.names:
        return tool.open
    types = tool.types(name)
    return not types or "null" in types or name in tool.required


def _settled(answer: list[JsonObject], allowed: list[JsonObject] | None) -> list[JsonObject] | None:
    """The allowed values, an object among them that was written plainly turned into lists of values where the gold
    says that it was."""
    if allowed is None:
        return None
    gold, names = ([str(call["name"]) for call in listed] for listed in (answer, allowed))
    if sorted(gold) != sorted(names):
        raise Unusable("allowed", f"the allowed calls {names} are not those of the answer {gold}")
    made = [_call(call) for call in answer]
    if all(_some_fits(call, allowed) for call in made):
        return allowed
    plain = [
        {
            **call,
            "arguments": {name: _plainly(values) for name, values in as_object(call["arguments"], "allowed").items()},
        }
        for call in allowed
    ]
    return plain if all(_some_fits(call, plain) for call in made) else allowed


def _some_fits(call: Call, allowed: list[JsonObject]) -> bool:
    return any(mismatch(call, expected, UNKNOWN) is None for expected in allowed)


def _plainly(values: Json) -> Json:
    """Allowed values, every object among them meant as it stands."""
    options = as_list(values, "allowed")
    written = allowed_of([{"name": "", "arguments": {str(at): option for at, option in enumerate(options)}}])
    return [option for listed in written[0]["arguments"].values() for option in listed]


def _refuse_unwinnable(row: Parsed, kind: str) -> None:
    """Compare the gold with itself as the scorer will, in each form that a contender may answer in.

    By the scorer's own parts, not by its metrics: these may change without rows being prepared again.

    Raises:
        Unusable: it is not right, so that nobody's answer would be.
    """
    try:
        if kind == "structured":
            if not strict_json.equal(strict_json.loads(strict_json.dumps(row.answer)), row.answer):
                raise _NOT_RIGHT
        elif row.answer is not None:
            answer = [as_object(call, "answer") for call in as_list(row.answer, "answer")]
            allowed: list[Object] = row.allowed if row.allowed is not None else allowed_of(answer)
            for calls in (parse_calls(strict_json.dumps(answer)), native_calls([_native(call) for call in answer])):
                if calls is None:
                    raise _NOT_RIGHT
                if not all_exact(calls, allowed) or not ast_match(calls, allowed, row.tools):
                    raise _why(row, answer, allowed)
    except ValueError as error:
        if isinstance(error, Unusable):
            raise
        raise Unusable("gold_not_right", f"the answer cannot be a reply ({error}); correct the row") from None


_NOT_RIGHT = Unusable("gold_not_right", "the answer, written as a reply, is not read as what it is; correct the row")


def _native(call: JsonObject) -> JsonObject:
    return {"function": {"name": call["name"], "arguments": strict_json.dumps(call["arguments"])}}


def _why(row: Parsed, answer: list[JsonObject], allowed: list[Object]) -> Unusable:
    """What stands between the gold and its score."""
    known = {name: tool.declared for name, tool in _parameters(row.tools or []).items()}
    for call in map(_call, answer):
        found = [mismatch(call, expected, known.get(call.name, UNKNOWN)) for expected in allowed]
        reasons = [reason for reason in found if reason is not None and reason.code != "name"]
        if None not in found and reasons:
            return Unusable(
                f"gold_{reasons[0].code}",
                f"nobody can get this row right: in {call.name}, {reasons[0]}; correct the row",
            )
    return Unusable("gold_outside_allowed", "nobody can get this row right: the answer is not among its allowed values")


def _call(call: JsonObject) -> Call:
    return Call(str(call["name"]), as_object(call["arguments"], "answer"))


def _size(value: object, most: int) -> int:
    """How many values a value holds, counted up to a little over `most`."""
    count, stack = 0, [value]
    while stack and count <= most:
        node = stack.pop()
        count += 1
        if isinstance(node, (dict, list)):
            stack.extend(node.values() if isinstance(node, dict) else node)
            count += len(stack) > most
    return count + len(stack)


def _compiled(schema: Json, key: str) -> json_schema.Schema:
    try:
        return json_schema.compiled(cast(Any, schema))
    except ValueError as error:
        raise Unusable("invalid_schema", f"{key}: not a valid JSON Schema ({error})") from None
