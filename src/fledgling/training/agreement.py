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
from fledgling.training.objective import Apart, Objective
from fledgling.training.tokens import Row
from fledgling.training.updates import Group

log = logging.getLogger(__name__)

BEFORE, ASKED = 24, 64  # tokens of the row in front and of the one that is compared
# Mean differences of a target's log probability, as shares of its mean, at least 1. A row in front is another one, with
# the same kernels; the model's own attention adds up in another order, which bf16 shows.
LEAKS, DIFFERS = 2e-3, {"cpu": 5e-3, "cuda": 0.05}


def settle(objective: Objective, rows: Sequence[Row], group: Group) -> None:
    """Have rows kept apart in the fastest way that gives the model's own loss; says so where that is a slower one.

    Raises:
        DataError: not even a row alone does, as the model's head is more than is known here; or a pass fails.
    """
    asked = _cut(max(rows, key=lambda row: len(row.input_ids)), ASKED)
    front = _cut(rows[0], BEFORE)
    training = objective.training
    # Compiled code would be compiled again without dropout and gradients, and for these few tokens.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        reasons = _reasons(objective.eval(), asked, front, group.device)
    objective.train(training)
    slowest = -group.least(-len(reasons))  # for all processes
    objective.keep(objective.ways[slowest])
    if reasons and group.first:
        log.warning("rows are kept apart %s (slower): %s", objective.apart.value, "; ".join(dict.fromkeys(reasons)))


def _reasons(objective: Objective, asked: Row, front: Row, device: torch.device) -> list[str]:
    """Why the ways before the one to keep are none for this model."""
    objective.keep(Apart.ALONE)
    try:
        own = objective.own_log_probs(asked, device)
        alone = objective.log_probs(objective.batch([asked], device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise DataError(f"this model cannot be trained here: a pass under LoRA fails ({_said(error)})") from error
    if not bool(own.isfinite().any()):  # the first step says so
        return []
    if not (differs := _difference(alone, own)) <= DIFFERS[device.type]:
        raise DataError(
            f"this model cannot be trained here: its loss is not what its head makes of its last states, log probabilities "
            f"differ by {differs:.1%}; train another checkpoint"
        )
    reasons: list[str] = []
    for way in objective.ways:
        objective.keep(way)
        if way is Apart.ALONE or (reason := _against(objective, own, asked, front, device)) is None:
            break
        reasons.append(reason)
    return reasons


def _against(objective: Objective, own: torch.Tensor, asked: Row, front: Row, device: torch.device) -> str | None:
    """Why the way in which rows are kept apart is none for this model."""
    other = Row(input_ids=front.input_ids[::-1], labels=front.labels[::-1])
    try:
        behind, behind_other = (
            objective.log_probs(objective.batch([row, asked], device))[-len(own) :] for row in (front, other)
        )
        objective.train()
        objective.log_probs(objective.batch([front, asked], device))  # attention may have dropout then
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a model's code makes of what it does not know
        return _said(error)
    finally:
        objective.eval()
    if not (leaks := _difference(behind, behind_other)) <= LEAKS:
        return f"what lies before a row changes its log probabilities by {leaks:.1%}"
    if not (differs := _difference(behind, own)) <= DIFFERS[device.type]:
        return f"log probabilities differ from the model's own by {differs:.1%}"
    return None


def _difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Of those that `wanted` has a number for; a model may forbid words."""
    known = wanted.isfinite()
    return float((found.float() - wanted)[known].abs().mean() / wanted[known].abs().mean().clamp(min=1.0))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _cut(row: Row, tokens: int) -> Row:
    """The beginning of a row, with every token to be learned."""
    ids = row.input_ids[:tokens]
    return Row(input_ids=ids, labels=ids)
