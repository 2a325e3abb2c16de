"""Where a training step of few tokens goes on a GPU: its kernels, its host, and what replays from CUDA graphs spare.

    python benchmarks/step.py [--backend unsloth] [--rows 8] [--steps 30] [--layers 32] [--folder DIR]

The model is that of benchmarks/phi4mini.py in NF4 under LoRA of rank 64 with dropout, a step one micro-batch of --rows
rows of about 365 tokens: what each of four GPUs has of 32. Prints a JSON line for
micro-batch  one forward and backward pass: milliseconds, and those of them in which a kernel runs
plain        all steps with AdamW, as they come
captured     the same with replays, the first time: every length runs once as ever and is captured then
replayed     the same again: nothing is left to capture
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).parent)]

import phi4mini  # noqa: E402

RECIPE: dict[str, Any] = {
    "learning_rate": 2e-4,
    "epochs": 1,
    "max_length": 2048,
    "rank": 64,
    "alpha": 16,
    "dropout": 0.1,
    "gradient_checkpointing": False,
}


def tell(**measured: object) -> None:
    print(json.dumps(measured), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("unsloth", "peft"), default="unsloth")
    parser.add_argument("--rows", type=int, default=8, help="rows a step")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--folder", type=Path, default=Path("results/benchmark"))
    args = parser.parse_args()
    if args.backend == "unsloth":  # before torch's libraries
        from fledgling.training.unsloth_backend import load
    else:
        from fledgling.training.peft_backend import load
    import torch
    from transformers import AutoTokenizer

    from fledgling.models import tensors
    from fledgling.prompting import template
    from fledgling.records import read_examples
    from fledgling.training import tokens as token_rows
    from fledgling.training.cuda_graphs import tokens_a_second
    from fledgling.training.loop import join
    from fledgling.training.objective import Objective
    from fledgling.training.recipe import Recipe
    from fledgling.training.updates import Summed

    group = join()
    phi4mini.make(args.folder / "model", args.layers)
    checkpoint = args.folder / "model/checkpoint"
    data = phi4mini.write(args.folder / "step.jsonl", phi4mini.training_examples(args.rows * args.steps))
    own = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    rows = token_rows.encode(read_examples(data), own, chat=template.chat(own), schema="none", max_length=2048).rows
    steps = [rows[start : start + args.rows] for start in range(0, len(rows), args.rows)]
    model = load(checkpoint, Recipe(**RECIPE, global_batch=args.rows, backend=args.backend), device=group.device)
    objective = Objective(model.train(), longest=max(len(row.input_ids) for row in rows), rows=args.rows)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    update = Summed(trained, group, weight_decay=0.0)

    def micro_batch(step: Sequence[Any]) -> "torch.Tensor":
        return update.backward([lambda: objective(objective.batch(step, group.device)) / 500], last=True)

    def wait() -> None:
        if group.device.type == "cuda":
            torch.cuda.synchronize()

    def all_steps() -> dict[str, float]:
        wait()
        start = time.perf_counter()
        for step in steps:
            update.step(1e-6, micro_batch(step))
        wait()
        seconds = time.perf_counter() - start
        count = sum(len(row.input_ids) for step in steps for row in step)
        return {"tokens_per_s": round(count / seconds), "ms_a_step": round(1e3 * seconds / len(steps), 1)}

    for step in steps[:3]:
        micro_batch(step)
    wait()
    start = time.perf_counter()
    for _ in range(5):
        micro_batch(steps[0])
    wait()
    passed = 1e3 * (time.perf_counter() - start) / 5
    with torch.profiler.profile() as profile:
        micro_batch(steps[0])
        wait()
    kernels = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    tell(
        what="micro-batch",
        tokens=sum(len(row.input_ids) for row in steps[0]),
        ms=round(passed, 1),
        kernel_ms=round(sum(event.time_range.elapsed_us() for event in kernels) / 1e3, 1),
        kernels=len(kernels),
    )
    all_steps()
    tell(what="plain", **all_steps())
    weights = sum(tensor.numbers for tensor in tensors.of_checkpoint(checkpoint).values())
    speed = tokens_a_second(weights, group.device)
    reason = objective.replay([sum(len(row.input_ids) for row in step) for step in steps], speed)
    tell(what="replays", speed=speed, not_replayed=reason)
    tell(what="captured", **all_steps())
    all_steps()
    tell(what="replayed", **all_steps())


if __name__ == "__main__":
    main()
