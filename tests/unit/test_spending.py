"""What a run has spent, whoever of its processes spent it, and whatever came back."""

import json
from typing import Any

import pytest

from fledgling.errors import Unavailable
from fledgling.files import digest
from fledgling.graph.driver import DRIVER
from fledgling.journal.line import Kind, encode
from fledgling.teacher.requests import Teacher
from fledgling.teacher.spending import NoRoomYet, Spent, Tokens

PRICES = {"input_per_million": 1e6, "output_per_million": 1e6, "currency": "EUR"}  # 1 a token
MOST = Tokens(10, 20)
REPLY = json.dumps({"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 4, "completion_tokens": 5}})


def key(number: int) -> str:
    return digest(number)


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> Spent:
    """Of a run with a budget of 100."""
    monkeypatch.setenv(DRIVER, "1:2:3")
    return Spent(Teacher.of({"provider": "openai", "model": "m", "budget": {"money": 100}, "prices": PRICES}))


def other(spent: Spent, kind: Kind, number: int, **record: Any) -> None:
    """A line that another process of the run has written."""
    spent.observe(encode(key(number), kind, {"run": "1:2:3", "by": "another", "most": [10, 20]} | record))


def room(spent: Spent) -> int:
    """What may still be spent."""
    most = 0
    while True:
        try:
            spent.begin(key(99), Tokens(0, most + 1))
        except Unavailable:
            return most
        spent.fail(key(99), billed=False)
        most += 1


def test_calls_under_way_are_set_aside_and_given_back(spent: Spent) -> None:
    for number in range(3):
        spent.begin(key(number), MOST)
    with pytest.raises(NoRoomYet):
        spent.begin(key(3), MOST)
    spent.answer(key(0), {"prompt_tokens": 4, "completion_tokens": 5})
    spent.fail(key(1), billed=False)
    spent.fail(key(2), billed=True)
    assert room(spent) == 100 - 9 - 30
    assert (spent.tokens, spent.possible) == (Tokens(4, 5), MOST)


@pytest.mark.parametrize(
    ("usage", "left"), [({"prompt_tokens": 4, "completion_tokens": 5}, 91), ({}, 70), ({"prompt_tokens": 4}, 70)]
)
def test_a_reply_that_does_not_count_its_tokens_counts_at_its_bound(
    spent: Spent, usage: dict[str, int], left: int
) -> None:
    spent.begin(key(1), MOST)
    spent.answer(key(1), usage)
    assert room(spent) == left


def test_what_other_processes_of_the_run_spend_counts_too(spent: Spent) -> None:
    other(spent, "intent", 1)
    assert room(spent) == 70, "under way"
    other(spent, "result", 1, status=200, body=REPLY)
    assert room(spent) == 91
    other(spent, "intent", 2)
    other(spent, "failure", 2, billed="no", most=[0, 0])
    assert room(spent) == 91
    other(spent, "intent", 3)
    other(spent, "failure", 3, billed="maybe")
    assert room(spent) == 61
    other(spent, "intent", 4, run="another run")
    assert room(spent) == 61
    spent.restart()
    assert room(spent) == 100, "all lines come again"


def test_what_a_killed_process_had_under_way_stays_counted(spent: Spent) -> None:
    """Its request is asked again, by another process and then by this one."""
    other(spent, "intent", 1)
    other(spent, "intent", 1)
    assert room(spent) == 40
    other(spent, "result", 1, status=200, body=REPLY)
    assert room(spent) == 61
    other(spent, "intent", 2)
    spent.begin(key(2), MOST)
    spent.answer(key(2), {"prompt_tokens": 4, "completion_tokens": 5})
    assert room(spent) == 61 - 30 - 9


def test_the_processes_own_lines_are_not_counted_twice(spent: Spent) -> None:
    spent.begin(key(1), MOST)
    spent.observe(encode(key(1), "intent", {"most": [10, 20], **spent.marks()}))
    spent.fail(key(1), billed=False)
    assert room(spent) == 100
