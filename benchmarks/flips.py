"""How many answers change when only the batch changes (other sizes, another order), or only the precision.

    python benchmarks/flips.py --model results/models/slm/manifest.json --data results/data/toolcall/test.jsonl
        [--rows 200] [--engines bf16 nf4 int8 vllm vllm-fp8 vllm-fp8-dynamic vllm-int8 vllm-nf4]
        [--precision-only]

Every row is answered greedily in batches of 8, 1, 3 and 32, in batches of 8 once more, and in batches of 8 after a
seeded permutation; batches are cut from the rows as they come, so another order makes other batches. Prints the share
of rows whose tokens differ from the first run. vLLM batches by itself: there N is how many rows are handed to it at a
time, and all of them at once is a run as well. Each engine has a process of its own. `against` is the share of rows
whose tokens differ from the same library's in bf16, each in batches of 8: what the fewer bits change.
`--precision-only` leaves the other batches out. `fp8-weights`, `fp8-rows-weights` and `int8-rows-weights` round the
linear layers' weights (one scale a layer, or one an output) and compute in bf16 through transformers: what 8-bit weights
change by themselves, on any machine. Of vLLM's, `fp8` is the weights alone (what `slm.precision: fp8` is), `fp8-dynamic`
its activations too (Hopper and later), `int8` both, from a copy of the checkpoint in the form of compressed-tensors
(a scale an output and a token), `nf4` through bitsandbytes. `right` is the share of rows that are answered as they should.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).parent)]

import alone  # noqa: E402
from asked import prompts as prompts_of  # noqa: E402

from fledgling.slm.engine import Decoding, Request  # noqa: E402

Answers = list[list[int] | None]
Ask = Callable[[list[list[int]], int], Answers]


def rounded(model: Any, how: str) -> None:
    """Round the weights of every decoder layer's linear layers, in place."""
    import torch

    bits, rows = how.split("-")[0], "rows" in how
    most = 448.0 if bits == "fp8" else 127.0  # of e4m3 and of int8
    with torch.no_grad():
        for module in model.get_decoder().layers.modules():
            if isinstance(module, torch.nn.Linear):
                weight = module.weight.float()
                scale = weight.abs().amax(dim=1, keepdim=True) if rows else weight.abs().amax()
                scale = (scale / most).clamp(min=1e-12)
                small = weight / scale
                small = small.to(torch.float8_e4m3fn).float() if bits == "fp8" else small.round()
                module.weight.copy_(small * scale)


def transformers_engine(checkpoint: Path, precision: str, decoding: Decoding) -> Ask:
    from fledgling.slm.transformers_engine import TransformersSlm

    weights = precision.endswith("-weights")
    how = "bf16" if weights else precision
    slm = TransformersSlm(checkpoint, precision=how, batch_size=32, decoding=decoding)
    if weights:
        rounded(slm._model, precision)

    def ask(prompts: list[list[int]], size: int) -> Answers:
        answers: Answers = []
        for start in range(0, len(prompts), size):
            part = [Request(prompt=ids) for ids in prompts[start : start + size]]
            found: dict[int, list[int] | None] = {}
            for positions, given in slm.answers(part, lambda _: None):
                found |= zip(positions, (answer.tokens for answer in given), strict=True)
            answers += [found[i] for i in range(len(part))]
        return answers

    return ask


