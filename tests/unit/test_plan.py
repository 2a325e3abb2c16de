"""The price before the run, against what the run then does."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from fledgling import contenders
from fledgling.contenders import Job
from fledgling.forecast import starts
from fledgling.forecast.enough import sentences
from fledgling.forecast.plan import Line, plan, table
from fledgling.graph.work import runtime
from fledgling.teacher.ask import ask
from fledgling.teacher.requests import Teacher
from tests.project import write_sealed

from .scored_rows import training

PRICES = {"input_per_million": 2.5, "output_per_million": 10.0, "currency": "EUR"}


def config(**teacher: Any) -> dict[str, Any]:
    section = {
        "provider": "simulated",
        "model": "sim",
        "prices": PRICES,
        "simulated": {"error_rate": 0.1, "rate_429": 0.02},
    }
    return {
        "tracks": {"t": {"kind": "structured", "finetune": "never"}},
        "slm": {"gpus": 0},
        "contenders": {"slm": {}, "tuned": {"adapter": "sft", "after": "slm"}},
        "adapters": {"sft": {}},
        "recipe": {"candidates": 1},
        "repeats": [],
        "training": {"gpus": 0},
        "teacher": section | teacher,
    }


def prepare(folder: Path, count: int) -> Path:
    data = folder / "data" / "t" / "test.jsonl"
    data.parent.mkdir(parents=True, exist_ok=True)
    schema = {"type": "object", "properties": {"number": {"type": "integer"}, "name": {"type": "string"}}}
    rows = [
        {
            "id": f"r{n}",
            "group": f"g{n}",
            "schema": schema,
            "answer": {"number": n, "name": "word " * (n % 7)},
            "messages": [{"role": "user", "content": f"Please read number {n}: {'word ' * (n % 7)}"}],
        }
        for n in range(count)
    ]
    rows.append(rows[0] | {"id": "again"})
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data


def run(folder: Path, given: dict[str, Any], repeat: int = 0) -> dict[str, Any]:
    """Asks what is missing; returns calls, tokens and money of this run, from the journal's lines."""
    journal = folder / "journal"
    before = len((journal / "teacher.jsonl").read_bytes().splitlines()) if journal.exists() else 0
    ask(
        data=folder / "data/t/test.jsonl",
        teacher=Teacher.of(given["teacher"]),
        prompt={},
        journal=journal,
        out=folder / "out.jsonl",
        repeat=repeat,
        backoff_base_s=0.01,
    )
    lines = [json.loads(line) for line in (journal / "teacher.jsonl").read_bytes().splitlines()[before:]]
    usages = [json.loads(line["record"]["body"])["usage"] for line in lines if line["kind"] == "result"]
    prompt, completion = (sum(usage[name] for usage in usages) for name in ("prompt_tokens", "completion_tokens"))
    return {
        "calls": sum(line["kind"] == "intent" for line in lines),
        "prompt": prompt,
        "completion": completion,
        "money": (prompt * 2.5 + completion * 10) / 1e6,
    }


def planned(folder: Path, given: dict[str, Any]) -> Line:
    lines = plan(given, results=folder, journal=folder / "journal")
    assert [line.rule for line in lines] == ["ask", "answer", "answer"]
    return lines[0]


def test_the_plan_agrees_with_what_happens(tmp_path: Path) -> None:
    prepare(tmp_path, 60)
    line = planned(tmp_path, config())
    happened = run(tmp_path, config())
    assert (line.rows, line.kept) == (61, 0)
    assert line.calls == 60, "the same question twice is one call"
    for expected, actual in (
        (line.calls, happened["calls"]),
        (line.prompt_tokens, happened["prompt"]),
        (line.completion_tokens, happened["completion"]),
        (line.money, happened["money"]),
    ):
        assert actual == pytest.approx(expected, rel=0.1)


