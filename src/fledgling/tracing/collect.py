"""Parcels from the files of the graph: datasets, one run a contender, trainings, the gate and the verdict."""

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import cast

from fledgling import artefacts, contenders
from fledgling.artefacts import Comparison, Gate, Json, JsonObject, Metrics, Predictions, Rung, Training, Verdict
from fledgling.errors import DataError
from fledgling.files import Object, digest, read_jsonl, sha256_file
from fledgling.sealing import seal_of, verify_predictions, verify_rows
from fledgling.tracing.masking import Mask
from fledgling.tracing.records import Answer, Context, Dataset, Event, Item, Line, Parcel, Run, Score, made_id, score

SHAPE = 1  # of what is collected; another number makes every parcel anew
PARTS = ("val", "repeat")
# Names of OpenTelemetry's GenAI conventions where there is one.
PROVIDERS = {"azure": "azure.ai.openai", "openai": "openai"}


@dataclass(frozen=True)
class Sources:
    """The files of one track. `data` are its splits; a contender is named by the stem of its files."""

    track: str
    verdict: Path
    compare: Path
    data: Sequence[Path]
    predictions: Sequence[Path]
    metrics: Sequence[Path]
    training: Sequence[Path]

    def all(self) -> list[Path]:
        """Every file that a trace is made from."""
        seals = [seal_of(path) for path in self.predictions]
        rows = [path.with_suffix(".jsonl") for path in self.metrics]
        return [self.verdict, self.compare, *self.data, *self.predictions, *seals, *self.metrics, *rows, *self.training]


@dataclass(frozen=True)
class Answers:
    """One contender's answers to one split, and what they are worth."""

    contender: str
    part: str
    split: str
    data: Path
    predictions: Path
    seal: Predictions
    metrics_path: Path
    metrics: Metrics

    @property
    def rows(self) -> Path:
        """The scored rows."""
        return self.metrics_path.with_suffix(".jsonl")

    @cached_property
    def run(self) -> str:
        """The name of the run: the contender, what computed it, and these very answers."""
        known = sorted(self.metrics["fingerprints"])
        fingerprint = known[0] if len(known) == 1 else digest(known) if known else ""
        known_by = fingerprint[-16:] if fingerprint != self.contender else ""  # of a floor it is its name
        words = [self.contender, "again" if self.part == "repeat" else "", known_by, self.seal["sha256"][:8]]
        return " ".join(filter(None, words))


