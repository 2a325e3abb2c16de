"""The training loop: rows that are already in order, sealed checkpoints, a history."""

import datetime
import itertools
import logging
import math
import os
import resource
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist

from fledgling import checkpoints
from fledgling.cores import TwoAtATime
from fledgling.errors import DataError
from fledgling.files import read_json, write_json
from fledgling.models import adapter
from fledgling.progress import emit, progress_bar
from fledgling.training import agreement
from fledgling.training.batch import Batch
from fledgling.training.cuda_graphs import tokens_a_second
from fledgling.training.objective import Objective
from fledgling.training.recipe import Layout, Recipe, pack, rate, spread
from fledgling.training.tokens import IGNORED, Row
from fledgling.training.told import Told
from fledgling.training.updates import Group, Summed, Update, Zero2

log = logging.getLogger(__name__)

KEPT = 2  # sealed checkpoints
HISTORY = "history.json"


@dataclass(frozen=True, slots=True)
class Work:
    """What one training does: rows as `layout` lays them out, and where its checkpoints go under which name.

    `weights` are those of the base, `val` holds micro-batches. `cuda_graphs` has those of the training replayed where that
    is possible, and is True where it is to be said that it is not. After each of `candidates`' steps the adapter's weights are written to its path.
    """

    rows: list[Row]
    val: list[list[Row]]
    recipe: Recipe
    layout: Layout
    weights: int
    folder: Path
    run: str
    deepspeed: bool
    cuda_graphs: bool | Literal["auto"] = False
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


def join(*, deepspeed: bool = False) -> Group:
    """This process among those of its launch (accelerate, torchrun), or alone."""
    rank, world = (int(os.environ.get(name, value)) for name, value in (("RANK", "0"), ("WORLD_SIZE", "1")))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if (world > 1 or deepspeed) and not dist.is_initialized():
        backend = "nccl" if cuda else "gloo"
        # A process that waits for a dead one in a collective runs no Python, so its launcher would wait half a minute.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if world > 1:
            # The first process digests checkpoints of gigabytes while the others wait.
            dist.init_process_group(backend, timeout=datetime.timedelta(hours=1))
        else:
            os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks for it
            dist.init_process_group(backend, rank=0, world_size=1, store=dist.HashStore())
    return Group(rank, world, device)


def leave() -> None:
    """The processes part; after the last one wrote."""
    if dist.is_initialized():
        dist.destroy_process_group()