def test_what_is_kept_costs_nothing_and_new_rows_do(tmp_path: Path) -> None:
    prepare(tmp_path, 40)
    run(tmp_path, config())
    line = planned(tmp_path, config())
    assert (line.rows, line.kept, line.calls, line.money) == (41, 41, 0, 0)
    prepare(tmp_path, 50)
    line = planned(tmp_path, config())
    assert (line.kept, line.calls) == (41, 10)
    assert run(tmp_path, config())["money"] == pytest.approx(line.money, rel=0.1)


def test_a_second_run_is_planned_and_paid_like_the_first(tmp_path: Path) -> None:
    prepare(tmp_path, 40)
    run(tmp_path, config())
    given = config() | {"repeats": ["teacher", "slm"]}
    lines = plan(given, results=tmp_path, journal=tmp_path / "journal")
    first, _, _, again, last = lines
    assert [(line.rule, line.repeat) for line in (first, again, last)] == [("ask", 0), ("ask", 1), ("answer", 1)]
    assert (first.calls, again.calls) == (0, 40)
    assert f"total: {again.money:.4f} EUR" in table(lines)
    happened = run(tmp_path, config(), repeat=1)
    assert happened["money"] == pytest.approx(again.money, rel=0.1)
    assert run(tmp_path, config(), repeat=1)["calls"] == 0


def test_the_plan_of_looks_says_the_range_and_what_is_expected(tmp_path: Path) -> None:
    """In calls and in money, of what is not kept; the copy of the first row is no call."""
    decided = {"decision": {"margin": 0.05, "alpha": 0.05, "power": 0.8}}
    prepare(tmp_path, 999)
    [ask, *_], [at_once, *_] = (
        plan(config(looks=looks) | decided, results=tmp_path, journal=tmp_path / "journal") for looks in (60, None)
    )
    assert (ask.calls, ask.money) == (at_once.calls, at_once.money)
    found = re.search(r"in looks: (\d+) to 999 calls, about (\d+) if a contender is as good", ask.note)
    assert found, ask.note
    assert 62 <= int(found[1]) <= 63
    assert ask.expected is not None
    assert ask.money is not None
    assert int(found[2]) == pytest.approx(999 * ask.expected, rel=0.03)
    assert f"{ask.expected * ask.money:.4f} of at most {ask.money:.4f} EUR" in ask.note
    assert f"total: {ask.money:.4f} EUR at most, about {ask.expected * ask.money:.4f} if a contender" in table([ask])
    assert (at_once.expected, "looks" in table([at_once])) == (None, False)


def test_the_plan_says_whether_the_rows_can_suffice(tmp_path: Path) -> None:
    """Nine rows, of which one stands for many requests: an equally good model cannot pass, whatever is paid."""
    decided = {"decision": {"margin": 0.05, "alpha": 0.05, "power": 0.8}}
    assert sentences(config() | decided, results=tmp_path) == []
    data = prepare(tmp_path, 80)
    [said] = sentences(config() | decided, results=tmp_path)
    assert said.startswith("t: 81 test rows that count as 79, margin 5 points: an equally good model passes about")
    lines = data.read_text().splitlines()
    few = config() | decided
    few["tracks"]["t"]["finetune"] = "auto"
    shutil.copy(data, data.with_name("val.jsonl"))
    assert "t: 81 rows of val say how far contenders are built" in sentences(few, results=tmp_path)[1]
    data.with_name("val.jsonl").unlink()
    data.write_text("".join(f"{line}\n" for line in lines[:9]))
    [said] = sentences(config() | decided, results=tmp_path)
    assert "9 test rows, margin 5 points: an equally good model cannot pass" in said
    wide = config() | decided
    wide["tracks"]["t"]["margin"] = 0.4
    assert "passes" in sentences(wide, results=tmp_path)[0]
    heavy = [json.dumps(json.loads(lines[0]) | {"weight": 400}), *lines[1:]]
    data.write_text("".join(f"{line}\n" for line in heavy))
    [said] = sentences(config() | decided, results=tmp_path)
    assert "81 test rows that count as 1," in said