class Collector:
    """Makes the parcels of a track. `settings` has `track` and `teacher`, as the graph hands them over."""

    def __init__(self, sources: Sources, settings: Mapping[str, JsonObject], mask: Mask, masks: Sequence[str]) -> None:
        self._sources, self._mask = sources, mask
        self._stamp = digest([SHAPE, list(masks)])
        provider = str(settings.get("teacher", {}).get("provider", ""))
        self._provider = PROVIDERS.get(provider, provider or "unknown")
        self._verdict = artefacts.read(Verdict, sources.verdict)
        self._gate = artefacts.read(Gate, sources.compare)
        self._commit = _commit()
        for path in sources.data:
            verify_rows(path)
        self._splits = {sha256_file(path): path for path in sources.data}
        self.answers = self._read_answers()

    def _read_answers(self) -> list[Answers]:
        metrics = {_place(path, self._sources.track): path for path in self._sources.metrics}
        found = []
        for path in self._sources.predictions:
            part, name = _place(path, self._sources.track)
            if (part, name) not in metrics:
                raise DataError(f"{path}: no metrics of these predictions were given (results/metrics/…/{name}.json)")
            seal = artefacts.read(Predictions, seal_of(path))
            data = next((file for sha, file in self._splits.items() if sha in seal["made_from"].values()), None)
            if data is None:
                raise DataError(
                    f"{path}: answers none of {', '.join(map(str, self._splits.values()))}; "
                    f"ask again with: snakemake --cores all {path}"
                )
            verify_predictions(path, data)
            file = metrics[part, name]
            scored = artefacts.read(Metrics, file)
            one = Answers(name, part, data.stem, data, path, seal, file, scored)
            artefacts.seal(one.rows, scored["rows_sha256"] or "", file)
            if scored["predictions_sha256"] != seal["sha256"]:
                raise DataError(
                    f"{file}: scores other answers than {path}; build it again: snakemake --cores all {file}"
                )
            found.append(one)
        return found

    def parcels(self) -> Iterator[Parcel]:
        """All of them, in the order in which they have to arrive."""
        for data in dict.fromkeys(one.data for one in self.answers):
            yield self._parcel(
                1, "dataset", [data], self._context(data, self._dataset(data)), partial(self._items, data)
            )
        for one in self.answers:
            context = self._context(one.predictions, self._dataset(one.data), self._run(one))
            files = [one.data, one.predictions, one.metrics_path, one.rows]
            yield self._parcel(2, "run", files, context, partial(self._answered, one, context))
        for path in self._sources.training:
            context = self._context(path, None)
            yield self._parcel(3, "training", [path], context, partial(self._trained, path))
        test = self._dataset(next(path for path in self._sources.data if path.stem == "test"))
        yield self._parcel(3, "gate", [self._sources.compare], self._context(self._sources.compare, test), self._gated)
        yield self._parcel(
            3, "verdict", [self._sources.verdict], self._context(self._sources.verdict, test), self._judged
        )

    def _parcel(
        self, order: int, what: str, files: Sequence[Path], context: Context, lines: Callable[[], Iterator[Line]]
    ) -> Parcel:
        track = self._sources.track
        key = digest([self._stamp, what, track, [sha256_file(path) for path in files]])
        return Parcel(order, f"{order}-{track}-{what}-{key[:16]}", key, context, lines)

    # What a parcel is about

    def _dataset(self, data: Path) -> Dataset:
        sha = next(sha for sha, path in self._splits.items() if path == data)
        track = self._sources.track
        return {
            "name": f"{track}/{data.stem}/{sha[:8]}",
            "description": f"{self._verdict['title']}: rows of {data.stem}",
            "metadata": {"track": track, "kind": self._verdict["kind"], "split": data.stem, "sha256": sha},
        }

    def _run(self, one: Answers) -> Run:
        rung = self._rung(one.contender)
        metrics = one.metrics
        metadata: JsonObject = {
            "track": self._sources.track,
            "split": one.split,
            "contender": one.contender,
            "label": rung["label"] if rung else one.contender,
            "checkpoint": rung["model"] if rung else None,
            "adapter": rung["adapter"] if rung else None,
            "fingerprints": cast(Json, metrics["fingerprints"]),
            "models": cast(Json, metrics["models"]),
            "predictions_sha256": one.seal["sha256"],
            "rows": metrics["n"],
            "outcomes": cast(Json, metrics["outcomes"]),
            "tokens": cast(Json, metrics["tokens"]),
            "cost": cast(Json, metrics["cost"]),
            "latency_s": cast(Json, metrics["latency_s"]),
            "simulated": self._verdict["simulated"],
            "commit": self._commit,
        }
        return {
            "name": one.run,
            "contender": one.contender,
            "label": str(metadata["label"]),
            "metadata": self._mask.object(metadata),
        }

    def _rung(self, name: str) -> Rung | None:
        return next((rung for rung in self._verdict["ladder"] if rung["name"] == name), None)

    def _context(self, path: Path, dataset: Dataset | None, run: Run | None = None) -> Context:
        track = self._sources.track
        tags = [f"track:{track}", f"kind:{self._verdict['kind']}"]
        tags += [f"split:{dataset['metadata']['split']}"] if dataset else []
        tags += [f"contender:{run['contender']}", f"run:{run['name']}"] if run else []
        tags += [f"commit:{self._commit[:12]}"] if self._commit else []
        tags += ["simulated"] if self._verdict["simulated"] else []
        return {
            "track": track,
            "at": path.stat().st_mtime_ns,
            "session": f"{track}: {run['name'] if run else 'decisions'}",
            "tags": tags,
            "commit": self._commit,
            "dataset": dataset,
            "run": run,
        }

    # What its lines say

    def _items(self, data: Path) -> Iterator[Item]:
        dataset = self._dataset(data)["name"]
        for _, row in read_jsonl(data):
            metadata: JsonObject = {"row": row["id"], "group": row["group"], "weight": row.get("weight", 1)}
            metadata |= {key: row[key] for key in ("category", "allowed") if key in row}
            yield {
                "kind": "item",
                "id": _item(dataset, row),
                "input": self._asked(row),
                "expected": self._mask(row["answer"]),
                "metadata": self._mask.object(metadata),
            }

    def _asked(self, row: Object) -> JsonObject:
        return self._mask.object({key: row[key] for key in ("messages", "tools", "schema") if key in row})

    def _answered(self, one: Answers, context: Context) -> Iterator[Line]:
        dataset = self._dataset(one.data)["name"]
        provider = self._provider if one.contender == contenders.TEACHER else "local"
        for row, scored, prediction in _joined(one):
            trace = made_id("answer", dataset, one.run, row["id"])
            why = scored["reason"] or prediction.get("reason")
            reason = None if why is None else self._mask.text(why)
            yield Answer(
                kind="answer",
                trace=trace,
                span=made_id("span", trace, length=16),
                item=_item(dataset, row),
                row=self._mask.text(row["id"]),
                input=self._asked(row),
                expected=self._mask(row["answer"]),
                reply=self._mask.object(
                    {
                        "content": prediction.get("raw"),
                        "tool_calls": prediction.get("tool_calls"),
                        "finish_reason": prediction.get("finish_reason"),
                    }
                ),
                outcome=scored["outcome"],
                reason=reason,
                provider=provider,
                model=None if prediction.get("model") is None else self._mask.text(prediction["model"]),
                usage=prediction.get("usage") or {},
                seconds=prediction.get("latency_s"),
                scores=_of_row(trace, scored["scores"], reason),
                metadata=self._mask.object(
                    {
                        "row": row["id"],
                        "fingerprint": prediction.get("fingerprint"),
                        "request": prediction.get("request"),
                        "lenient": scored["lenient"],
                        **{f"slice.{name}": value for name, value in scored["slice"].items()},
                    }
                ),
            )
        yield self._measured(one, context)

    def _measured(self, one: Answers, context: Context) -> Event:
        trace = made_id("metrics", self._dataset(one.data)["name"], one.run)
        rates = one.metrics["metrics"]
        scores = [
            score(
                trace,
                name,
                rate["value"],
                f"n {rate['n']}, 95 % interval {rate['low']:.4f} to {rate['high']:.4f}",
                one.run,
            )
            for name, rate in rates.items()
        ]
        asked: JsonObject = {"dataset": self._dataset(one.data)["name"], "run": one.run}
        return self._event(trace, f"metrics {one.contender}", asked, cast(Json, rates), scores)

    def _trained(self, path: Path) -> Iterator[Event]:
        training = artefacts.read(Training, path)
        adapter, track = path.parent.name, self._sources.track
        trace = made_id("training", track, adapter, sha256_file(path))
        said = cast(JsonObject, {key: value for key, value in training.items() if key not in ("recipe", "format")})
        losses = {"final_loss": training["final_loss"], "eval_loss": training["eval_loss"]}
        scores = [score(trace, name, value) for name, value in losses.items() if value is not None]
        made = self._event(trace, f"train {adapter}", training["recipe"], said, scores, seconds=training["seconds"])
        made["steps"] = [cast(JsonObject, dict(step)) for step in training["history"]]
        made["metadata"] = {"adapter": adapter, "base_fingerprint": training["base_fingerprint"]}
        yield made

    def _gated(self) -> Iterator[Event]:
        gate = self._gate
        trace = made_id("gate", self._sources.track, sha256_file(self._sources.compare))
        scores = [score(trace, "gate", gate["decision"], gate["statement"])]
        said: JsonObject = {
            **{key: cast(Json, gate[key]) for key in ("decision", "fine_tune", "statement", "decisive")},
            "comparisons": _numbers(gate["comparisons"]),
        }
        yield self._event(trace, "gate", _held_to(gate), said, scores)

    def _judged(self) -> Iterator[Event]:
        verdict = self._verdict
        trace = made_id("verdict", self._sources.track, sha256_file(self._sources.verdict))
        scores = [score(trace, "deploy", verdict["deploy"], verdict["statement"])]
        runs = {one.contender: one.run for one in self.answers if one.split == "test" and not one.part}
        for name, comparison in verdict["comparisons"].items():
            scores += _of_comparison(trace, comparison, runs.get(name))
        keys = ("deploy", "statement", "reasons", "decisive", "n", "rows_needed", "rows_missing", "caveats")
        said: JsonObject = {
            **{key: cast(Json, verdict.get(key)) for key in keys},
            "comparisons": _numbers(verdict["comparisons"]),
            "regressions": cast(Json, verdict["regressions"]),
        }
        yield self._event(trace, "verdict", _held_to(verdict), said, scores)

    def _event(
        self, trace: str, name: str, asked: JsonObject, said: Json, scores: list[Score], seconds: float = 0.0
    ) -> Event:
        for one in scores:
            one["comment"] = one["comment"] and self._mask.text(one["comment"])
        return {
            "kind": "event",
            "trace": trace,
            "span": made_id("span", trace, length=16),
            "name": name,
            "input": self._mask(asked),
            "output": self._mask(said),
            "seconds": seconds,
            "scores": scores,
            "steps": [],
        }


