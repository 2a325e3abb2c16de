"""Spans and log events of OpenTelemetry: OTLP's JSON opened, attributes as plain values, in one shape for all exporters."""

from collections.abc import Iterator
from typing import cast

from fledgling.artefacts import Json, JsonObject
from fledgling.data.invalid import Unusable
from fledgling.data.traces.record import first, text
from fledgling.data.values import as_list, as_object

_DEPTH = 16  # parts of a dotted name; OpenInference has about ten
_ERRORS = ("ERROR", "STATUS_CODE_ERROR", "2")


def opened(row: JsonObject) -> Iterator[JsonObject]:
    """The spans (or log events) of an OTLP row, each with its attributes as an object.

    Raises:
        Unusable: it is not OTLP's JSON.
    """
    kinds = (("resourceSpans", "scopeSpans", "spans"), ("resourceLogs", "scopeLogs", "logRecords"))
    for outer, middle, inner in kinds:
        for resource in as_list(row.get(outer, []), outer):
            about = as_object(resource, outer)
            scopes = first(about, middle, "instrumentationLibrarySpans")
            for scope in as_list([] if scopes is None else scopes, middle):
                for span in as_list(as_object(scope, middle).get(inner, []), inner):
                    yield _span(as_object(span, inner))


def _span(span: JsonObject) -> JsonObject:
    attributes = _attributes(span.get("attributes", []))
    for event in as_list(span.get("events", []), "events"):
        attributes |= _attributes(as_object(event, "events").get("attributes", []))
    status = as_object(span.get("status", {}), "status")
    return {
        "trace_id": span.get("traceId"),
        "span_id": span.get("spanId"),
        "name": first(span, "name", "eventName"),
        "start_time": first(span, "startTimeUnixNano", "timeUnixNano", "observedTimeUnixNano"),
        "status_code": status.get("code"),
        "status_message": status.get("message"),
        "attributes": attributes,
    }


def _attributes(value: Json) -> JsonObject:
    """{name: value} of OTLP's list of {"key", "value"}, or of an object."""
    if isinstance(value, dict):
        return dict(value)
    made: JsonObject = {}
    for item in as_list(value, "attributes"):
        pair = as_object(item, "attributes")
        if isinstance(pair.get("key"), str):
            made[str(pair["key"])] = _plain(pair.get("value"))
    return made


def _plain(value: Json) -> Json:
    """An AnyValue of OTLP as JSON has it; 64-bit integers are text there."""
    if not isinstance(value, dict):
        return value
    for name, item in value.items():
        if name == "arrayValue" and isinstance(item, dict):
            return [_plain(part) for part in as_list(item.get("values", []), name)]
        if name == "kvlistValue" and isinstance(item, dict):
            return _attributes(item.get("values", []))
        if name == "intValue" and isinstance(item, str) and item.lstrip("-").isdecimal() and len(item) < 20:
            return int(item)
        if name in ("stringValue", "intValue", "doubleValue", "boolValue", "bytesValue"):
            return item
    return None


def attributes_of(row: JsonObject) -> JsonObject:
    """The attributes of a span in any export: an object, OTLP's list, or columns named attributes.…"""
    found = row.get("attributes")
    if isinstance(found, dict | list):
        return _attributes(found)
    return {name.removeprefix("attributes."): value for name, value in row.items() if name.startswith("attributes.")}


def about(row: JsonObject, name: str) -> Json:
    """A span's trace_id or span_id, in any export."""
    context = row.get("context")
    nested = context.get(name) if isinstance(context, dict) else None
    camel = name.replace("_i", "I")
    return first(row, name, f"context.{name}", camel) or nested


def error_of(row: JsonObject, attributes: JsonObject) -> str | None:
    """Why a span failed; None where it did not."""
    code, kind = text(first(row, "status_code", "statusCode")), text(attributes.get("error.type"))
    if code not in _ERRORS and kind is None:
        return None
    return text(row.get("status_message")) or text(attributes.get("exception.message")) or kind or "status ERROR"


def nested(flat: JsonObject) -> JsonObject:
    """Dotted names as objects in objects, numbered ones as lists: {"a.0.b": 1} is {"a": [{"b": 1}]}.

    Raises:
        Unusable: two names contradict each other.
    """
    made = _Node()
    for name, value in flat.items():
        parts = name.split(".")
        if len(parts) > _DEPTH:
            raise Unusable("attributes", f"attribute {name[:60]!r} has over {_DEPTH} parts")
        node = made
        for part in parts[:-1]:
            inner = node.setdefault(part, _Node())
            if not isinstance(inner, _Node):
                raise Unusable("attributes", f"attribute {name[:60]!r} stands inside one that is a value")
            node = inner
        if parts[-1] in node:
            raise Unusable("attributes", f"attribute {name[:60]!r} is a value and holds others")
        node[parts[-1]] = value
    return cast(JsonObject, _listed(made))


class _Node(dict[str, Json]):
    """An object that dotted names make, as told from one that is a value."""


def _listed(node: Json) -> Json:
    if not isinstance(node, _Node):
        return node
    if node and all(name.isdecimal() and len(name) < 6 for name in node):
        return [_listed(node[name]) for name in sorted(node, key=int)]
    return {name: _listed(item) for name, item in node.items()}