def test_replies_correct_the_guess_of_tokens(tmp_path: Path) -> None:
    """A tokenizer that counts twice as many tokens as the guess."""
    prepare(tmp_path, 40)
    run(tmp_path, config())
    path = tmp_path / "journal" / "teacher.jsonl"
    double = lambda found: f"{found[1]}{int(found[2]) * 2}"  # noqa: E731
    records = [json.loads(line) for line in path.read_text().splitlines()]
    from fledgling.journal.line import encode

    for line in records:
        if line["kind"] == "result":
            line["record"]["body"] = re.sub(r'("(?:prompt|completion)_tokens": )(\d+)', double, line["record"]["body"])
    path.write_bytes(b"".join(encode(line["key"], line["kind"], line["record"]) for line in records))
    prepare(tmp_path, 80)
    line = planned(tmp_path, config())
    happened = run(tmp_path, config())
    assert line.prompt_tokens == pytest.approx(2 * happened["prompt"], rel=0.1)
    assert line.completion_tokens == pytest.approx(2 * happened["completion"], rel=0.1)


def test_f49_unknown_is_unknown_and_never_0(tmp_path: Path) -> None:
    prepare(tmp_path, 3)
    given = config(prices=None) | {"slm": {"gpus": 1}, "training": {"gpus": 4}, "recipe": {"candidates": 1}}
    given["tracks"]["t"]["finetune"] = "auto"
    given["tracks"]["later"] = {"kind": "structured", "finetune": "never"}
    lines = {(line.rule, line.track): line for line in plan(given, results=tmp_path, journal=tmp_path / "journal")}
    assert lines["ask", "t"].money is None
    assert lines["ask", "later"].calls is None
    assert lines["answer", "t"].gpu_minutes is None
    assert lines["train", "t"].gpu_minutes is None
    assert lines["train", "t"].note == "unless a cheaper contender promises to pass on val"
    text = table(list(lines.values()))
    assert "total: unknown" in text
    assert not (tmp_path / "journal").exists(), "a plan writes nothing"


def test_gpu_minutes_follow_from_the_last_time(tmp_path: Path) -> None:
    prepare(tmp_path, 3)
    given = config() | {"slm": {"gpus": 2}, "training": {"gpus": 4}, "recipe": {"candidates": 3}}
    given["tracks"]["t"]["finetune"] = "always"
    (tmp_path / "predictions/t").mkdir(parents=True)
    (tmp_path / "predictions/t/slm.jsonl").write_text('{"id": "r0", "outcome": "ok", "latency_s": 30.0}\n')
    (tmp_path / "adapters/t/sft").mkdir(parents=True)
    write_sealed(tmp_path / "adapters/t/sft/training.json", training(seconds=90))
    shutil.copy(tmp_path / "data/t/test.jsonl", tmp_path / "data/t/val.jsonl")
    lines = plan(given, results=tmp_path, journal=tmp_path / "journal")
    assert {line.contender: line.gpu_minutes for line in lines} == {
        "teacher": 0,
        "slm": 4,
        "sft": 6,
        **dict.fromkeys(["sft.1", "sft.2", "sft.3", "tuned"]),
    }
    assert all(line.rows == 4 for line in lines if line.rule == "answer")
    # A scheduler gives a job twice that and 20 minutes.
    (tmp_path / "metrics/t").mkdir(parents=True)
    (tmp_path / "metrics/t/slm.json").write_text(json.dumps({"n": 2, "latency_s": {"mean": 30.0}}))
    (tmp_path / "data/t/datasheet.json").write_text(json.dumps({"splits": {"test": {"rows": 4}}}))
    for kind, wildcards, each in (("answer", {"contender": "slm"}, 4 / 2), ("train", {"adapter": "sft"}, 6 / 4)):
        asked = runtime(kind, results=tmp_path)({"track": "t"} | wildcards, None, 1)
        assert asked == round(2 * each) + 20