def _held_to(decision: Gate | Verdict) -> JsonObject:
    keys = ("track", "kind", "policy", "margin", "alpha", "power", "min_coverage", "core", "ladder")
    return {key: cast(Json, decision.get(key)) for key in keys}


def _numbers(comparisons: Mapping[str, Comparison]) -> JsonObject:
    """What a person reads of each comparison: the finding, why, and per metric the gap with its bounds."""
    metric = ("teacher", "contender", "gap", "low", "high", "core", "n", "non_inferior", "worse_shown", "method")
    return {
        name: {
            "finding": one["finding"],
            "reasons": cast(Json, one["reasons"]),
            "n": one["n"],
            "coverage": one["coverage"],
            "rows_needed": one["rows_needed"],
            "metrics": {
                key: {field: cast(Json, gap.get(field)) for field in metric} for key, gap in one["metrics"].items()
            },
        }
        for name, one in comparisons.items()
    }


def _of_comparison(trace: str, one: Comparison, run: str | None) -> list[Score]:
    """A contender's gaps to the teacher and the finding, on its run."""
    scores = [score(trace, "finding", one["finding"], "; ".join(one["reasons"]) or None, run)]
    for metric, gap in one["metrics"].items():
        bounds = f"teacher − contender; one-sided bounds {gap['low']:.4f} and {gap['high']:.4f}"
        scores.append(score(trace, f"gap {metric}", gap["gap"], bounds, run))
    return scores


