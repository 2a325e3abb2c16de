"""The training loop: TRL's SFTTrainer over rows that are already in order, sealed checkpoints, a history."""

import itertools
import logging
import math
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from fledgling import checkpoints
from fledgling.errors import DataError
from fledgling.models import adapter
from fledgling.progress import progress_bar
from fledgling.training import attention
from fledgling.training.recipe import Layout, Recipe
from fledgling.training.tokens import Row

log = logging.getLogger(__name__)

ZERO2 = {
    "zero_optimization": {"stage": 2, "overlap_comm": True, "contiguous_gradients": True},
    "bf16": {"enabled": "auto"},
    "gradient_clipping": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
}
SCHEDULERS = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


@dataclass(frozen=True, slots=True)
class Work:
    """What one training does: rows in the micro-batches of `layout`, and where its checkpoints go under which name.

    After each of `candidates`' steps the adapter's weights are written to its path.
    """

    micro_batches: list[list[Row]]
    val: list[Row]
    recipe: Recipe
    layout: Layout
    folder: Path
    run: str
    backend: str
    deepspeed: bool
    candidates: Mapping[int, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What came out, but for the weights, which are in `model`."""

    model: Any
    history: list[dict[str, float]]
    steps: int
    final_loss: float
    eval_loss: float | None
    seconds: float


def fit(model: Any, tokenizer: Any, work: Work) -> Result:
    """Train from the newest sealed checkpoint, or from the start.

    Raises:
        DataError: the loss or a weight is not finite; the last sealed checkpoint from before stays.
    """
    trainer = _trainer(model, tokenizer, work)
    resume = _resume(work)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    eval_loss = None
    if work.val:
        eval_loss = float(trainer.evaluate()["eval_loss"])
    history = [_entry(logged) for logged in trainer.state.log_history if "loss" in logged]
    return Result(
        model=trainer.accelerator.unwrap_model(trainer.model),
        history=history,
        steps=trainer.state.global_step,
        final_loss=history[-1]["loss"],
        eval_loss=eval_loss,
        seconds=history[-1]["seconds"],
    )


def _resume(work: Work) -> Path | None:
    with PartialState().main_process_first():  # the first sets torn ones aside, the others see what is left
        newest = checkpoints.newest(work.folder, work.run)
    if newest is None:
        return None
    reached = checkpoints.step(newest)
    lost = [path for step, path in work.candidates.items() if step <= reached and not path.exists()]
    if lost:
        log.warning("%s is missing; starting over instead of going on from %s", lost[0], newest.name)
        return None
    log.info("going on from %s", newest.name)
    return newest


def _trainer(model: Any, tokenizer: Any, work: Work) -> Any:
    recipe, layout = work.recipe, work.layout
    cuda = torch.cuda.is_available()
    attention.install(model)
    trainer = _Trainer(
        model=model,
        args=SFTConfig(
            output_dir=str(work.folder),
            per_device_train_batch_size=1,  # an item of the dataset is a micro-batch
            per_device_eval_batch_size=1,
            gradient_accumulation_steps=layout.accumulation,
            num_train_epochs=1,  # the micro-batches hold every pass
            learning_rate=recipe.learning_rate,
            lr_scheduler_type=SCHEDULERS[recipe.scheduler],
            warmup_steps=math.ceil(recipe.warmup_ratio * layout.steps),
            weight_decay=recipe.weight_decay,
            optim="adamw_torch_fused" if cuda else "adamw_torch",
            max_grad_norm=1.0,
            seed=recipe.seed,
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,  # rows that are too long were left out
            bf16=cuda,
            use_cpu=not cuda,
            gradient_checkpointing=recipe.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False} if recipe.gradient_checkpointing else None,
            # Over tokens of all cards the loss is the same mean on any layout; unsloth 2026.10.7 crashes with it.
            average_tokens_across_devices=work.backend == "peft",
            ddp_find_unused_parameters=False,
            deepspeed=ZERO2 if work.deepspeed else None,
            dataloader_pin_memory=cuda,
            logging_strategy="steps",
            logging_steps=max(1, min(10, layout.steps // 20)),
            logging_nan_inf_filter=False,
            save_strategy="steps",
            save_steps=recipe.save_steps,
            save_total_limit=2,
            eval_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=_dataset(work.micro_batches),
        eval_dataset=_dataset([[row] for row in work.val]) if work.val else None,
        processing_class=tokenizer,
        data_collator=attention.Collator(pad_token_id=tokenizer.pad_token_id, padding_free=True),
        callbacks=[_Keep(work.candidates), _Seal(work.folder, work.run), _Bar()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.fledgling_tokens = _tokens_by_step(work)
    for parameter in trainer.model.parameters():  # TRL makes LoRA weights on a 4-bit base bf16, too coarse to add up in
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return trainer


class _Trainer(SFTTrainer):
    """SFTTrainer that stops on a loss that is not finite, and logs speed, memory and time."""

    fledgling_tokens: list[int]
    _mark: tuple[int, float, float] | None = None  # step, clock and seconds of the last log
    _loss: Any = 0.0  # of the micro-batches of this step so far

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(*args, **kwargs)
        if self._mark is None:
            earlier = [logged["seconds"] for logged in self.state.log_history if "seconds" in logged]
            self._mark = (self.state.global_step, time.monotonic(), earlier[-1] if earlier else 0.0)
        self._loss = self._loss + loss.detach()
        if self.accelerator.sync_gradients:  # before the weights change; more often would make the card wait
            if not bool(torch.isfinite(self._loss).all()):
                raise _not_finite(f"the loss is {self._loss.item()} at step {self.state.global_step + 1}")
            self._loss = 0.0
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs and self._mark is not None:
            step, clock, seconds = self._mark
            now = time.monotonic()
            tokens = self.fledgling_tokens[self.state.global_step] - self.fledgling_tokens[step]
            logs["tokens_per_s"] = round(tokens / max(now - clock, 1e-9), 1)
            logs["memory_gib"] = round(_memory_gib(), 3)
            logs["seconds"] = round(seconds + now - clock, 2)
            self._mark = (self.state.global_step, now, logs["seconds"])
        super().log(logs, *args, **kwargs)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card in a checkpoint; the published one is written from the verdict."""


class _Keep(TrainerCallback):
    """Keeps the adapter as it is after some steps; at the end of a step, so before its checkpoint is sealed."""

    def __init__(self, candidates: Mapping[int, Path]) -> None:
        self._candidates = candidates

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and (path := self._candidates.get(state.global_step)):
            adapter.write_weights(model, path)


class _Seal(TrainerCallback):
    """Seals each checkpoint once every process has written its part."""

    def __init__(self, folder: Path, run: str) -> None:
        self._folder = folder
        self._run = run

    def on_save(self, args: Any, state: Any, control: Any, *, model: Any = None, **kwargs: Any) -> None:
        trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
        if not all(bool(torch.isfinite(parameter).all()) for parameter in trained):
            raise _not_finite(f"a weight is not finite after step {state.global_step}")
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            checkpoints.seal(self._folder / f"checkpoint-{state.global_step}", self._run)
        PartialState().wait_for_everyone()


class _Bar(TrainerCallback):
    """A progress bar over the steps, in the first process."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._bar = progress_bar(desc="train", total=state.max_steps, initial=state.global_step, unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._bar.update(1)

    def on_log(self, args: Any, state: Any, control: Any, *, logs: dict[str, float], **kwargs: Any) -> None:
        if state.is_world_process_zero and "loss" in logs:
            self._bar.update(0, loss=logs["loss"], learning_rate=logs["learning_rate"])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._bar.close()


def _not_finite(what: str) -> DataError:
    return DataError(
        f"{what}; training stops and keeps its last sealed checkpoint. Lower recipe.learning_rate, or look for "
        "rows that make no sense"
    )


def _dataset(batches: list[list[Row]]) -> Any:
    """One item a micro-batch: its rows one behind the other, with their lengths, which set positions and attention apart."""
    return Dataset.from_dict(
        {
            "input_ids": [[i for row in rows for i in row.input_ids] for rows in batches],
            "labels": [[i for row in rows for i in row.labels] for rows in batches],
            "seq_lengths": [[len(row.input_ids) for row in rows] for rows in batches],
        }
    )


def _tokens_by_step(work: Work) -> list[int]:
    """Tokens seen after each step, from 0."""
    size = work.layout.slots
    lengths = [sum(len(row.input_ids) for row in rows) for rows in work.micro_batches]
    return [0, *itertools.accumulate(sum(lengths[start : start + size]) for start in range(0, len(lengths), size))]


def _memory_gib() -> float:
    """Peak of the first card, or of this process where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _entry(logged: dict[str, float]) -> dict[str, float]:
    names = ("step", "loss", "learning_rate", "grad_norm", "tokens_per_s", "memory_gib", "seconds")
    return {name: logged[name] for name in names if name in logged}
