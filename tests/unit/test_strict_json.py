"""JSON by the letter: what is refused, how numbers compare, and that no text can break it."""

import base64
import copy
import json
import pickle
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledgling.strict_json import MAX_DEPTH, MAX_SIZE, ExactFloat, depth, dumps, equal, is_plain, loads
from tests.allowance import within

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


def test_agrees_with_the_parsing_suite(shared_data):
    wrong = []
    for line in (shared_data / "json" / "json_parsing_shared.jsonl").read_text().splitlines():
        row = json.loads(line)
        text = base64.b64decode(row["b64"]) if "b64" in row else b"[" * 100_000
        try:
            loads(text)
            found = "accept"
        except ValueError:
            found = "reject"
        if row["expect"] not in (found, "either"):
            wrong.append(row["id"])
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "NaN",
        "Infinity",
        "-Infinity",
        "nul",
        "True",
        "'a'",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "0x10",
        "1_0",
        "\u0661",
        "[1,]",
        "[,1]",
        '{"a":1,}',
        "{a:1}",
        "{'a':1}",
        '{"a":1 "b":2}',
        "// x\n1",
        "1 2",
        "1\u00a0",
        "\x0c1",
        "1\x00",
        "\ufeff1",
        '"\t"',
        '"\n"',
        '"\\x"',
        '"\\u00 1"',
        '"\\u123"',
        '"a',
        '{"a":1,"a":1}',
        '{"a":1,"\\u0061":2}',
        '[{"b":{"a":1,"a":1}}]',
        '"\ud800"',
        b"\xff",
        b'"\xc0\xaf"',
        b"\xef\xbb\xbf1",
        "1".encode("utf-16"),
        "0e99999999999999999999",
    ],
)
def test_refuses_what_is_not_json(text):
    with pytest.raises(ValueError):  # noqa: PT011, the class is the promise
        loads(text)


def test_accepts_what_rfc_8259_accepts():
    assert loads(b' \t\r\n{"a": [true, null, "\\ud83d\\ude00\\u0000\x7f"]} \n') == {"a": [True, None, "😀\0\x7f"]}
    assert loads('"\\ud800"') == "\ud800"
    assert loads("1" * 5000) == loads("1" * 5000)
    assert loads("-" + "1" * 9000) == -loads("1" * 9000)


def test_caps():
    assert depth(loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)) == MAX_DEPTH
    loads('"' + "a" * (MAX_SIZE - 2) + '"')
    for text in (
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
        '{"a":' * 500 + "1" + "}" * 500,
        '"' + "a" * MAX_SIZE + '"',
        "1" * 10_001,
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000,
        "1." + "1" * 10_000,
    ):
        with pytest.raises(ValueError, match=r"nested|longer|over"):
            loads(text)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("1", "1.0", True),
        ("1", "1e0", True),
        ("100", "1E2", True),
        ("-0", "0.0", True),
        ("0", "-0.0", True),
        ("1", "true", False),
        ("0", "false", False),
        ("null", "false", False),
        ('"1"', "1", False),
        ("0.1", "0.10", True),
        ("0.1", "1e-1", True),
        ("0.1", "0.1000000000000000055511151231257827", False),
        ("9007199254740993", "9007199254740992", False),
        ("9007199254740993", "9007199254740993.0", True),
        ("9007199254740993.0", "9007199254740992.0", False),
        ("1e400", "1e401", False),
        ("1e400", "10e399", True),
        ("1e-400", "0", False),
        ("1e-400", "10e-401", True),
        ("1" + "0" * 5000, "1e5000", True),
        ("1" + "0" * 4999 + "1", "1e5000", False),
        ("1e999999999", "5", False),
        ("1e999999999", "10e999999998", True),
        ("123456789012345678901234567890", "1.2345678901234567890123456789e29", True),
        ("100000000000000000000000", "1e23", True),
        ("100000000000000000000001", "1e23", False),
        ('{"a":1,"b":2}', '{"b":2.0,"a":1}', True),
        ("[1,2]", "[2,1]", False),
        ('"é"', '"e\u0301"', False),
        ('"\\u00e9"', '"é"', True),
        ("[]", "{}", False),
        ("[]", "[[]]", False),
        ('{"a":null}', "{}", False),
        ('"\\ud800"', '"\\ud801"', False),
        ("[1]", "[true]", False),
    ],
)
def test_equality_is_json_schemas(a, b, same):
    assert equal(loads(a), loads(b)) is same
    assert equal(loads(b), loads(a)) is same


