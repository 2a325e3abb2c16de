"""Keeps generation within each row's guide: tokens that no answer can go on with get no chance."""

from typing import Any

import torch
import xgrammar
from transformers import LogitsProcessor


class Grammars:
    """Guides compiled for one vocabulary; equal ones once."""

    def __init__(self, tokenizer: Any, vocabulary: int, stops: tuple[int, ...]) -> None:
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary, stop_token_ids=list(stops))
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=2)
        self._vocabulary = vocabulary

    def masks(self, guides: list[str | None]) -> "Masks":
        """The masks of one batch, one guide a row; a row without one writes freely."""
        compiled = [None if guide is None else self._compiler.compile_structural_tag(guide) for guide in guides]
        return Masks(
            [None if grammar is None else xgrammar.GrammarMatcher(grammar) for grammar in compiled], self._vocabulary
        )


class Masks(LogitsProcessor):
    """The masks of the rows of one batch, for one call of `generate`."""

    def __init__(self, matchers: list[Any], vocabulary: int) -> None:
        self._matchers = matchers
        self._bits = xgrammar.allocate_token_bitmask(len(matchers), vocabulary)
        self._started = False

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Mask the scores (rows, vocabulary) of the next token; the last token of `input_ids` was just written."""
        written = input_ids[:, -1].tolist() if self._started else None
        self._started = True
        self._bits.fill_(-1)  # all tokens may come
        for row, matcher in enumerate(self._matchers):
            if matcher is None or matcher.is_terminated():
                continue
            if written is not None and not matcher.accept_token(written[row]):
                raise RuntimeError(f"row {row} of the batch left its guide with token {written[row]}")
            if not matcher.is_terminated():
                matcher.fill_next_token_bitmask(self._bits, row)
        if scores.device.type not in ("cpu", "cuda"):
            return self._masked_elsewhere(scores)
        xgrammar.apply_token_bitmask_inplace(scores, self._bits.to(scores.device))
        return scores

    def _masked_elsewhere(self, scores: Any) -> Any:
        here = scores.float().cpu()
        xgrammar.apply_token_bitmask_inplace(here, self._bits)
        return here.to(scores.device, scores.dtype)


def vocabulary_of(model: Any) -> int:
    """How many scores a model gives for the next token; more than its tokenizer has tokens in many."""
    head = model.get_output_embeddings()
    return int(head.weight.shape[0]) if head is not None else int(torch.tensor(model.config.vocab_size))
