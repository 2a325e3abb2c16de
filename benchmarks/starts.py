"""How long vLLM takes to start, and what each way of starting costs in speed afterwards.

    python benchmarks/starts.py [--folder DIR] [--rows 2048] [--ways default uncompiled few-graphs eager] [--lora]

Each way runs in a process of its own, over the checkpoint and rows of benchmarks/phi4mini.py, 46 new tokens a row; no
cache of compiled code is there before. `ready_s` is from the start of Python to the first row that may be asked,
`rows_per_s` of 512 and of all rows. `small_s` is what a job of 400 rows takes in all.

default     what vLLM does unless told: torch.compile, graphs of decoding and of pieces of the prefill
uncompiled  vLLM's own kernels without torch.compile, graphs of decoding alone
few-graphs  the same with graphs of nine sizes of batch
eager       neither
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).parent)]

import alone  # noqa: E402
import phi4mini  # noqa: E402
from asked import prompts  # noqa: E402

NEW_TOKENS = 46
GRAPHS = {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "uncompiled": {"compilation_config": GRAPHS},
    "few-graphs": {
        "compilation_config": {**GRAPHS, "cudagraph_capture_sizes": [1, 2, 4, 8, 16, 32, 64, 128, 256]},
        "max_num_seqs": 256,
    },
    "eager": {"enforce_eager": True},
}


def one(way: str, model: Path, data: Path, lora: bool) -> dict[str, Any]:
    begun = time.perf_counter()
    from fledgling.models import checkpoint
    from fledgling.slm.vllm_engine import ENVIRONMENT

    os.environ.update(ENVIRONMENT)
    asked = [{"prompt_token_ids": ids} for ids in prompts(model, data, NEW_TOKENS)[0]]
    tokenized = time.perf_counter()
    from vllm import LLM, SamplingParams

    imported = time.perf_counter()
    more = {"enable_lora": True, "max_loras": 3, "max_cpu_loras": 3, "max_lora_rank": 64} if lora else {}
    llm = LLM(
        model=str(checkpoint.load(model).checkpoint.resolve()),
        skip_tokenizer_init=True,
        dtype="bfloat16",
        max_model_len=4096,
        enable_prefix_caching=True,
        **WAYS[way],
        **more,
    )
    ready = time.perf_counter()
    params = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False)

    def speed(rows: list[dict[str, Any]]) -> tuple[float, list[list[int]]]:
        llm.reset_prefix_cache()
        start = time.perf_counter()
        answers = llm.generate(rows, params, use_tqdm=False)
        return time.perf_counter() - start, [list(answer.outputs[0].token_ids) for answer in answers]

    small, _ = speed(asked[:400])
    some, _ = speed(asked[:512])
    every, _ = speed(asked)
    return {
        "lora": lora,
        "import_s": round(imported - tokenized, 1),
        "ready_s": round(ready - begun, 1),
        "small_s": round(ready - begun + small, 1),
        "rows_per_s": {str(min(512, len(asked))): round(512 / some, 1), str(len(asked)): round(len(asked) / every, 1)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results/benchmark"))
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--lora", action="store_true", help="with slots for three adapters of rank 64")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    model, data = args.folder / "model/manifest.json", args.folder / f"starts-{args.rows}.jsonl"
    if args.one:
        return alone.tell(one(args.one, model, data, args.lora))
    phi4mini.make(args.folder / "model", args.layers)
    phi4mini.write(data, phi4mini.examples(args.rows))
    for way in args.ways:
        with tempfile.TemporaryDirectory() as cache:
            os.environ |= {"VLLM_CACHE_ROOT": cache, "TRITON_CACHE_DIR": f"{cache}/triton"}
            print(json.dumps(alone.run(way)), flush=True)
    return None


if __name__ == "__main__":
    main()
