"""What the report calls things: metrics, outcomes, reasons and kinds of rows in plain words."""

from fledgling.report.text import capital
from fledgling.tracks.words import floor as called
from fledgling.tracks.words import label as label

MEANINGS = {
    "json_valid_rate": "the reply is JSON and nothing else",
    "schema_valid_rate": "the reply is JSON of the shape that its row asks for",
    "exact_match_rate": "every field as in gold, numbers by value",
    "field_precision": "share of the fields given that are as in gold",
    "field_recall": "share of gold's fields that were given",
    "field_f1": "fields as in gold, given and missed ones in one number",
    "valid_call_rate": "the reply holds calls that can be read, or none where gold has none",
    "name_match_rate": "gold's tools, whatever their arguments",
    "args_exact_rate": "gold's tools, every argument equal",
    "args_precision": "share of the arguments given that are as in gold",
    "args_recall": "share of gold's arguments that were given",
    "args_f1": "arguments as in gold, given and missed ones in one number",
    "ast_match_rate": "gold's tool, gold's arguments (case and punctuation ignored)",
    "abstain_rate": "no tool was called, as in gold or not",
}
OUTCOMES = {
    "ok": "answered",
    "empty": "empty reply",
    "length": "too long: the question or the reply was cut off by a limit",
    "content_filter": "stopped by the content filter",
    "refusal": "refused",
    "error": "failed",
    "missing": "never asked",
}
REASONS = {
    "invalid_call": "calls that cannot be read",
    "no_call": "no call where gold has one",
    "unneeded_call": "a call where gold has none",
    "missing_call": "too few calls",
    "extra_call": "too many calls",
    "wrong_arguments": "gold's tool, other arguments",
    "wrong_name": "wrong tool",
    "invalid_json": "no JSON",
    "wrong_value": "gold's shape, another value",
    "schema": "wrong shape",
    "empty": "empty reply",
    "too_long": "a reply too long to be read",
}
DIMENSIONS = {
    "tool": "tool",
    "calls": "number of calls",
    "category": "category",
    "schema": "schema",
    "length": "length of the question",
}


def metric(name: str) -> str:
    """The name of a metric for people, as in the verdict's sentences."""
    return capital(label(name))


def floor(name: str) -> str:
    """What a floor, "floor-…", answers."""
    return plain(called(name).removeprefix("floor-"))


def reason(code: str) -> str:
    """Why a row is not right, from the code that the scorer gave it; outcomes are coded "outcome:…"."""
    kind, _, outcome = code.rpartition(":")
    return OUTCOMES.get(outcome, plain(outcome)) if kind == "outcome" else REASONS.get(outcome, plain(outcome))


def dimension(name: str) -> str:
    """What rows are sorted by."""
    return DIMENSIONS.get(name, plain(name))


def plain(code: str) -> str:
    """A code such as "near_duplicate" as words."""
    return code.replace("_", " ")
