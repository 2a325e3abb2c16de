"""The slm stage: every row gets its own answer, once, whatever the batches, the kills and the engine."""

import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledgling import artefacts, choose_shots
from fledgling.errors import ConfigError, DataError, Unavailable
from fledgling.prompting.template import Chat
from fledgling.records import read_examples, read_predictions
from fledgling.slm import answer as stage
from fledgling.slm import engine as engines
from fledgling.slm import vllm_engine
from fledgling.slm.batches import OutOfMemory, batched, longest_first, shuffled
from fledgling.slm.engine import Answer, Decoding, Found, Request
from tests.unit import tiny_models

SETTINGS: dict[str, Any] = {
    "slm": {"engine": "transformers", "precision": "fp32", "batch_size": 8, "max_prompt_tokens": 512},
    "track": {"max_new_tokens": 6},
    "seed": 0,
}


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def decoding(tokenizer: Any, tiny_checkpoint: Path) -> Decoding:
    stops = stage.stop_tokens(Chat(tokenizer), tiny_checkpoint)
    return Decoding(max_new_tokens=6, stops=stops, pad=tokenizer.pad_token_id)


def run(tmp_path: Path, model: Path, data: Path, name: str = "p.jsonl", repeat: int = 0, **slm: Any) -> list[Any]:
    out = tmp_path / name
    given = SETTINGS | {"slm": SETTINGS["slm"] | slm} | ({"repeat": repeat} if repeat else {})
    stage.answer(
        track="t", data=data, model=model, adapter_path=None, settings=given, journal=tmp_path / "journal", out=out
    )
    return list(read_predictions(out))


class Fake:
    """Answers a prompt with its own last token and a stop; counts what it is asked."""

    def __init__(self, unit: Literal["row", "batch"] = "row") -> None:
        self.unit = unit
        self.starts = 0
        self.collected: list[bool] = []  # whether the garbage collector was on: at the start, at each batch
        self.asked: list[list[int]] = []
        self.adapters: list[Path | None] = []
        self.order: Callable[[list[Request]], list[int]] = longest_first

    def answers(self, requests: list[Request], found: Found) -> Iterator[tuple[list[int], list[Answer]]]:
        def generate(batch: list[Request]) -> list[Answer]:
            self.collected.append(gc.isenabled())
            self.asked += [request.prompt for request in batch]
            self.adapters += [request.adapter for request in batch]
            return [Answer(tokens=[request.prompt[-1], 0], latency_s=0.0) for request in batch]

        yield from batched(requests, self.order(requests), 4, generate, found if self.unit == "batch" else None)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    slm = Fake()

    def load(*args: Any) -> Fake:
        slm.starts += 1
        slm.collected.append(gc.isenabled())
        slm.unit = "batch" if args[3]["slm"]["precision"] == "int8" else "row"
        slm.order = (lambda rows: shuffled(rows, 1)) if args[3].get("repeat") else longest_first
        return slm

    monkeypatch.setattr(stage, "load", load)
    return slm


# --- batches


@given(
    lengths=st.lists(st.integers(1, 30), max_size=40),
    size=st.integers(1, 10),
    room=st.integers(5, 120),
)
@settings(max_examples=200, deadline=None)
def test_out_of_memory_loses_no_row_and_repeats_none(lengths: list[int], size: int, room: int) -> None:
    sizes: list[int] = []

    def generate(batch: list[Request]) -> list[Answer]:
        if len(batch) * max(len(request.prompt) for request in batch) > room:
            raise OutOfMemory
        sizes.append(len(batch))
        return [Answer(tokens=request.prompt, latency_s=0.0) for request in batch]

    requests = [Request(prompt=[i] * length) for i, length in enumerate(lengths)]
    answers: dict[int, Answer] = {}
    for positions, batch in batched(requests, longest_first(requests), size, generate):
        for position, answer in zip(positions, batch, strict=True):
            assert position not in answers
            answers[position] = answer
    assert sorted(answers) == list(range(len(lengths)))
    for i, answer in answers.items():
        assert answer.tokens == (requests[i].prompt if lengths[i] <= room else None)
    assert all(after <= max(1, before) for before, after in itertools.pairwise(sizes))


def test_the_longest_go_first() -> None:
    seen: list[int] = []

    def generate(batch: list[Request]) -> list[Answer]:
        seen.extend(len(request.prompt) for request in batch)
        return [Answer(tokens=[], latency_s=0.0) for _ in batch]

    requests = [Request(prompt=[1] * n) for n in (3, 9, 1, 9, 5)]
    list(batched(requests, longest_first(requests), 2, generate))
    assert seen == [9, 9, 5, 3, 1]


# --- what is recorded


def test_outcomes(tokenizer: Any, decoding: Decoding) -> None:
    row = stage.Asked(id="r", request=Request(prompt=[1, 2, 3]), digest="d")
    end = tokenizer.convert_tokens_to_ids("<|end|>")

    def outcome(tokens: list[int] | None) -> Any:
        return stage.prediction(row, Answer(tokens=tokens, latency_s=0.5), tokenizer, decoding, "m", "f")

    text = tokenizer("<|tool_call|>[]<|/tool_call|>", add_special_tokens=False)["input_ids"]
    done = outcome([*text, end])
    assert (done.outcome, done.raw, done.finish_reason) == ("ok", "<|tool_call|>[]<|/tool_call|>", "stop")
    assert done.usage == {"prompt_tokens": 3, "completion_tokens": len(text) + 1}
    assert outcome([end]).outcome == outcome([*tokenizer(" \n")["input_ids"], end]).outcome == "empty"
    assert (outcome(text).outcome, outcome(text).raw) == ("length", done.raw)
    assert (outcome(None).outcome, outcome(None).finish_reason) == ("error", "out_of_memory")
    long = stage.prediction(row, None, tokenizer, decoding, "m", "f")
    assert (long.outcome, long.raw, long.usage["prompt_tokens"]) == ("length", None, 3)


