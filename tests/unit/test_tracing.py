"""What a trace says, what is masked in it, and that it says the same every time."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledgling.artefacts import Gate, Metrics, Verdict, read
from fledgling.errors import ConfigError, DataError
from fledgling.files import read_jsonl, write_jsonl
from fledgling.tracing import addresses
from fledgling.tracing.collect import Collector, Sources
from fledgling.tracing.masking import MARK, Mask
from fledgling.tracing.otlp import encode
from fledgling.tracing.outbox import Outbox
from fledgling.tracing.records import Parcel
from fledgling.tracing.spans import span_of
from fledgling.tracing.trace import keep
from tests.unit.report_files import HOSTILE
from tests.unit.traced import built, copied, reseal

SETTINGS = {"trace": {"to": ["langfuse"]}, "teacher": {"provider": "azure"}}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return built(tmp_path_factory.mktemp("traced"))


def collected(sources: Sources, patterns: tuple[str, ...] = ()) -> list[Parcel]:
    return list(Collector(sources, SETTINGS, Mask(patterns, {}), patterns).parcels())


def only(parcels: list[Parcel], what: str, contender: str = "") -> Parcel:
    (found,) = [
        one
        for one in parcels
        if f"-{what}-" in one.name and contender in ("", (one.context["run"] or {}).get("contender"))
    ]
    return found


def test_a_track_is_one_dataset_a_run_a_contender_and_its_decisions(sources: Sources) -> None:
    parcels = collected(sources)
    kinds = Counter(one.name.split("-")[2] for one in parcels)
    assert kinds == {"dataset": 1, "run": 3, "training": 1, "gate": 1, "verdict": 1}
    assert [one.order for one in parcels] == sorted(one.order for one in parcels)
    dataset = only(parcels, "dataset").context["dataset"]
    assert dataset is not None
    assert dataset["name"].startswith("demo/test/")
    runs = [one for one in parcels if one.context["run"]]
    assert {one.context["dataset"]["name"] for one in runs} == {dataset["name"]}, "comparable in one view"
    assert len({one.context["run"]["name"] for one in runs}) == 3
    assert len({one.context["session"] for one in runs}) == 3
    assert {"track:demo", "split:test", "contender:slm", "simulated"} <= set(
        only(parcels, "run", "slm").context["tags"]
    )


def test_every_row_is_an_item_and_every_answer_says_what_the_files_say(sources: Sources) -> None:
    parcels = collected(sources)
    items = {one["id"]: one for one in only(parcels, "dataset").lines()}
    rows = [row for _, row in read_jsonl(sources.data[0])]
    assert len(items) == len(rows) == 420
    for name in ("teacher", "slm", "tuned"):
        lines = [one for one in only(parcels, "run", name).lines() if one["kind"] == "answer"]
        predictions = [row for _, row in read_jsonl(sources.predictions[0].with_stem(name))]
        scored = [row for _, row in read_jsonl(sources.metrics[0].with_stem(name).with_suffix(".jsonl"))]
        for line, row, prediction, worth in zip(lines, rows, predictions, scored, strict=True):
            assert items[line["item"]]["metadata"]["row"] == line["row"] == row["id"]
            assert line["input"] == {"messages": row["messages"], "tools": row["tools"]}
            assert line["expected"] == items[line["item"]]["expected"] == row["answer"]
            assert line["reply"]["content"] == prediction["raw"]
            assert line["reply"]["tool_calls"] == prediction["tool_calls"]
            assert {one["name"]: one["value"] for one in line["scores"]} == worth["scores"]
            assert {one["comment"] for one in line["scores"] if one["value"] == 1} <= {None}
            assert {one["comment"] for one in line["scores"] if one["value"] < 1} <= {
                worth["reason"] or prediction["reason"]
            }
            assert (line["outcome"], line["usage"], line["seconds"]) == (worth["outcome"], prediction["usage"], 0.2)


def test_metrics_gate_verdict_and_training_come_with_their_numbers(sources: Sources) -> None:
    parcels = collected(sources)
    tuned = only(parcels, "run", "tuned")
    *_, measured = tuned.lines()
    rates = read(Metrics, sources.metrics[0].with_stem("tuned"))["metrics"]
    assert {one["name"]: one["value"] for one in measured["scores"]} == {
        key: one["value"] for key, one in rates.items()
    }
    assert {one["run"] for one in measured["scores"]} == {tuned.context["run"]["name"]}
    verdict = read(Verdict, sources.verdict)
    (judged,) = only(parcels, "verdict").lines()
    assert judged["output"]["statement"] == verdict["statement"]
    gap = verdict["comparisons"]["tuned"]["metrics"]["args_f1"]
    told = judged["output"]["comparisons"]["tuned"]["metrics"]["args_f1"]
    assert (told["gap"], told["low"], told["high"]) == (gap["gap"], gap["low"], gap["high"])
    (deploy,) = [one for one in judged["scores"] if one["run"] is None]
    assert deploy["value"] == verdict["deploy"]
    on_tuned = {one["name"]: one["value"] for one in judged["scores"] if one["run"] == tuned.context["run"]["name"]}
    assert on_tuned["finding"] == verdict["comparisons"]["tuned"]["finding"]
    assert on_tuned["gap args_f1"] == gap["gap"]
    (gate,) = only(parcels, "gate").lines()
    assert gate["output"]["decision"] == read(Gate, sources.compare)["decision"]
    (trained,) = only(parcels, "training").lines()
    assert trained["input"] == {"epochs": 2, "rank": 64}
    assert trained["steps"][0]["loss"] > trained["steps"][30]["loss"]
    span = span_of(only(parcels, "training").context, trained)
    steps = [one for one in span.events if one.name == "fledgling.training.step"]
    assert len(steps) == len(trained["steps"])
    assert "fledgling.training.loss" in steps[0].attributes


def test_the_same_files_have_the_same_ids_and_other_answers_are_another_run(sources: Sources, tmp_path: Path) -> None:
    def ids(parcels: list[Parcel]) -> dict[str, list[str]]:
        return {one.name: [line.get("trace", line.get("id")) for line in one.lines()] for one in parcels}

    first = ids(collected(sources))
    assert ids(collected(sources)) == first
    every = [id for one in first.values() for id in one]
    assert len(set(every)) == len(every)
    other = copied(sources, tmp_path)
    assert ids(collected(other)) == first
    path = other.predictions[1]
    write_jsonl(path, ({**row, "latency_s": 0.3} for _, row in read_jsonl(path)))
    reseal(other, path)
    second = ids(collected(other))
    assert len(set(first) & set(second)) == len(first) - 1, "only the edited run is another one"


def test_words_of_the_genai_conventions(sources: Sources) -> None:
    run = only(collected(sources), "run", "teacher")
    line = next(one for one in run.lines() if len(one["expected"]) == 2 and one["reply"]["tool_calls"])
    span = span_of(run.context, line)
    said = span.attributes
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.provider.name"] == "azure.ai.openai"
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (280, 41)
    system, user = json.loads(said["gen_ai.input.messages"])
    assert system == {"role": "system", "parts": [{"type": "text", "content": "You are a house assistant."}]}
    assert user["parts"][0]["content"] == line["input"]["messages"][1]["content"]
    (reply,) = json.loads(said["gen_ai.output.messages"])
    first = reply["parts"][0]
    assert (first["type"], first["name"]) == ("tool_call", "get_weather")
    assert isinstance(first["arguments"], dict)
    assert [one["name"] for one in json.loads(said["gen_ai.tool.definitions"])] == ["get_weather", "set_light"]
    assert span.end - span.start == 200_000_000
    results = [one.attributes for one in span.events if one.name == "gen_ai.evaluation.result"]
    assert {one["gen_ai.evaluation.name"] for one in results} == {one["name"] for one in line["scores"]}
    failed = next(one for one in run.lines() if one["kind"] == "answer" and one["outcome"] == "length")
    assert span_of(run.context, failed).error
    assert span_of(run.context, failed).attributes["error.type"] == "length"


def with_replies(sources: Sources, folder: Path, text: str) -> Sources:
    """The same files elsewhere, the slm's answers all this text, and so is why they are wrong."""
    made = copied(sources, folder)
    path = made.predictions[1]
    write_jsonl(path, [{**row, "raw": text, "outcome": "ok"} for _, row in read_jsonl(path)])
    scored = made.metrics[1].with_suffix(".jsonl")
    write_jsonl(scored, [{**row, "reason": text} for _, row in read_jsonl(scored)])
    reseal(made, path)
    return made


