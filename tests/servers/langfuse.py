"""A local server that speaks Langfuse 5's public API, with faults on demand.

It takes datasets, dataset items, scores and spans (OTLP, protobuf, perhaps packed), files them as Langfuse does, by id
and day, and gives back what Langfuse's own SDK reads: datasets, items, experiments, their items, scores, observations.
"""

import base64
import gzip
import json
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PUBLIC, SECRET = "pk-lf-test-1", "sk-lf-" + "test-" + "1"
PROJECT = "project-1"
MODES = ("ok", "401", "500", "429", "hang", "slow", "drip", "drop", "drop after", "redirect")
NOW = "2026-11-25T12:00:00.000Z"


class Langfuse:
    """The server; `with Langfuse() as server: server.url`. `refuse` is a server that was ended."""

    def __init__(self, port: int = 0) -> None:
        self.mode = "ok"
        self.fail_after: int | None = None  # requests that are answered before the mode takes hold
        self.datasets: dict[str, dict[str, Any]] = {}
        self.items: dict[str, dict[str, Any]] = {}
        self.spans: dict[tuple[str, str], dict[str, Any]] = {}  # by day and id, as Langfuse files them
        self.scores: dict[tuple[str, str], dict[str, Any]] = {}
        self.arrived: Counter[str] = Counter()
        self.requests: list[tuple[str, str]] = []
        self.delay_s = 0.0  # before every answer
        self.refused: set[str] = set()  # texts: a body that has one is answered with 400
        self.lock = threading.RLock()
        self._release = threading.Event()
        handler = type("Handler", (_Handler,), {"server_": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Langfuse":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._release.set()
        self._server.shutdown()
        self._server.server_close()

    def env(self) -> dict[str, str]:
        """The variables of a user of this server."""
        return {"LANGFUSE_PUBLIC_KEY": PUBLIC, "LANGFUSE_SECRET_KEY": SECRET, "LANGFUSE_HOST": self.url}

    def become(self, mode: str, after: int | None = None) -> None:
        """Change what every request meets, at once or `after` that many more."""
        assert mode in MODES
        self.mode, self.fail_after = mode, after

    def experiments(self) -> dict[str, dict[str, Any]]:
        """Runs by id, each with its items."""
        found: dict[str, dict[str, Any]] = {}
        for span in self.spans.values():
            attributes = span["attributes"]
            if id := attributes.get("langfuse.experiment.id"):
                run = found.setdefault(
                    id,
                    {
                        "id": id,
                        "name": attributes["langfuse.experiment.name"],
                        "datasetId": attributes["langfuse.experiment.dataset.id"],
                        "metadata": json.loads(attributes["langfuse.experiment.metadata"]),
                        "description": attributes["langfuse.experiment.description"],
                        "items": [],
                    },
                )
                run["items"].append(span)
        return found

    def holds(self) -> dict[str, Any]:
        """All that was taken, to compare: ids of everything, with their number and content."""
        with self.lock:
            return {
                "datasets": dict(sorted(self.datasets.items())),
                "items": dict(sorted(self.items.items())),
                "spans": {f"{day} {id}": span for (day, id), span in sorted(self.spans.items())},
                "scores": {f"{day} {id}": one for (day, id), one in sorted(self.scores.items())},
            }


class _Handler(BaseHTTPRequestHandler):
    server_: Langfuse
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_GET

    def _serve(self) -> None:
        try:
            self._answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _answer(self) -> None:
        server = self.server_
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            assert "otel" in self.path, "only this route of Langfuse unpacks"
            body = gzip.decompress(body)
        with server.lock:
            server.requests.append((self.command, self.path))
            mode = server.mode
            if server.fail_after is not None:
                mode = "ok" if server.fail_after > 0 else mode
                server.fail_after -= 1
        if mode == "hang":
            server._release.wait(60)
            self.close_connection = True
            return
        if mode == "drop":
            self.close_connection = True
            return
        time.sleep(server.delay_s + (1.5 if mode == "slow" else 0))
        faults = {
            "401": (401, {"message": "Invalid credentials"}, {}),
            "500": (500, {"message": "Internal Server Error"}, {}),
            "429": (429, {"message": "rate limit"}, {"Retry-After": "1"}),
            "redirect": (308, {}, {"Location": "http://127.0.0.1:1/"}),
        }
        if mode in faults:
            self._send(*faults[mode])
            return
        if not self._known():
            self._send(401, {"message": "Invalid credentials. Confirm that you've configured the correct host."}, {})
            return
        with server.lock:
            status, value = self._route(body)
        if mode == "drop after":
            self.close_connection = True
            return
        self._send(status, value, {}, drip=mode == "drip")

    def _known(self) -> bool:
        login = base64.b64encode(f"{PUBLIC}:{SECRET}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {login}"

    def _send(self, status: int, value: Any, headers: dict[str, str], *, drip: bool = False) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        for byte in content if drip else []:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(0.5)
        if not drip:
            self.wfile.write(content)

    def _route(self, body: bytes) -> tuple[int, Any]:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        path = url.path.removeprefix("/api/public/")
        if self.command == "POST" and path != "otel/v1/traces" and b"\\u0000" in body:
            return 500, {"message": "unsupported Unicode escape sequence"}  # what PostgreSQL says to NUL
        if any(text.encode() in body for text in self.server_.refused):
            return 400, {"message": "Invalid request data"}
        if path == "otel/v1/traces":
            return self._spans(body)
        posts = {"v2/datasets": self._dataset, "dataset-items": self._item, "scores": self._scores}
        if self.command == "POST" and path in posts:
            return posts[path](json.loads(body))
        gets = {
            "projects": self._projects,
            "v2/datasets": self._list_datasets,
            "dataset-items": self._list_items,
            "experiments": self._list_experiments,
            "experiment-items": self._list_experiment_items,
            "v3/scores": self._list_scores,
            "v2/observations": self._list_observations,
        }
        if self.command == "GET" and path in gets:
            return 200, gets[path](query)
        if self.command == "GET" and path.startswith("v2/datasets/"):
            found = self.server_.datasets.get(unquote(path.removeprefix("v2/datasets/")))
            return (200, found) if found else (404, {"message": "Dataset not found"})
        return 404, {"message": f"no route {self.command} {self.path}"}

    # What is taken

    def _dataset(self, value: dict[str, Any]) -> tuple[int, Any]:
        id = "ds-" + sha256(value["name"].encode()).hexdigest()[:8]
        known = {"id": id, "projectId": PROJECT, "createdAt": NOW, "updatedAt": NOW}
        self.server_.datasets[value["name"]] = {"description": None, "metadata": None, **value, **known}
        self.server_.arrived[f"dataset {value['name']}"] += 1
        return 200, self.server_.datasets[value["name"]]

    def _item(self, value: dict[str, Any]) -> tuple[int, Any]:
        dataset = self.server_.datasets.get(value["datasetName"])
        if dataset is None:
            return 404, {"message": "Dataset not found"}
        old = self.server_.items.get(value["id"])
        if old and old["datasetName"] != value["datasetName"]:
            return 404, {"message": "the id belongs to another dataset"}
        item = {"status": "ACTIVE", "datasetId": dataset["id"], "createdAt": NOW, "updatedAt": NOW, **value}
        self.server_.items[value["id"]] = {"mediaReferences": [], **item}
        self.server_.arrived[f"item {value['id']}"] += 1
        return 200, self.server_.items[value["id"]]

    def _scores(self, values: list[dict[str, Any]]) -> tuple[int, Any]:
        assert isinstance(values, list)
        assert len(json.dumps(values)) <= 1_000_000
        for value in values:
            assert (value["dataType"] == "CATEGORICAL") == isinstance(value["value"], str)
            assert ("traceId" in value) != ("datasetRunId" in value)
            self.server_.scores[value["timestamp"][:10], value["id"]] = value
            self.server_.arrived[f"score {value['id']}"] += 1
        return 202, {"message": "Accepted"}

    def _spans(self, body: bytes) -> tuple[int, Any]:
        assert self.headers["x-langfuse-ingestion-version"] == "4"
        for whole in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in whole.scope_spans:
                for span in scope.spans:
                    self._span(span)
        return 200, b""

    def _span(self, span: Any) -> None:
        id, trace = span.span_id.hex(), span.trace_id.hex()
        start, end = (
            datetime.fromtimestamp(at / 1e9, UTC) for at in (span.start_time_unix_nano, span.end_time_unix_nano)
        )
        self.server_.spans[f"{start:%Y-%m-%d}", id] = {
            "id": id,
            "traceId": trace,
            "name": span.name,
            "start": start.isoformat(),
            "end": end.isoformat(),
            "error": span.status.message if span.status.code == 2 else None,
            "attributes": {one.key: _plain(one.value) for one in span.attributes},
            "events": [(one.name, {pair.key: _plain(pair.value) for pair in one.attributes}) for one in span.events],
        }
        self.server_.arrived[f"span {id}"] += 1

    # What the SDK reads

    def _projects(self, query: dict[str, str]) -> Any:
        return {"data": [{"id": PROJECT, "name": "test", "organization": {"id": "o", "name": "o"}, "metadata": {}}]}

    def _list_datasets(self, query: dict[str, str]) -> Any:
        return _page(list(self.server_.datasets.values()), query)

    def _list_items(self, query: dict[str, str]) -> Any:
        items = [one for one in self.server_.items.values() if one["datasetName"] == query.get("datasetName")]
        return _page(items, query)

    def _list_experiments(self, query: dict[str, str]) -> Any:
        found = [one for one in self.server_.experiments().values() if query.get("name") in (None, one["name"])]
        return {
            "data": [
                {
                    **{key: run[key] for key in ("id", "name", "datasetId", "metadata", "description")},
                    "startTime": min(one["start"] for one in run["items"]),
                    "endTime": max(one["end"] for one in run["items"]),
                    "itemCount": len(run["items"]),
                    "scores": [
                        self._score(one) for one in self.server_.scores.values() if one.get("datasetRunId") == run["id"]
                    ],
                }
                for run in found
            ],
            "meta": {},
        }

    def _list_experiment_items(self, query: dict[str, str]) -> Any:
        spans = [one for run in self.server_.experiments().values() for one in run["items"]]
        chosen = [
            one for one in spans if query.get("experimentName") in (None, one["attributes"]["langfuse.experiment.name"])
        ]
        start = int(query.get("cursor", 0))
        page = chosen[start : start + int(query.get("limit", 50))]
        more = {"cursor": str(start + len(page))} if start + len(page) < len(chosen) else {}
        return {"data": [self._experiment_item(one) for one in page], "meta": more}

    def _experiment_item(self, span: dict[str, Any]) -> Any:
        attributes = span["attributes"]
        return {
            "id": attributes["langfuse.experiment.item.root_observation_id"],
            "traceId": span["traceId"],
            "startTime": span["start"],
            "endTime": span["end"],
            "level": attributes.get("langfuse.observation.level", "DEFAULT"),
            "environment": attributes["langfuse.environment"],
            "experimentId": attributes["langfuse.experiment.id"],
            "experimentName": attributes["langfuse.experiment.name"],
            "experimentItemId": attributes["langfuse.experiment.item.id"],
            "experimentDatasetId": attributes["langfuse.experiment.dataset.id"],
            "input": json.loads(attributes["gen_ai.input.messages"]),
            "output": json.loads(attributes["gen_ai.output.messages"]),
            "expectedOutput": json.loads(attributes["langfuse.experiment.item.expected_output"]),
            "scores": [
                self._score(one) for one in self.server_.scores.values() if one.get("traceId") == span["traceId"]
            ],
        }

    def _list_scores(self, query: dict[str, str]) -> Any:
        wanted = {"traceId": query.get("traceId"), "name": query.get("name"), "datasetRunId": query.get("experimentId")}
        found = [
            self._score(one)
            for one in self.server_.scores.values()
            if all(value is None or one.get(key) == value for key, value in wanted.items())
        ]
        return {"data": found[: int(query.get("limit", 50))], "meta": {"limit": int(query.get("limit", 50))}}

    def _score(self, one: dict[str, Any]) -> Any:
        known = {"projectId": PROJECT, "source": "API", "createdAt": NOW, "updatedAt": NOW}
        return {
            key: value for key, value in one.items() if key not in ("traceId", "observationId", "datasetRunId")
        } | known

    def _list_observations(self, query: dict[str, str]) -> Any:
        found = [
            {
                "id": one["id"],
                "traceId": one["traceId"],
                "name": one["name"],
                "startTime": one["start"],
                "endTime": one["end"],
                "projectId": PROJECT,
                "parentObservationId": None,
                "type": one["attributes"]["langfuse.observation.type"].upper(),
                "sessionId": one["attributes"].get("session.id"),
                "environment": one["attributes"]["langfuse.environment"],
                "input": one["attributes"].get("gen_ai.input.messages") or one["attributes"].get("input.value"),
                "output": one["attributes"].get("gen_ai.output.messages") or one["attributes"].get("output.value"),
                "usageDetails": {
                    key: one["attributes"][f"gen_ai.usage.{key}_tokens"]
                    for key in ("input", "output")
                    if f"gen_ai.usage.{key}_tokens" in one["attributes"]
                },
                "tags": one["attributes"].get("langfuse.trace.tags"),
            }
            for one in self.server_.spans.values()
            if query.get("traceId") in (None, one["traceId"]) and query.get("name") in (None, one["name"])
        ]
        return {"data": found[: int(query.get("limit", 50))], "meta": {}}


def _page(values: list[Any], query: dict[str, str]) -> Any:
    page, limit = int(query.get("page", 1)), int(query.get("limit", 50))
    pages = max(-(-len(values) // limit), 1)
    meta = {"page": page, "limit": limit, "totalItems": len(values), "totalPages": pages}
    return {"data": values[(page - 1) * limit : page * limit], "meta": meta}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_plain(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)
