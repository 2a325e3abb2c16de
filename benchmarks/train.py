"""QLoRA speed and memory on a card: a plain Unsloth script, and Fledgling's recipe on the same rows.

    python benchmarks/train.py [--rows 1024] [--folder DIR] [--runs script unsloth-gc unsloth peft-gc …]

All train LoRA of rank 64 on every projection of an NF4 base of Phi-4-mini's shape (benchmarks/phi4mini.py)
over the same rows of about 365 tokens with the loss on the completion. `script` is Unsloth through TRL's
SFTTrainer with 8 rows a step and a checkpointed backward pass, the fastest way that was known before.
A run is BACKEND[-gc][-d][-tN]: gradient checkpointing, LoRA dropout of 0.1, at most N tokens on the card at once (4096).
`real_tokens_per_s` counts no padding and leaves the first half out, in which kernels are still
compiled for new shapes; `--length N` makes every row N tokens long, for the peak of memory.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).parent)]

import alone  # noqa: E402
import phi4mini  # noqa: E402

TARGETS = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
RANK, ALPHA, LENGTH, BATCH = 64, 16, 2048, 32


def rows_of(count: int, length: int | None) -> list[tuple[list[int], int]]:
    rows = phi4mini.token_rows(count)
    if length:
        rows = [((ids * length)[:length], length - length // 6) for ids, _ in rows]
    return rows


def script(checkpoint: str, rows: list[tuple[list[int], int]], folder: Path) -> dict[str, float]:
    from unsloth import FastLanguageModel  # isort: skip
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = FastLanguageModel.from_pretrained(
        checkpoint, max_seq_length=LENGTH, load_in_4bit=True, dtype=torch.bfloat16
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=0.0,
        bias="none",
        target_modules=TARGETS,
        use_gradient_checkpointing="unsloth",
        random_state=42,
    )
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            torch.cuda.synchronize()
            times.append(time.perf_counter())

    steps = len(rows) // 8
    data = [
        {"input_ids": ids, "completion_mask": [0] * start + [1] * (len(ids) - start)}
        for ids, start in rows[: steps * 8]
    ]
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(data),
        callbacks=[Clock()],
        args=SFTConfig(
            output_dir=str(folder / "script"),
            per_device_train_batch_size=8,
            gradient_accumulation_steps=1,
            max_steps=steps,
            learning_rate=2e-4,
            bf16=True,
            logging_steps=4,
            save_strategy="no",
            report_to="none",
            max_length=LENGTH,
            completion_only_loss=True,
            gradient_checkpointing=True,
            optim="adamw_8bit",
            seed=42,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            average_tokens_across_devices=False,
        ),
    )
    torch.cuda.reset_peak_memory_stats()
    trainer.train()
    warm = steps // 2
    tokens = sum(len(ids) for ids, _ in rows[: steps * 8]) / steps * (steps - warm)
    return {
        "real_tokens_per_s": round(tokens / (times[-1] - times[warm - 1])),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
    }


def fledgling(checkpoint: str, rows: list[tuple[list[int], int]], folder: Path, run: str) -> dict[str, float]:
    backend, *flags = run.split("-")
    tokens = next((int(flag[1:]) for flag in flags if flag.startswith("t")), 4096)
    if backend == "unsloth":
        from fledgling.training.unsloth_backend import load
    else:
        from fledgling.training.peft_backend import load
    import torch
    from transformers import AutoTokenizer

    from fledgling.training import loop
    from fledgling.training import tokens as token_rows
    from fledgling.training.recipe import Recipe, layout

    recipe = Recipe(
        learning_rate=2e-4,
        epochs=1,
        max_length=LENGTH,
        global_batch=BATCH,
        rank=RANK,
        alpha=ALPHA,
        dropout=0.1 if "d" in flags else 0.0,
        backend=backend,
        gradient_checkpointing="gc" in flags,
        save_steps=10_000,
    )
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    encoded = [token_rows.Row(input_ids=ids, labels=[token_rows.IGNORED] * start + ids[start:]) for ids, start in rows]
    plan = layout([len(row.input_ids) for row in encoded], recipe, world=1, tokens=tokens)
    batches = token_rows.micro_batches(encoded, plan.micro_batches, tokenizer)
    model = load(Path(checkpoint), recipe, device=0)
    torch.cuda.reset_peak_memory_stats()
    result = loop.fit(
        model,
        tokenizer,
        loop.Work(
            micro_batches=batches,
            val=[],
            recipe=recipe,
            layout=plan,
            folder=folder / f"{run}-{os.getpid()}",
            run=run,
            backend=backend,
            deepspeed=False,
        ),
    )
    half = len(result.history) // 2
    steady, before = result.history[half:], result.history[half - 1]
    seconds = steady[-1]["seconds"] - before["seconds"]
    counted = [i for places in plan.micro_batches[before["step"] * plan.slots :] for i in places]
    return {
        "real_tokens_per_s": round(sum(len(encoded[i].input_ids) for i in counted) / seconds),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
        "final_loss": round(result.final_loss, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--length", type=int)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--folder", type=Path, default=Path("results/benchmark"))
    parser.add_argument("--runs", nargs="+", default=["script", "unsloth-gc", "unsloth", "peft-gc", "peft"])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.update({"HF_HUB_OFFLINE": "1", "UNSLOTH_DISABLE_STATISTICS": "1"})
    checkpoint = str((args.folder / "model/checkpoint").resolve())
    if args.one == "make":
        phi4mini.make(args.folder / "model", args.layers)
        return alone.tell({})
    if args.one:
        rows = rows_of(args.rows, args.length)
        if args.one == "script":
            return alone.tell(script(checkpoint, rows, args.folder))
        return alone.tell(fledgling(checkpoint, rows, args.folder, args.one))
    for name in ["make", *args.runs]:
        print(json.dumps(alone.run(name)), flush=True)
    return None


if __name__ == "__main__":
    main()