def _of_row(trace: str, scores: Mapping[str, float], reason: str | None) -> list[Score]:
    """What one answer is worth; why it is not right stands beside what fell short of 1."""
    return [score(trace, name, value, reason if value < 1 else None) for name, value in scores.items()]


def _item(dataset: str, row: Object) -> str:
    return made_id("item", dataset, row["id"])


def _place(path: Path, track: str) -> tuple[str, str]:
    """(part, contender) of a file of results/predictions or results/metrics."""
    folder = path.parent
    return (folder.name if folder.name in PARTS and folder.parent.name == track else "", path.stem)


def _joined(one: Answers) -> Iterator[tuple[Object, Object, Object]]:
    """(row, scored row, prediction) of every row of a split, streamed; predictions in another order wait in memory.

    Where the teacher's rows were bought in looks, of these rows alone.
    """
    some = any(Path(path).name == f"{contenders.TEACHER}.json" for path in one.metrics["made_from"])
    predictions = read_jsonl(one.predictions)
    early: dict[str, Object] = {}
    scored = read_jsonl(one.rows)
    worth: Object | None = None
    for number, row in read_jsonl(one.data):
        if worth is None:
            _, worth = next(scored, (0, {"id": None}))
        if some and worth["id"] != row["id"]:
            continue
        if worth["id"] != row["id"]:
            raise DataError(
                f"{one.rows}:{number}: not the row of {one.data}:{number}; build it again with: "
                f"snakemake --cores all {one.metrics_path}"
            )
        while row["id"] not in early:
            _, prediction = next(predictions, (0, None))
            if prediction is None:
                break
            early[prediction["id"]] = prediction
        yield row, worth, early.pop(row["id"], {})
        worth = None


def _commit() -> str | None:
    """The commit of the folder that the run works in; None where there is none, or no git."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
