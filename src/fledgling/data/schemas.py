"""Schemas that rows name by reference, made self-contained."""

import functools
from pathlib import Path
from typing import Any

from fledgling.data.invalid import Unusable
from fledgling.data.sources import parse
from fledgling.files import read_lines


def self_contained(schema: Any, folder: Path | None) -> Any:
    """A row's schema; where it is only a `$ref` into a file beside the rows, that definition with all it needs.

    Raises:
        Unusable: the file or the definition does not exist.
    """
    if not isinstance(schema, dict) or not isinstance(schema.get("$ref"), str) or schema["$ref"].startswith("#"):
        return schema
    name, _, pointer = schema["$ref"].partition("#")
    if folder is None or "://" in name:
        raise Unusable("schema", f"schema.$ref: {name} is not a file beside the rows; write the schema into the row")
    return _definition(folder / name, pointer)


@functools.lru_cache(maxsize=1024)
def _definition(file: Path, pointer: str) -> Any:
    document = _document(file)
    target = _at(document, pointer, file)
    if not isinstance(target, dict):
        return target
    needed: dict[str, Any] = {}
    waiting = [target]
    while waiting:
        for reference in _references(waiting.pop()):
            section, _, name = reference.removeprefix("#/").partition("/")
            if section not in ("$defs", "definitions") or "/" in name:
                raise Unusable("schema", f"{file}: $ref {reference!r} does not name a definition; move it to $defs")
            if name not in needed.setdefault(section, {}):
                needed[section][name] = _at(document, reference.removeprefix("#"), file)
                waiting.append(needed[section][name])
    own = {section: {**needed[section], **target.get(section, {})} for section in needed}
    return {**target, **own}


@functools.lru_cache(maxsize=64)
def _document(file: Path) -> Any:
    if not file.is_file():
        raise Unusable("schema", f"schema.$ref: {file} does not exist; put it beside the rows")
    try:
        return parse("\n".join(text for _, text in read_lines(file)))
    except ValueError as error:
        raise Unusable("schema", f"{file}: not JSON ({error})") from None


def _at(document: Any, pointer: str, file: Path) -> Any:
    """The value that a JSON Pointer (RFC 6901) names."""
    value = document
    for part in pointer.removeprefix("/").split("/") if pointer else ():
        part = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(value, dict) or part not in value:
            raise Unusable("schema", f"schema.$ref: {file} has nothing at #{pointer}")
        value = value[part]
    return value


def _references(value: Any) -> list[str]:
    """Every local `$ref` inside a schema."""
    if isinstance(value, list):
        return [reference for item in value for reference in _references(item)]
    if not isinstance(value, dict):
        return []
    inside = [reference for item in value.values() for reference in _references(item)]
    own = value.get("$ref")
    return [own, *inside] if isinstance(own, str) and own.startswith("#/") else inside
