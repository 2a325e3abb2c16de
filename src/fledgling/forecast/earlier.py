"""What earlier runs left behind under results/: rows, and how long they took."""

from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import Training
from fledgling.records import read_examples, read_predictions


def rows(results: Path, track: str, split: str) -> int | None:
    """Rows of a split (train, val or test); None where it is not built."""
    data = results / "data" / track / f"{split}.jsonl"
    return sum(1 for _ in read_examples(data)) if data.exists() else None


def seconds_a_row(
    results: Path, track: str, contender: str, *, how: str = "", model: str | None = None
) -> float | None:
    """Mean latency (s) of the rows that a contender answered last time; None where there are none.

    `how` is how the fingerprint of a row begins ("vllm-bf16-"), `model` what the row says answered it, if it matters.
    """
    path = results / "predictions" / track / f"{contender}.jsonl"
    if not path.exists():
        return None
    times = [
        row.latency_s
        for row in read_predictions(path)
        if row.latency_s is not None and (row.fingerprint or "").startswith(how) and model in (None, row.model)
    ]
    return sum(times) / len(times) if times else None


def training(results: Path, track: str, adapter: str) -> Training | None:
    """What the last training of an adapter wrote about itself (training.json); None where there was none."""
    path = results / "adapters" / track / adapter / "training.json"
    return artefacts.read(Training, path) if path.exists() else None
