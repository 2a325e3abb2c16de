"""What the report calls things: metrics, contenders and outcomes in plain words."""

from fledgling.tracks.words import label

MEANINGS = {
    "json_valid_rate": "the reply is JSON by RFC 8259, nothing around it",
    "schema_valid_rate": "the reply is JSON and its row's schema accepts it",
    "exact_match_rate": "the whole answer equals gold, numbers by value",
    "field_precision": "share of the answered fields that gold has, mean over rows",
    "field_recall": "share of gold's fields that were answered, mean over rows",
    "field_f1": "harmonic mean of field precision and recall, mean over rows",
    "valid_call_rate": "the reply holds calls that can be read",
    "name_match_rate": "the right tools are called, whatever their arguments",
    "args_exact_rate": "the right tools with exactly gold's arguments",
    "args_precision": "share of the given arguments that gold has, mean over rows",
    "args_recall": "share of gold's arguments that were given, mean over rows",
    "args_f1": "harmonic mean of argument precision and recall, mean over rows",
    "ast_match_rate": "every call right in name and arguments, by BFCL's semantics",
    "abstain_rate": "no call was made, rightly or not",
}
CONTENDERS = {
    "teacher": ("teacher", "the hosted model that answers today"),
    "floor-echo": ("floor: echo", "copies the prompt; no model"),
    "floor-frequent": ("floor: frequent", "always the most frequent answer; no model"),
    "floor-empty": ("floor: empty", "an empty answer; no model"),
}
OUTCOMES = {
    "ok": "answered",
    "empty": "empty reply",
    "length": "prompt or reply too long",
    "content_filter": "stopped by the content filter",
    "refusal": "refused",
    "error": "failed",
    "missing": "never asked",
}
DIMENSIONS = {
    "tool": "Tool",
    "calls": "Number of calls",
    "category": "Category",
    "schema": "Schema",
    "length": "Length",
}


def metric(name: str) -> str:
    """The name of a metric for people, as in the verdict's sentences."""
    words = label(name)
    return f"{words[0].upper()}{words[1:]}"


def contender(name: str) -> str:
    """The name of a contender for people."""
    return CONTENDERS[name][0] if name in CONTENDERS else name


def described(name: str) -> str:
    """What a contender is."""
    return CONTENDERS[name][1] if name in CONTENDERS else "a small local model"


def plain(code: str) -> str:
    """A code such as "wrong_arguments" as words; its part before a colon is dropped."""
    return code.rpartition(":")[2].replace("_", " ")
