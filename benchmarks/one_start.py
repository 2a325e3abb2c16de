"""A track with three candidates through one start of vLLM: the model and its adapters answer test and val together.

    python benchmarks/one_start.py [--folder DIR] [--test 400] [--val 100] [--rank 64] [--layers 32]

Makes three adapters with random weights for the checkpoint of benchmarks/phi4mini.py and runs the graph's own command
once: the model on test, every candidate on val, the last one on test. Prints its wall time and how often an engine
started; before, each of the five would have started its own.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).parent)]

import phi4mini  # noqa: E402

NEW_TOKENS = 46


def adapter(folder: Path, model: Path, number: int, rank: int) -> Path:
    """A sealed adapter with random weights; its manifest."""
    import torch
    from safetensors.torch import save_file

    from fledgling.models import adapter as adapters
    from fledgling.models import checkpoint, memory

    base = checkpoint.load(model)
    shape = memory.Shape.of(json.loads((base.checkpoint / "config.json").read_text()), tied=True)
    place = folder / str(number)
    place.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(number)
    weights = {}
    for layer in range(shape.layers):
        for name, (inputs, outputs) in memory.projections(shape).items():
            part = "self_attn" if name in ("qkv_proj", "o_proj") else "mlp"
            prefix = f"base_model.model.model.layers.{layer}.{part}.{name}"
            weights[f"{prefix}.lora_A.weight"] = torch.randn(rank, inputs, generator=generator) * 0.01
            weights[f"{prefix}.lora_B.weight"] = torch.randn(outputs, rank, generator=generator) * 0.01
    save_file(weights, place / adapters.WEIGHTS, metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(memory.projections(shape)),
        "base_model_name_or_path": adapters.name_of(base),
        "inference_mode": True,
    }
    (place / adapters.CONFIG).write_text(json.dumps(config))
    adapters.seal(place, track="bench", model=base, data={}, recipe={}, backend="none")
    return place / adapters.MANIFEST


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results/benchmark"))
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--val", type=int, default=100)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--precision", default="bf16")
    args = parser.parse_args()
    folder = args.folder.resolve()
    model = phi4mini.make(folder / "model", args.layers)
    test = phi4mini.write(folder / "one-test.jsonl", phi4mini.examples(args.test))
    val = phi4mini.write(folder / "one-val.jsonl", phi4mini.examples(args.val, seed=5))
    made = [adapter(folder / "candidates", model, number, args.rank) for number in (1, 2, 3)]
    settings = {
        "slm": {
            "engine": args.engine,
            "precision": args.precision,
            "batch_size": 8,
            "max_prompt_tokens": 4096 - NEW_TOKENS,
        },
        "track": {"kind": "structured", "max_new_tokens": NEW_TOKENS},
        "seed": 0,
    }
    out = folder / f"one-{time.time_ns()}"
    also = [["--also", val, out / f"val-{n}.jsonl", path] for n, path in enumerate(made, 1)]
    also.append(["--also", test, out / "tuned.jsonl", made[-1]])
    command = [
        *(sys.executable, "-m", "fledgling.gpus", os.environ.get("BENCHMARK_GPUS", "1")),
        *(sys.executable, ROOT / "scripts/answer.py", "--track", "bench", "--contender", "slm"),
        *("--data", test, "--model", model, "--settings", json.dumps(settings)),
        *("--journal", out / "journal", "--out", out / "slm.jsonl"),
        *(word for words in also for word in words),
    ]
    start = time.time()
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    wall = time.time() - start
    if done.returncode:
        sys.exit(done.stderr[-5000:])
    answered = {path.stem: len(path.read_text().splitlines()) for path in sorted(out.glob("*.jsonl"))}
    starts = done.stderr.count("was ready after")
    print(json.dumps({"name": "one_start", "wall_s": round(wall, 1), "starts": starts, "rows": answered}), flush=True)
    texts = [[json.loads(line)["raw"] for line in (out / f"val-{n}.jsonl").open()] for n in (1, 2, 3)]
    same = sum(a == b for a, b in zip(texts[0], texts[1], strict=True))
    print(json.dumps({"answers of candidates 1 and 2 that are the same": same}), flush=True)


if __name__ == "__main__":
    main()
