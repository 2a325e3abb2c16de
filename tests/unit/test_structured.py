"""Scores of JSON answers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledgling.records import Example, Prediction
from fledgling.tracks.registry import kind
from fledgling.tracks.structured import METRICS, leaves, lenient_value, matching_leaves

KIND = kind("structured")
SCHEMA = {
    "title": "order",
    "type": "object",
    "properties": {"item": {"type": "string"}, "count": {"type": "integer"}, "tags": {"type": "array"}},
    "required": ["item"],
}
ANSWER = {"item": "tea", "count": 2, "tags": ["hot", "green"]}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def example(answer=ANSWER, schema=SCHEMA):
    return Example("1", "1", [{"role": "user", "content": "two green teas"}], answer, schema=schema)


def score(raw, outcome="ok", **fields):
    return KIND.score(example(**fields), Prediction("1", outcome, raw=raw))


def values(scored):
    return tuple(round(scored.scores[name], 4) for name in METRICS)


@pytest.mark.parametrize(
    ("raw", "expected", "reason"),
    [
        ('{"item":"tea","count":2,"tags":["hot","green"]}', (1, 1, 1, 1, 1, 1), None),
        (' {"tags":["hot","green"],"count":2.0,"item":"t\\u0065a"}\n', (1, 1, 1, 1, 1, 1), None),
        ('{"item":"tea","count":3,"tags":["hot","green"]}', (1, 1, 0, 0.75, 0.75, 0.75), "wrong_value"),
        ('{"item":"tea"}', (1, 1, 0, 1, 0.25, 0.4), "wrong_value"),
        ('{"item":"tea","count":2,"tags":["hot","green"],"more":1}', (1, 1, 0, 0.8, 1, 0.8889), "wrong_value"),
        ('{"item":"tea","count":2,"tags":["green","hot"]}', (1, 1, 0, 0.5, 0.5, 0.5), "wrong_value"),
        ('{"item":"tea","count":2,"tags":["green"]}', (1, 1, 0, 0.6667, 0.5, 0.5714), "wrong_value"),
        ('{"item":"tea","count":"2","tags":["hot","green"]}', (1, 0, 0, 0.75, 0.75, 0.75), "schema"),
        ('{"item":"tea","count":true}', (1, 0, 0, 0.5, 0.25, 0.3333), "schema"),
        ('["tea"]', (1, 0, 0, 0, 0, 0), "schema"),
        ("{}", (1, 0, 0, 0, 0, 0), "schema"),
        ('{"item":NaN}', (0, 0, 0, 0, 0, 0), "invalid_json"),
        ('{"item":"tea","item":"tea"}', (0, 0, 0, 0, 0, 0), "invalid_json"),
        ("", (0, 0, 0, 0, 0, 0), "empty"),
        (" \n", (0, 0, 0, 0, 0, 0), "empty"),
        (None, (0, 0, 0, 0, 0, 0), "empty"),
    ],
)
def test_scores(raw, expected, reason):
    scored = score(raw)
    assert values(scored) == expected
    assert scored.reason == reason


@pytest.mark.parametrize("outcome", ["empty", "length", "content_filter", "refusal", "error"])
def test_only_an_ok_reply_can_be_right(outcome):
    scored = score(json.dumps(ANSWER), outcome)
    assert values(scored) == (0,) * 6
    assert set(scored.lenient.values()) == {0}
    assert scored.reason == f"outcome:{outcome}"


@pytest.mark.parametrize(
    "raw",
    ["```json\n{}\n```", "Here you are: {}", "{} I hope this helps.", "{{ not JSON, but {}", "{}{}"],
)
def test_the_lenient_reading_looks_for_the_first_object(raw):
    scored = score(raw.replace("{}", json.dumps(ANSWER)))
    assert values(scored) == (0,) * 6
    assert set(scored.lenient.values()) == {1}
    assert scored.reason == "invalid_json"
    assert scored.parsed is None


def test_lenient_is_strict_where_strict_reads():
    scored = score('{"item":"tea"}')
    assert scored.lenient == scored.scores
    assert lenient_value("no object here") is None


def test_true_is_not_one():
    for raw, answer in (('{"a": 1}', {"a": True}), ('{"a": false}', {"a": 0}), ('{"a": [1.0]}', {"a": [True]})):
        assert values(score(raw, answer=answer, schema=None)) == (1, 1, 0, 0, 0, 0)


def test_without_a_schema_an_object_is_valid():
    assert score("{}", schema=None).scores["schema_valid_rate"] == 1
    assert score("[]", schema=None).scores["schema_valid_rate"] == 0
    assert KIND.slices(example(schema=None))["schema"] == "none"
    assert KIND.slices(example())["schema"] == "order"


@given(VALUES)
def test_gold_scores_one(answer):
    scored = score(json.dumps(answer), answer=answer, schema=True)
    assert values(scored) == (1,) * 6
    assert scored.reason is None


@given(VALUES, VALUES)
def test_f1_is_symmetric_and_one_only_for_equal_values(a, b):
    ab, ba = score(json.dumps(a), answer=b, schema=True).scores, score(json.dumps(b), answer=a, schema=True).scores
    assert ab["field_f1"] == ba["field_f1"]
    assert ab["field_precision"] == ba["field_recall"]
    assert (ab["field_f1"] == 1) == (ab["exact_match_rate"] == 1) == (ba["exact_match_rate"] == 1)
    assert matching_leaves(a, b) == matching_leaves(b, a) <= min(leaves(a), leaves(b))


@pytest.mark.parametrize(
    "before",
    [
        "<think>a</think>\n<think>b</think>\n",
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>c<|end|><|start|>assistant<|channel|>final<|message|>",
    ],
)
def test_several_thoughts_are_thoughts(before):
    assert values(score(f'{before}{{"a": 1}}', answer={"a": 1}, schema=None)) == (1,) * 6
    assert score(f'{before[:-3]}{{"a": 1}}', answer={"a": 1}, schema=None).reason == "invalid_json"
