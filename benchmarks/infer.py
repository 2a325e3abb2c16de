"""How fast the slm answers on a card: the historical setting, a bare vLLM script, and Fledgling's predict stage.

    python benchmarks/infer.py [--rows 2048] [--gpus 1] [--folder DIR] [--only historical bare shipped overlay fledgling]

All answer the same prompts (benchmarks/phi4mini.py) with 46 new tokens each. Fledgling's is the
whole command that the graph runs: claiming cards, templates, engine, journal, files. Each contender
runs in a process of its own. `requests_per_s` counts from the engine's being ready to the last answer (Fledgling's: until the file
of predictions is published, each row journalled), without loading the weights and starting the engine; `wall_s` is the
whole process. `again` is what the bare script reaches when it asks the same once more, its kernels loaded; `engine_rows_per_s`
what the stage's own replica reached. The historical setting (LLM.int8, batches of 8 in the order of the rows) answers the first 48 rows: more
take minutes and change nothing. `shipped` is `snakemake … --configfile config/phi4-mini.yaml` for one file of predictions,
with nothing changed but the rows and the checkpoint, `overlay` the same with config/examples/historical.yaml over the
first 48 rows. `--gpus 1 2` runs Fledgling once on each number of cards.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).parent)]

import alone  # noqa: E402
import phi4mini  # noqa: E402
from asked import prompts  # noqa: E402

NEW_TOKENS = 46
HISTORICAL_ROWS = 48
ANSWERED = re.compile(r"answered ([0-9]+) rows in ([0-9.]+) s")
READY = re.compile(r"([-0-9]{10} [:,0-9]{12}) INFO [^\n]* was ready after")
WRITTEN = re.compile(r"([-0-9]{10} [:,0-9]{12}) INFO [^\n]* is written")


def historical(model: Path, data: Path) -> dict[str, float]:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from fledgling.models import checkpoint as manifest
    from fledgling.slm.transformers_engine import left_padded

    asked = prompts(model, data, NEW_TOKENS)[0][:HISTORICAL_ROWS]
    slm = AutoModelForCausalLM.from_pretrained(
        manifest.load(model).checkpoint,
        device_map="auto",
        dtype=torch.bfloat16,
        quantization_config=BitsAndBytesConfig(load_in_8bit=True),
    )

    def answer(rows: list[list[int]]) -> None:
        for start in range(0, len(rows), 8):
            ids, mask = left_padded(rows[start : start + 8], 199999)
            slm.generate(
                input_ids=ids.cuda(),
                attention_mask=mask.cuda(),
                do_sample=False,
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                pad_token_id=199999,
            )
        torch.cuda.synchronize()

    answer(asked[:8])
    start = time.perf_counter()
    answer(asked)
    return {"rows": len(asked), "requests_per_s": round(len(asked) / (time.perf_counter() - start), 2)}


def bare(model: Path, data: Path) -> dict[str, float]:
    from fledgling.models import checkpoint as manifest
    from fledgling.slm.vllm_engine import ENVIRONMENT

    os.environ.update(ENVIRONMENT)
    from vllm import LLM, SamplingParams

    asked = [{"prompt_token_ids": ids} for ids in prompts(model, data, NEW_TOKENS)[0]]
    llm = LLM(
        model=str(manifest.load(model).checkpoint),
        skip_tokenizer_init=True,
        dtype="bfloat16",
        max_model_len=4096,
        enable_prefix_caching=True,
    )
    params = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        llm.generate(asked, params, use_tqdm=False)
        seconds.append(time.perf_counter() - start)
        llm.reset_prefix_cache()
    speeds = [round(len(asked) / taken, 2) for taken in seconds]
    return {"rows": len(asked), "requests_per_s": speeds[0], "again": speeds[1]}


def fledgling(model: Path, data: Path, folder: Path, gpus: int, precision: str) -> dict[str, Any]:
    from fledgling.records import read_predictions

    settings = {
        "slm": {"engine": "vllm", "precision": precision, "batch_size": 8, "max_prompt_tokens": 4096 - NEW_TOKENS},
        "track": {"kind": "structured", "max_new_tokens": NEW_TOKENS},
        "seed": 0,
    }
    out = folder / f"predictions-{precision}-{time.time_ns()}.jsonl"
    start = time.time()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "fledgling.gpus",
            str(gpus),
            sys.executable,
            ROOT / "scripts/answer.py",
            "--track",
            "bench",
            "--contender",
            "slm",
            "--data",
            data,
            "--model",
            model,
            "--settings",
            json.dumps(settings),
            "--journal",
            folder / f"journal-{time.time_ns()}",
            "--out",
            out,
        ],
        check=False,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.time()
    if done.returncode:
        sys.exit(done.stderr[-5000:])
    rows = list(read_predictions(out))
    written = sum(row.usage["completion_tokens"] for row in rows)  # under fp8 random weights end an answer now and then
    assert written >= 0.999 * NEW_TOKENS * len(rows), "the work is not the same"
    ready = READY.findall(done.stderr)
    asking = asked_for(done.stderr)
    return {
        "rows": len(rows),
        "requests_per_s": round(len(rows) / asking, 2),
        "gpus": len(ready),
        "wall_s": round(end - start, 1),
    }


def graph(model: Path, data: Path, folder: Path, *overlays: str) -> dict[str, Any]:
    """The predict stage as Snakemake runs it from a shipped configuration."""
    from fledgling.records import read_predictions

    place = folder / f"graph-{time.time_ns()}"
    place.mkdir()
    track = {
        "kind": "structured",
        "sources": [{"path": str(data.resolve())}],
        "splits": {"train": 0, "val": 0, "test": 1},
        "finetune": "always",  # nothing is asked of val
        "max_new_tokens": NEW_TOKENS,
        "leaks": {"near_duplicate": None},
    }
    (place / "rows.yaml").write_text(json.dumps({"tracks": {"bench": track, "toolcall": None, "structured": None}}))
    out = place / "results/predictions/bench/slm.jsonl"
    files = [ROOT / "config/phi4-mini.yaml", *(ROOT / overlay for overlay in overlays), place / "rows.yaml"]
    words = ["-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", place, "--cores", "all"]
    start = time.time()
    done = subprocess.run(
        [sys.executable, *words, "--configfile", *files, "--", out.relative_to(place)],
        check=False,
        env=os.environ | {"SLM_MODEL_PATH": str((model.parent / "checkpoint").resolve())},
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stderr[-5000:])
    rows = list(read_predictions(out))
    assert all(row.usage["completion_tokens"] == NEW_TOKENS for row in rows), "the work is not the same"
    log = (place / "logs/answer/bench/slm.log").read_text()
    ready = READY.findall(log)
    # Without replicas, a row's latency is its share of its batch's time.
    asking = asked_for(log) if ready else sum(row.latency_s or 0 for row in rows)
    return {
        "rows": len(rows),
        "requests_per_s": round(len(rows) / asking, 2),
        "engine": (rows[0].fingerprint or "").rpartition("-")[0],
        "engine_rows_per_s": [round(int(count) / float(took), 2) for count, took in ANSWERED.findall(log)],
        "wall_s": round(time.time() - start, 1),
    }


def asked_for(log: str) -> float:
    """Seconds from the first replica's being ready to the last file's being published, by the stage's own log.

    Not by the file's time: Snakemake sets it anew when the job's process, and the engine with it, is gone.
    """
    first, last = (
        [datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").timestamp() for stamp in pattern.findall(log)]
        for pattern in (READY, WRITTEN)
    )
    return max(last) - min(first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1])
    parser.add_argument("--precision", default="bf16", help="of Fledgling's run: bf16 or fp8")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--folder", type=Path, default=Path("results/benchmark"))
    parser.add_argument("--only", nargs="+", default=["historical", "bare", "fledgling"])
    parser.add_argument("--one", choices=["make", "historical", "bare"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    model, data = args.folder / "model/manifest.json", args.folder / "rows.jsonl"
    if args.one == "make":
        phi4mini.make(args.folder / "model", args.layers)
        phi4mini.write(data, phi4mini.examples(args.rows))
        return alone.tell({"rows": args.rows})
    if args.one:  # on one card, though the machine may have more
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        return alone.tell({"historical": historical, "bare": bare}[args.one](model, data))
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in ["make", *args.only]:
        if name == "fledgling":
            results = (
                {"name": name, **fledgling(model, data, args.folder, gpus, args.precision)} for gpus in args.gpus
            )
        elif name == "shipped":
            results = iter([{"name": name, **graph(model, data, args.folder)}])
        elif name == "overlay":
            few = args.folder / "few.jsonl"
            few.write_text("".join(data.read_text().splitlines(keepends=True)[:HISTORICAL_ROWS]))
            results = iter([{"name": name, **graph(model, few, args.folder, "config/examples/historical.yaml")}])
        else:
            results = iter([alone.run(name)])
        for result in results:
            print(json.dumps(result), flush=True)
            if "exit_code" in result:
                sys.exit(f"{name} failed")
    return None


if __name__ == "__main__":
    main()
