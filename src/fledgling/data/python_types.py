"""JSON Schema of the Python types that tool definitions are written in (xLAM, BFCL and their kin)."""

import re

from fledgling.artefacts import Json, JsonObject

_TYPES: dict[str, str] = {
    "str": "string",
    "string": "string",
    "text": "string",
    "char": "string",
    "int": "integer",
    "integer": "integer",
    "long": "integer",
    "short": "integer",
    "byte": "integer",
    "bigint": "integer",
    "float": "number",
    "double": "number",
    "number": "number",
    "num": "number",
    "bool": "boolean",
    "boolean": "boolean",
    "dict": "object",
    "dictionary": "object",
    "object": "object",
    "map": "object",
    "mapping": "object",
    "hashmap": "object",
    "hashtable": "object",
    "list": "array",
    "array": "array",
    "tuple": "array",
    "set": "array",
    "sequence": "array",
    "iterable": "array",
    "arraylist": "array",
    "queue": "array",
    "stack": "array",
    "none": "null",
    "null": "null",
    "nonetype": "null",
}
_OPTIONAL = re.compile(r"\(?\s*optional\s*\)?", re.IGNORECASE)
_OF = re.compile(r"(list|array|set|tuple|sequence)s?\s+of\s+(.+?)s?", re.IGNORECASE)
_DEFAULT = re.compile(r"default(?:s to)?\b\s*[:=]?\s*(.*)", re.IGNORECASE | re.DOTALL)


def json_type(name: str) -> str | None:
    """The JSON Schema type of a single type's name, whatever its case; None where it is none."""
    return _TYPES.get(name.strip().lower())


def python_type(text: str) -> JsonObject:
    """JSON Schema of a Python type; an unknown type allows anything.

    `int`, `List[str]`, `Dict[str, int]`, `Optional[str]`, `int | None`, `Union[int, str]`, `Literal['a', 'b']`,
    `list of str`.
    """
    text = _OPTIONAL.sub("", text).strip() if text.lower().endswith(("optional", "optional)")) else text.strip()
    options = _split(text, "|") if "|" in text else _split(text, " or ")
    if len(options) > 1:
        return {"anyOf": [python_type(option) for option in options]}
    if listed := _OF.fullmatch(text):
        text = f"{listed[1]}[{listed[2]}]"
    name, _, inside = text.partition("[")
    name = name.strip().lower().removeprefix("typing.")
    inner = _split(inside[:-1], ",") if inside.endswith("]") else []
    if name == "optional" and inner:
        return {"anyOf": [python_type(inner[0]), {"type": "null"}]}
    if name == "union" and inner:
        return {"anyOf": [python_type(item) for item in inner]}
    if name == "literal" and inner:
        return {"enum": [literal(item) for item in inner]}
    kind = json_type(name)
    if kind == "array" and inner:
        options_of = [python_type(item) for item in inner if item != "..."]
        same = all(option == options_of[0] for option in options_of)
        return {"type": "array", "items": options_of[0] if same else {"anyOf": list(options_of)}}
    if kind == "object" and len(inner) == 2 and (values := python_type(inner[1])):
        return {"type": "object", "additionalProperties": values}
    return {"type": kind} if kind else {}


def annotated(text: str) -> tuple[JsonObject, bool]:
    """The schema of a type with what is written behind it, and whether the argument may be left out.

    `str`, `str, optional`, `str, optional, default 'x'`, `int (optional)`, `Optional[int]`, `int | None = 3`.
    """
    text, _, assigned = text.partition("=") if "default" not in text.lower() else (text, "", "")
    name, *notes = _split(text, ",")[:4] or [""]
    schema = python_type(name)
    options = schema.get("anyOf")
    nullable = isinstance(options, list) and {"type": "null"} in options
    optional = bool(_OPTIONAL.search(text)) or bool(assigned.strip()) or nullable
    for note in notes:
        if found := _DEFAULT.fullmatch(note):
            schema, optional = {**schema, "default": literal(found[1])}, True
    return ({**schema, "default": literal(assigned)} if assigned.strip() else schema), optional


def literal(text: str) -> Json:
    """The value that a Python literal of a simple type stands for; other text as it is."""
    text = text.strip().rstrip(".")
    if text[:1] in ("'", '"') and text[-1:] == text[:1] and len(text) > 1:
        return text[1:-1]
    if text in ("True", "true", "False", "false"):
        return text in ("True", "true")
    if text in ("None", "null"):
        return None
    if re.fullmatch(r"-?\d{1,15}", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?\d{1,15}\.\d{1,15}", text) else text


def _split(text: str, separator: str) -> list[str]:
    """Split at the separators outside of brackets and quotes."""
    parts, depth, at, quote = [""], 0, 0, ""
    while at < len(text):
        character = text[at]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        depth += (character in "[(") - (character in "])")
        if depth <= 0 and not quote and text.startswith(separator, at):
            parts.append("")
            at += len(separator)
        else:
            parts[-1] += character
            at += 1
    return [part.strip() for part in parts if part.strip()]
