"""A trained checkpoint of about 100 M weights: the embedded checkpoint's recipe, five times as wide and four times as deep.

    python benchmarks/medium.py --folder DIR [--steps 600] [--device cuda]

Writes DIR/checkpoint and DIR/manifest.json (for benchmarks/flips.py) and DIR/toolcall.jsonl, rows that it has not seen.
Heads are 128 wide as Phi-4-mini's. It prints the mean loss of the last ten steps.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).parent)]

import phi4mini  # noqa: E402

SHAPE = {"HIDDEN": 1024, "INTERMEDIATE": 3072, "LAYERS": 8, "HEADS": 8, "KV_HEADS": 2}
RATES = (0.01, 2e-3)  # of matrices, and of the rest
ROW = ("id", "group", "messages", "tools", "answer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--small", action="store_true", help="the embedded checkpoint's own shape")
    args = parser.parse_args()

    import torch

    from fledgling.embedded import architecture, pretrain, world
    from fledgling.models import checkpoint
    from fledgling.prompting import template

    start = time.perf_counter()
    if not args.small:
        for name, value in SHAPE.items():
            setattr(architecture, name, value)
    torch.manual_seed(7)
    tokens = architecture.tokenizer(pretrain._texts())
    model = architecture.model(tokens).to(args.device)
    chat = template.chat(tokens)
    model.set_attn_implementation("sdpa")
    optimizers, schedules = pretrain.optimisation(model, args.steps, *RATES)
    random, losses = Random("medium"), []
    with torch.device(args.device), ThreadPoolExecutor(1) as threads:
        for _ in range(args.steps):
            packs = [pretrain.pack(chat, *rows) for rows in pretrain._draw(random)]
            with torch.autocast(args.device, torch.bfloat16):
                loss = pretrain._loss(model, packs, tokens.pad_token_id)
            loss.backward()
            pretrain.update(model, optimizers, schedules, threads)
            losses.append(loss.detach())
    args.folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(args.folder / "checkpoint")
    tokens.save_pretrained(args.folder / "checkpoint")
    described = checkpoint.describe(args.folder / "checkpoint", source="path")
    checkpoint.write(args.folder / "manifest.json", described)
    rows = [
        {key: value for key, value in row.items() if key in ROW}
        for row in world.generate("toolcall", args.rows, seed=99, house=0.5)
    ]
    phi4mini.write(args.folder / "toolcall.jsonl", rows)
    figures = {
        "weights_M": round(sum(p.numel() for p in model.parameters()) / 1e6, 1),
        "loss": round(float(torch.stack(losses[-10:]).mean()), 4),
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