def fit(model: Any, work: Work, group: Group) -> Result:
    """Train from the newest sealed checkpoint, or from the start; TERM is obeyed once the step it comes in is saved.

    Raises:
        DataError: the loss or a weight is not finite; the last sealed checkpoint from before stays.
    """
    recipe, plan = work.recipe, work.layout
    model.train()
    every = itertools.chain(work.rows, *work.val)
    rows = max(len(batch) for step in plan.micro_batches for part in step for batch in part)
    objective = Objective(model, longest=max(len(row.input_ids) for row in every), rows=rows)
    agreement.settle(objective, work.rows, group)
    meter = _Meter(work, group)
    if resume := _resume(work, group):
        meter.go_on(resume)
    # Processes wait for the one that has most to do, so all of them pad to its tokens: then all capture at a time, too.
    tokens = plan.most_tokens([len(row.input_ids) for row in work.rows])
    if work.cuda_graphs:
        # All pad alike, and go on as they began.
        meter.speed = meter.speed or group.least(tokens_a_second(work.weights, group.device))
        if reason := objective.replay(itertools.chain(*tokens), meter.speed):
            level = logging.INFO if work.cuda_graphs == "auto" else logging.WARNING
            log.log(level, "micro-batches are not replayed from CUDA graphs: %s", reason)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:  # LoRA weights on a 4-bit base come in bf16, too coarse to add up in
        parameter.data = parameter.data.float()
    cores = TwoAtATime() if group.device.type == "cpu" else None
    update: Update
    if work.deepspeed:
        update = Zero2(objective, group, weight_decay=recipe.weight_decay)
    else:
        # Dropout draws from one stream of random numbers: who comes first would change what is trained.
        apart = None if recipe.dropout else cores
        update = Summed(trained, group, weight_decay=recipe.weight_decay, cores=apart)
    start = 0
    if resume:
        update.load(resume)
        start = checkpoints.step(resume)
    bar = progress_bar(desc="train", total=plan.steps, initial=start, unit="step") if group.first else None
    meter.start(start)
    with Told() as told:
        for step in range(start, plan.steps):
            # Dropout is a function of seed, step and process, so that a training which was killed goes on as it began.
            torch.manual_seed(recipe.seed * 1_000_003 + step * 1_009 + group.rank)
            loss, norm = _step(objective, update, work, group, step, tokens[step])
            meter.add(step + 1, loss, norm)
            done = step + 1
            if group.first and (path := work.candidates.get(done)):
                meter.check()
                adapter.write_weights(model, path)
            ends = bool(told)
            if done % recipe.save_steps == 0 or done == plan.steps or ends:
                meter.check()
                _save(update, work, group, trained, done, meter)
            if bar is not None:
                last = meter.history[-1] if meter.history else {}
                bar.update(1, **{name: last[name] for name in ("loss", "learning_rate") if name in last})
            if ends:
                told.obey()
    if bar is not None:
        bar.close()
    meter.check()
    return Result(
        model=model,
        history=meter.history,
        steps=plan.steps,
        final_loss=meter.history[-1]["loss"],
        eval_loss=_evaluate(objective, work, group, cores) if work.val else None,
        seconds=meter.history[-1]["seconds"],
    )


