"""Predictions and what vouches for them: a JSON Lines file and, beside it, a JSON file with its digest."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import FilePath, Json, Limits, Predictions
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
) -> Predictions:
    """Publish predictions and then their seal, which names the files that they were made from."""
    outcomes: Counter[str] = Counter()

    def counted() -> Iterator[Mapping[str, Json]]:
        for row in predictions:
            outcomes[str(row["outcome"])] += 1
            yield row

    seal_of(out).unlink(missing_ok=True)  # until the new rows are whole, nothing vouches for them
    rows = write_jsonl(out, counted())
    sealed: Predictions = {
        "format": "fledgling/predictions/1",
        "made_from": artefacts.digests(*made_from),
        "rows": rows,
        "outcomes": dict(sorted(outcomes.items())),
        "sha256": sha256_file(out),
        "limits": list(limits),
        "given_up": given_up,
    }
    artefacts.write(Predictions, seal_of(out), sealed)
    return sealed


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
        return  # scored by hand, the metrics written beside predictions that have no seal
    sealed = artefacts.read(Predictions, seal)
    artefacts.seal(path, sealed["sha256"], seal)
    if sha256_file(data) not in sealed["made_from"].values():
        raise DataError(
            f"{path}: answers other rows than {data} ({seal} names them); ask again with: snakemake --cores all {path}"
        )
