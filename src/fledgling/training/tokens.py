"""Examples as token rows: the prompt that inference gives, the completion that it should get."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fledgling.errors import DataError
from fledgling.prompting import template as prompts
from fledgling.prompting.turns import Place
from fledgling.records import Example

IGNORED = -100  # label of a token without loss


@dataclass(frozen=True, slots=True)
class Row:
    """One example: token ids, and as many labels (IGNORED on the prompt)."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows to train on, and how many examples were left out: too long, or without a gold answer."""

    rows: list[Row]
    too_long: int
    no_answer: int


def encode(
    examples: Iterable[Example], tokenizer: Any, *, dialect: prompts.Dialect, schema: Place, max_length: int
) -> Rows:
    """Token rows of examples, in order; none is cut.

    A row is prompt + completion + the token that ends the turn, which has a loss like the completion:
    labels are masked by position and never by token id, since pad and end are one token in some
    tokenizers. Prompt and completion are tokenized apart, as generation does.
    """
    end = prompts.end_of_turn(tokenizer)
    asked = list(examples)
    kept = [example for example in asked if example.answer is not None]
    rows: list[Row] = []
    if kept:
        starts = _ids(tokenizer, [prompts.prompt(tokenizer, e, schema=schema, dialect=dialect) for e in kept])
        ends = _ids(tokenizer, [prompts.completion(e, dialect) for e in kept])
        for start, written in zip(starts, ends, strict=True):
            ids = [*start, *written, end]
            if len(ids) <= max_length:
                rows.append(Row(input_ids=ids, labels=[IGNORED] * len(start) + ids[len(start) :]))
    return Rows(rows=rows, too_long=len(kept) - len(rows), no_answer=len(asked) - len(kept))


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
            f"{rows.no_answer} without a gold answer)"
        )


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False)["input_ids"]
