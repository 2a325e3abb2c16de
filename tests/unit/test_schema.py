"""JSON Schema: the official suite, the schema's own dialect, exact numbers, no network, no surprises."""

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledgling.schema import MAX_ERRORS, MAX_STEPS, compiled
from fledgling.schema_cost import visits
from fledgling.strict_json import loads
from tests.allowance import within


def test_passes_the_official_suite(shared_data):
    wrong, groups = [], 0
    for line in (shared_data / "jsonschema" / "test_suite_2020_12_shared.jsonl").read_text().splitlines():
        group = json.loads(line)
        if group["needs_remote"]:
            continue  # their references lead to a server of the suite; nothing is fetched here
        groups += 1
        schema = compiled(group["schema"])
        wrong += [
            (group["id"], test["description"]) for test in group["tests"] if schema.valid(test["data"]) != test["valid"]
        ]
    assert not wrong
    assert groups > 200


@pytest.mark.parametrize(
    ("dialect", "schema", "value", "valid"),
    [
        (None, {"prefixItems": [{"type": "string"}]}, [1], False),
        ("http://json-schema.org/draft-07/schema#", {"prefixItems": [{"type": "string"}]}, [1], True),
        ("http://json-schema.org/draft-07/schema#", {"items": [{"type": "string"}]}, [1], False),
        ("http://json-schema.org/draft-07/schema", {"dependencies": {"a": ["b"]}}, {"a": 1}, False),
        ("http://json-schema.org/draft-04/schema#", {"maximum": 3, "exclusiveMaximum": True}, 3, False),
        ("http://json-schema.org/draft-04/schema#", {"type": "integer"}, 1.0, False),
        ("http://json-schema.org/draft-06/schema#", {"type": "integer"}, 1.0, True),
        ("https://json-schema.org/draft/2019-09/schema", {"$recursiveAnchor": True, "type": "object"}, {}, True),
        ("https://json-schema.org/draft/2020-12/schema", {"dependentRequired": {"a": ["b"]}}, {"a": 1}, False),
    ],
)
def test_the_schemas_own_dialect_holds(dialect, schema, value, valid):
    schema = schema if dialect is None else {"$schema": dialect, **schema}
    assert compiled(schema).valid(value) is valid


@pytest.mark.parametrize(
    ("schema", "value", "valid"),
    [
        ({"items": [{"type": "string"}, {"type": "integer"}]}, ["a", 1], True),
        ({"items": [{"type": "string"}, {"type": "integer"}]}, ["a", "b"], False),
        (
            {"properties": {"a": {"items": [{"$ref": "#/$defs/b"}]}}, "$defs": {"b": {"type": "null"}}},
            {"a": [1]},
            False,
        ),
        ({"maximum": 3, "exclusiveMaximum": True}, 3, False),
        ({"maximum": 3, "exclusiveMaximum": True}, 2, True),
    ],
)
def test_a_schema_that_names_no_dialect_is_read_in_one_that_it_is_valid_in(schema, value, valid):
    assert compiled(schema).valid(value) is valid
    with pytest.raises(ValueError, match="not of type"):
        compiled({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


@pytest.mark.parametrize(
    ("schema", "text", "valid"),
    [
        ({"const": 9007199254740993}, "9007199254740992", False),
        ({"const": 9007199254740993}, "9007199254740993.0", True),
        ({"const": 0.1}, "0.1000000000000000055511151231257827", False),
        ({"const": 1}, "true", False),
        ({"enum": [0]}, "false", False),
        ({"uniqueItems": True}, "[1, 1.0]", False),
        ({"uniqueItems": True}, "[1, true]", True),
        ({"multipleOf": 0.01}, "4.35", True),
        ({"multipleOf": 3}, "1e999999999", False),
        ({"type": "integer"}, "1e999", True),
        ({"type": "integer"}, "9" * 5000, True),
        ({"maximum": 5}, "1e999999999", False),
        ({"format": "email"}, '"no address"', True),
        ({"pattern": "^\\p{L}+$"}, '"é"', True),
        ({"pattern": "^\\d$"}, '"\u0663"', False),
        ({"maxLength": 1}, '"😀"', True),
        ({"maxLength": 1}, '"\\ud800"', True),
        ({"const": "\ud800"}, '"\\ud801"', False),
        ({"const": "\ud800"}, '"\\ud800"', True),
        ({"required": ["\ud800"]}, '{"\\ud800": 1}', True),
        (False, "1", False),
        (True, "1", True),
    ],
)
def test_values_are_seen_as_they_are(schema, text, valid):
    assert compiled(schema).valid(loads(text)) is valid


def test_nothing_is_fetched(monkeypatch, tmp_path):
    def refused(*_):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    (tmp_path / "other.json").write_text("{}")
    for target in ("http://127.0.0.1:9/x.json", f"file://{tmp_path}/other.json", "other.json#/$defs/a", "#/$defs/none"):
        with pytest.raises(ValueError, match=r".+"):
            compiled({"$ref": target})
    for target in ("http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema"):
        metaschema = compiled({"$ref": target})
        assert metaschema.valid({"type": "string"})
        assert not metaschema.valid({"type": "text"})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "text"},
        {"$schema": "http://example.org/mine"},
        {"pattern": "("},
        {"minLength": -1},
        5,
        None,
        {"$ref": 3},
    ],
)
def test_bad_schemas_are_refused(schema):
    with pytest.raises(ValueError, match=r".+"):
        compiled(schema)


