"""Tracks whose answers are JSON of a given shape.

The reply as a whole must be one JSON text, save for thoughts before it and tokens that end the turn; the lenient
reading also takes the first object (the first array where the answer is one) inside a code fence or prose. Every metric is 1 or 0 per row except the three `field_` means; an invalid reply has 0 throughout.

json_valid_rate     the reply is JSON by RFC 8259
schema_valid_rate   it satisfies the row's JSON Schema (without one: it is an object, or an array like the answer)
exact_match_rate    it equals the answer by JSON Schema equality
field_precision     of the leaves of the reply, the share that the answer has too
field_recall        of the leaves of the answer, the share that the reply has too
field_f1            their harmonic mean

A leaf is a scalar or an empty container with its path; it is right if the answer has an equal value at that path.
Items of an array are at the path of their position: arrays are ordered, so one that is left out moves those behind
it. Hence field_f1 is 1 exactly where the reply equals the answer.
"""

from typing import Any

from fledgling import schema as json_schema
from fledgling import strict_json
from fledgling.records import Example, Prediction
from fledgling.tracks.kinds import Kind, Scored, length
from fledgling.tracks.spoken import spoken

METRICS = (
    "json_valid_rate",
    "schema_valid_rate",
    "exact_match_rate",
    "field_precision",
    "field_recall",
    "field_f1",
)
LENIENT_SIZE = 1 << 16  # characters that the lenient reading looks at, in
LENIENT_TRIES = 64  # places: together they bound its time


def score(example: Example, prediction: Prediction) -> Scored:
    """Score one reply; never raises, whatever the model wrote."""
    if prediction.outcome != "ok":
        return KIND.nothing(f"outcome:{prediction.outcome}")
    text = prediction.raw or ""
    if len(text) > strict_json.MAX_SIZE:
        return KIND.nothing("too_long")
    try:
        value = _strict_value(text)
    except ValueError:
        found = lenient_value(text, array=isinstance(example.answer, list))
        lenient = dict.fromkeys(METRICS, 0.0) if found is None else _scores(found, example)
        return Scored(
            dict.fromkeys(METRICS, 0.0), lenient, "empty" if not text or text.isspace() else "invalid_json", None
        )
    scores = _scores(value, example)
    reason = None if scores["exact_match_rate"] else "wrong_value" if scores["schema_valid_rate"] else "schema"
    return Scored(scores, scores, reason, value)


def _strict_value(text: str) -> Any:
    """The JSON value that a reply is; thoughts before it and tokens that end the turn are not looked at."""
    try:
        return strict_json.loads(text)
    except ValueError:
        said = spoken(strict_json.checked(text))
        if len(said) == len(text):
            raise
    return strict_json.loads(said)


def lenient_value(text: str, *, array: bool = False) -> Any:
    """The first JSON object (or array) inside a reply that is not JSON as a whole; None where there is none."""
    try:
        text = spoken(strict_json.checked(text))
    except ValueError:
        pass  # it ends in its thoughts, or is not UTF-8: what stands in it is still worth a diagnosis
    opening = "[" if array else "{"
    position = text.find(opening) if len(text) <= LENIENT_SIZE else -1
    for _ in range(LENIENT_TRIES):
        if position < 0:
            break
        try:
            return strict_json.scan(text, position)[0]
        except ValueError:
            position = text.find(opening, position + 1)
    return None


def _scores(value: Any, example: Example) -> dict[str, float]:
    if example.schema is None:
        valid = isinstance(value, type(example.answer) if isinstance(example.answer, list) else dict)
    else:
        valid = json_schema.compiled(example.schema).valid(value)
    given, expected = leaves(value), leaves(example.answer)
    common = matching_leaves(value, example.answer)
    return {
        "json_valid_rate": 1.0,
        "schema_valid_rate": float(valid),
        "exact_match_rate": float(common == given == expected),
        "field_precision": common / given,
        "field_recall": common / expected,
        "field_f1": 2 * common / (given + expected),
    }


def leaves(value: Any) -> int:
    """How many leaves a JSON value has: scalars and empty containers, so at least one."""
    count = 0
    stack = [value]
    while stack:
        node = stack.pop()
        if node and isinstance(node, (dict, list)):
            stack.extend(node.values() if isinstance(node, dict) else node)
        else:
            count += 1
    return count


def matching_leaves(a: Any, b: Any) -> int:
    """How many leaves two JSON values have in common: equal ones at the same path."""
    count = 0
    stack = [(a, b)]
    while stack:
        a, b = stack.pop()
        if a and b and isinstance(a, dict) and isinstance(b, dict):
            stack.extend((item, b[key]) for key, item in a.items() if key in b)
        elif a and b and isinstance(a, list) and isinstance(b, list):
            stack.extend(zip(a, b, strict=False))
        elif strict_json.equal(a, b):
            count += 1
    return count


def slices(example: Example) -> dict[str, str]:
    """Where an example belongs: its schema's title, its category, its length."""
    title = example.schema.get("title") if isinstance(example.schema, dict) else None
    return {"schema": str(title or "none"), "category": example.category or "none", "length": length(example)}


KIND = Kind(
    name="structured",
    metrics=METRICS,
    means=frozenset(("field_precision", "field_recall", "field_f1")),
    core="exact_match_rate",
    score=score,
    slices=slices,
)
