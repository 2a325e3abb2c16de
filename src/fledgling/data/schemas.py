"""Schemas that rows name by reference, made self-contained."""

import functools
from pathlib import Path

from fledgling import strict_json
from fledgling.artefacts import Json, JsonObject
from fledgling.data.invalid import Unusable
from fledgling.files import read_lines

MAX_SIZE = 16 << 20  # bytes of a file of schemas


def self_contained(schema: Json, folder: Path | None) -> Json:
    """A row's schema; where it is only a `$ref` into a file beside the rows, that definition with all it needs.

    A row may come from anywhere, so the file lies in the folder of the row's own file or below it: no absolute path,
    no `..`, no link.

    Raises:
        Unusable: the file or the definition does not exist, or lies elsewhere.
    """
    reference = schema.get("$ref") if isinstance(schema, dict) else None
    if not isinstance(reference, str) or reference.startswith("#"):
        return schema
    name, _, pointer = reference.partition("#")
    if folder is None or "://" in name:
        raise Unusable("schema", f"schema.$ref: {name} is not a file beside the rows; write the schema into the row")
    return _definition(_inside(folder, name), pointer)


def _inside(folder: Path, name: str) -> Path:
    """The file of that name below a folder.

    Raises:
        Unusable: it is named by an absolute path or through `..`, or it is a link or behind one.
    """
    steps = name.replace("\\", "/").split("/")
    if not name or name.startswith("/") or ".." in steps or "\0" in name or ":" in steps[0]:
        raise Unusable("schema", f"schema.$ref: {name!r} does not lie in the folder of the rows; put it beside them")
    file = folder
    for step in steps:
        file = file / step
        if file.is_symlink():
            raise Unusable("schema", f"schema.$ref: {file} is a link; put the file itself beside the rows")
    return file


@functools.lru_cache(maxsize=1024)
def _definition(file: Path, pointer: str) -> Json:
    document = _document(file)
    target = _at(document, pointer, file)
    if not isinstance(target, dict):
        return target
    needed: dict[str, JsonObject] = {}
    waiting: list[Json] = [target]
    while waiting:
        for reference in _references(waiting.pop()):
            section, _, name = reference.removeprefix("#/").partition("/")
            if section not in ("$defs", "definitions") or "/" in name:
                raise Unusable("schema", f"{file}: $ref {reference!r} does not name a definition; move it to $defs")
            if name not in needed.setdefault(section, {}):
                needed[section][name] = _at(document, reference.removeprefix("#"), file)
                waiting.append(needed[section][name])
    own: JsonObject = {section: {**needed[section], **_named(target.get(section))} for section in needed}
    return {**target, **own}


def _named(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


@functools.lru_cache(maxsize=64)
def _document(file: Path) -> Json:
    if not file.is_file():
        raise Unusable("schema", f"schema.$ref: {file} does not exist; put it beside the rows")
    if file.stat().st_size > MAX_SIZE:
        raise Unusable(
            "schema", f"schema.$ref: {file} has over {MAX_SIZE:,} bytes; keep the row's own schema in it only"
        )
    try:
        return strict_json.parse("\n".join(text for _, text in read_lines(file)))
    except ValueError as error:
        raise Unusable("schema", f"{file}: not JSON ({error})") from None


def _at(document: Json, pointer: str, file: Path) -> Json:
    """The value that a JSON Pointer (RFC 6901) names."""
    value = document
    for part in pointer.removeprefix("/").split("/") if pointer else ():
        part = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(value, dict) or part not in value:
            raise Unusable("schema", f"schema.$ref: {file} has nothing at #{pointer}")
        value = value[part]
    return value


def _references(value: Json) -> list[str]:
    """Every local `$ref` inside a schema."""
    if isinstance(value, list):
        return [reference for item in value for reference in _references(item)]
    if not isinstance(value, dict):
        return []
    inside = [reference for item in value.values() for reference in _references(item)]
    own = value.get("$ref")
    return [own, *inside] if isinstance(own, str) and own.startswith("#/") else inside