def test_compiled_once():
    assert compiled({"const": 1}) is compiled({"const": 1})
    assert compiled({"const": 1}) is not compiled({"const": True})
    assert not compiled({"const": 1}).valid(True)
    assert not compiled({"const": True}).valid(1)


def test_errors_name_the_place():
    schema = compiled({"properties": {"a": {"items": {"type": "integer"}}}, "required": ["b"]})
    messages = schema.errors({"a": [1, "x"]})
    assert any(message.startswith("/a/1: ") for message in messages)
    assert any('"b"' in message for message in messages)
    assert len(schema.errors({"a": ["x"] * 100})) == MAX_ERRORS
    assert all(len(message) < 1000 for message in schema.errors({"a": ["x" * 100_000]}))
    assert schema.errors({"b": 1}) == []


def test_patterns_do_not_hang():
    with within(1):
        for pattern in ("^(a+)+$", "^(?=a)(a+)+$", "^(a|a)*\\1$"):
            assert not compiled({"pattern": pattern}).valid("a" * 50 + "b")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_a_value_is_what_const_says(value):
    assert compiled({"const": value}).valid(value)
    assert not compiled({"not": {"const": value}}).valid(value)
    assert compiled({"not": {"const": value}}).errors(value)


def doubling(steps, keyword):
    """A schema of a few lines that looks at a value 2^steps times."""
    defs = {f"a{i}": {keyword: [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(steps)}
    return {"$defs": {**defs, f"a{steps}": {"type": "integer"}}, "$ref": "#/$defs/a0"}


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (doubling(60, "allOf"), 5),
        (doubling(60, "anyOf"), "x"),
        (doubling(22, "oneOf"), "x"),
        ({"anyOf": [{"type": "array", "items": {"$ref": "#"}}] * 2}, nested(100)),
        (
            {
                "$id": "http://x.y/z",
                "$defs": {f"a{i}": {"$id": f"a{i}", "allOf": [{"$ref": f"a{i + 1}"}] * 2} for i in range(40)}
                | {"a40": {"$id": "a40"}},
                "$ref": "a0",
            },
            5,
        ),
        ({"$dynamicAnchor": "n", "anyOf": [{"items": {"$dynamicRef": "#n"}, "minItems": 2}] * 2}, nested(60)),
    ],
)
def test_references_that_multiply_end_at_a_stated_cost(schema, value):
    with within(1):
        made = compiled(schema)
        assert not made.valid(value)
        assert f"over {MAX_STEPS:,} steps" in made.errors(value)[0]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (doubling(10, "allOf"), 5),
        ({"type": ["array", "string"], "items": {"$ref": "#"}}, nested(120)),  # a tree, as deep as JSON may be
        (
            {
                "$defs": {"n": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/$defs/n"}}]}},
                "$ref": "#/$defs/n",
            },
            nested(120),
        ),
        (
            {"properties": {f"k{i}": {"$ref": "#/$defs/a"} for i in range(200)}, "$defs": {"a": {"type": "integer"}}},
            {"k1": 1},
        ),
        ({"$ref": "#"}, 5),
        ({"anyOf": [{"required": [f"k{i}"]} for i in range(500)]}, {"k499": 1}),
    ],
)
def test_references_that_do_not_multiply_are_checked(schema, value):
    assert compiled(schema).valid(value)


def test_a_value_that_is_too_branched_to_explain_is_refused_all_the_same():
    made = compiled(doubling(16, "anyOf"))
    assert made.valid(5)
    assert "too branched" in made.errors("x")[0]
    assert made.errors(5) == []


@given(
    st.recursive(
        st.just({"type": "integer"}),
        lambda inner: st.fixed_dictionaries(
            {},
            optional={
                "anyOf": st.lists(inner, min_size=1, max_size=3),
                "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
                "items": inner,
                "not": inner,
                "$ref": st.just("#/$defs/d"),
                "$defs": st.fixed_dictionaries({"d": inner}),
            },
        ),
        max_leaves=12,
    )
)
def test_every_schema_has_a_bound_that_never_falls(schema):
    bound = visits(schema)
    assert bound == sorted(bound)
    assert bound[0] >= 1
