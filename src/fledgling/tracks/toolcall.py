"""Tracks whose answers are tool calls.

A reply is *calls*, an *abstention* (`[]`, or text that does not try to call a tool, see `attempts`) or *invalid*
(anything else: an attempt that cannot be read strictly, a blank reply, one that ends in its thoughts, an outcome other
than ok, words that end because a tool was called, by `finish_reason`, and no call). Thoughts are not looked at.
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

from collections.abc import Sequence

from fledgling import strict_json
from fledgling.files import Object
from fledgling.records import Example, Prediction
from fledgling.tracks.assignment import best
from fledgling.tracks.attempts import CALLED, attempts_call
from fledgling.tracks.bfcl import allowed_of, ast_match
from fledgling.tracks.bounds import EXTRA_CALLS, NATIVE_CALLS, in_one_order, too_many
from fledgling.tracks.declared import offered
from fledgling.tracks.dialects import Call, lenient_calls, native_calls, parse_calls
from fledgling.tracks.kinds import Kind, Scored, length
from fledgling.tracks.matching import accepts, all_exact, right_arguments
from fledgling.tracks.spoken import is_visible, spoken

__all__ = ["KIND", "Call", "accepts", "ast_match", "native_calls", "parse_calls"]

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
    if _too_long(prediction.tool_calls, text):
        return KIND.nothing("too_long")
    if not prediction.tool_calls and not is_visible(text):
        return KIND.nothing("empty")
    calls, lenient = _readings(prediction.tool_calls, text, example.tools)
    if not calls and prediction.finish_reason in CALLED:
        calls, lenient = None, lenient or None  # it called, and the call did not come: no abstention
    allowed = example.allowed if example.allowed is not None or example.answer is None else allowed_of(example.answer)
    strict_scores = _scores(calls, allowed, example.tools)
    return Scored(
        strict_scores,
        strict_scores if lenient is calls else _scores(lenient, allowed, example.tools),
        _reason(calls, allowed, strict_scores),
        None if calls is None else [{"name": call.name, "arguments": call.arguments} for call in calls],
    )


def _too_long(tool_calls: Sequence[object] | None, text: str) -> bool:
    """Whether a reply is over the caps: of text, or of the provider's own calls and all that they hold."""
    if not tool_calls:
        return len(text) > strict_json.MAX_SIZE
    left, stack = strict_json.MAX_SIZE, [*tool_calls[: NATIVE_CALLS + 1]]
    while stack and left >= 0:
        node = stack.pop()
        left -= len(node) if isinstance(node, (str, dict, list)) else 1
        if isinstance(node, (dict, list)):
            stack.extend(node.values() if isinstance(node, dict) else node)
    return left < 0 or len(tool_calls) > NATIVE_CALLS


def _readings(
    tool_calls: list[Object] | None, text: str, tools: list[Object] | None
) -> tuple[list[Call] | None, list[Call] | None]:
    """The strict and the lenient reading: calls, [] for an abstention, None where there is neither."""
    calls = native_calls(tool_calls) if tool_calls else parse_calls(text)
    if calls is not None or tool_calls:
        return calls, calls
    try:
        said = spoken(strict_json.checked(text))
    except ValueError:
        return None, None
    if found := lenient_calls(said):
        return None, found
    if not is_visible(said) or attempts_call(said, *offered(tools)):
        return None, None
    return [], []


def _scores(calls: list[Call] | None, allowed: list[Object] | None, tools: list[Object] | None) -> dict[str, float]:
    if calls is None:
        return dict.fromkeys(METRICS, 0.0)
    if not calls or not allowed:
        right = float(bool(calls) if allowed is None else not calls and not allowed)
        valid = float(bool(calls) or right)
        return dict.fromkeys(METRICS, right) | {"valid_call_rate": valid, "abstain_rate": float(not calls)}
    names = len(calls) == len(allowed) and sorted([call.name for call in calls]) == sorted(
        [expected["name"] for expected in allowed]
    )
    exact = names and all_exact(calls, allowed)
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


def _arguments(calls: list[Call], allowed: list[Object], *, names: bool) -> tuple[float, float, float]:
    """Precision, recall and F1 of the arguments under the assignment with the most right ones.

    Of a reply with far more calls than are expected, the first ones are assigned; all its arguments count as given.
    """
    given = sum(len(call.arguments) for call in calls)
    calls = calls[: len(allowed) + EXTRA_CALLS]
    if too_many(len(calls), allowed):
        calls, allowed = in_one_order(calls, allowed)
        pairs = [(at, at) for at in range(min(len(calls), len(allowed)))]
    else:
        many = 1 + len(allowed)  # so that one right argument outweighs any number of equal names
        pairs = best(
            calls,
            allowed,
            lambda call, expected: right_arguments(call, expected) * many + (call.name == expected["name"]),
        )
    right = sum(right_arguments(calls[mine], allowed[theirs]) for mine, theirs in pairs)
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


def _reason(calls: list[Call] | None, allowed: list[Object] | None, scores: dict[str, float]) -> str | None:
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
