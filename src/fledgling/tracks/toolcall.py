"""Tracks whose answers are tool calls.

A reply is *calls*, an *abstention* (`[]`, or text in which even the lenient reading finds no attempt at a call) or
*invalid* (anything else: call markup that cannot be read strictly, a blank reply, an outcome other than ok).
Every metric is 1 or 0 per row except the three `args_` means; an invalid reply has 0 throughout.

valid_call_rate   the reply holds calls that can be read strictly, or abstains where that is right
name_match_rate   the tools called are the tools expected, each as often, in any order
args_exact_rate   the calls can be paired off with the expected ones so that names and all arguments are equal
args_precision    of the arguments given, the share that is right; calls are paired by the best assignment, and
args_recall       of the arguments expected, the share that was given rightly; a wrong name makes all of a
args_f1           call's arguments wrong. Without arguments on a side: 1 where the names match and the other
                  side has none either, else 0
ast_match_rate    right by BFCL's AST semantics
abstain_rate      the reply abstains, rightly or not (how often rightly: slice calls=0)

An abstention where no call is right has 1 throughout. Where any call is right (`answer` null), every call has 1
throughout, save for abstain_rate. An argument is equal if it is one of the allowed values by JSON Schema equality;
one that may be left out is expected only where it was given.
"""

from typing import Any

from fledgling import strict_json
from fledgling.records import Example, Prediction
from fledgling.tracks.assignment import best, perfect
from fledgling.tracks.bfcl import allowed_of, ast_match
from fledgling.tracks.dialects import Call, attempts_call, lenient_calls, native_calls, parse_calls
from fledgling.tracks.kinds import Kind, Scored, length

__all__ = ["KIND", "Call", "ast_match", "native_calls", "parse_calls"]

METRICS = (
    "valid_call_rate",
    "name_match_rate",
    "args_exact_rate",
    "args_precision",
    "args_recall",
    "args_f1",
    "ast_match_rate",
    "abstain_rate",
)


def score(example: Example, prediction: Prediction) -> Scored:
    """Score one reply; never raises, whatever the model wrote."""
    if prediction.outcome != "ok":
        return KIND.nothing(f"outcome:{prediction.outcome}")
    text = prediction.raw or ""
    if not prediction.tool_calls:
        if len(text) > strict_json.MAX_SIZE:
            return KIND.nothing("too_long")
        if not text or text.isspace():
            return KIND.nothing("empty")
    calls, lenient = _readings(prediction.tool_calls, text)
    allowed = example.allowed if example.allowed is not None or example.answer is None else allowed_of(example.answer)
    strict_scores = _scores(calls, allowed, example.tools)
    return Scored(
        strict_scores,
        strict_scores if lenient is calls else _scores(lenient, allowed, example.tools),
        _reason(calls, allowed, strict_scores),
        None if calls is None else [{"name": call.name, "arguments": call.arguments} for call in calls],
    )


def _readings(tool_calls: list[dict[str, Any]] | None, text: str) -> tuple[list[Call] | None, list[Call] | None]:
    """The strict and the lenient reading: calls, [] for an abstention, None where there is neither."""
    calls = native_calls(tool_calls) if tool_calls else parse_calls(text)
    if calls is not None or tool_calls:
        return calls, calls
    found = lenient_calls(text)
    if found:
        return None, found
    nothing: list[Call] | None = None if attempts_call(text) else []
    return nothing, nothing


def _scores(
    calls: list[Call] | None, allowed: list[dict[str, Any]] | None, tools: list[dict[str, Any]] | None
) -> dict[str, float]:
    if calls is None:
        return dict.fromkeys(METRICS, 0.0)
    if not calls or not allowed:
        right = float(bool(calls) if allowed is None else not calls and not allowed)
        valid = float(bool(calls) or right)
        return dict.fromkeys(METRICS, right) | {"valid_call_rate": valid, "abstain_rate": float(not calls)}
    names = sorted([call.name for call in calls]) == sorted([expected["name"] for expected in allowed])
    exact = names and perfect(calls, allowed, _exact)
    precision, recall, f1 = (1.0, 1.0, 1.0) if exact else _arguments(calls, allowed, names=names)
    return {
        "valid_call_rate": 1.0,
        "name_match_rate": float(names),
        "args_exact_rate": float(exact),
        "args_precision": precision,
        "args_recall": recall,
        "args_f1": f1,
        "ast_match_rate": float(names and ast_match(calls, allowed, tools)),
        "abstain_rate": 0.0,
    }


