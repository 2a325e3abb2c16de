"""Replies of a log in the place of calls: only for a row's own request, at temperature 0, marked, never from the rows' own log."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fledgling import artefacts
from fledgling.artefacts import Datasheet, Predictions
from fledgling.command import main
from fledgling.config import load, section
from fledgling.data.prepare import prepare
from fledgling.records import read_predictions
from fledgling.teacher.ask import ask
from fledgling.teacher.requests import Teacher

from . import logs
from .logs import Call, booking, order

TEACHER = {
    "provider": "openai",
    "model": "gpt-4o",
    "base_url": "http://127.0.0.1:9/v1",
    "temperature": 0,
    "max_tries": 1,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> Path:
    """Thirty prepared rows that somebody wrote, and a configuration of a teacher that cannot be reached."""
    rows = []
    for number in range(30):
        call = booking(number)
        gold = [{"name": "book", "arguments": {"seats": number + 1}}]
        rows.append({"messages": call.messages, "tools": call.tools, "answer": gold})
    logs.write(tmp_path / "rows.jsonl", rows)
    setup(tmp_path, root, {"kind": "toolcall", "sources": [{"path": str(tmp_path / "rows.jsonl"), "split": "test"}]})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    return tmp_path


def setup(folder: Path, root: Path, track: dict[str, Any]) -> None:
    config = yaml.safe_load((root / "config/config.yaml").read_text())
    config["teacher"] = {**config["teacher"], **TEACHER}
    config["tracks"] = {"t": track}
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    data = folder / "results/data/t"
    outputs = {split: data / f"{split}.jsonl" for split in ("train", "val", "test")}
    artefacts.write(Datasheet, data / "datasheet.json", prepare(track, 1, name="t", outputs=outputs))


def take_over(folder: Path, calls: list[Call], *options: str, form: str = "helicone") -> int:
    path = logs.write(folder / "log.jsonl", logs.LOGS[form](calls))
    with pytest.raises(SystemExit) as ended:
        main.main(["take-over", str(path), "--track", "t", *options])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("form", ["helicone", "litellm", "stored", "langfuse", "otel", "openinference"])
def test_a_logged_reply_is_the_teachers_and_says_so(folder, capsys, form):
    assert take_over(folder, [booking(number) for number in range(30)], form=form) == 0
    assert "30 of 30 test rows got a reply" in capsys.readouterr().out
    out = folder / "teacher.jsonl"
    teacher = Teacher.of(section(load("config/config.yaml"), "teacher"))
    ask(data=folder / "results/data/t/test.jsonl", teacher=teacher, prompt={}, journal=".journal", out=out)
    predictions = list(read_predictions(out))
    assert {one.outcome for one in predictions} == {"ok"}
    assert {one.model for one in predictions} == {"gpt-4o-2024-08-06"}
    assert artefacts.read(Predictions, out.with_suffix(".json"))["logged"] == 30
    seats = {json.loads(one.tool_calls[0]["function"]["arguments"])["seats"] for one in predictions if one.tool_calls}
    assert seats == set(range(1, 31))


def test_only_the_same_request_counts(folder, capsys):
    calls = [booking(number) for number in range(30)]
    calls[0].temperature = 0.7
    calls[1].model = "gpt-4o-mini"
    calls[2].messages = [*calls[2].messages[:-1], {"role": "user", "content": "Something else"}]
    calls[3].tools = None
    calls[4].finish = "length"
    assert take_over(folder, calls, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["taken"], found["calls"]) == (25, 30)
    assert found["left"] == {"temperature not 0": 1, "another model": 1, "another request": 2, "reply_length": 1}
    assert take_over(folder, calls, "--json") == 0
    assert json.loads(capsys.readouterr().out)["known"] == 25


def test_the_log_that_the_answers_are_from_is_refused(folder, root, capsys):
    calls = [order(number) for number in range(30)]
    path = logs.write(folder / "log.jsonl", logs.helicone(calls))
    track = {
        "kind": "structured",
        "sources": [{"path": str(path), "format": "traces", "split": "test"}],
        "prompt": {"schema": "none"},
    }
    setup(folder, root, track)
    assert take_over(folder, calls) == 2
    assert "would agree with itself by construction" in capsys.readouterr().err
    again = [order(number, id=f"again{number}") for number in range(30)]
    assert take_over(folder, again) == 2
    assert "--independent" in capsys.readouterr().err
    assert take_over(folder, again, "--independent") == 0
    assert "30 of 30 test rows got a reply" in capsys.readouterr().out