def test_every_token_that_ends_an_answer_is_a_stop(tokenizer: Any, tiny_checkpoint: Path) -> None:
    stops = stage.stop_tokens(Chat(tokenizer), tiny_checkpoint)
    assert set(tokenizer.convert_ids_to_tokens(list(stops))) == {"<|end|>", "<|endoftext|>"}


def test_a_fingerprint_changes_with_what_answers() -> None:
    seen = {
        stage.fingerprint(engine, precision, base, tuned)
        for engine in ("transformers", "vllm")
        for precision in ("bf16", "int8")
        for base in ("a", "b")
        for tuned in (None, "x")
    }
    assert len(seen) == 16
    assert stage.fingerprint("vllm", "bf16", "a", None).startswith("vllm-bf16-")


# --- the journal


def test_a_finished_row_is_never_asked_again(tmp_path: Path, tiny_model: Path, tiny_rows: Path, fake: Fake) -> None:
    lines = tiny_rows.read_text().splitlines(keepends=True)
    some = tmp_path / "some.jsonl"
    some.write_text("".join(lines[:14]))
    first = run(tmp_path, tiny_model, some)
    assert len(fake.asked) == 14
    assert run(tmp_path, tiny_model, some, "again.jsonl") == first
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "p.jsonl").read_bytes()
    assert len(fake.asked) == 14
    grown = run(tmp_path, tiny_model, tiny_rows, "grown.jsonl")  # ten rows more
    assert len(fake.asked) == 24
    assert [row.id for row in grown] == [row.id for row in read_examples(tiny_rows)]
    assert grown[:14] == first


def test_the_engine_starts_without_the_garbage_collector_and_answers_with_it(
    tmp_path: Path, tiny_model: Path, tiny_rows: Path, fake: Fake
) -> None:
    run(tmp_path, tiny_model, tiny_rows)
    assert fake.collected == [False, *[True] * 6]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_second_run_asks_every_row_again_in_other_batches(
    precision: str, tmp_path: Path, tiny_model: Path, tiny_rows: Path, fake: Fake
) -> None:
    first = run(tmp_path, tiny_model, tiny_rows, precision=precision)
    again = run(tmp_path, tiny_model, tiny_rows, "again.jsonl", repeat=1, precision=precision)
    assert len(fake.asked) == 48
    assert sorted(fake.asked[:24]) == sorted(fake.asked[24:])
    cut = [[sorted(fake.asked[i : i + 4]) for i in range(start, start + 24, 4)] for start in (0, 24)]
    assert not any(batch in cut[1] for batch in cut[0]), "no batch is the same"
    assert [row.fingerprint for row in again] == [row.fingerprint for row in first], "the same contender"
    run(tmp_path, tiny_model, tiny_rows, precision=precision)
    run(tmp_path, tiny_model, tiny_rows, "again.jsonl", repeat=1, precision=precision)
    assert len(fake.asked) == 48, "each run has its own place in the journal"


def test_equal_prompts_are_asked_once(tmp_path: Path, tiny_model: Path, tiny_rows: Path, fake: Fake) -> None:
    rows = [json.loads(line) for line in tiny_rows.read_text().splitlines()]
    data = tmp_path / "twice.jsonl"
    data.write_text("".join(json.dumps(row | {"id": f"{row['id']}-{n}"}) + "\n" for row in rows for n in (0, 1)))
    assert len(run(tmp_path, tiny_model, data)) == 48
    assert len(fake.asked) == 24


def test_int8_answers_are_a_function_of_their_batch(
    tmp_path: Path, tiny_model: Path, tiny_rows: Path, fake: Fake
) -> None:
    run(tmp_path, tiny_model, tiny_rows, precision="int8")
    assert len(fake.asked) == 24
    run(tmp_path, tiny_model, tiny_rows, precision="int8")
    assert len(fake.asked) == 24  # the same batches
    lines = tiny_rows.read_text().splitlines(keepends=True)
    fewer = tmp_path / "fewer.jsonl"
    longest = max(range(24), key=lambda i: len(lines[i]))
    fewer.write_text("".join(line for i, line in enumerate(lines) if i != longest))
    run(tmp_path, tiny_model, fewer, precision="int8")
    assert len(fake.asked) > 24 + 4  # other batches, though every row was answered before


def test_a_prompt_that_does_not_fit_is_an_outcome(
    tmp_path: Path, tiny_model: Path, tiny_rows: Path, fake: Fake
) -> None:
    everything = run(tmp_path, tiny_model, tiny_rows)
    limit = sorted(row.usage["prompt_tokens"] for row in everything)[12]
    cut = run(tmp_path, tiny_model, tiny_rows, max_prompt_tokens=limit)
    for whole, row in zip(everything, cut, strict=True):
        fits = whole.usage["prompt_tokens"] <= limit
        assert row.outcome == (whole.outcome if fits else "length")
        assert (row.raw is None) == (not fits)
    assert 0 < sum(row.outcome == "length" and row.raw is None for row in cut) < 24


