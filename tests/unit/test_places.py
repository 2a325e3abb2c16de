"""The compact tables: a dict and a set in a few bytes a key, also where keys begin alike."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledgling.files import digest
from fledgling.journal import Journal
from fledgling.journal.places import Keys, Places

# Few beginnings and few endings: keys that share a slot, and keys that share all the bits that are kept.
KEYS = [f"{first}{0:015x}{second:048x}" for first in "01ef" for second in range(6)] + [digest(n) for n in range(60)]
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "put", "drop", "clear"]), st.sampled_from(KEYS)), max_size=400
)


@given(steps=STEPS)
def test_places_are_a_dict(steps: list[tuple[str, str]]) -> None:
    log: list[str] = []  # the key of each place, as a file would hold it
    expected: dict[str, int] = {}
    places = Places(lambda place, key: log[place] == key)
    for step, key in steps:
        if step == "put":
            expected[key] = len(log)
            places.put(key, len(log))
            log.append(key)
        elif step == "drop":
            expected.pop(key, None)
            places.drop(key)
        elif key == KEYS[0]:  # rarely, so that tables grow
            expected.clear()
            places.clear()
        assert len(places) == len(expected)
    assert {key: place for key in KEYS if (place := places.get(key)) is not None} == expected


@given(added=st.lists(st.sampled_from(KEYS)))
def test_keys_are_a_set(added: list[str]) -> None:
    keys = Keys()
    for key in added:
        keys.add(key)
    assert {key for key in KEYS if key in keys} == set(added)
    assert len(keys) == len(set(added))


def test_a_table_that_is_dropped_and_filled_for_ever_does_not_grow() -> None:
    places = Places(lambda place, key: digest(place) == key)
    for number in range(3000):
        places.put(digest(number), number)
        places.drop(digest(number - 3))
    assert len(places) == 3
    assert [places.get(digest(number)) for number in range(2996, 3001)] == [None, 2997, 2998, 2999, None]
    assert places._mask < 32


def held(work: Callable[[], object]) -> tuple[int, int]:
    """Bytes that the result of some work holds, and that it took at most."""
    tracemalloc.start()
    try:
        result = work()
        now, peak = tracemalloc.get_traced_memory()
        del result
        return now, peak
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [12_000, 13_000, 25_000])
def test_a_key_takes_few_bytes(count: int) -> None:
    def places() -> Places:
        table = Places(lambda place, key: digest(place) == key)
        for number in range(count):
            table.put(digest(number), number)
        return table

    def keys() -> Keys:
        table = Keys()
        for number in range(count):
            table.add(digest(number))
        return table

    now, peak = held(places)
    assert now <= 43 * count + 4096
    assert peak <= 65 * count + 4096
    assert held(keys)[0] <= 80 * count + 4096


def test_a_journal_holds_few_bytes_a_record(tmp_path: Path) -> None:
    def fill() -> Journal:
        journal = Journal(tmp_path, "x").__enter__()
        for first in range(0, 20_000, 100):
            journal.append("result", [(digest(n), {"text": "x" * 50}) for n in range(first, first + 100)])
        return journal

    def reopen() -> Journal:
        return Journal(tmp_path, "x").__enter__()

    for work in (fill, reopen):
        now, peak = held(work)
        assert now <= 60 * 20_000
        assert peak <= 80 * 20_000 + (2 << 20), "and what reads the file"
