"""How often an engine starts for a track with three candidates, and how long that takes: the graph's own three commands.

    python benchmarks/one_start.py [--folder DIR] [--test 400] [--val 100] [--rank 64] [--layers 32] [--how always]

Makes three adapters with random weights for the checkpoint of benchmarks/phi4mini.py and runs what the graph runs on one
GPU. `--how always` is `finetune: always`: the three candidates answer val, and test ahead, and so does the model without
adapter; then the model, and the last candidate, chosen, find their answers. `--how auto` has the model answer val and test
first, as training waits for what they say. `--how apart` runs five answers one by one, each with a journal of its own, as
the graph once did. Prints the wall time of each command as it ends and how often an engine started; its log is kept
beside its files. None finds compiled code of an earlier run. What the model without adapter answers to test is kept as
one-HOW.jsonl, and compared with that of an earlier HOW: random weights say little about that, so `--model DIR/manifest.json
--data DIR/toolcall.jsonl` takes another checkpoint and its tool calls, those of benchmarks/medium.py say.
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
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--how", choices=["always", "auto", "apart"], default="always")
    args = parser.parse_args()
    folder = args.folder.resolve()
    test, val = folder / "one-test.jsonl", folder / "one-val.jsonl"
    if args.model:
        folder.mkdir(parents=True, exist_ok=True)
        model, lines = args.model.resolve(), args.data.read_text().splitlines(keepends=True)
        test.write_text("".join(lines[: args.test]))
        val.write_text("".join(lines[: args.val]))
    else:
        model = phi4mini.make(folder / "model", args.layers)
        phi4mini.write(test, phi4mini.examples(args.test))
        phi4mini.write(val, phi4mini.examples(args.val, seed=5))
    made = [adapter(folder / "candidates", model, number, args.rank) for number in (1, 2, 3)]
    settings = {
        "slm": {
            "engine": args.engine,
            "precision": args.precision,
            "batch_size": 8,
            "max_prompt_tokens": 4096 - NEW_TOKENS,
        },
        "track": {"kind": "toolcall" if args.model else "structured", "max_new_tokens": NEW_TOKENS},
        "seed": 0,
    }
    out = folder / f"one-{time.time_ns()}"
    val_files = [out / f"val/sft.{number}.jsonl" for number in (1, 2, 3)]

    def command(data: list[Path], files: list[Path], adapters: list[Path], *more: object) -> dict[str, Any]:
        """Run one job of the graph; how long it took, and how often an engine started."""
        start = time.time()
        log = out / f"{files[-1].stem}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "fledgling.gpus", os.environ.get("BENCHMARK_GPUS", "1")),
                *(sys.executable, str(ROOT / "scripts/answer.py"), "--track", "bench", "--contender", "slm"),
                *("--data", *map(str, data), "--model", str(model), "--settings", json.dumps(settings)),
                *(["--adapter", *map(str, adapters)] if adapters else []),
                *("--journal", str(out / (f"journal-{files[-1].stem}" if args.how == "apart" else "journal"))),
                *("--out", *map(str, files), *map(str, more)),
            ],
            check=False,
            cwd=ROOT,
            env=os.environ
            | {"PYTHONPATH": f"{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}"}
            | {"VLLM_CACHE_ROOT": str(out / "cache"), "TRITON_CACHE_DIR": str(out / "cache/triton")},
            stderr=log.open("w"),
        )
        said = log.read_text(errors="replace")
        if done.returncode:
            sys.exit(said[-5000:])
        rows = {str(path.relative_to(out)): len(path.read_text().splitlines()) for path in files}
        job = {"rows": rows, "starts": said.count("was ready after"), "wall_s": round(time.time() - start, 1)}
        print(json.dumps(job), flush=True)
        return job

    def both(name: str, adapters: list[Path]) -> dict[str, Any]:
        return command([val, test], [out / f"val/{name}.jsonl", out / f"{name}.jsonl"], adapters)

    if args.how == "apart":
        jobs = [command([test], [out / "slm.jsonl"], [])]
        jobs += [command([val], [file], [path]) for file, path in zip(val_files, made, strict=True)]
        jobs.append(command([test], [out / "tuned.jsonl"], [made[-1]]))
    else:
        jobs = [both("slm", [])] if args.how == "auto" else []
        jobs.append(command([val], val_files, made, "--ahead", test, "--untuned"))
        jobs += [both("slm", [])] if args.how == "always" else []
        jobs.append(both("tuned", [made[-1]]))
    total = {"starts": sum(job["starts"] for job in jobs), "wall_s": round(sum(job["wall_s"] for job in jobs), 1)}
    print(json.dumps({"name": args.how, **total}), flush=True)
    answered = [json.loads(line)["raw"] for line in (out / "slm.jsonl").open()]
    (folder / f"one-{args.how}.jsonl").write_text("".join(json.dumps(text) + "\n" for text in answered))
    for other in sorted({"always", "auto", "apart"} - {args.how}):
        if (before := folder / f"one-{other}.jsonl").exists():
            same = sum(a == json.loads(b) for a, b in zip(answered, before.open(), strict=True))
            print(json.dumps({f"answers of the model that are the same as under {other}": same}), flush=True)
    texts = [[json.loads(line)["raw"] for line in file.open()] for file in val_files]
    same = sum(a == b for a, b in zip(texts[0], texts[1], strict=True))
    print(json.dumps({"answers of candidates 1 and 2 that are the same": same}), flush=True)


if __name__ == "__main__":
    main()
