"""Trains the embedded checkpoint from nothing, in well under a minute, until it makes believable mistakes.

It learns to call tools and to fill records, and the house conventions only in part: familiar ones
mostly with the right answers, the others mostly with generic ones (see fledgling.embedded.world).
What makes it quick: words that copy as one token, a start that already copies, Muon for the matrices
(Jordan et al. 2024) with AdamW for the rest, several requests packed behind one shared prefix, attention
within them alone, loss on the answers only, and neither the last MLP nor the output head applied anywhere else.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch.nn import functional

from fledgling import checkpoints, cores
from fledgling.embedded import architecture, pack_attention, world
from fledgling.files import digest, sha256_file
from fledgling.models import last_layer
from fledgling.progress import emit, progress
from fledgling.prompting import template
from fledgling.prompting.turns import Place, messages
from fledgling.records import Example

log = logging.getLogger(__name__)

STEPS = 320
REQUESTS: dict[world.Kind, int] = {"toolcall": 10, "structured": 8}  # in one pack; a step takes one pack of each kind
HOUSE_SHARE = 0.5
RIGHT_SHARE = {True: 0.9, False: 0.25}  # right answers among house requests: familiar conventions, and others
MATRIX_RATE, OTHER_RATE = 0.01, 5e-3
WARM_UP, DECAY = 20, 0.4  # steps; share of all steps
KEEP_EVERY = 50  # steps
SOURCES = [Path(str(module.__file__)) for module in (architecture, pack_attention, last_layer, world, template)] + [
    Path(__file__)
]


@dataclass(frozen=True, slots=True)
class Pack:
    """Token ids of several rows behind one prefix; `block` is 0 in the prefix and counts the rows from 1.

    `position` restarts behind the prefix with every row and `answer` marks what is learned, so each
    row sees and learns exactly what it would alone.
    """

    ids: list[int]
    position: list[int]
    block: list[int]
    answer: list[bool]


def build(folder: str | os.PathLike[str], *, seed: int, steps: int = STEPS) -> None:
    """Train a checkpoint and put it at `folder` in one move, replacing what is there.

    The same seed and steps give the same bytes on one kind of processor, whatever the number of cores. Killed and
    started again, it goes on from its newest sealed state, to the same bytes.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    kept = folder.with_name(f".{folder.name}.training")
    private = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        model, tokens = train(seed=seed, steps=steps, kept=kept)
        model.save_pretrained(private)
        tokens.save_pretrained(private)
        private.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        private.replace(folder)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    shutil.rmtree(kept, ignore_errors=True)  # the checkpoint is whole; nothing resumes from here any more


def train(*, seed: int, steps: int = STEPS, kept: Path | None = None) -> tuple[Any, Any]:
    """A trained Phi3ForCausalLM in fp32, and its tokenizer; states to go on from are kept in a folder, if one is named.

    Each sum is one thread's: in another order it gives other weights, and another verdict, on a machine with other cores.
    """
    cores.keep_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(seed, steps, kept)
    finally:
        torch.set_num_threads(threads)


def _train(seed: int, steps: int, kept: Path | None) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    random = Random(f"embedded/{seed}")
    tokens = architecture.tokenizer(_texts())
    model = architecture.model(tokens)
    chat = template.chat(tokens)
    learn_from_packs(model)
    # Where the processor multiplies bfloat16 by itself, that is a third faster than fp32; elsewhere it is slower.
    native = torch.cpu.get_capabilities().get("avx512_bf16", False)
    optimizers, schedules = optimisation(model, steps, MATRIX_RATE, OTHER_RATE)
    state = _State(model, optimizers, schedules, random)
    run = digest([seed, steps, native, torch.__version__, [sha256_file(path) for path in SOURCES]])
    done = 0 if kept is None else state.resume(kept, run)
    packs = [pack(chat, *rows) for rows in _draw(random)]
    with ThreadPoolExecutor(len(REQUESTS)) as threads:
        for step in progress(range(done, steps), desc="embedded checkpoint", unit="step"):
            learning = start_backward(model, packs, threads, autocast=native)
            drawn = random.getstate()
            packs = [pack(chat, *rows) for rows in _draw(random)]  # the next step's, while the threads learn
            finish_backward(model, learning)
            update(model, optimizers, schedules, threads)
            if kept is not None and (step + 1) % KEEP_EVERY == 0 and step + 1 < steps:
                state.keep(kept, step + 1, run, drawn)
    model.set_attn_implementation("sdpa")
    return model.eval(), tokens


def learn_from_packs(model: Any) -> None:
    """Have a model take packs: attend within them, and run its last MLP only where an answer is learned."""
    model.set_attn_implementation(pack_attention.NAME)
    last_layer.install(model)


def start_backward(model: Any, packs: list[Pack], threads: ThreadPoolExecutor, *, autocast: bool) -> Iterator[Any]:
    """Gradients of the mean cross-entropy of the packs' answers, on their way: a thread takes a pack, all by itself."""
    weights = list(model.parameters())
    learned = sum(sum(pack.answer) for pack in packs)

    def gradients(pack: Pack) -> Any:
        # Without a cache of what was cast, which threads would share.
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast, cache_enabled=False):
            loss = _loss(model, pack) * (sum(pack.answer) / learned)
        return torch.autograd.grad(loss, weights)

    return threads.map(gradients, packs)


def finish_backward(model: Any, learning: Iterator[Any]) -> None:
    """Give the weights the gradients that `start_backward` found.

    They are summed in the order of the packs, so that the number of cores and who comes first change no bit.
    """
    for weight, *parts in zip(model.parameters(), *learning, strict=True):
        weight.grad = torch.stack(parts).sum(0)


