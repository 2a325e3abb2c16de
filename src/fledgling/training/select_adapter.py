"""Which adapter of a training is kept: the one that answers val best by the track's own metrics."""

import logging
from collections.abc import Sequence
from pathlib import Path

from fledgling import artefacts
from fledgling.artefacts import Metrics, Selection, Training
from fledgling.errors import DataError
from fledgling.files import copy_file
from fledgling.models import adapter

log = logging.getLogger(__name__)


def select(
    *, candidates: Sequence[Path], metrics: Sequence[Path], summary: Path, core: Sequence[str], out: Path
) -> None:
    """Write the best of a training's adapters into `out`, with the training's history and how it was chosen.

    `candidates` are their manifests in the order in which they were kept, `metrics` what each reached on val
    (results/metrics/{track}/val/{adapter}.{n}.json), `summary` the training.json beside them. `core` are the
    names of the metrics, the first of which counts first. One candidate alone needs no metrics.

    Raises:
        DataError: a candidate is damaged, or metrics are missing or are not of the same rows of val.
    """
    history = artefacts.read(Training, summary)
    steps = history.pop("candidates")
    manifests = [adapter.verified(path) for path in candidates]
    if len(steps) != len(manifests) or (len(manifests) > 1 and len(metrics) != len(manifests)):
        raise DataError(
            f"{summary}: lists {len(steps)} candidates, given are {len(manifests)} and metrics of {len(metrics)}; "
            "train again"
        )
    chosen = 0
    selection: Selection | None = None
    if len(manifests) > 1:
        read = [artefacts.read(Metrics, path) for path in metrics]
        if len({document["data_sha256"] for document in read}) > 1:
            raise DataError(f"{metrics[0]}: not of the same rows as the metrics of the other candidates; score again")
        reached = [{name: document["metrics"][name]["value"] for name in core} for document in read]
        chosen = best([tuple(values.values()) for values in reached])
        selection = {
            "rows": read[0]["n"],
            "candidates": [{"step": step, "metrics": values} for step, values in zip(steps, reached, strict=True)],
            "step": steps[chosen],
        }
        log.info("kept after step %d of %d: %s", steps[chosen], history["steps"], reached[chosen])
    (out / adapter.MANIFEST).unlink(missing_ok=True)  # until the new files are whole, none is vouched for
    for name in (adapter.WEIGHTS, adapter.CONFIG):
        copy_file(candidates[chosen].parent / name, out / name)
    history["selection"] = selection
    artefacts.write(Training, out / adapter.TRAINING, history)
    adapter.keep(out, manifests[chosen])


def best(values: Sequence[tuple[float, ...]]) -> int:
    """The place of the highest values; of equals the last, which has seen most rows."""
    return max(range(len(values)), key=lambda place: (values[place], place))
