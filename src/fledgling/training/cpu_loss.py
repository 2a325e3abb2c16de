"""TRL's loss kernel in plain torch: TRL 1.15 has it in Triton only, which needs a GPU."""

from typing import Any

import torch
import torch.nn.functional as F


class LogProbs:
    """Stands in for trl.kernels.ChunkedLogProbFunction where there is no GPU."""

    @staticmethod
    def apply(
        hidden: Any,
        weight: Any,
        bias: Any,
        targets: Any,
        temperature: float,
        chunk_size: int,
        softcap: float | None = None,
        logit_scale: float = 1.0,
        outputs: tuple[str, ...] = (),
    ) -> tuple[Any, Any, Any, Any, Any]:
        """(log probability of each target, entropy, log of the sum of squared probabilities, mean logit, is-top-1).

        `hidden` is (tokens, width), `targets` (tokens,); what `outputs` does not name is None. Only
        the log probabilities carry a gradient.
        """
        logits = F.linear(hidden, weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)).float()
        logits = logits * logit_scale
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        log_probs = (logits / temperature).log_softmax(-1)
        with torch.no_grad():
            entropy = -(log_probs.exp() * log_probs).sum(-1) if "entropy" in outputs else None
            squares = log_probs.mul(2).logsumexp(-1) if "log_sum_sq_probs" in outputs else None
            mean = logits.mean(-1) / temperature if "mean_logits" in outputs else None
            top = log_probs.argmax(-1) == targets if "is_top1" in outputs else None
        return log_probs.gather(-1, targets[:, None]).squeeze(-1), entropy, squares, mean, top


def install() -> None:
    """Give TRL the stand-in on a machine without a GPU."""
    if not torch.cuda.is_available():
        import trl.trainer.utils

        trl.trainer.utils._ChunkedLogProbFunction = LogProbs
