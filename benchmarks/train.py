"""QLoRA speed and memory on GPUs: a plain Unsloth script, and Fledgling's own command on the same rows.

    python benchmarks/train.py [--rows 1024] [--folder DIR] [--runs script-gc script unsloth peft unsloth-x2 …]

All train LoRA of rank 64 on every projection of an NF4 base of Phi-4-mini's shape (benchmarks/phi4mini.py)
over the same rows of about 365 tokens with the loss on the completion. `script` is Unsloth through TRL's
SFTTrainer with 8 rows a step; `-gc` stands for a checkpointed backward pass. Everything else is the command that
the graph runs (claims, launcher, script): BACKEND[-gc][-d][-tN][-bN][-xN][-zero2][-plain][-eager]: LoRA dropout of
0.1, N tokens on the GPU at once (what its memory holds, unless given), N rows a step (32), N GPUs (1), DeepSpeed, layers
that are not compiled, nothing replayed from CUDA graphs.
`real_tokens_per_s` counts no padding and leaves the first half out, in which kernels are still compiled for new
shapes; `--length N` makes every row N tokens long, for the peak of memory.
"""

import argparse
import json
import os
import subprocess
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


def script(folder: Path, data: Path, *, checkpointing: bool) -> dict[str, float]:
    from unsloth import FastLanguageModel  # isort: skip
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from fledgling.prompting import template
    from fledgling.records import read_examples
    from fledgling.training import tokens as token_rows

    checkpoint = str((folder / "model/checkpoint").resolve())
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
        use_gradient_checkpointing="unsloth" if checkpointing else False,
        random_state=42,
    )
    own = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    rows = token_rows.encode(read_examples(data), own, chat=template.chat(own), schema="none", max_length=LENGTH).rows
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            torch.cuda.synchronize()
            times.append(time.perf_counter())

    steps = len(rows) // 8
    asked = [
        {"input_ids": row.input_ids, "completion_mask": [int(label != token_rows.IGNORED) for label in row.labels]}
        for row in rows[: steps * 8]
    ]
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(asked),
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
            gradient_checkpointing=checkpointing,
            optim="adamw_8bit",
            seed=42,
            gradient_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
            average_tokens_across_devices=False,
        ),
    )
    torch.cuda.reset_peak_memory_stats()
    trainer.train()
    warm = steps // 2
    tokens = sum(len(row.input_ids) for row in rows[warm * 8 : steps * 8])
    return {
        "real_tokens_per_s": round(tokens / (times[-1] - times[warm - 1])),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
    }


def command(folder: Path, data: Path, out: Path, run: str) -> tuple[list[str], dict[str, str]]:
    """The rule's own command for one run, and what its environment adds."""
    backend, *flags = run.split("-")
    numbers = {flag[0]: int(flag[1:]) for flag in flags if flag[1:].isdigit()}
    recipe = {
        "backend": backend,
        "quantization": "nf4",
        "rank": RANK,
        "alpha": ALPHA,
        "dropout": 0.1 if "d" in flags else 0.0,
        "learning_rate": 2e-4,
        "epochs": 1,
        "max_length": LENGTH,
        "scheduler": "cosine",
        "warmup_ratio": 0.05,
        "global_batch": numbers.get("b", BATCH),
        "gradient_checkpointing": "gc" in flags,
        "save_steps": 10_000,
    }
    where = {
        "micro_batch_tokens": numbers.get("t", "auto"),
        "deepspeed": "zero2" in flags,
        "compile": "plain" not in flags,
        "cuda_graphs": "auto" if "eager" not in flags else False,
    }
    settings = {"recipe": recipe, "track": {"prompt": {"schema": "none"}}, "seed": 0}
    return [
        *(sys.executable, "-m", "fledgling.gpus", str(numbers.get("x", 1))),
        *(sys.executable, "-m", "fledgling.training.launch", "scripts/train.py", "--track", "benchmark"),
        *("--train", str(data), "--val", str(folder / "val.jsonl"), "--model", str(folder / "model/manifest.json")),
        *("--settings", json.dumps(settings), "--out", str(out)),
    ], {
        "FLEDGLING_WHERE": json.dumps({"training": where}),
        "PYTHONPATH": f"{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}",
    }


def fledgling(folder: Path, data: Path, run: str) -> dict[str, Any]:
    out = (folder / f"{run}-{time.time_ns()}/training.json").resolve()
    argv, environment = command(folder.resolve(), data.resolve(), out, run)
    start = time.time()
    done = subprocess.run(argv, check=False, cwd=ROOT, env=os.environ | environment, stderr=subprocess.PIPE, text=True)
    wall = time.time() - start
    if done.returncode:
        print(done.stderr[-6000:], file=sys.stderr, flush=True)
        return {"exit_code": done.returncode}
    return summary(json.loads(out.read_text())) | {"wall_s": round(wall, 1)}


def summary(trained: dict[str, Any]) -> dict[str, Any]:
    """Speed of the second half, peak of memory and losses in a training.json."""
    history = trained["history"]
    half = len(history) // 2
    before, steady = history[half - 1], history[half:]
    seconds = steady[-1]["seconds"] - before["seconds"]
    ends = [before["seconds"], *(entry["seconds"] for entry in steady)]
    tokens = sum(e["tokens_per_s"] * (end - begin) for e, begin, end in zip(steady, ends[:-1], ends[1:], strict=True))
    return {
        "real_tokens_per_s": round(tokens / seconds),
        "best_tokens_per_s": round(max(entry["tokens_per_s"] for entry in history)),
        "peak_gib": round(max(entry["memory_gib"] for entry in history), 1),
        "tokens_at_once": trained["micro_batch_tokens"],
        "accumulation": trained["accumulation"],
        "first_loss": round(history[0]["loss"], 4),
        "final_loss": round(trained["final_loss"], 4),
        "eval_loss": trained["eval_loss"],
        "training_s": trained["seconds"],
        "first_entry_s": history[0]["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--length", type=int)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--folder", type=Path, default=Path("results/benchmark"))
    parser.add_argument("--runs", nargs="+", default=["script-gc", "script", "unsloth", "peft"])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.update({"HF_HUB_OFFLINE": "1", "UNSLOTH_DISABLE_STATISTICS": "1"})
    data = args.folder / f"train-{args.rows}-{args.length}.jsonl"
    if args.one == "make":
        phi4mini.make(args.folder / "model", args.layers)
        phi4mini.write(data, phi4mini.training_examples(args.rows, tokens=args.length))
        phi4mini.write(args.folder / "val.jsonl", phi4mini.training_examples(32, seed=4))
        return alone.tell({})
    if args.one:
        return alone.tell(script(args.folder, data, checkpointing=args.one == "script-gc"))
    for name in ["make", *args.runs]:
        own = name == "make" or name.startswith("script")
        result = alone.run(name) if own else {"name": name, **fledgling(args.folder, data, name)}
        print(json.dumps(result), flush=True)
    return None


if __name__ == "__main__":
    main()
