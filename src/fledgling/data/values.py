"""Values out of rows: what is expected under a key, or why it cannot be used."""

from fledgling import strict_json
from fledgling.artefacts import Json, JsonObject
from fledgling.data.invalid import Unusable


def need(row: JsonObject, key: str) -> Json:
    """The value under a key that has to be there."""
    if key not in row:
        raise Unusable("missing_key", f"key '{key}' is missing")
    return row[key]


def as_list(value: object, key: str) -> list[Json]:
    """A list."""
    if not isinstance(value, list):
        raise Unusable("not_a_list", f"key '{key}': expected a list, found {type(value).__name__}")
    return value


def as_object(value: object, key: str) -> JsonObject:
    """A JSON object."""
    if not isinstance(value, dict):
        raise Unusable("not_an_object", f"{key}: expected a JSON object, found {type(value).__name__}")
    return value


def as_text(value: object, key: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise Unusable("not_text", f"{key}: expected text, found {type(value).__name__}")
    return value


def parsed(text: str, key: str) -> Json:
    """The JSON value of a text, read strictly."""
    try:
        value: Json = strict_json.loads(text)
    except ValueError as error:
        raise Unusable("not_json", f"{key}: not JSON ({error})") from None
    return value


def decoded(value: Json, key: str) -> Json:
    """A value, or what it says where it is JSON text: tables keep nested columns so."""
    return parsed(value, key) if isinstance(value, str) else value
