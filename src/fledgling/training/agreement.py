"""Whether the loss that is trained on is the model's own, whatever model it is.

Rows lie one behind the other in a micro-batch, and a layer with a state (Mamba, convolutions, linear attention), with
biases by distance, sinks or a mask of its own would let one see the other; a head may scale its logits by a name that
nobody knows here. None of that fails, it trains something else. So a row's log probabilities behind another row are held
against those that the model has for it alone, before anything is trained.
"""

import logging
from collections.abc import Sequence

import torch

from fledgling.errors import DataError
from fledgling.training.batch import Batch
from fledgling.training.objective import Objective
from fledgling.training.tokens import Row

log = logging.getLogger(__name__)

BEFORE, ASKED = 24, 64  # tokens of the row in front and of the one that is compared
# Mean differences of a target's log probability, as shares of its mean, at least 1. A row in front is another one, with
# the same kernels; the model's own attention adds up in another order, which bf16 shows.
LEAKS, DIFFERS = 2e-3, 0.05


def settle(objective: Objective, rows: Sequence[Row], device: torch.device) -> None:
    """Have rows kept apart in the fastest way that gives the model's own loss; says so where that is a slower one.

    Raises:
        DataError: none does: the model's head is more than is known here.
    """
    asked = _cut(max(rows, key=lambda row: len(row.input_ids)), ASKED)
    front = _cut(rows[0], BEFORE)
    training = objective.training
    # Compiled code would be compiled again without dropout and gradients, and for these few tokens.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        reasons = _reasons(objective.eval(), asked, front, device)
    objective.train(training)
    if len(reasons) == len(objective.ways):
        raise DataError(
            f"this model cannot be trained here: even where a row is alone, {reasons[-1]}, so its loss is not what its head "
            "makes of its last states; train another checkpoint"
        )
    if reasons:
        log.warning("rows are kept apart %s (slower): %s", objective.apart.value, "; ".join(dict.fromkeys(reasons)))


def _reasons(objective: Objective, asked: Row, front: Row, device: torch.device) -> list[str]:
    """Why each way that was tried is none for this model, but for the last if that one is kept."""
    own = objective.own_log_probs(asked, device)
    if not bool(own.isfinite().all()):  # the first step says so
        return []
    reasons = []
    for way in objective.ways:
        objective.keep(way)
        reason = _against(objective, own, asked, front, device)
        if reason is None:
            break
        reasons.append(reason)
    return reasons


def _against(objective: Objective, own: torch.Tensor, asked: Row, front: Row, device: torch.device) -> str | None:
    """Why the way in which rows are kept apart is none for this model."""
    other = Row(input_ids=front.input_ids[::-1], labels=front.labels[::-1])
    try:
        behind, behind_other = (
            objective.log_probs(Batch.of([row, asked]).to(device))[-len(own) :].float() for row in (front, other)
        )
        objective.train()
        objective.log_probs(Batch.of([front, asked]).to(device))  # attention may have dropout then
        objective.eval()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a model's code makes of what it does not know
        objective.eval()
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    leaks, differs = (_difference(behind, wanted) for wanted in (behind_other, own))
    if not leaks <= LEAKS:
        return f"what lies before a row changes its log probabilities by {leaks:.1%}"
    if not differs <= DIFFERS:
        return f"log probabilities differ from the model's own by {differs:.1%}"
    return None


def _difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().mean() / wanted.abs().mean().clamp(min=1.0))


def _cut(row: Row, tokens: int) -> Row:
    """The beginning of a row, with every token to be learned."""
    ids = row.input_ids[:tokens]
    return Row(input_ids=ids, labels=ids)
