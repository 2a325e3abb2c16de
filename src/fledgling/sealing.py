"""JSON Lines and what vouches for them: for predictions a JSON file beside them, for the rows of a track its datasheet."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import Bought, Datasheet, FilePath, Json, Limits, Metrics, Predictions, Shots
from fledgling.errors import DataError
from fledgling.files import read_json, sha256_file, write_jsonl


def seal_of(path: FilePath) -> Path:
    """The JSON file that vouches for a JSON Lines file: of the same name beside it."""
    return Path(path).with_suffix(".json")


def write_predictions(
    out: FilePath,
    predictions: Iterable[Mapping[str, Json]],
    *,
    made_from: Sequence[FilePath],
    limits: Sequence[Limits] = (),
    given_up: int = 0,
    logged: Callable[[], int] = lambda: 0,
    bought: Bought | None = None,
) -> Predictions:
    """Publish predictions and then their seal, which names the files that they were made from.

    `logged` is asked afterwards how many of the answers are replies of a log; `bought` says how rows were bought in looks.

    Raises:
        DataError: rows among these files are no longer those that their datasheet vouches for.
    """
    outcomes: Counter[str] = Counter()

    def counted() -> Iterator[Mapping[str, Json]]:
        for row in predictions:
            outcomes[str(row["outcome"])] += 1
            yield row

    seal_of(out).unlink(missing_ok=True)  # until the new rows are whole, nothing vouches for them
    rows = write_jsonl(out, counted())
    for path in made_from:
        if Path(path).suffix == ".jsonl":
            verify_rows(path)
    sealed: Predictions = {
        "format": "fledgling/predictions/1",
        "made_from": artefacts.digests(*made_from),
        "rows": rows,
        "outcomes": dict(sorted(outcomes.items())),
        "sha256": sha256_file(out),
        "limits": list(limits),
        "given_up": given_up,
    }
    if taken_over := logged():
        sealed["logged"] = taken_over
    if bought is not None:
        sealed["bought"] = bought
    artefacts.write(Predictions, seal_of(out), sealed)
    return sealed


def verify_rows(path: FilePath) -> None:
    """Check the rows of a split against the datasheet beside them, where there is one.

    Rows that `prepare` did not write have no datasheet.

    Raises:
        DataError: the datasheet is damaged, or vouches for other bytes.
    """
    sheet = Path(path).parent / "datasheet.json"
    if not sheet.is_file():
        return
    split = artefacts.read(Datasheet, sheet)["splits"].get(Path(path).stem)
    if split is not None and Path(path).suffix == ".jsonl":
        artefacts.seal(path, split["sha256"], sheet)


def verify_shots(path: FilePath) -> None:
    """Check chosen shots against what lies beside them and vouches for them, where it does.

    Raises:
        DataError: that is damaged, or vouches for other bytes.
    """
    beside = seal_of(path)
    if beside.is_file():
        artefacts.seal(path, artefacts.read(Shots, beside)["sha256"], beside)


def verify_predictions(path: FilePath, data: FilePath) -> None:
    """Check predictions against their seal, where there is one, and that they answer these rows.

    Predictions that do not come from the graph have no seal.

    Raises:
        DataError: the seal is damaged, vouches for other bytes, or the predictions answer other rows.
    """
    seal = seal_of(path)
    if not seal.is_file():
        return
    known = read_json(seal)
    if isinstance(known, dict) and known.get("format") == "fledgling/metrics/1":
        artefacts.read(Metrics, seal)
        return  # scored by hand, the metrics written beside predictions that have no seal
    sealed = artefacts.read(Predictions, seal)
    artefacts.seal(path, sealed["sha256"], seal)
    if sha256_file(data) not in sealed["made_from"].values():
        raise DataError(
            f"{path}: answers other rows than {data} ({seal} names them); ask again with: snakemake --cores all {path}"
        )
