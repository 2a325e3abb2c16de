"""The slm through transformers: any machine, 8-bit and 4-bit weights, left-padded batches."""

import contextlib
import gc
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import GenerationConfig

from fledgling.cores import PARTS, TwoAtATime
from fledgling.errors import DataError
from fledgling.models import last_layer, tensors
from fledgling.models.adapter import WEIGHTS
from fledgling.models.loading import Precision, load_model
from fledgling.slm.batches import OutOfMemory, batched, by_adapter, longest_first, shuffled
from fledgling.slm.engine import Answer, Decoding, Found, Request

if TYPE_CHECKING:
    from fledgling.slm.masks import Grammars

log = logging.getLogger(__name__)

LONG, SHORT = 40, 24  # tokens of the prompts that tell whether a model's rows can stand in one batch
# Mean differences of the log probabilities of a first token, as shares of their mean: with other tokens as padding, which
# is masked (int8 finds its outliers among them), and without padding, which changes the order of sums.
BY_PADDING, BY_BATCH = {"row": 0.02, "batch": 0.05}, 0.05


class TransformersSlm:
    """An slm in this process; see fledgling.slm.engine.Slm."""

    def __init__(
        self,
        checkpoint: Path,
        *,
        precision: Precision,
        batch_size: int,
        decoding: Decoding,
        adapters: Sequence[Path] = (),
        repeat: int = 0,
    ) -> None:
        self.unit: Literal["row", "batch"] = "batch" if precision == "int8" else "row"
        self._batch_size = batch_size
        self._decoding = decoding
        self._checkpoint = checkpoint
        self._grammars: Grammars | None = None
        self._repeat = repeat
        self._compared = False
        model = load_model(checkpoint, precision)
        # What is not set below transformers would take from the checkpoint: penalties, forbidden words, beams. vLLM does not.
        model.generation_config = GenerationConfig()
        # int8 finds its outliers over the whole batch, and 4-bit kernels on a CPU add up by its size: both stay whole.
        apart = model.device.type == "cpu" and precision in ("fp32", "bf16")
        self._cores = TwoAtATime() if apart else None
        if self._cores is not None:
            last_layer.install(model)
        self._names = {adapter: f"adapter-{number}" for number, adapter in enumerate(adapters)}
        for adapter, name in self._names.items():
            from peft import PeftModel

            where, options = str(adapter.resolve()), {"local_files_only": True}
            if isinstance(model, PeftModel):
                model.load_adapter(where, adapter_name=name, **options)
            else:
                model = PeftModel.from_pretrained(model, where, adapter_name=name, **options)
            _require_whole(model, name, adapter)
        self._model = model.eval()
        self._generation = GenerationConfig(
            do_sample=False,
            max_new_tokens=decoding.max_new_tokens,
            eos_token_id=list(decoding.stops),
            pad_token_id=decoding.pad,
        )

    def answers(self, requests: list[Request], found: Found) -> Iterator[tuple[list[int], list[Answer]]]:
        """See fledgling.slm.engine.Slm.answers."""
        if self._grammars is None and any(request.guide is not None for request in requests):
            self._grammars = self._compilers()
        if self._batch_size > 1 and len(requests) > 1 and not self._compared:
            self._compared = True
            self._require_apart(requests)
        for places in by_adapter(requests):
            part = [requests[place] for place in places]
            order = shuffled(part, self._repeat) if self._repeat else longest_first(part)
            known = found if self.unit == "batch" else None
            with self._under(part[0].adapter):
                for positions, answers in batched(part, order, self._batch_size, self._generate, known):
                    yield [places[position] for position in positions], answers

    def _require_apart(self, requests: list[Request]) -> None:
        """Answer rows one by one from here on where this model's padding changes what it answers, and say so.

        Layers with a state (RWKV, recurrent Gemma) take masked tokens for tokens, and attention may count them.
        """
        longest = max((request.prompt for request in requests), key=len)
        short, long = longest[:SHORT], (longest * LONG)[:LONG]
        pad = self._decoding.pad
        with self._under(None):
            padded, alone = self._first([long, short], pad)[1], self._first([short], pad)[0]
            otherwise = self._first([long, short], pad - 1 if pad else 1)[1]
        words = alone.isfinite()  # some are forbidden
        by_padding, by_batch = (
            float((other - padded)[words].abs().mean() / alone[words].abs().mean()) for other in (otherwise, alone)
        )
        # Neither is a number where what stands in padded rows is none.
        if not (by_padding <= BY_PADDING[self.unit] and by_batch <= BY_BATCH):
            log.warning(
                "this model takes padding for text (log probabilities change by %.1f %%): rows are answered one by one "
                "(slower)",
                100 * max(by_padding, by_batch),
            )
            self._batch_size = 1

    @torch.inference_mode()
    def _first(self, prompts: list[list[int]], pad: int) -> torch.Tensor:
        """(rows, words): log probabilities of each prompt's first new token, padded with any token."""
        ids, mask = left_padded(prompts, pad)
        device = self._model.device
        found = self._model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=1,
                pad_token_id=self._decoding.pad,
                output_logits=True,
                return_dict_in_generate=True,
            ),
        )
        log_probs: torch.Tensor = found.logits[0].float().log_softmax(-1)
        return log_probs

    @contextlib.contextmanager
    def _under(self, adapter: Path | None) -> Iterator[None]:
        if adapter is not None:
            self._model.set_adapter(self._names[adapter])
            yield
        elif self._names:
            with self._model.disable_adapter():
                yield
        else:
            yield

    def _generate(self, batch: list[Request]) -> list[Answer]:
        start = time.perf_counter()
        try:
            rows = self._write(batch) if self._cores is None else self._write_apart(batch, self._cores)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            log.warning("out of memory with %d rows of up to %d tokens", len(batch), len(batch[0].prompt))
            rows = None
        if rows is None:  # outside the except block, so that the failed frames and their tensors are gone
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            raise OutOfMemory
        latency = (time.perf_counter() - start) / len(batch)
        return [Answer(tokens=self._cut(row), latency_s=latency) for row in rows]

    def _write_apart(self, batch: list[Request], cores: TwoAtATime) -> list[list[int]]:
        """As `_write`, for rows in order of length: every second row on another core."""
        parts = [batch[first::PARTS] for first in range(min(PARTS, len(batch)))]
        written = cores.map(self._write_read_last, parts)
        return [written[place % PARTS][place // PARTS] for place in range(len(batch))]

    def _write_read_last(self, batch: list[Request]) -> list[list[int]]:
        with last_layer.read_last():
            return self._write(batch)

    @torch.inference_mode()
    def _write(self, batch: list[Request]) -> list[list[int]]:
        ids, mask = left_padded([request.prompt for request in batch], self._decoding.pad)
        device = self._model.device
        guides = [request.guide for request in batch]
        within = [self._grammars.masks(guides)] if self._grammars and any(guides) else None
        written = self._model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            generation_config=self._generation,
            logits_processor=within,
        )
        return written[:, ids.shape[1] :].tolist()

    def _compilers(self) -> "Grammars":
        from transformers import AutoTokenizer

        from fledgling.slm.masks import Grammars, vocabulary_of

        tokenizer = AutoTokenizer.from_pretrained(self._checkpoint.resolve(), local_files_only=True)
        return Grammars(tokenizer, vocabulary_of(self._model), self._decoding.stops)

    def _cut(self, tokens: list[int]) -> list[int]:
        for i, token in enumerate(tokens):
            if token in self._decoding.stops:
                return tokens[: i + 1]
        return tokens


def _require_whole(model: Any, name: str, adapter: Path) -> None:
    """Refuse an adapter that PEFT loaded in part: what finds no layer is left out, and the rest of it starts at random.

    Raises:
        DataError: names the folder and a tensor.
    """
    from peft import get_peft_model_state_dict

    held = {tensor.name for tensor in tensors.of_file(adapter / WEIGHTS)}
    if strangers := sorted(held ^ set(get_peft_model_state_dict(model, adapter_name=name))):
        raise DataError(
            f"{adapter / WEIGHTS}: {len(strangers)} tensors are in the file or in the model but not in both, such as "
            f"{strangers[0]!r}, so the adapter would not answer as it was trained; train it again on this base"
        )


def left_padded(prompts: list[list[int]], pad: int) -> tuple[Any, Any]:
    """(token ids, attention mask) of a batch, both (rows, longest prompt), padded on the left.

    Padding on the right would make the model go on after padding; cutting there would cut off the
    marker where it starts to write. So both are impossible here: every row ends with a real token.
    """
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    if not bool(mask[:, -1].all()):
        raise ValueError("a prompt is empty or not padded on the left")
    return ids, mask


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