def _arguments(calls: list[Call], allowed: list[dict[str, Any]], *, names: bool) -> tuple[float, float, float]:
    """Precision, recall and F1 of the arguments under the assignment with the most right ones."""
    many = 1 + len(allowed)  # so that one right argument outweighs any number of equal names
    pairs = best(calls, allowed, lambda call, expected: _right(call, expected) * many + (call.name == expected["name"]))
    right = sum(_right(calls[mine], allowed[theirs]) for mine, theirs in pairs)
    given = sum(len(call.arguments) for call in calls)
    expected = sum("" not in values for call in allowed for values in call["arguments"].values()) + sum(
        "" in values and name in calls[mine].arguments
        for mine, theirs in pairs
        for name, values in allowed[theirs]["arguments"].items()
        if calls[mine].name == allowed[theirs]["name"]
    )
    neither = float(names and not given and not expected)
    return (
        right / given if given else neither,
        right / expected if expected else neither,
        2 * right / (given + expected) if given + expected else neither,
    )


def _right(call: Call, expected: dict[str, Any]) -> int:
    options = expected["arguments"]
    if call.name != expected["name"]:
        return 0
    return sum(name in options and _equals_one(value, options[name]) for name, value in call.arguments.items())


def _exact(call: Call, expected: dict[str, Any]) -> bool:
    options = expected["arguments"]
    return (
        call.name == expected["name"]
        and _right(call, expected) == len(call.arguments)
        and all(name in call.arguments or "" in values for name, values in options.items())
    )


def _equals_one(value: Any, options: list[Any]) -> bool:
    return any(_equals(value, option) for option in options)


def _equals(value: Any, option: Any) -> bool:
    if not isinstance(option, (dict, list)):
        return strict_json.equal(value, option)
    if isinstance(option, dict) and all(isinstance(values, list) for values in option.values()):
        return (
            isinstance(value, dict)
            and all(key in option and _equals_one(item, option[key]) for key, item in value.items())
            and all(key in value or "" in values for key, values in option.items())
        )
    if isinstance(option, list):
        return (
            isinstance(value, list)
            and len(value) == len(option)
            and all(_equals(mine, theirs) for mine, theirs in zip(value, option, strict=True))
        )
    return strict_json.equal(value, option)


def _reason(calls: list[Call] | None, allowed: list[dict[str, Any]] | None, scores: dict[str, float]) -> str | None:
    if scores["ast_match_rate"]:
        return None
    if calls is None:
        return "invalid_call"
    if not calls:
        return "no_call"
    if not allowed:
        return "unneeded_call"
    if len(calls) != len(allowed):
        return "missing_call" if len(calls) < len(allowed) else "extra_call"
    return "wrong_arguments" if scores["name_match_rate"] else "wrong_name"


def slices(example: Example) -> dict[str, str]:
    """Where an example belongs: the tools expected, how many calls, its category, its length."""
    calls = example.allowed if example.allowed is not None else example.answer
    names = sorted(call["name"] for call in calls or [])
    return {
        "tool": "any" if calls is None else "+".join(names) or "none",
        "calls": "any" if calls is None else str(len(names)) if len(names) < 2 else "2+",
        "category": example.category or "none",
        "length": length(example),
    }


KIND = Kind(
    name="toolcall",
    metrics=METRICS,
    means=frozenset(("args_precision", "args_recall", "args_f1")),
    core="ast_match_rate",
    score=score,
    slices=slices,
)
