"""BFCL as its repository publishes it: JSON Lines under the name .json, the answers in files of their own beside them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from fledgling.artefacts import Json
from fledgling.data.invalid import Unusable
from fledgling.data.text_files import Raw, json_document

ANSWERS = "possible_answer"


def is_answers(path: Path) -> bool:
    """Whether a file holds answers that belong to rows in the folder above."""
    return path.parent.name == ANSWERS and (path.parent.parent / path.name).is_file()


def joined(rows: Iterator[Raw], path: Path) -> Iterator[Raw]:
    """The rows of a file; those of BFCL get their `ground_truth`.

    It stands in possible_answer/ under the file's own name. Where there is none, the name of the category says it: in
    rows of irrelevance no call is right, in those of relevance any call is.
    """
    answers: Mapping[str, Json] | None = None
    looked = False
    for number, row in rows:
        if not isinstance(row, dict) or not {"question", "function"} <= row.keys() or "ground_truth" in row:
            yield number, row
            continue
        if not looked:
            answers, looked = _answers_of(path), True
        yield number, _with_answer(row, path, answers)


def _with_answer(row: dict[str, Json], path: Path, answers: Mapping[str, Json] | None) -> object:
    if answers is not None:
        identity = str(row.get("id"))
        if identity not in answers:
            return Unusable("no_answer", f"the id {identity!r} is not in {path.parent / ANSWERS / path.name}")
        return {**row, "ground_truth": answers[identity]}
    if "irrelevance" in path.name:
        return {**row, "ground_truth": []}
    return {**row, "ground_truth": None} if "relevance" in path.name else row


def _answers_of(path: Path) -> Mapping[str, Json] | None:
    """{id: ground_truth} of the file of answers that belongs to a file of rows; None where there is none."""
    answers = path.parent / ANSWERS / path.name
    if not answers.is_file() or answers.is_symlink():
        return None
    rows = (row for _, row in json_document(str(answers)) if isinstance(row, dict))
    return {str(row.get("id")): row["ground_truth"] for row in rows if "ground_truth" in row}
