"""What the report calls things: metrics, contenders and outcomes in plain words."""

METRICS = {
    "json_valid_rate": ("Valid JSON", "the reply is JSON by RFC 8259, nothing around it"),
    "schema_valid_rate": ("Fits the schema", "the reply is JSON and its row's schema accepts it"),
    "exact_match_rate": ("Exact match", "the whole answer equals gold, numbers by value"),
    "field_precision": ("Field precision", "share of the answered fields that gold has, mean over rows"),
    "field_recall": ("Field recall", "share of gold's fields that were answered, mean over rows"),
    "field_f1": ("Field F1", "harmonic mean of field precision and recall, mean over rows"),
    "valid_call_rate": ("Valid call", "the reply holds calls that can be read"),
    "name_match_rate": ("Right tool", "the right tools are called, whatever their arguments"),
    "args_exact_rate": ("Exact arguments", "the right tools with exactly gold's arguments"),
    "args_precision": ("Argument precision", "share of the given arguments that gold has, mean over rows"),
    "args_recall": ("Argument recall", "share of gold's arguments that were given, mean over rows"),
    "args_f1": ("Argument F1", "harmonic mean of argument precision and recall, mean over rows"),
    "ast_match_rate": ("Call match (AST)", "every call right in name and arguments, by BFCL's semantics"),
    "abstain_rate": ("Abstained", "no call was made"),
}
CONTENDERS = {
    "teacher": ("teacher", "the hosted model that answers today"),
    "slm": ("slm", "the small local model as it comes"),
    "tuned": ("tuned", "the small local model, fine-tuned on this track"),
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
}
DIMENSIONS = {
    "tool": "Tool",
    "calls": "Number of calls",
    "category": "Category",
    "schema": "Schema",
    "length": "Length",
}


def metric(name: str) -> str:
    """The name of a metric for people; unknown names with spaces for underscores."""
    return METRICS[name][0] if name in METRICS else plain(name)


def contender(name: str) -> str:
    """The name of a contender for people."""
    return CONTENDERS[name][0] if name in CONTENDERS else plain(name)


def plain(code: str) -> str:
    """A code such as "wrong_arguments" as words; its part before a colon is dropped."""
    return code.rpartition(":")[2].replace("_", " ")