def _step(
    objective: Objective, update: Update, work: Work, group: Group, step: int, tokens: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss as a mean over the tokens of the step, norm of its gradient), neither of them waited for.

    `tokens` are what the micro-batches are padded to, where they are replayed.
    """
    learned = sum(
        sum(label != IGNORED for label in work.rows[place].labels[1:])
        for part in work.layout.micro_batches[step]
        for batch in part
        for place in batch
    )
    mine = work.layout.micro_batches[step][group.rank]
    while (total := _pass(objective, update, work, group, mine, tokens, learned)) is None:
        if objective.replaying:
            objective.forget()
            log.warning("memory ran out in step %d: micro-batches are no longer replayed from CUDA graphs", step + 1)
        else:
            mine = _smaller(mine, work.rows)
            log.warning(
                "memory ran out: this process takes the rows of step %d in %d micro-batches", step + 1, len(mine)
            )
        torch.cuda.empty_cache()
    norm, total = update.step(rate(work.recipe, step, work.layout.steps), total)
    return total, norm


def _pass(
    objective: Objective,
    update: Update,
    work: Work,
    group: Group,
    mine: list[list[int]],
    tokens: Sequence[int],
    learned: int,
) -> torch.Tensor | None:
    """The micro-batches of one process in one step, forward and backward; their loss, or None where memory ran out.

    Nothing is shared until a step ends, so one process may take its rows again while the others wait for it.

    Raises:
        torch.OutOfMemoryError: there is nothing smaller to try.
    """
    total = torch.zeros((), device=group.device)

    def loss(places: list[int], least: int) -> torch.Tensor:
        rows = [work.rows[place] for place in places] or [_nothing(work.rows[0])]
        found: torch.Tensor = objective(objective.batch(rows, group.device, least)) / max(1, learned)
        return found

    try:
        for number, places in enumerate(mine, 1):
            least = tokens[number - 1] if number <= len(tokens) else 0
            parts = _apart(places, work.rows, update.parts)
            total += update.backward([partial(loss, part, least) for part in parts], last=number == len(mine))
        return total
    except torch.OutOfMemoryError:
        smaller = objective.replaying or any(len(places) > 1 for places in mine)
        if not update.forget() or not smaller:
            log.error(
                "memory ran out with %d tokens on the GPU at once: set training.micro_batch_tokens to less, or "
                "recipe.gradient_checkpointing to true",
                max(sum(len(work.rows[place].input_ids) for place in places) for places in mine),
            )
            raise
    return None  # outside the except block, so that the failed frames and their tensors are gone


def _apart(places: list[int], rows: list[Row], parts: int) -> list[list[int]]:
    """The rows of a micro-batch in so many parts of like length; one is the micro-batch as it lies."""
    return [places] if parts == 1 else spread(places, [len(row.input_ids) for row in rows], min(parts, len(places)))


def _smaller(mine: list[list[int]], rows: list[Row]) -> list[list[int]]:
    """The same rows with half as many tokens at once."""
    lengths = [len(row.input_ids) for row in rows]
    most = max(sum(lengths[place] for place in places) for places in mine)
    return pack([place for places in mine for place in places], lengths, max(1, most // 2))


def _nothing(row: Row) -> Row:
    """A row without loss, for a process that has none in a step."""
    return Row(input_ids=row.input_ids[:2], labels=[IGNORED] * len(row.input_ids[:2]))


def _evaluate(objective: Objective, work: Work, group: Group, cores: TwoAtATime | None) -> float:
    """The loss as a mean over the tokens of val.

    Raises:
        DataError: it is not finite.
    """

    def sums(rows: list[Row]) -> torch.Tensor:
        batch = Batch.of(rows).to(group.device)
        # Compiled code would be compiled again without dropout and gradients: more than it saves.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            return torch.stack(
                [objective(batch).double(), torch.tensor(float(len(batch.targets)), device=group.device)]
            )

    objective.eval()
    mine = work.val[group.rank :: group.world]
    found = [sums(rows) for rows in mine] if cores is None else cores.map(sums, mine)
    total = torch.stack([torch.zeros(2, device=group.device, dtype=torch.float64), *found]).sum(0)
    loss, count = group.total(total).tolist()
    mean = float(loss / max(1.0, count))
    if not math.isfinite(mean):
        raise _not_finite(f"the loss over val is {mean} after the last step")
    return mean


def _resume(work: Work, group: Group) -> Path | None:
    if group.first:
        checkpoints.newest(work.folder, work.run)  # sets torn ones aside; the others see what is left
    group.wait()
    newest = checkpoints.newest(work.folder, work.run)
    if newest is None:
        return None
    reached = checkpoints.step(newest)
    lost = [path for step, path in work.candidates.items() if step <= reached and not path.exists()]
    if lost:
        log.warning("%s is missing; starting over instead of going on from %s", lost[0], newest.name)
        return None
    log.info("going on from %s", newest.name)
    if group.first:
        emit("note", message=f"went on from {newest.name}, which a run before had reached")
    return newest


def _save(
    update: Update,
    work: Work,
    group: Group,
    trained: list[torch.nn.Parameter],
    step: int,
    meter: "_Meter",
) -> None:
    """Seal a checkpoint once every process has written its part; older ones go."""
    if not all(bool(torch.isfinite(parameter).all()) for parameter in trained):
        raise _not_finite(f"a weight is not finite after step {step}")
    folder = work.folder / f"checkpoint-{step}"
    if group.first:
        shutil.rmtree(folder, ignore_errors=True)
    group.wait()
    update.save(folder)
    group.wait()
    if group.first:
        meter.note(folder)
        checkpoints.seal(folder, work.run)
        checkpoints.drop_older(work.folder, KEPT)


class _Meter:
    """The history: loss, speed and memory every few steps, without making the host wait in between.

    `speed` is the tokens that the GPU was found to take a second, 0 until then.
    """

    def __init__(self, work: Work, group: Group) -> None:
        self.history: list[dict[str, float]] = []
        self.speed = 0
        self._work, self._group = work, group
        self._every = max(1, min(10, work.layout.steps // 20))
        lengths = [len(row.input_ids) for row in work.rows]
        counts = [
            sum(lengths[place] for part in step for batch in part for place in batch)
            for step in work.layout.micro_batches
        ]
        self._tokens = [0, *itertools.accumulate(counts)]
        self._sent: _Sent | None = None
        self._losses: list[torch.Tensor] = []

    def note(self, folder: Path) -> None:
        """Write what `go_on` needs."""
        losses = [float(loss) for loss in self._losses]
        write_json(folder / HISTORY, {"history": self.history, "losses": losses, "gpu_tokens_per_s": self.speed})

    def go_on(self, folder: Path) -> None:
        """Take up the history that was written there."""
        found = read_json(folder / HISTORY)
        self.history, self.speed = found["history"], found["gpu_tokens_per_s"]
        self._losses = [torch.tensor(loss, device=self._group.device) for loss in found["losses"]]

    def start(self, step: int) -> None:
        """The clock runs from here."""
        self._step, self._moment = step, _Moment(self._group.device)
        self._seconds = self.history[-1]["seconds"] if self.history else 0.0

    def add(self, step: int, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """A step that was handed to the card. What came of the one before is looked at: it has come meanwhile."""
        self.check()
        self._losses.append(loss)
        due = step % self._every == 0 or step == self._work.layout.steps
        mean = torch.stack(self._losses).mean() if due else loss
        self._sent = _Sent(step, torch.stack([loss, mean, norm.to(loss.device)]), due=due)
        if due:
            self._losses = []
        if loss.device.type == "cpu":
            self.check()  # the step is done

    def check(self) -> None:
        """Wait for the last step that was handed over, and write the history up to it.

        Raises:
            DataError: its loss or the norm of its gradient is not finite, under which DeepSpeed leaves a step out; says
                which step.
        """
        sent, self._sent = self._sent, None
        if sent is None:
            return
        loss, mean, norm = sent.wait()
        for name, value in (("loss", loss), ("norm of the gradient", norm)):
            if not math.isfinite(value):
                raise _not_finite(f"the {name} is {value} at step {sent.step}")
        if not sent.due:
            return
        took = sent.moment.since(self._moment)
        tokens = self._tokens[sent.step] - self._tokens[self._step]
        self._step, self._moment, self._seconds = sent.step, sent.moment, self._seconds + took
        self.history.append(
            {
                "step": sent.step,
                "loss": mean,
                "learning_rate": rate(self._work.recipe, sent.step - 1, self._work.layout.steps),
                "grad_norm": norm,
                "tokens_per_s": round(tokens / max(took, 1e-9), 1),
                "memory_gib": round(_memory_gib(), 3),
                "seconds": round(self._seconds, 2),
            }
        )


class _Moment:
    """When a device has come this far in what it was handed."""

    def __init__(self, device: torch.device) -> None:
        self._here = None
        self._time = time.monotonic()
        if device.type == "cuda":
            self._here = torch.cuda.Event(enable_timing=True)
            self._here.record()

    def wait(self) -> None:
        """Go on once it has, whatever was handed over since."""
        if self._here is not None:
            self._here.synchronize()

    def since(self, other: "_Moment") -> float:
        """Seconds since an earlier moment; both have been waited for."""
        if self._here is None or other._here is None:
            return self._time - other._time
        return other._here.elapsed_time(self._here) / 1e3


class _Sent:
    """Figures of a step on their way to the host."""

    def __init__(self, step: int, figures: torch.Tensor, *, due: bool) -> None:
        self.step, self.due = step, due
        self._figures = figures
        if figures.device.type == "cuda":
            self._figures = torch.empty(figures.shape, dtype=figures.dtype, pin_memory=True)
            self._figures.copy_(figures, non_blocking=True)
        self.moment = _Moment(figures.device)

    def wait(self) -> list[float]:
        """The figures, once they are here."""
        self.moment.wait()
        figures: list[float] = self._figures.tolist()
        return figures


def _not_finite(what: str) -> DataError:
    return DataError(
        f"{what}; training stops and keeps its last sealed checkpoint. Lower recipe.learning_rate, or look for "
        "rows that make no sense"
    )


def _memory_gib() -> float:
    """Peak of this process's card, or of this process where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
