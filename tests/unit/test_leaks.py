"""Links between splits: what counts as one, and what does not."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledgling.data import leaks
from fledgling.data.table import Table, hash64, repeats

BASE = "could you please book a table for 4 people at the harbour restaurant in Oslo on Friday evening"


def table(rows):
    """rows: (split, group, text, answer)."""
    made = Table()
    for split, group, text, answer in rows:
        normalised = leaks.normalise(text)
        values = dict.fromkeys(made._columns, 0)
        values |= {"split": split, "group": hash64(group), "text": hash64(text), "normalised": hash64(normalised)}
        values["sense"] = leaks.sense(normalised, answer) if leaks.word_count(normalised) >= leaks.MIN_WORDS else 0
        made.append(**values)
    return made


def found(rows, threshold=0.8):
    links = leaks.find(table(rows), threshold, lambda row: leaks.normalise(rows[row][2])).links
    return [(link.kind, link.row, link.split, link.later, link.later_split) for link in links]


def test_each_kind_is_found_once_and_by_its_first_name():
    rows = [
        (0, "same", "one request about the weather", {"a": 1}),
        (2, "same", "another request altogether here", {"a": 2}),
        (0, "g1", BASE, {"a": 3}),
        (1, "g2", BASE, {"a": 3}),
        (0, "g3", 'Sort {"b": 1, "a": 2}  NOW!', {"a": 4}),
        (2, "g4", 'sort {"a": 2, "b": 1} now', {"a": 4}),
        (1, "g5", BASE.replace("Oslo", "Rome"), {"a": 5}),
        (2, "g6", BASE.replace("Oslo", "Rome").replace("please ", ""), {"a": 5}),
        (0, "g7", "nothing else is like this one at all", {"a": 1}),
    ]
    assert found(rows) == [
        ("record", 0, 0, 1, 2),
        ("text", 2, 0, 3, 1),
        ("normalised", 4, 0, 5, 2),
        ("near_duplicate", 6, 1, 7, 2),
    ]


def test_a_row_may_be_linked_to_both_later_splits():
    rows = [(0, "a", BASE, 1), (1, "b", BASE, 1), (2, "c", BASE, 1)]
    assert [link[:2] + link[3:] for link in found(rows)] == [("text", 0, 2, 2), ("text", 0, 1, 1), ("text", 1, 2, 2)]


def test_one_template_with_other_values_is_no_near_duplicate():
    cities = ["Oslo", "Rome", "Bern", "Lima", "Cork", "Nice"]
    rows = [(index % 3, f"g{index}", BASE.replace("Oslo", city), {"city": city}) for index, city in enumerate(cities)]
    assert found(rows) == []


def test_other_numbers_are_no_near_duplicate():
    rows = [(0, "a", BASE, {"intent": "book"}), (2, "b", BASE.replace("4", "5"), {"intent": "book"})]
    assert found(rows) == []


def test_short_requests_are_not_judged():
    rows = [(0, "a", "lower the lights please", 1), (2, "b", "olly lower the lights please", 1)]
    assert found(rows, 0.5) == []


def test_the_threshold_decides_and_null_switches_off():
    rows = [(0, "a", BASE, 1), (2, "b", BASE.replace("could you please", "I want you to"), 1)]
    similarity = leaks.jaccard(*(leaks.shingles(leaks.normalise(row[2])) for row in rows))
    assert found(rows, similarity - 0.01) == [("near_duplicate", 0, 0, 1, 2)]
    assert found(rows, similarity + 0.01) == []
    assert found(rows, None) == []


def test_rows_that_meet_by_chance_are_compared_in_full():
    senses, splits = np.array([1, 2, 1], np.uint64), np.array([0, 2, 2], np.uint8)
    texts = [BASE, BASE, BASE.replace("Oslo", "Rome")]
    pairs = [(0, 1), (0, 2)]
    assert [link.later for link in leaks._verified(pairs, senses, splits, 0.8, texts.__getitem__)] == [2]
    assert list(leaks._verified(pairs, senses, splits, 0.99, texts.__getitem__)) == []


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.95])
def test_candidates_miss_no_pair(threshold):
    rng = np.random.default_rng(5)
    words = [f"word{chr(97 + a)}{chr(97 + b)}" for a in range(20) for b in range(20)]
    rows = []
    for index in range(120):
        text = list(rng.choice(words, 30))
        rows.append((2, f"t{index}", " ".join(text), "x"))
        for place in rng.choice(30, int(rng.integers(0, 16)), replace=False):
            text[place] = str(rng.choice(words))
        rows.append((0, f"a{index}", " ".join(text) + " x", "x"))
    pieces = [leaks.shingles(leaks.normalise(row[2])) for row in rows]
    near = {i for i in range(1, len(rows), 2) if leaks.jaccard(pieces[i], pieces[i - 1]) >= threshold}
    assert 0 < len(near) < 120
    assert {row for _, row, *_ in found(rows, threshold)} == near


@given(st.text(), st.dictionaries(st.text("abc_ß{", min_size=1), st.integers()))
def test_normalise_forgets_the_order_of_keys_and_white_space(text, value):
    backwards = dict(reversed(value.items()))
    said = f"{text} {json.dumps(value)} now"
    assert leaks.normalise(said) == leaks.normalise(f"{text}\n{json.dumps(backwards, indent=3)}\tNOW. ")


def test_normalise_ends_on_a_text_of_braces():
    assert leaks.normalise("{" * 200_000) == "{" * 200_000
    assert leaks.normalise('{"a":' * 50_000)


def test_normalise_keeps_what_means_something():
    assert leaks.normalise("Add -5") != leaks.normalise("Add 5")
    assert leaks.normalise("C++") != leaks.normalise("C")


def test_request_leaves_system_and_tools_out_and_keeps_the_dialogue():
    system, user = {"role": "system", "content": "s"}, {"role": "user", "content": "yes"}
    asked = {"role": "assistant", "content": "Book it?"}
    assert leaks.request([system, user]) == "yes" == leaks.request([user])
    assert leaks.request([user, asked, user]) != leaks.request([user])
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    assert leaks.request([user, called, user]) != leaks.request([user, asked | {"content": None}, user])


@given(st.lists(st.integers(min_value=0, max_value=5)))
def test_repeats_name_the_first_of_a_kind(keys):
    expected = [(row, keys.index(key)) for row, key in enumerate(keys) if keys.index(key) < row]
    assert list(repeats(np.array(keys, dtype=np.uint64))) == expected