def int8_copy(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint with int8 weights, a scale an output, as vLLM reads them (compressed-tensors)."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    weights = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                weight = opened.get_tensor(name)
                if name.endswith("_proj.weight"):
                    scale = (weight.float().abs().amax(dim=1, keepdim=True) / 127).clamp(min=1e-12)
                    weights[name] = (weight.float() / scale).round().to(torch.int8)
                    weights[f"{name}_scale"] = scale
                else:
                    weights[name] = weight
    for file in checkpoint.iterdir():
        if file.is_file() and ".safetensors" not in file.name:
            shutil.copy(file, folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    eight = {"num_bits": 8, "type": "int", "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": {**eight, "strategy": "channel", "dynamic": False},
        "input_activations": {**eight, "strategy": "token", "dynamic": True},
    }
    config = json.loads((checkpoint / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def vllm_engine(checkpoint: Path, precision: str, decoding: Decoding) -> Ask:
    from fledgling.slm.vllm_engine import ENVIRONMENT, quantized

    os.environ.update(ENVIRONMENT)
    from vllm import LLM, SamplingParams

    how = {"fp8-dynamic": {"quantization": "fp8"}, "nf4": {"quantization": "bitsandbytes"}}
    if precision == "int8":
        checkpoint = int8_copy(checkpoint, Path(tempfile.mkdtemp(prefix="int8-")))
    llm = LLM(
        model=str(checkpoint.resolve()),
        dtype="bfloat16",
        **how.get(precision, quantized(precision)),
        skip_tokenizer_init=True,
        max_model_len=2048,
        enable_prefix_caching=True,
        gpu_memory_utilization=0.4,
    )
    params = SamplingParams(
        temperature=0, max_tokens=decoding.max_new_tokens, stop_token_ids=list(decoding.stops), detokenize=False
    )

    def ask(prompts: list[list[int]], size: int) -> Answers:
        answers: Answers = []
        for start in range(0, len(prompts), size):
            part = [{"prompt_token_ids": ids} for ids in prompts[start : start + size]]
            answers += [list(out.outputs[0].token_ids) for out in llm.generate(part, params, use_tqdm=False)]
        return answers

    return ask


def one(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The answers of one engine in batches of 8, and the share that differs under other batches."""
    from fledgling.models import checkpoint as manifest
    from fledgling.models.offline import offline_and_quiet

    offline_and_quiet()
    checkpoint = manifest.load(args.model).checkpoint
    every, decoding = prompts_of(args.model, args.data, args.tokens)
    prompts = every[: args.rows]
    shuffled = random.Random(1).sample(range(len(prompts)), len(prompts))
    library, _, precision = name.partition("-")
    if library == "vllm":
        ask = vllm_engine(checkpoint, precision or "bf16", decoding)
    else:
        ask = transformers_engine(checkpoint, name, decoding)
    first = ask(prompts, 8)
    if args.precision_only:
        return {"answers": first, "right": right(args, first, decoding), "flips": {}}
    again: dict[str, Answers] = {f"batches of {size}": ask(prompts, size) for size in (1, 3, 32)}
    again["the same again"] = ask(prompts, 8)
    if name.startswith("vllm"):
        again["all at once"] = ask(prompts, len(prompts))
    permuted = ask([prompts[i] for i in shuffled], 8)
    back: Answers = [None] * len(prompts)
    for i, answer in zip(shuffled, permuted, strict=True):
        back[i] = answer
    again["permuted"] = back
    flips = {how: differ(first, other) for how, other in again.items()}
    return {"answers": first, "right": right(args, first, decoding), "flips": flips}


def right(args: argparse.Namespace, answers: Answers, decoding: Decoding) -> float:
    """Share of answers that are the row's own, token for token."""
    from transformers import AutoTokenizer

    from fledgling.models import checkpoint as manifest
    from fledgling.prompting import template
    from fledgling.records import read_examples

    tokenizer = AutoTokenizer.from_pretrained(manifest.load(args.model).checkpoint.resolve(), local_files_only=True)
    chat = template.chat(tokenizer)
    texts = [tokenizer.decode([t for t in answer or [] if t not in decoding.stops]) for answer in answers]
    wanted = [chat.reply(row) for row in read_examples(args.data)]
    return round(sum(a == b for a, b in zip(texts, wanted, strict=False)) / len(texts), 4)


def differ(some: Answers, others: Answers) -> float:
    """Share of rows with other tokens."""
    return round(sum(a != b for a, b in zip(some, others, strict=True)) / len(some), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--engines", nargs="+", default=["bf16", "nf4", "int8", "vllm", "vllm-fp8"])
    parser.add_argument("--precision-only", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return alone.tell(one(args.one, args))
    kept: dict[str, Answers] = {}
    for name in args.engines:
        result = alone.run(name)
        if "exit_code" in result:
            print(json.dumps(result), flush=True)
            continue
        kept[name] = result.pop("answers")
        whole = "vllm" if name.startswith("vllm") else "bf16"
        against = {whole: differ(kept[whole], kept[name])} if whole in kept and name != whole else {}
        figures = {"engine": name, "rows": len(kept[name]), "right": result["right"]}
        print(json.dumps(figures | {"flips": result["flips"], "against": against}), flush=True)
    return None


if __name__ == "__main__":
    main()