@given(NUMBERS, NUMBERS)
def test_numbers_compare_by_their_exact_value(a, b):
    assert equal(loads(a), loads(b)) == (Fraction(Decimal(a)) == Fraction(Decimal(b)))


@given(NUMBERS)
def test_a_plain_float_stands_for_its_shortest_form(text):
    value = loads(text)
    if type(value) is float:
        assert Decimal(repr(value)) == Decimal(text)
    elif isinstance(value, ExactFloat):
        assert value.exact == Decimal(text) != Decimal(repr(float(text)))


@given(VALUES)
def test_equality_is_reflexive_and_dumps_reads_back(value):
    assert equal(value, value)
    assert equal(loads(dumps(value)), value)
    assert equal(loads(json.dumps(value)), value)


@given(VALUES, VALUES)
def test_equality_is_symmetric(a, b):
    assert equal(a, b) == equal(b, a)


@given(st.text() | st.binary())
def test_any_text_gives_a_value_or_a_value_error(text):
    try:
        value = loads(text)
    except ValueError:
        return
    assert equal(loads(dumps(value)), value)
    json.loads(text)


@given(st.text(alphabet='[]{}",:\\u0eE+-.truefalsn19 \n\ud800\x00'))
@settings(max_examples=500)
def test_what_is_accepted_is_accepted_by_the_standard_library_too(text):
    try:
        value = loads(text)
    except ValueError:
        return
    assert equal(value, json.loads(text))


def test_exact_numbers_survive():
    text = '[1E+999,0.1000000000000000055,1.0,{"a":' + "9" * 5000 + "}]"
    value = loads(text)
    assert dumps(value) == text
    assert not is_plain(value)
    assert is_plain(loads("[1.5,1e5,123456789012345678901234567890]"))
    for other in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert equal(value, other)
        assert isinstance(other[0], ExactFloat)


def test_dumps_escapes_lone_surrogates_and_refuses_what_json_has_not():
    assert dumps({"\ud800": "é\udfff"}) == '{"\\ud800":"é\\udfff"}'
    for value in (float("nan"), float("inf"), [float("inf")]):
        with pytest.raises(ValueError, match="JSON compliant"):
            dumps(value)
    with pytest.raises(TypeError):
        dumps({1, 2})
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ValueError, match="nested"):
        dumps(nested)


def test_deep_values_compare_without_recursion():
    a: list = []
    b: list = []
    for _ in range(100_000):
        a, b = [a], [b]
    assert equal(a, b)
    assert not equal(a, [b])


@pytest.mark.parametrize(
    "text",
    [
        "[" + ",".join(["9" * 9_990] * 104) + "]",
        "[" + ",".join(["1.50"] * 200_000) + "]",
        "[" + ",".join(["{}"] * 300_000) + "]",
        "[" * MAX_SIZE,
        '{"' * (MAX_SIZE // 2),
        '"' + "\\" * (MAX_SIZE - 1),
        "[1," * 300_000,
        '"' + "a" * 50_000_000 + '"',
    ],
    ids=["integers", "floats", "objects", "open", "names", "escapes", "items", "50MB"],
)
def test_time_is_bounded(text):
    with within(2):
        try:
            equal(loads(text), loads(text))
        except ValueError:
            pass