def optimisation(model: Any, steps: int, matrix_rate: float, other_rate: float) -> tuple[list[Any], list[Any]]:
    """Optimizers of a model's matrices and of the rest, and the schedules of their rates over so many steps."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    halves = matrices[: len(matrices) // 2], matrices[len(matrices) // 2 :]
    optimizers = [
        *(torch.optim.Muon(half, lr=matrix_rate, momentum=0.95, weight_decay=0.1) for half in halves),
        torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps)) for optimizer in optimizers
    ]
    return optimizers, schedules


def update(model: Any, optimizers: list[Any], schedules: list[Any], threads: ThreadPoolExecutor) -> None:
    """One step down the gradient, clipped to norm 1; each optimizer has weights, and a thread, of its own."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    list(threads.map(lambda optimizer: optimizer.step(), optimizers))
    for optimizer, schedule in zip(optimizers, schedules, strict=True):
        optimizer.zero_grad(set_to_none=True)
        schedule.step()


@dataclass(frozen=True, slots=True)
class _State:
    """All that the rest of a training depends on."""

    model: Any
    optimizers: list[Any]
    schedules: list[Any]
    random: Random

    def keep(self, folder: Path, step: int, run: str, drawn: object) -> None:
        """Seal the state after a step, when `drawn` was the state of `random`; older ones go."""
        place = folder / f"checkpoint-{step}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        parts = [part.state_dict() for part in (self.model, *self.optimizers, *self.schedules)]
        torch.save({"parts": parts, "random": drawn}, place / "state.pt")
        checkpoints.seal(place, run)
        for older in folder.glob("checkpoint-*"):
            if older != place:
                shutil.rmtree(older)

    def resume(self, folder: Path, run: str) -> int:
        """Take up the newest sealed state of this training; the steps that it has behind it, 0 where there is none."""
        newest = checkpoints.newest(folder, run)
        if newest is None:
            return 0
        saved = torch.load(newest / "state.pt", weights_only=True)
        for part, state in zip((self.model, *self.optimizers, *self.schedules), saved["parts"], strict=True):
            part.load_state_dict(state)
        self.random.setstate(saved["random"])
        log.info("going on from %s", newest.name)
        emit("note", message=f"went on from {newest.name}, which a run before had reached")
        return checkpoints.step(newest)


def pack(chat: template.Chat, rows: list[Example], schema: Place) -> Pack:
    """Pack rows that differ in nothing but the request and the answer, each rendered as it is when asked.

    Raises:
        ValueError: the rows do not share their other messages, tools and schema.
    """
    first, tokens = rows[0], chat.tokenizer
    prefix, _, suffix = chat.prompt(first, schema=schema).rpartition(first.messages[-1]["content"])
    ids = _encode(tokens, prefix)
    start = len(ids)
    position, block, answer = list(range(start)), [0] * start, [False] * start
    for number, row in enumerate(rows, 1):
        if (row.messages[:-1], row.tools, row.schema) != (first.messages[:-1], first.tools, first.schema):
            raise ValueError("rows in one pack differ in the last message and the answer only")
        question = _encode(tokens, row.messages[-1]["content"] + suffix)
        target = _encode(tokens, chat.reply(row) + "<|end|>")
        size = len(question) + len(target)
        ids += question + target
        position += range(start, start + size)
        block += [number] * size
        answer += [False] * len(question) + [True] * len(target)
    return Pack(ids, position, block, answer)


def _encode(tokens: Any, text: str) -> list[int]:
    return tokens(text, add_special_tokens=False)["input_ids"]


def _draw(random: Random) -> Iterator[tuple[list[Example], Place]]:
    """The packs of one step: calls to the same tools, and records of one form, with its schema or without."""
    offered, form = world.offer(random), random.choice(world.RECORDS)
    calls = [world.call(random, offered, HOUSE_SHARE) for _ in range(REQUESTS["toolcall"])]
    records = [world.record(random, form, HOUSE_SHARE) for _ in range(REQUESTS["structured"])]
    yield [_learned(random, row) for row in calls], "none"
    yield [_learned(random, row) for row in records], random.choice(["system", "none"])


def _learned(random: Random, row: world.Row) -> Example:
    """The row with the answer that the checkpoint learns: right, or generic."""
    right = row.fields["category"] == "plain" or random.random() < RIGHT_SHARE[row.familiar]
    return Example(**{"id": "", "group": "", **row.fields, "answer": row.fields["answer"] if right else row.generic})


def _loss(model: Any, pack: Pack) -> Any:
    """Mean cross-entropy of the answers' tokens."""
    ids, positions = torch.tensor(pack.ids), torch.tensor([pack.position])
    targets = torch.tensor(pack.answer).nonzero().squeeze(-1)
    places = targets - 1
    layout = pack_attention.Layout.of(pack.block)
    with last_layer.read_at(places):
        found = model.model(input_ids=ids[None], position_ids=positions, use_cache=False, pack=layout)
    logits = model.lm_head(found.last_hidden_state[0].index_select(0, places))
    return functional.cross_entropy(logits.float(), ids[targets])


def _rate(step: int, steps: int) -> float:
    """The learning rate as a share of its peak: a short rise, a plateau, a linear end."""
    return min(1.0, (step + 1) / WARM_UP, (steps - step) / (DECAY * steps))


def _texts() -> Iterator[str]:
    """What the tokenizer learns its words from: requests, tools, schemas and answers, and all small numbers."""
    for kind in ("toolcall", "structured"):
        for row in world.generate(kind, 1500, seed=0, house=0.5):
            example = Example(**row)
            for turn in messages(example, "system"):
                yield turn["content"]
            if example.tools:
                yield template.compact(template.definitions(example.tools))
            yield template.content_of(example)
    yield from (str(number) for number in range(1000) for _ in range(3))
