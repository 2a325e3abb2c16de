"""To Langfuse 5: datasets and scores by its public API, runs and traces as spans with its experiment attributes.

Its own SDK is not used: that queues in memory, drops what does not fit, gives ids at random and times of its own, none
of which survives a kill. What is written here is read back with it in the tests.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import cast

from fledgling.artefacts import Json, JsonObject
from fledgling.files import canonical
from fledgling.portions import portions
from fledgling.tracing import addresses
from fledgling.tracing.addresses import KEYS, LANGFUSE
from fledgling.tracing.otlp import post_spans, resource
from fledgling.tracing.records import Answer, Context, Dataset, Event, Item, Line, Score
from fledgling.tracing.spans import Attributes, Span, span_of
from fledgling.tracing.web import Away, Refused, Web
from fledgling.tracing.workers import each

INGESTION = "4"  # of Langfuse's own SDK 5: spans are kept as they come, no trace is put together afterwards
AT_A_TIME = 8  # dataset items on their way; there is no request for several
SCORES_BYTES = 900_000  # of one request; Langfuse takes 1,000,000
ENVIRONMENT = "fledgling"  # apart from production's, unless LANGFUSE_TRACING_ENVIRONMENT says otherwise
COMMENT = 500  # characters; the whole reason is in the trace


class Langfuse:
    """One project of a Langfuse."""

    kind = LANGFUSE

    def __init__(self, environment: Mapping[str, str], says: Callable[[str], str]) -> None:
        """From the variables that Langfuse's users know.

        Raises:
            ConfigError: the address cannot be used.
        """
        public, secret = environment["LANGFUSE_PUBLIC_KEY"].strip(), environment["LANGFUSE_SECRET_KEY"].strip()
        login = base64.b64encode(f"{public}:{secret}".encode()).decode()
        headers = {
            "Authorization": f"Basic {login}",
            "x-langfuse-public-key": public,
            "x-langfuse-ingestion-version": INGESTION,
        }
        self._web = Web(addresses.base(LANGFUSE, environment), headers, KEYS[LANGFUSE], says)
        self._environment = environment.get("LANGFUSE_TRACING_ENVIRONMENT") or ENVIRONMENT
        self._resource = resource(environment)
        self._datasets: dict[str, tuple[str, str]] = {}
        self.address = str(addresses.address(LANGFUSE, environment))

    def listen(self, heard: Callable[[], None]) -> None:
        """Have something called after every request that was taken."""
        self._web.heard = heard

    def send(self, context: Context, lines: Sequence[Line]) -> None:
        """Send some lines of a parcel; the same lines once more change nothing.

        Raises:
            Away: nothing can be sent now. Refused: these are not taken.
        """
        if context["dataset"]:
            self._know(context["dataset"])
        items = [line for line in lines if line["kind"] == "item"]
        traced = [line for line in lines if line["kind"] != "item"]
        if items and context["dataset"]:
            name = context["dataset"]["name"]
            each(lambda item: self._item(name, item), items, AT_A_TIME)
        if traced:
            post_spans(
                self._web, "/api/public/otel/v1/traces", [self._span(context, one) for one in traced], self._resource
            )
            self._scores(context, traced)

    def _post(self, path: str, value: Json) -> JsonObject:
        text = json.dumps(_storable(value), ensure_ascii=False)
        reply = self._web.post(path, text.encode("utf-8", "replace"), "application/json")
        try:
            said = json.loads(reply)
        except ValueError:
            raise Away(
                f"{self._web.base}{path} answers something else than JSON; is it a Langfuse?", final=True
            ) from None
        return said if isinstance(said, dict) else {}

    def _know(self, dataset: Dataset) -> None:
        """Make sure that a dataset is there (it is known by its name), and learn its id and its project's."""
        if dataset["name"] in self._datasets:
            return
        try:
            said = self._post("/api/public/v2/datasets", cast(JsonObject, dataset))
        except Refused as error:  # without it no line can be sent, so none is to blame
            raise Away(f"{self._web.base} refuses the dataset {dataset['name']} ({error})", final=True) from None
        if not isinstance(said.get("id"), str):
            raise Away(f"{self._web.base} does not say the id of a dataset; is it Langfuse 5?", final=True)
        self._datasets[dataset["name"]] = (str(said["id"]), str(said.get("projectId", "")))

    def _item(self, dataset: str, item: Item) -> None:
        self._post(
            "/api/public/dataset-items",
            {
                "datasetName": dataset,
                "id": item["id"],
                "input": item["input"],
                "expectedOutput": item["expected"],
                "metadata": item["metadata"],
            },
        )

    def _experiment(self, dataset: str, run: str) -> str:
        """The id of a run, as Langfuse itself derives it from project, dataset and the run's name."""
        id, project = self._datasets[dataset]
        parts = json.dumps(["langfuse-experiment-v1", project, id, run], separators=(",", ":"), ensure_ascii=False)
        return sha256(parts.encode("utf-8", "replace")).hexdigest()[:16]

    def _span(self, context: Context, line: Answer | Event) -> Span:
        span = span_of(context, line)
        dataset, run = context["dataset"], context["run"]
        own: Attributes = {
            "langfuse.environment": self._environment,
            "langfuse.trace.name": span.name,
            "langfuse.trace.tags": context["tags"],
            "langfuse.observation.type": "generation" if line["kind"] == "answer" else "span",
            "langfuse.observation.metadata": canonical(line.get("metadata", {})),
        }
        if context["commit"]:
            own["langfuse.release"] = context["commit"]
        if span.error is not None:
            own |= {"langfuse.observation.level": "ERROR", "langfuse.observation.status_message": span.error}
        if dataset and run and line["kind"] == "answer":
            own |= {
                "langfuse.experiment.id": self._experiment(dataset["name"], run["name"]),
                "langfuse.experiment.name": run["name"],
                "langfuse.experiment.description": f"{run['label']} on {dataset['description']}",
                "langfuse.experiment.metadata": canonical(run["metadata"]),
                "langfuse.experiment.dataset.id": self._datasets[dataset["name"]][0],
                "langfuse.experiment.item.id": line["item"],
                "langfuse.experiment.item.expected_output": json.dumps(line["expected"]),
                "langfuse.experiment.item.root_observation_id": line["span"],
            }
        return replace(span, attributes=span.attributes | own)

    def _scores(self, context: Context, lines: Sequence[Answer | Event]) -> None:
        scores = (self._score(context, line, one) for line in lines for one in line["scores"])
        for batch in portions(scores, _weight, most_bytes=SCORES_BYTES):
            said = self._post("/api/public/scores", [*batch])
            if said.get("rejected"):
                errors = said.get("errors")
                first = errors[0] if isinstance(errors, list) and errors else {}
                raise Refused(f"{said['rejected']} of {len(batch)} scores rejected: {canonical(first)[:300]}")

    def _score(self, context: Context, line: Answer | Event, one: Score) -> JsonObject:
        about: JsonObject = {"traceId": line["trace"], "observationId": line["span"]}
        if one["run"] is not None and context["dataset"]:
            about = {"datasetRunId": self._experiment(context["dataset"]["name"], one["run"])}
        return {
            **about,
            "id": one["id"],
            "name": one["name"],
            "value": one["value"],
            "dataType": "CATEGORICAL" if isinstance(one["value"], str) else "NUMERIC",
            "environment": self._environment,
            "timestamp": _iso(context["at"]),
            **({"comment": one["comment"][:COMMENT]} if one["comment"] else {}),
        }


def _storable(value: Json) -> Json:
    """A value without the character NUL, which PostgreSQL takes in no JSON: one such row would hold up all others."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {key.replace("\0", "\ufffd"): _storable(one) for key, one in value.items()}
    return [_storable(one) for one in value] if isinstance(value, list) else value


def _weight(score: JsonObject) -> int:
    """Bytes of a score in a list."""
    return len(json.dumps(score)) + 2


def _iso(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(timespec="milliseconds")
