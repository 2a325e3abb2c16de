"""Metrics and floors in words."""

LABELS = {
    "json_valid_rate": "valid JSON",
    "schema_valid_rate": "answers that fit the schema",
    "exact_match_rate": "exact answers",
    "field_precision": "field precision",
    "field_recall": "field recall",
    "field_f1": "field F1",
    "valid_call_rate": "valid calls",
    "name_match_rate": "matching tool names",
    "args_exact_rate": "exact arguments",
    "args_precision": "argument precision",
    "args_recall": "argument recall",
    "args_f1": "argument F1",
    "ast_match_rate": "matching tool calls",
    "abstain_rate": "abstentions",
}
FLOORS = {
    "floor-echo": "repeating the question",
    "floor-frequent": "giving the most frequent answer every time",
    "floor-empty": "giving an empty answer",
}


def label(metric: str) -> str:
    """A metric in words."""
    return LABELS.get(metric, metric)


def floor(name: str) -> str:
    """What a floor, "floor-…", answers; any other name as it is."""
    return FLOORS.get(name, name)
