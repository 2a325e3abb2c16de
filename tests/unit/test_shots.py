"""Shots: drawn from groups, the same whatever the order, of many kinds."""

import random

import pytest

from fledgling.errors import DataError
from fledgling.prompting.shots import choose
from fledgling.records import Example


def rows(count: int) -> list[Example]:
    names = ["a", "b", "c"]
    return [
        Example(f"r{i}", f"g{i // 2}", [{"role": "user", "content": str(i)}], [{"name": names[i % 3], "arguments": {}}])
        for i in range(count)
    ]


def test_the_order_of_train_does_not_matter() -> None:
    many = rows(40)
    mixed = many[:]
    random.Random(1).shuffle(mixed)
    assert choose(many, 5) == choose(mixed, 5)
    assert choose(many, 5, 1) != choose(many, 5, 2)
    assert choose(many, 2) == choose(many, 5)[:2]


def test_no_two_of_a_group_and_first_of_each_kind() -> None:
    for number in range(20):
        chosen = choose(rows(40), 3, number)
        assert len({row.group for row in chosen}) == 3
        assert {row.answer[0]["name"] for row in chosen} == {"a", "b", "c"}


def test_too_few_groups_are_said() -> None:
    with pytest.raises(DataError, match="3 are asked for and train has 2 groups"):
        choose(rows(4), 3)