def test_killed_and_started_again_asks_only_what_is_missing(
    root: Path, tmp_path: Path, tiny_model: Path, tiny_rows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = run(tmp_path / "other", tiny_model, tiny_rows)
    words = "import sys, pathlib; from tests.unit.test_predict import run; run(*map(pathlib.Path, sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", words, tmp_path, tiny_model, tiny_rows],
        check=False,
        cwd=root,
        env=os.environ | {"FLEDGLING_FAILPOINT": "journal.after_sync:2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "p.jsonl").exists()
    with caplog.at_level("INFO"):
        resumed = run(tmp_path, tiny_model, tiny_rows)
    assert "24 rows, 8 of them to be asked" in caplog.text
    for row, other in zip(resumed, undisturbed, strict=True):
        assert (row.id, row.raw, row.outcome, row.request) == (other.id, other.raw, other.outcome, other.request)


# --- the transformers engine


@pytest.mark.parametrize("precision", ["fp32", "nf4", "int8"])
def test_answers_do_not_depend_on_the_batch(
    precision: Any, tokenizer: Any, decoding: Decoding, tiny_checkpoint: Path, tiny_rows: Path
) -> None:
    from fledgling.slm.transformers_engine import TransformersSlm

    rows, _ = stage.ask(list(read_examples(tiny_rows)), Chat(tokenizer), decoding, SETTINGS)
    requests = [row.request for row in rows if row.request]
    assert len({len(request.prompt) for request in requests}) > 3
    written = []
    for size in (1, 3, 8):
        slm = TransformersSlm(tiny_checkpoint, precision=precision, batch_size=size, decoding=decoding)
        assert slm.unit == ("batch" if precision == "int8" else "row")
        answers: dict[int, list[int] | None] = {}
        for positions, batch in slm.answers(requests, lambda _: None):
            answers |= {i: answer.tokens for i, answer in zip(positions, batch, strict=True)}
        written.append([answers[i] for i in range(len(requests))])
    if precision != "int8":
        assert written[0] == written[1] == written[2]
    assert len({tuple(tokens or []) for tokens in written[0]}) > 1  # it does read its prompt
    assert all(tokens and len(tokens) <= 6 for tokens in written[0])


def test_a_second_run_meets_other_neighbours(decoding: Decoding, tiny_checkpoint: Path) -> None:
    from fledgling.slm.transformers_engine import TransformersSlm

    requests = [Request(prompt=[5, 6, 7 + i]) for i in range(9)]
    orders = []
    for repeat in (0, 1, 1):
        slm = TransformersSlm(tiny_checkpoint, precision="fp32", batch_size=3, decoding=decoding, repeat=repeat)
        orders.append([sorted(positions) for positions, _ in slm.answers(requests, lambda _: None)])
    assert sorted(i for batch in orders[1] for i in batch) == list(range(9))
    assert orders[0] != orders[1] == orders[2]


def test_padding_is_on_the_left() -> None:
    from fledgling.slm.transformers_engine import left_padded

    ids, mask = left_padded([[5], [6, 7, 8]], 0)
    assert ids.tolist() == [[0, 0, 5], [6, 7, 8]]
    assert mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    with pytest.raises(ValueError, match="empty"):
        left_padded([[], [1]], 0)


def test_answers_are_what_the_model_writes_by_itself(decoding: Decoding, tiny_checkpoint: Path) -> None:
    """Two parts of a batch at a time, and the last MLP for the last token alone: neither changes an answer."""
    import torch

    from fledgling.models.loading import load_model
    from fledgling.slm.transformers_engine import TransformersSlm

    requests = [Request(prompt=[*range(3, 9 + i), 5 * i % 50]) for i in range(9)]
    slm = TransformersSlm(tiny_checkpoint, precision="fp32", batch_size=4, decoding=decoding)
    answers: dict[int, list[int] | None] = {}
    for places, batch in slm.answers(requests, lambda _: None):
        answers |= {place: answer.tokens for place, answer in zip(places, batch, strict=True)}
    model = load_model(tiny_checkpoint, "fp32").eval()
    for place, request in enumerate(requests):
        ids = torch.tensor([request.prompt])
        how = {"do_sample": False, "max_new_tokens": 6, "eos_token_id": list(decoding.stops), "pad_token_id": 0}
        written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)
        assert answers[place] == written[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize(("kind", "one_by_one"), [("llama", False), ("lfm2", False), ("bloom", False), ("rwkv", True)])
def test_a_batch_answers_as_its_rows_alone_whatever_the_model(
    kind: str, one_by_one: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    from fledgling.models.loading import load_model
    from fledgling.slm.transformers_engine import TransformersSlm

    checkpoint = tiny_models.save(kind, tmp_path)
    decoding = Decoding(max_new_tokens=6, stops=(2,), pad=0)
    requests = [Request(prompt=[5 + (7 * i + j) % 80 for j in range(3 + 9 * i)]) for i in range(4)]
    slm = TransformersSlm(checkpoint, precision="fp32", batch_size=4, decoding=decoding)
    answers: dict[int, list[int] | None] = {}
    for places, batch in slm.answers(requests, lambda _: None):
        answers |= {place: answer.tokens for place, answer in zip(places, batch, strict=True)}
    assert sum("answered one by one" in record.message for record in caplog.records) == one_by_one
    model = load_model(checkpoint, "fp32").eval()
    how = {"do_sample": False, "max_new_tokens": 6, "eos_token_id": list(decoding.stops), "pad_token_id": 0}
    for place, request in enumerate(requests):
        ids = torch.tensor([request.prompt])
        written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)
        assert answers[place] == written[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize(
    "own",
    [
        {"num_beams": 3},
        {"repetition_penalty": 1.3},
        {"do_sample": True, "temperature": 5.0},
        {"no_repeat_ngram_size": 2},
        {"bad_words_ids": [[83]]},
        {"suppress_tokens": [83]},
        {"begin_suppress_tokens": [83]},
        {"forced_eos_token_id": 7},
        {"sequence_bias": [[[83], -50.0]]},
        {"guidance_scale": 2.0},
        {"encoder_repetition_penalty": 1.5},
        {"exponential_decay_length_penalty": [2, 3.0]},
        {"max_time": 0.0001},
        {"prompt_lookup_num_tokens": 3},
        {"stop_strings": ["a"]},
    ],
    ids=lambda own: next(iter(own)),
)
def test_answers_are_greedy_whatever_the_checkpoint_asks_for(own: dict[str, Any], tmp_path: Path) -> None:
    from fledgling.slm.transformers_engine import TransformersSlm

    checkpoint = tiny_models.save("llama", tmp_path)
    path = checkpoint / "generation_config.json"
    requests = [Request(prompt=[5 + (7 * i + j) % 80 for j in range(3 + 9 * i)]) for i in range(3)]
    plain, asked = json.loads(path.read_text()), []
    for more in ({}, own):
        path.write_text(json.dumps(plain | more), encoding="utf-8")
        slm = TransformersSlm(checkpoint, precision="fp32", batch_size=1, decoding=Decoding(24, (2,), 0))
        answers = {places[0]: answer.tokens for places, (answer,) in slm.answers(requests, lambda _: None)}
        asked.append([answers[place] for place in range(3)])
    assert asked[0] == asked[1]
    assert 83 in (asked[0][0] or [])


@pytest.mark.parametrize("moved", [False, True])
def test_an_adapter_that_reaches_no_layer_is_refused(moved: bool, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file

    from fledgling.models import adapter as adapters
    from fledgling.models.loading import load_model
    from fledgling.slm.transformers_engine import TransformersSlm

    checkpoint = tiny_models.save("llama", tmp_path / "checkpoint")
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(load_model(checkpoint, "fp32"), lora).save_pretrained(tmp_path / "adapter")
    if moved:
        weights = load_file(tmp_path / "adapter" / adapters.WEIGHTS)
        first, *rest = sorted(weights)
        named = {first.replace("model.layers", "language_model.layers"): weights[first]}
        save_file(named | {name: weights[name] for name in rest}, tmp_path / "adapter" / adapters.WEIGHTS)
    how = {"precision": "fp32", "batch_size": 1, "decoding": Decoding(6, (2,), 0), "adapters": [tmp_path / "adapter"]}
    if not moved:
        TransformersSlm(checkpoint, **how)
        return
    with pytest.raises(DataError, match=r"2 tensors are in the file or in the model but not in both, .*language_model"):
        TransformersSlm(checkpoint, **how)


@pytest.mark.parametrize("fault", ["beams", "no numbers"])
def test_what_tells_rows_apart_is_neither_misled_nor_silent(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from fledgling.slm.transformers_engine import TransformersSlm

    checkpoint = tiny_models.save("llama", tmp_path)
    if fault == "beams":
        path = checkpoint / "generation_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"num_beams": 3, "repetition_penalty": 1.3}))
    slm = TransformersSlm(checkpoint, precision="fp32", batch_size=4, decoding=Decoding(6, (2,), 0))
    if fault == "no numbers":
        plain = slm._model.forward

        def forward(*args: Any, attention_mask: Any = None, **more: Any) -> Any:
            found = plain(*args, attention_mask=attention_mask, **more)
            found.logits[~attention_mask.bool().all(-1)] = float("nan")  # rows that are padded
            return found

        monkeypatch.setattr(slm._model, "forward", forward)
    requests = [Request(prompt=[5 + (7 * i + j) % 80 for j in range(3 + 9 * i)]) for i in range(4)]
    list(slm.answers(requests, lambda _: None))
    assert any("answered one by one" in record.message for record in caplog.records) is (fault == "no numbers")


@pytest.mark.parametrize(
    ("apart", "expected"), [(False, [8, 4, 2, 2, 2, 2, 1]), (True, [4, 4, 2, 2, 2, 2, 1])], ids=["whole", "two parts"]
)
def test_out_of_memory_in_generate_halves_the_batch(
    decoding: Decoding, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, apart: bool, expected: list[int]
) -> None:
    import torch

    from fledgling.slm.transformers_engine import TransformersSlm

    slm = TransformersSlm(tiny_checkpoint, precision="fp32", batch_size=8, decoding=decoding)
    if not apart:  # as on a GPU
        monkeypatch.setattr(slm, "_cores", None)
    generate, sizes = slm._model.generate, []

    def crowded(input_ids: Any, **rest: Any) -> Any:
        if rest["generation_config"].output_logits:  # not a batch of the stage
            return generate(input_ids=input_ids, **rest)
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(input_ids=input_ids, **rest)

    monkeypatch.setattr(slm._model, "generate", crowded)
    requests = [Request(prompt=[5, 6, 7 + i]) for i in range(9)]
    done = [i for positions, _ in slm.answers(requests, lambda _: None) for i in positions]
    assert sorted(done) == list(range(9))
    assert sizes == expected

    def broken(**_: Any) -> Any:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(slm._model, "generate", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(slm.answers(requests, lambda _: None))


# --- what settings decide


def row(id: str, content: str, answer: Any, **more: Any) -> str:
    messages = [{"role": "user", "content": content}]
    return json.dumps({"id": id, "group": id, "messages": messages, "answer": answer, **more}) + "\n"


def test_limits_that_decide_are_counted_and_named(
    tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(
        row("short", "light", [])
        + row("long", "kitchen " * 600, [])
        + row("wordy", "light two", [{"name": "f", "arguments": {"x": "kitchen " * 30}}])
    )
    out = tmp_path / "p.jsonl"
    caplog.set_level("INFO")
    given = SETTINGS | {"track": {"max_new_tokens": 20}}
    stage.answer(
        track="t", data=data, model=tiny_model, adapter_path=None, settings=given, journal=tmp_path / "j", out=out
    )
    made = list(read_predictions(out))
    cut = sum(row.finish_reason == "length" for row in made)
    assert cut
    limits = json.loads((tmp_path / "p.json").read_text())["limits"]
    assert [(limit["key"], limit["value"], limit["rows"], limit["what"].partition(" (")[0]) for limit in limits] == [
        ("slm.max_prompt_tokens", 512, 1, "prompts are longer and not asked"),
        ("tracks.t.max_new_tokens", 20, 1, "right answers are longer"),
        ("tracks.t.max_new_tokens", 20, cut, "answers were cut off"),
    ]
    assert made[1].finish_reason == "prompt_too_long"
    assert caplog.text.index("1 of 3 right answers are longer") < caplog.text.index("to be asked")


def with_template(tmp_path: Path, model: Path, text: str) -> Path:
    import shutil

    from fledgling.models import checkpoint

    folder = tmp_path / "other"
    shutil.copytree(model.parent / "checkpoint", folder)
    (folder / "chat_template.jinja").write_text(text)
    checkpoint.write(tmp_path / "manifest.json", checkpoint.describe(folder, source="path"))
    return tmp_path / "manifest.json"


CHOOSY = (
    "{% for m in messages %}{% if 'kitchen' in m.content %}{{ raise_exception('no kitchens') }}{% endif %}"
    "{{ m.role }} {{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_a_row_that_the_template_refuses_is_an_outcome_and_not_the_end(
    tmp_path: Path, tiny_model: Path, fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(row("good", "light", []) + row("bad", "the kitchen", []) + row("good2", "porch", []))
    made = run(tmp_path, with_template(tmp_path, tiny_model, CHOOSY), data)
    assert [(row.outcome, row.finish_reason) for row in made][1] == ("error", "template_refused")
    assert None not in (made[0].raw, made[2].raw)
    assert len(fake.asked) == 2
    assert "row 'bad': the chat template of the slm refuses it (no kitchens)" in caplog.text


def test_a_template_that_refuses_every_row_ends_the_stage(tmp_path: Path, tiny_model: Path, fake: Fake) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(row("bad", "the kitchen", []))
    with pytest.raises(DataError, match="takes none of the 1 rows"):
        run(tmp_path, with_template(tmp_path, tiny_model, CHOOSY), data)
    assert not fake.asked


def test_a_context_that_is_too_small_names_the_remedy(tmp_path: Path, tiny_model: Path, tiny_rows: Path) -> None:
    with pytest.raises(ConfigError, match=r"reads 4096 tokens.*set slm\.max_prompt_tokens to at most 4090"):
        run(tmp_path, tiny_model, tiny_rows, max_prompt_tokens=4096)


def test_raw_is_what_came_back(tokenizer: Any, decoding: Decoding) -> None:
    """Markers that are special tokens stay; the token that ended the answer does not."""
    import copy

    other = copy.deepcopy(tokenizer)
    other.add_special_tokens({"additional_special_tokens": ["[TOOL_CALLS]", "[ARGS]"]})
    text = '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}'
    tokens = other(text, add_special_tokens=False)["input_ids"]
    asked = stage.Asked(id="r", request=Request(prompt=[1]), digest="d")
    for ended in ([decoding.stops[0]], []):
        made = stage.prediction(asked, Answer(tokens + ended, 0.0), other, decoding, "m", "f")
        assert made.raw == text


def answer_with_shots(folder: Path, model: Path, *, data: str, shots: str, settings: dict[str, Any]) -> None:
    stage.answer(
        track="t",
        data=folder / data,
        model=model,
        adapter_path=None,
        settings=settings,
        journal=folder / "j",
        out=folder / "p.jsonl",
        shots=folder / shots,
    )


def test_shots_are_the_same_turns_before_every_row(
    tmp_path: Path, tiny_model: Path, tiny_rows: Path, tokenizer: Any, fake: Fake
) -> None:
    lines = tiny_rows.read_text().splitlines(keepends=True)
    (tmp_path / "shots.jsonl").write_text("".join(lines[12:14]))
    (tmp_path / "test.jsonl").write_text("".join(lines[:12]))
    answer_with_shots(tmp_path, tiny_model, data="test.jsonl", shots="shots.jsonl", settings=SETTINGS)
    prompts = [tokenizer.decode(prompt) for prompt in fake.asked]
    heads = {prompt.rpartition("<|user|>")[0] for prompt in prompts}
    assert len(heads) == 1
    (head,) = heads
    assert head.count("<|user|>") == head.count("<|assistant|><|tool_call|>") == 2
    assert str(tmp_path / "shots.jsonl") in json.loads((tmp_path / "p.json").read_text())["made_from"]


LONG: dict[str, Any] = SETTINGS | {
    "slm": SETTINGS["slm"] | {"max_prompt_tokens": 4000},
    "track": SETTINGS["track"] | {"kind": "toolcall"},
}


def choose(
    tmp_path: Path, tiny_model: Path, tiny_rows: Path, shots: object, longest: int = 4000, shared: int = 0
) -> dict[str, Any]:
    lines = tiny_rows.read_text().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(lines[6:]))
    (tmp_path / "val.jsonl").write_text("".join(lines[: 6 + shared]))
    settings = LONG | {"shots": shots, "core": ["ast_match_rate", "args_f1"]}
    settings["slm"] = LONG["slm"] | {"max_prompt_tokens": longest}
    choose_shots.choose(
        track="t",
        contender="few",
        train=tmp_path / "train.jsonl",
        val=tmp_path / "val.jsonl",
        model=tiny_model,
        adapter=None,
        settings=settings,
        journal=tmp_path / "j",
        out=tmp_path / "few.jsonl",
    )
    return artefacts.read(artefacts.Shots, tmp_path / "few.json")  # type: ignore[return-value]


def test_val_chooses_shots_and_asks_nothing_twice(
    tmp_path: Path, tiny_model: Path, tiny_rows: Path, fake: Fake
) -> None:
    made = choose(tmp_path, tiny_model, tiny_rows, "auto")
    assert len(made["tried"]) > 1
    assert made["k"] == len(list(read_examples(tmp_path / "few.jsonl")))
    train = {row.id for row in read_examples(tmp_path / "train.jsonl")}
    assert {row.id for row in read_examples(tmp_path / "few.jsonl")} <= train
    ranks = [(*one["metrics"].values(), -one["prompt_tokens"]) for one in made["tried"]]
    assert ranks[[(one["k"], one["set"]) for one in made["tried"]].index((made["k"], made["set"]))] == max(ranks)
    asked = len(fake.asked)
    answer_with_shots(tmp_path, tiny_model, data="val.jsonl", shots="few.jsonl", settings=LONG)
    assert len(fake.asked) == asked, "the answers lie in the journal"


def test_a_number_of_shots_is_lowered_for_all_rows_where_they_do_not_fit(
    tmp_path: Path, tiny_model: Path, tiny_rows: Path, fake: Fake
) -> None:
    whole = choose(tmp_path, tiny_model, tiny_rows, 3)
    assert (whole["k"], whole["tried"], fake.asked) == (3, [], [])
    answer_with_shots(tmp_path, tiny_model, data="val.jsonl", shots="few.jsonl", settings=LONG)
    longest = max(len(prompt) for prompt in fake.asked)
    made = choose(tmp_path, tiny_model, tiny_rows, 3, longest - 1)
    assert made["k"] < 3
    assert made["reason"] == f"3 do not leave room for all rows of val, {made['k']} do"


def test_shots_of_a_record_that_val_has_are_refused(
    tmp_path: Path, tiny_model: Path, tiny_rows: Path, fake: Fake
) -> None:
    with pytest.raises(DataError, match="source record that train has too"):
        choose(tmp_path, tiny_model, tiny_rows, 1, shared=1)


# --- one start


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The manifests of three adapters; what they weigh does not matter here."""
    from fledgling.models.adapter import Adapter

    monkeypatch.setattr(stage.adapter, "load", lambda path, _: Adapter(path.parent, f"digest of {path.parent.name}"))
    made = [tmp_path / f"{number}/manifest.json" for number in (1, 2, 3)]
    for path in made:
        path.parent.mkdir()
        path.write_text("{}")
    return made


def start(
    tmp_path: Path, model: Path, asks: list[stage.Ask], ahead: Path | None = None, *, untuned: bool = False, **slm: Any
) -> None:
    given = SETTINGS | {"slm": SETTINGS["slm"] | slm}
    journal = tmp_path / "journal"
    stage.answer_all(asks, track="t", model=model, settings=given, journal=journal, ahead=ahead, untuned=untuned)


def two_splits(tmp_path: Path, rows: Path) -> tuple[list[str], Path, Path]:
    """(the lines, a file of the first eight, a file of the others)."""
    lines = rows.read_text().splitlines(keepends=True)
    val, test = tmp_path / "val.jsonl", tmp_path / "test.jsonl"
    val.write_text("".join(lines[:8]))
    test.write_text("".join(lines[8:]))
    return lines, val, test


def test_candidates_answer_val_and_one_of_them_test_in_one_start(
    tmp_path: Path, tiny_model: Path, tiny_rows: Path, fake: Fake, adapters: list[Path]
) -> None:
    lines, val, test = two_splits(tmp_path, tiny_rows)
    vllm = {"engine": "vllm", "precision": "bf16"}
    outs = [tmp_path / f"sft.{number}.jsonl" for number in (1, 2, 3)]
    start(tmp_path, tiny_model, [stage.Ask(val, *each) for each in zip(adapters, outs, strict=True)], test, **vllm)
    assert fake.starts == 1
    assert len(fake.asked) == 3 * len(lines)
    assert {path.parent for path in adapters} == set(fake.adapters)
    assert [[row.id for row in read_predictions(out)] for out in outs] == [[row.id for row in read_examples(val)]] * 3
    assert len({row.fingerprint for out in outs for row in read_predictions(out)}) == 3

    chosen = tmp_path / "chosen/manifest.json"  # the same files as candidate 2, in the place of the adapter
    chosen.parent.mkdir()
    chosen.write_text("{}")
    kept = stage.adapter.load(adapters[1], None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.adapter, "load", lambda *_: kept)
        start(tmp_path, tiny_model, [stage.Ask(test, chosen, tmp_path / "tuned.jsonl")], **vllm)
    assert fake.starts == 1
    assert [row.id for row in read_predictions(tmp_path / "tuned.jsonl")] == [row.id for row in read_examples(test)]


def test_the_model_without_adapter_answers_in_the_start_of_the_candidates(
    tmp_path: Path, tiny_model: Path, tiny_rows: Path, fake: Fake, adapters: list[Path]
) -> None:
    lines, val, test = two_splits(tmp_path, tiny_rows)
    vllm = {"engine": "vllm", "precision": "bf16"}
    asks = [stage.Ask(val, path, tmp_path / f"sft.{number}.jsonl") for number, path in enumerate(adapters, 1)]
    start(tmp_path, tiny_model, asks, test, untuned=True, **vllm)
    assert (fake.starts, len(fake.asked)) == (1, 4 * len(lines))
    assert fake.adapters.count(None) == len(lines)
    both = [stage.Ask(data, None, tmp_path / f"slm-{data.name}") for data in (val, test)]
    start(tmp_path, tiny_model, both, **vllm)
    assert (fake.starts, len(fake.asked)) == (1, 4 * len(lines)), "val and test lay in the journal"
    for each in both:
        assert each.out
        assert [row.id for row in read_predictions(each.out)] == [row.id for row in read_examples(each.data)]


def test_the_files_are_there_before_the_engine_is_taken_down(
    tmp_path: Path, tiny_model: Path, tiny_rows: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "slm.jsonl", []

    def answers(*given: Any) -> Iterator[Any]:
        yield from Fake.answers(fake, *given)
        seen.append(out.exists())  # here an engine's replicas are told to end

    monkeypatch.setattr(fake, "answers", answers)
    start(tmp_path, tiny_model, [stage.Ask(tiny_rows, None, out)])
    assert seen == [True]


@pytest.mark.parametrize(
    ("most", "slm"), [(0, {"engine": "vllm", "precision": "bf16"}), (8192, {"engine": "transformers"})]
)
def test_nothing_is_answered_ahead_where_a_start_costs_less(
    tmp_path: Path,
    tiny_model: Path,
    tiny_rows: Path,
    fake: Fake,
    adapters: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    slm: dict[str, Any],
) -> None:
    monkeypatch.setattr(stage, "MOST_AHEAD", most)
    val = tmp_path / "val.jsonl"
    val.write_text("".join(tiny_rows.read_text().splitlines(keepends=True)[:4]))
    asks = [stage.Ask(val, path, tmp_path / f"{number}.jsonl") for number, path in enumerate(adapters)]
    start(tmp_path, tiny_model, asks, tiny_rows, **slm)
    assert len(fake.asked) == 12


# --- the choice of an engine


def test_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: object())
    monkeypatch.setattr(engines, "_cards", lambda: 1)
    assert engines.choose("auto", "bf16") == "vllm"
    assert engines.choose("auto", "int8") == "transformers"
    assert engines.choose("transformers", "bf16") == "transformers"
    with pytest.raises(ConfigError, match=r"does not run slm\.precision int8"):
        engines.choose("vllm", "int8")
    assert engines.choose("auto", "fp8") == "vllm"
    with pytest.raises(ConfigError, match=r"fp8 needs slm\.engine vllm"):
        engines.choose("transformers", "fp8")
    monkeypatch.setattr(engines, "_cards", lambda: 0)
    assert engines.choose("auto", "bf16") == "transformers"


# --- the vllm engine, against a module with vLLM's signatures

FAKE_VLLM = """
import itertools, os, sys, time
from types import SimpleNamespace
class SamplingParams:
    def __init__(self, *, temperature, max_tokens, stop_token_ids, detokenize, structured_outputs=None):
        assert temperature == 0.0 and detokenize is False and stop_token_ids
        self.max_tokens, self.structured_outputs = max_tokens, structured_outputs
class Engine:
    def __init__(self): self.waiting = []
    def has_unfinished_requests(self): return bool(self.waiting)
    def step(self):
        time.sleep(float(os.environ.get("FAKE_VLLM_SLEEPS", "0")))
        if os.environ.get("FAKE_VLLM_DIES") == os.environ["CUDA_VISIBLE_DEVICES"] and len(self.waiting) < 5:
            sys.exit(9)
        request = self.waiting.pop()  # the last first: order is no promise
        tokens = [int(os.environ["CUDA_VISIBLE_DEVICES"]), *request.prompt_token_ids[-2:]]
        if request.schema: tokens.append(len(request.schema))
        if request.lora: tokens.append(-request.lora)
        request.outputs = [SimpleNamespace(token_ids=tokens)]
        return [request]
class LLM:
    def __init__(self, *, model, dtype, seed, max_model_len, enable_prefix_caching, skip_tokenizer_init, **lora):
        print("vLLM writes to standard output")
        assert "," not in os.environ["CUDA_VISIBLE_DEVICES"]
        self.llm_engine, self.request_counter, self.lora = Engine(), itertools.count(), lora
    def enqueue(self, prompts, sampling_params=None, lora_request=None, priority=None, use_tqdm=True):
        assert bool(lora_request) == bool(self.lora)
        for place, (prompt, params) in enumerate(zip(prompts, sampling_params, strict=True)):
            schema = params.structured_outputs and params.structured_outputs.structural_tag
            self.llm_engine.waiting.append(SimpleNamespace(
                request_id=str(next(self.request_counter)), finished=True, schema=schema,
                lora=lora_request[place].number if lora_request and lora_request[place] else 0, **prompt))
"""
FAKE_PARTS = {
    "vllm/__init__.py": FAKE_VLLM,
    "vllm/lora/__init__.py": "",
    "vllm/lora/request.py": "class LoRARequest:\n    def __init__(self, name, number, path):\n        self.number = number\n        assert number > 0\n",
    "vllm/sampling_params.py": "class StructuredOutputsParams:\n    def __init__(self, structural_tag): self.structural_tag = structural_tag\n",
}


@pytest.fixture
def fake_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in FAKE_PARTS.items():
        path = tmp_path / "fake" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    source = Path(stage.__file__).parents[2]  # the replicas run what is tested
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'fake'}{os.pathsep}{source}")


def vllm_slm(cards: list[str], adapter: Path | None = None) -> vllm_engine.VllmSlm:
    decoding = Decoding(max_new_tokens=6, stops=(1, 2), pad=0)
    return vllm_engine.VllmSlm(
        Path("x"),
        precision="bf16",
        max_prompt_tokens=50,
        decoding=decoding,
        seed=0,
        adapters=[adapter] if adapter else [],
        cards=cards,
    )


def test_replicas_share_the_rows(fake_vllm: None, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 24}')
    requests = [Request(prompt=[i % 3, i, 7], guide="{}" if i == 4 else None, adapter=tmp_path) for i in range(20)]
    answers: dict[int, list[int] | None] = {}
    for positions, batch in vllm_slm(["0", "3"], adapter=tmp_path).answers(requests, lambda _: None):
        answers |= {i: answer.tokens for i, answer in zip(positions, batch, strict=True)}
    assert sorted(answers) == list(range(20))
    for i, tokens in answers.items():
        assert tokens
        assert tokens[1:] == [i, 7, *([2] if i == 4 else []), -1]
    assert {tokens[0] for tokens in answers.values() if tokens} == {0, 3}


def test_one_start_answers_for_the_model_and_all_its_adapters(fake_vllm: None, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder, rank in zip(folders, (24, 8), strict=True):
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    decoding = Decoding(max_new_tokens=6, stops=(1, 2), pad=0)
    slm = vllm_engine.VllmSlm(
        Path("x"), precision="bf16", max_prompt_tokens=50, decoding=decoding, seed=0, adapters=folders, cards=["0"]
    )
    requests = [Request(prompt=[i, i, 7], adapter=[None, *folders][i % 3]) for i in range(9)]
    found: dict[int, list[int] | None] = {}
    for positions, batch in slm.answers(requests, lambda _: None):
        found |= {i: answer.tokens for i, answer in zip(positions, batch, strict=True)}
    assert [found[i] for i in range(9)] == [[0, i, 7, *([-(i % 3)] if i % 3 else [])] for i in range(9)]
    assert vllm_engine.by_prompt(requests) == [0, 3, 6, 1, 4, 7, 2, 5, 8]


def test_a_replica_that_ends_early_stops_the_stage_and_loses_nothing(
    fake_vllm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM_DIES", "3")
    requests = [Request(prompt=[i, i, 7]) for i in range(20)]
    done: list[int] = []
    answers = vllm_slm(["0", "3"]).answers(requests, lambda _: None)
    with pytest.raises(Unavailable, match="card 3 ended with exit code 9"):
        done.extend(i for positions, _ in answers for i in positions)
    assert len(done) == len(set(done)) == 16


@pytest.fixture
def lingering(fake_vllm: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[str]]]:
    """The replicas that are started, which go on after their last row until their input ends."""
    started: list[subprocess.Popen[str]] = []

    def start(slm: Any, card: str) -> "subprocess.Popen[str]":
        command = f"{sys.executable} -m {vllm_engine.MODULE}; read line"
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": card}
        started.append(
            subprocess.Popen(
                ["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        )
        return started[-1]

    monkeypatch.setattr(vllm_engine.VllmSlm, "_start", start)
    yield started
    for replica in started:
        replica.kill()
        replica.wait()


def test_answers_do_not_wait_for_a_replica_to_take_its_engine_down(lingering: list["subprocess.Popen[str]"]) -> None:
    before = set(threading.enumerate())
    requests = [Request(prompt=[i, i, 7]) for i in range(20)]
    assert sum(len(positions) for positions, _ in vllm_slm(["0"]).answers(requests, lambda _: None)) == 20
    assert lingering[0].poll() is None
    (waiting,) = set(threading.enumerate()) - before
    assert not waiting.daemon  # so this process and its claim of the card stay until the replica is gone
    assert lingering[0].stdin
    lingering[0].stdin.close()
    waiting.join(30)
    assert lingering[0].returncode is not None


def test_a_replica_that_is_done_ends_with_a_caller_that_stops(
    lingering: list["subprocess.Popen[str]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    def everything(lines: Any) -> Iterator[Any]:
        while True:
            number, said = lines.get()
            yield number, said
            if "done" in said:
                return

    monkeypatch.setattr(vllm_engine, "_waiting", everything)
    answers = vllm_slm(["0"]).answers([Request(prompt=[i, i, 7]) for i in range(20)], lambda _: None)
    assert len(next(answers)[0]) == 20
    answers.close()  # type: ignore[attr-defined]
    assert lingering[0].returncode is not None


def test_no_replica_outlives_its_run(fake_vllm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    start = vllm_engine.VllmSlm._start
    monkeypatch.setattr(
        vllm_engine.VllmSlm, "_start", lambda slm, card: started.append(start(slm, card)) or started[-1]
    )
    answers = vllm_slm(["0"]).answers([Request(prompt=[i, i, 7]) for i in range(20)], lambda _: None)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert started[0].returncode is not None

    monkeypatch.setenv("FAKE_VLLM_SLEEPS", "60")
    orphan = vllm_slm(["0"])._start("0")
    job = vllm_slm(["0"])._job | {"rows": [[0, [1], None, None]]}
    assert orphan.stdin
    orphan.stdin.write(json.dumps(job) + "\n")
    orphan.stdin.close()  # what a kill -9 of the run does
    assert orphan.wait(timeout=30) == 143


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), max_size=40), st.integers(1, 8))
def test_rows_are_dealt_once_and_evenly(prompts: list[list[int]], replicas: int) -> None:
    requests = [Request(prompt=prompt) for prompt in prompts]
    shards = vllm_engine.deal(requests, vllm_engine.by_prompt(requests), replicas)
    assert len(shards) == replicas
    assert sorted(i for shard in shards for i in shard) == list(range(len(prompts)))
    loads = [sum(len(prompts[i]) for i in shard) for shard in shards]
    assert max(loads) <= sum(loads) / replicas + 9


def test_vllm_needs_a_card_and_a_rank_it_knows(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a CUDA card"):
        vllm_slm([])
    (tmp_path / "adapter_config.json").write_text('{"r": 1024}')
    with pytest.raises(ConfigError, match="LoRA rank 1024"):
        vllm_slm(["0"], adapter=tmp_path)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, tiny_model: Path, tiny_rows: Path) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(tiny_model.parent, folder)
    weights = folder / "checkpoint" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DataError, match=r"model\.safetensors"):
        run(tmp_path, folder / "manifest.json", tiny_rows)
