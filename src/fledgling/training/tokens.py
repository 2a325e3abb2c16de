"""Examples as token rows: the prompt that inference gives, the completion that it should get."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fledgling.errors import DataError
from fledgling.prompting import template
from fledgling.prompting.turns import Place
from fledgling.records import Example

log = logging.getLogger(__name__)

IGNORED = -100  # label of a token without loss
SAID = 5  # rows that a template refuses are named in the log, up to so many


@dataclass(frozen=True, slots=True)
class Row:
    """One example: token ids, and as many labels (IGNORED on the prompt)."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows to train on, and how many examples were left out.

    too_long: longer than the limit; no_answer: without a gold answer; refused: the chat template does not take them,
    or writes for them what would not score as right.
    """

    rows: list[Row]
    too_long: int
    no_answer: int
    refused: int = 0


def encode(
    examples: Iterable[Example],
    tokenizer: Any,
    *,
    chat: template.Chat,
    schema: Place,
    max_length: int,
    shots: Sequence[Example] = (),
) -> Rows:
    """Token rows of examples, in order; none is cut.

    A row is prompt + completion + the token that ends the turn, which has a loss like the completion:
    labels are masked by position and never by token id, since pad and end are one token in some
    tokenizers. Prompt and completion are tokenized apart, as generation does.
    """
    asked = list(examples)
    starts: list[str] = []
    ends: list[template.Completion] = []
    no_answer = refused = 0
    for example in asked:
        if example.answer is None:
            no_answer += 1
            continue
        try:
            start = chat.prompt(example, schema=schema, shots=shots)
            ends.append(chat.completion(example, schema=schema, shots=shots))
            starts.append(start)
        except template.Refused as error:
            refused += 1
            log.log(logging.WARNING if refused <= SAID else logging.DEBUG, "%s; left out", error)
    rows: list[Row] = []
    if starts:
        written = _ids(tokenizer, [end.text for end in ends])
        for prompt, answer, end in zip(_ids(tokenizer, starts), written, ends, strict=True):
            ids = [*prompt, *answer, end.end]
            if len(ids) <= max_length:
                rows.append(Row(input_ids=ids, labels=[IGNORED] * len(prompt) + ids[len(prompt) :]))
    return Rows(rows=rows, too_long=len(starts) - len(rows), no_answer=no_answer, refused=refused)


def micro_batches(rows: Sequence[Row], places: Iterable[Sequence[int]], tokenizer: Any) -> list[list[Row]]:
    """The rows of each micro-batch by their positions; one that no example fills gets a row without loss."""
    empty = Row(input_ids=[tokenizer.pad_token_id] * 2, labels=[IGNORED] * 2)
    return [[rows[place] for place in batch] or [empty] for batch in places]


def check(rows: Rows, path: Any, max_length: int) -> None:
    """Refuse a split that leaves nothing to train on.

    Raises:
        DataError: no row is left; says why.
    """
    if not rows.rows:
        raise DataError(
            f"{path}: no row to train on ({rows.too_long} longer than recipe.max_length {max_length}, "
            f"{rows.no_answer} without a gold answer, {rows.refused} that the chat template refuses)"
        )


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False)["input_ids"]