def test_hostile_replies_are_kept_and_encoded(sources: Sources, tmp_path: Path) -> None:
    run = only(collected(with_replies(sources, tmp_path / "made", HOSTILE)), "run", "slm")
    outbox = Outbox(tmp_path / "outbox")
    assert outbox.put(run, [("otlp", None)]) == 421
    (kept,) = outbox.waiting()
    context, lines = kept.read("otlp http://x")
    spans = [span_of(context, line) for line in lines]
    said = json.loads(spans[0].attributes["gen_ai.output.messages"])[0]["parts"][0]["content"]
    assert said == HOSTILE
    assert b"<script>alert(1)</script>" in encode(spans, {}), "valid UTF-8, whatever the reply"


# Masking

SECRET = "sk-" + "proj-Ab12_cd34-" + "Z9" * 14


def test_nothing_is_written_before_it_is_masked(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_API_KEY", "my-azure-value-77")
    said = f"{SECRET} my-azure-value-77 card 4111 1111 1111 1111"
    sources = with_replies(sources, tmp_path / "made", said)
    settings = {**SETTINGS, "trace": {"to": ["langfuse", "otlp"], "mask": [r"\d{4}( \d{4}){3}", "Berlin"]}}
    outbox = Outbox(tmp_path / "outbox")
    keep(sources, settings, outbox)
    texts = [json.dumps(line) for one in outbox.waiting() for line in one.read("x")[1]]
    whole = "\n".join(texts)
    for hidden in (SECRET, "my-azure-value-77", "4111 1111 1111 1111", "Berlin"):
        assert hidden not in whole
    assert "[masked: API key (sk-…)]" in json.dumps(texts, ensure_ascii=False).replace("\\\\u2026", "…")
    assert "[masked: value of AZURE_API_KEY]" in whole
    assert MARK in whole
    assert "Paris" in whole


def test_numbers_that_a_pattern_matches_are_masked_and_others_stay() -> None:
    mask = Mask([r"^4111\d+$"], {})
    assert mask({"card": 4111111111111111, "n": 4112, "ok": True, "x": [1.5, None]}) == {
        "card": MARK,
        "n": 4112,
        "ok": True,
        "x": [1.5, None],
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_without_anything_to_mask_a_value_stays_as_it_is(value: object) -> None:
    assert Mask([], {})(value) == value


# The outbox


def test_what_waits_or_is_delivered_is_not_kept_again(sources: Sources, tmp_path: Path) -> None:
    outbox, to = Outbox(tmp_path), [("langfuse", "langfuse http://a 1")]
    run = only(collected(sources), "run", "slm")
    assert outbox.put(run, to) == 421
    assert outbox.put(run, to) == 0
    (kept,) = outbox.waiting()
    kept.confirm("langfuse http://a 1", 400)
    assert outbox.kept("langfuse") == 21
    (again,) = outbox.waiting()
    _, rest = again.read("langfuse http://a 1")
    assert len(list(rest)) == 21
    assert len(list(again.read("langfuse http://b 2")[1])) == 421, "another receiver has nothing yet"
    again.confirm("langfuse http://a 1", 21)
    assert outbox.waiting() == []
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"], "the receipt stays, the lines go"
    assert outbox.put(run, to) == 0
    assert outbox.put(run, [("langfuse", None)]) == 0, "delivered, whoever that was"
    assert outbox.put(run, [("langfuse", "langfuse http://b 2")]) == 421, "another project lacks it"


def test_a_parcel_that_is_made_again_keeps_its_time(sources: Sources, tmp_path: Path) -> None:
    """Langfuse files by day and id: the same id with another day would stand there twice."""
    outbox = Outbox(tmp_path)
    first = only(collected(sources), "run", "slm")
    outbox.put(first, [("langfuse", "langfuse http://a 1")])
    path = sources.predictions[1]
    before = path.stat()
    os.utime(path, (before.st_atime + 10**6, before.st_mtime + 10**6))
    second = only(collected(sources), "run", "slm")
    assert second.context["at"] != first.context["at"]
    assert second.key == first.key
    outbox.put(second, [("langfuse", "langfuse http://b 2")])
    (kept,) = outbox.waiting()
    assert kept.read("x")[0]["at"] == first.context["at"]


def test_a_damaged_parcel_says_what_to_do(sources: Sources, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(only(collected(sources), "gate"), [("langfuse", None)])
    (file,) = tmp_path.glob("*.gz")
    file.write_bytes(file.read_bytes()[:-20])
    (kept,) = outbox.waiting()
    with pytest.raises(DataError, match=r"damaged .* delete it, its \.json and results/trace"):
        list(kept.read("x")[1])


# The environment


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY are not set"),
        ({"LANGFUSE_PUBLIC_KEY": "pk"}, "LANGFUSE_SECRET_KEY is not set"),
        ({"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk"}, ""),
        (
            {"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk", "LANGFUSE_DISABLED": "1"},
            "LANGFUSE_DISABLED is set",
        ),
        (
            {"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk", "LANGFUSE_TRACING_ENABLED": "False"},
            "LANGFUSE_TRACING_ENABLED is off",
        ),
        ({"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk", "LANGFUSE_DISABLED": "0"}, ""),
    ],
)
def test_who_is_off(variables: dict[str, str], said: str) -> None:
    assert addresses.off("langfuse", variables) == said


def test_addresses() -> None:
    keys = {"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk"}
    assert addresses.base("langfuse", keys) == "https://cloud.langfuse.com"
    assert addresses.base("langfuse", {"LANGFUSE_HOST": "http://here:3000/"}) == "http://here:3000"
    both = {"LANGFUSE_HOST": "http://old", "LANGFUSE_BASE_URL": "http://new"}
    assert addresses.base("langfuse", both) == "http://new"
    assert addresses.base("otlp", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}) == "http://c:4318/v1/traces"
    assert addresses.base("otlp", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x"}) == "http://c/x"
    for wrong in ("cloud.langfuse.com", "ftp://x", "http://[", "http://pk:secret-77@host"):
        with pytest.raises(ConfigError, match="LANGFUSE_HOST") as error:
            addresses.base("langfuse", {"LANGFUSE_HOST": wrong})
        assert "secret-77" not in str(error.value)
