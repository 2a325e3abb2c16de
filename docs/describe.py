"""Write docs/files.md and the JSON Schemas of the package from src/fledgling/artefacts.py; --check only compares.

python docs/describe.py            after an edit of artefacts.py
python docs/describe.py --check    exit code 1 where a file is not current
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typing_extensions
import yaml
from pydantic import ConfigDict, TypeAdapter

from fledgling import artefacts

ROOT = Path(__file__).parent.parent
SEAL = "sha256 of all other bytes of the file; its last key, and in every file that Fledgling writes."
HEAD = """# The files under results/

Made by `python docs/describe.py` from `src/fledgling/artefacts.py`; do not edit. Other programs can check a file against
its JSON Schema in `src/fledgling/schemas/`. `{part}` in a path may also be `val/` or `repeat/`: the same for the rows of
val, and for a second run.
"""


def schema(kind: type) -> dict[str, Any]:
    """The JSON Schema of one kind, every field with its description, no key beyond those that are known."""
    made = TypeAdapter(kind).json_schema()
    if "Json" in made.get("$defs", {}):
        made["$defs"]["Json"] = {"description": "Any JSON value."}
    for part in [made, *made.get("$defs", {}).values()]:
        if "properties" in part:
            part["additionalProperties"] = False
            if "seal" in part["properties"]:  # of a base class, whose docstrings pydantic does not read
                part["properties"]["seal"]["description"] = SEAL
            for name in part["properties"].values():
                name.pop("title", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def kinds() -> list[type]:
    """Every kind of file, each once."""
    return list(dict.fromkeys(artefacts.PLACES.values()))


def prepare() -> None:
    """Let pydantic read the strings below the fields, of all definitions."""
    for value in vars(artefacts).values():
        if isinstance(value, type) and typing_extensions.is_typeddict(value):
            value.__pydantic_config__ = ConfigDict(use_attribute_docstrings=True)  # type: ignore[attr-defined]


def page() -> str:
    """docs/files.md."""
    parts = [HEAD]
    for kind in kinds():
        made = schema(kind)
        places = [f"`results/{place}`" for place, one in artefacts.PLACES.items() if one is kind]
        parts.append(f"\n## {kind.__name__}\n\n{', '.join(places)}: {made['description'].partition(': ')[2]}\n")
        for name, part in [(kind.__name__, made), *made.get("$defs", {}).items()]:
            if "properties" not in part:
                continue
            if part is not made:
                parts.append(f"\n**{name}**: {part.get('description', '')}\n")
            parts.append("\n| key | type | |\n|---|---|---|\n")
            for key, field in part["properties"].items():
                optional = "" if key in part.get("required", []) else " (may be absent)"
                said = field.get("description", "").replace("\n", " ")
                parts.append(f"| `{key}` | {words(field)} | {said}{optional} |\n")
    return "".join(parts)


def words(field: dict[str, Any]) -> str:
    """A type in words."""
    if "$ref" in field:
        if field["$ref"].endswith("/Json"):
            return "any JSON"
        return str(field["$ref"].rpartition("/")[2])
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(words(part) for part in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {words(field.get('items', {}))}"
    if field.get("type") == "object":
        inner = field.get("additionalProperties")
        return f"object of {words(inner)}" if isinstance(inner, dict) and inner else "object"
    return {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(
        field.get("type", ""), field.get("type", "any JSON")
    )


def keys() -> str:
    """config/README.md with its table of keys made from the schema."""
    schema = yaml.safe_load((ROOT / "config" / "schemas" / "config.schema.yaml").read_text(encoding="utf-8"))
    path = ROOT / "config" / "README.md"
    text = path.read_text(encoding="utf-8")
    head, _, rest = text.partition(TABLE)
    _, _, tail = rest.partition("\n\n")
    rows = "".join(_keys(schema, schema, ""))
    return f"{head}{TABLE}{rows.rstrip()}\n" + (f"\n{tail}" if tail else "")


TABLE = "| key | value | meaning |\n|---|---|---|\n"
NAMED = {"tracks": "track", "models": "model", "contenders": "contender", "adapters": "adapter"}


def _keys(schema: dict[str, Any], node: dict[str, Any], path: str) -> Iterator[str]:
    recipe = schema["properties"]["recipe"]["properties"]
    for name, field in node.get("properties", {}).items():
        if name == "$schema" or (field is recipe.get(name) and path != "recipe"):  # once is enough
            continue
        where = f"{path}.{name}" if path else name
        field = _resolved(schema, field)
        if "description" in field:
            yield f"| `{where}` | {_value(field)} | {_said(field['description'])} |\n"
        if name in NAMED and not path:
            yield from _keys(schema, _resolved(schema, field["additionalProperties"]), f"{name}.{{{NAMED[name]}}}")
        elif field.get("type") == "array" and "$ref" in field.get("items", {}):
            yield from _keys(schema, _resolved(schema, field["items"]), f"{where}[]")
        else:
            yield from _keys(schema, field, where)


def _resolved(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field
    return found


def _said(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _value(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    kinds = field.get("type", "any")
    names = {"object": "block", "array": "list", "string": "text", "integer": "whole number", "boolean": "true/false"}
    found = [names.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    return " or ".join(found)


def files() -> dict[Path, str]:
    """Everything that is generated, by path."""
    prepare()
    folder = ROOT / "src" / "fledgling" / "schemas"
    made = {folder / f"{kind.__name__}.json": json.dumps(schema(kind), indent=1) + "\n" for kind in kinds()}
    return made | {ROOT / "docs" / "files.md": page(), ROOT / "config" / "README.md": keys()}


def main() -> int:
    """Write, or with --check compare."""
    stale = [path for path, text in files().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)}: {'not current' if '--check' in sys.argv else 'written'}")
        if "--check" not in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(files()[path], encoding="utf-8")
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
