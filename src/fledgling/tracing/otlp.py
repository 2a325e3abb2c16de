"""Spans to any back-end that takes OTLP over HTTP: the address and headers of OpenTelemetry's own variables."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from urllib.parse import unquote

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from fledgling.errors import ConfigError
from fledgling.tracing import addresses
from fledgling.tracing.addresses import KEYS, OTLP
from fledgling.tracing.records import Context, Line
from fledgling.tracing.spans import Attributes, Span, Value, span_of
from fledgling.tracing.web import Refused, Web

SCOPE = "fledgling.tracing"
PROTOBUF = "application/x-protobuf"


class Otlp:
    """A receiver of OTLP. Datasets are not sent, for OTLP has no word for them: each answer carries its row."""

    kind = OTLP

    def __init__(self, environment: Mapping[str, str], says: Callable[[str], str]) -> None:
        """From OTEL_EXPORTER_OTLP_ENDPOINT (…_TRACES_ENDPOINT) and …_HEADERS, as every exporter reads them.

        Raises:
            ConfigError: a variable cannot be used; names it.
        """
        protocol = _either(environment, "PROTOCOL") or "http/protobuf"
        if protocol != "http/protobuf":
            raise ConfigError(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol}: only http/protobuf is spoken here; unset it")
        base = addresses.base(OTLP, environment)
        certificate = _either(environment, "CERTIFICATE")
        try:
            self._web = Web(base, _headers(_either(environment, "HEADERS")), KEYS[OTLP], says, certificate or True)
        except OSError as error:
            raise ConfigError(f"OTEL_EXPORTER_OTLP_CERTIFICATE: {certificate}: {error.strerror or error}") from None
        self._resource = resource(environment)
        self.address = f"{OTLP} {base}"

    def listen(self, heard: Callable[[], None]) -> None:
        """Have something called after every request that was taken."""
        self._web.heard = heard

    def send(self, context: Context, lines: Sequence[Line]) -> None:
        """Send the spans of some lines of a parcel.

        Raises:
            Away: nothing can be sent now. Refused: these are not taken.
        """
        spans = [span_of(context, line) for line in lines if line["kind"] != "item"]
        if spans:
            post_spans(self._web, "", spans, self._resource)


def post_spans(web: Web, path: str, spans: Sequence[Span], resource: Attributes) -> None:
    """Send spans in one request.

    Raises:
        Away, Refused: as `Web.post`; Refused also where the receiver says that it rejected some.
    """
    reply = web.post(path, encode(spans, resource), PROTOBUF, packed=True)
    try:
        partial = ExportTraceServiceResponse.FromString(reply).partial_success
    except DecodeError:
        return  # a reply in JSON, or a word of welcome; the status said that they arrived
    if partial.rejected_spans:
        raise Refused(f"{partial.rejected_spans} of {len(spans)} spans rejected: {partial.error_message}")


def resource(environment: Mapping[str, str]) -> Attributes:
    """Who sends: service.name and what OTEL_RESOURCE_ATTRIBUTES adds."""
    found: Attributes = {"service.name": "fledgling", "service.version": version("fledgling")}
    found |= _headers(environment.get("OTEL_RESOURCE_ATTRIBUTES"))
    if name := environment.get("OTEL_SERVICE_NAME"):
        found["service.name"] = name
    return found


def encode(spans: Sequence[Span], resource: Attributes) -> bytes:
    """An ExportTraceServiceRequest in protobuf."""
    scope = trace_pb2.ScopeSpans(
        scope=InstrumentationScope(name=SCOPE, version=version("fledgling")), spans=[_span(span) for span in spans]
    )
    whole = trace_pb2.ResourceSpans(resource=Resource(attributes=_attributes(resource)), scope_spans=[scope])
    return ExportTraceServiceRequest(resource_spans=[whole]).SerializeToString()


def _span(span: Span) -> trace_pb2.Span:
    status = trace_pb2.Status(code=trace_pb2.Status.STATUS_CODE_OK)
    if span.error is not None:
        status = trace_pb2.Status(code=trace_pb2.Status.STATUS_CODE_ERROR, message=_text(span.error))
    return trace_pb2.Span(
        trace_id=bytes.fromhex(span.trace),
        span_id=bytes.fromhex(span.id),
        name=_text(span.name),
        kind=trace_pb2.Span.SPAN_KIND_CLIENT if span.calls else trace_pb2.Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=span.start,
        end_time_unix_nano=span.end,
        attributes=_attributes(span.attributes),
        events=[
            trace_pb2.Span.Event(time_unix_nano=one.at, name=one.name, attributes=_attributes(one.attributes))
            for one in span.events
        ],
        status=status,
    )


def _attributes(values: Attributes) -> list[KeyValue]:
    return [KeyValue(key=_text(name), value=_value(value)) for name, value in values.items()]


def _value(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if -(1 << 63) <= value < 1 << 63 else AnyValue(double_value=float(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=_text(value))
    return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=_text(one)) for one in value]))


def _text(text: str) -> str:
    """A text that is valid UTF-8: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _either(environment: Mapping[str, str], name: str) -> str | None:
    return environment.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or environment.get(f"OTEL_EXPORTER_OTLP_{name}")


def _headers(text: str | None) -> dict[str, str]:
    """name=value,name=value with values as in addresses (W3C baggage), as OpenTelemetry's variables have them."""
    pairs = [part.partition("=") for part in (text or "").split(",") if "=" in part]
    return {unquote(name).strip(): unquote(value).strip() for name, _, value in pairs}