def test_without_azure_variables_the_plan_is_an_upper_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_ENDPOINT", raising=False)
    prepare(tmp_path, 3)
    line = planned(tmp_path, config(provider="azure"))
    assert (line.kept, line.calls) == (None, 3)
    assert line.note.startswith("at most")
    assert line.money is not None


def test_after_make_clean_the_replies_that_are_kept_are_counted(tmp_path: Path) -> None:
    prepare(tmp_path, 20)
    run(tmp_path, config())
    shutil.rmtree(tmp_path / "data")
    line = planned(tmp_path, config())
    assert line.calls is None
    assert f"20 paid replies are kept in {tmp_path / 'journal'}" in line.note


def test_minutes_and_this_machines_money_are_those_of_the_last_time(tmp_path: Path) -> None:
    results = tmp_path / "results"
    prepare(results, 5)
    events = tmp_path / ".fledgling/runs/1/events.jsonl"
    events.parent.mkdir(parents=True)
    job = {"job": 1, "rule": "answer", "outputs": [f"results/predictions/t/{part}slm.jsonl" for part in ("val/", "")]}
    started = {"at": "2026-01-01T10:00:00+00:00", "event": "job_started", **job}
    ended = {"at": "2026-01-01T10:30:00+00:00", "event": "job_finished", "job": 1}
    events.write_text(f"{json.dumps(started)}\n{json.dumps(ended)}\n")
    ask_line, val, answer = plan(
        config() | {"slm": {"gpus": 0, "price_per_hour": 0.5}}, results=results, journal=tmp_path
    )
    assert (answer.minutes, answer.machine, answer.built) == (15, 0.125, False), "half of one start for two splits"
    assert (val.minutes, val.machine) == (15, 0.125)
    assert ask_line.minutes is None
    text = table([ask_line, val, answer])
    assert "(0.1250)" in text
    assert "last time 30.0 minutes, of this machine 0.2500 EUR (1 of 3 jobs have not run yet)" in text
    on_gpus = plan(config() | {"slm": {"gpus": 2}}, results=results, journal=tmp_path)[1:]
    assert [line.gpu_minutes for line in on_gpus] == [30, 30]


def test_a_model_answers_in_its_adapters_start_where_nothing_else_differs() -> None:
    made = config()
    assert contenders.untuned(made) == {"t": ["sft"]}
    for change in ({"batch_size": 16}, {"max_new_tokens": 9}, {"shots": 2}):
        assert contenders.untuned(made | {"contenders": made["contenders"] | {"slm": change}}) == {"t": []}, change
    assert contenders.untuned(made | {"adapters": {"sft": {"model": "other"}}}) == {"t": []}


def test_the_starts_of_an_engine_are_said() -> None:
    made = config()
    made["tracks"]["t"]["finetune"] = "always"
    made["recipe"]["candidates"] = 3
    made["slm"]["engine"] = "auto"
    asked = [
        Job("answer", "t", "slm", "val"),
        Job("answer", "t", "slm"),
        Job("train", "t", "sft", None),
        *(Job("answer", "t", f"sft.{number}", "val") for number in (1, 2, 3)),
        Job("answer", "t", "tuned", "val"),
        Job("answer", "t", "tuned"),
        Job("answer", "t", "tuned", repeat=1),
    ]
    groups = contenders.starts(made, asked, ahead=False)
    assert [group[0].contender for group in groups] == ["slm", "sft.1", "tuned", "tuned"]
    groups = contenders.starts(made, asked, ahead=True)
    assert [group[0].contender for group in groups] == ["slm", "sft.1", "tuned"]
    (said,) = starts.sentences(made)
    assert said.startswith("t: an engine starts at most ")
    assert "under vLLM, 85 s each" in said
    assert "sft.1, sft.2, sft.3, tuned on val and test" in said
    made["slm"]["engine"] = "transformers"
    assert "under vLLM" not in starts.sentences(made)[0]
