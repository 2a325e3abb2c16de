"""The rows of a stage: streamed, with one byte of state each, and a run whose memory does not follow their number."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from fledgling.journal import Journal
from fledgling.records import Example
from fledgling.teacher import ask as stage
from fledgling.teacher import run
from fledgling.teacher.requests import Request, Teacher
from fledgling.teacher.states import Rows, State
from fledgling.teacher.taxonomy import Reply


def write(path: Path, questions: range) -> Path:
    with open(path, "w") as stream:
        for number in questions:
            turns = [{"role": "user", "content": f"question {number}"}]
            row = {"id": f"row-{number}", "group": "g", "messages": turns, "answer": {}}
            stream.write(json.dumps(row) + "\n")
    return path


def call(example: Example) -> Request:
    return Request(example.id, {})


def left(rows: Rows) -> list[str]:
    return [call.key for _, call in rows.left()]


def test_what_was_noted_is_no_longer_left(tmp_path: Path) -> None:
    states = {"row-1": State.ANSWERED, "row-4": State.TOO_LONG}
    data = write(tmp_path / "data.jsonl", range(6))
    rows = Rows(data, call, lambda call: states.get(call.key, State.LEFT))
    assert (len(rows), rows.count(State.LEFT)) == (6, 4)
    turns = rows.left()
    assert next(turns) == (0, Request("row-0", {}))
    rows.note(2, State.FAILED)
    assert [number for number, _ in turns] == [3, 5]
    rows.note(0, State.ANSWERED)
    assert left(rows) == ["row-3", "row-5"]
    assert [state for _, _, state in rows] == [1, 1, 3, 0, 2, 0]
    rows.note(3, State.ANSWERED)
    rows.note(5, State.ANSWERED)
    assert left(rows) == []


def test_a_file_that_changes_meanwhile_gives_no_row_the_state_of_none(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", range(3))
    rows = Rows(data, call, lambda call: State.TOO_LONG)
    write(data, range(5))
    assert [state for _, _, state in rows] == [State.TOO_LONG] * 3 + [State.LEFT] * 2
    write(data, range(2))
    assert len(list(rows)) == 2


class Instant:
    """A provider that answers at once."""

    def __init__(self, *place: Any, **options: Any) -> None:
        self.text = json.dumps({"choices": [{"message": {"content": "x" * 200}}]})

    async def __aenter__(self) -> "Instant":
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass

    async def send(self, body: dict[str, Any]) -> Reply:
        return Reply(0.1, 200, self.text)


def test_a_run_holds_few_bytes_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held to what a table of places takes at most while it grows; a set of keys alone would take thrice as much."""
    monkeypatch.setattr(run, "Client", Instant)
    monkeypatch.setattr(Journal, "sync", lambda self: None)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    teacher = Teacher("openai", model="m", concurrency=4)

    def peak(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        data = write(folder / "data.jsonl", range(count))
        tracemalloc.start()
        try:
            stage.ask(data=data, teacher=teacher, prompt={}, journal=folder, out=folder / "out.jsonl")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # what is imported and cached once
    few, many = peak(500), peak(6500)
    assert (many - few) / 6000 < 80
