"""What decoding within a guide costs, and what it gives: the same rows free and guided, one after the other.

    python benchmarks/guided.py [--model results/models/slm/manifest.json] [--data results/data/toolcall/test.jsonl …]
                                [--rows 2000] [--precision fp32] [--batch 32] [--new 64]
    python benchmarks/guided.py --phi4mini DIR [--engine vllm] [--rows 2000] [--new 256]

Prints one JSON line a file of rows and way: milliseconds a row (the model in memory, guides of the first batch compiled), tokens
written, and the shares of answers that ended, and of those that are valid: by the row's schema, or calls whose
arguments are valid by the tool's (an answer in words counts as valid). Rows are repeated, numbered, up to --rows.

`--phi4mini` takes the checkpoint of benchmarks/phi4mini.py (made in DIR) and rows of 60 schemas. Its random weights end
no answer that is free, so there the guided rows come first, and free ones are then written as long as those were on
average. vLLM's milliseconds count from its first row to its last, grammars compiled on the way.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).parent)]

import phi4mini  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "results/models/slm/manifest.json")
    kinds = ("toolcall", "structured")
    parser.add_argument("--data", type=Path, nargs="+", default=[ROOT / f"results/data/{k}/test.jsonl" for k in kinds])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers")
    parser.add_argument("--phi4mini", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    args = parser.parse_args()
    if args.phi4mini:
        args.model = phi4mini.make(args.phi4mini / "model", args.layers)
        args.data = [phi4mini.write(args.phi4mini / "guided.jsonl", phi4mini.guided_examples(args.rows))]

    from transformers import AutoTokenizer

    from fledgling.models import checkpoint
    from fledgling.prompting import template
    from fledgling.slm import answer
    from fledgling.slm.engine import Decoding

    folder = checkpoint.load(args.model).checkpoint
    tokenizer = AutoTokenizer.from_pretrained(folder.resolve(), local_files_only=True)
    chat = template.chat(tokenizer)
    decoding = Decoding(args.new, answer.stop_tokens(chat, folder), tokenizer.pad_token_id or tokenizer.eos_token_id)
    slm = None
    for data in args.data:
        rows = numbered(data, args.rows)
        new = args.new
        for guided in (True, False) if args.phi4mini else (False, True):
            decoding = dataclasses.replace(decoding, max_new_tokens=new)
            asked, unguided = answer.ask(rows, chat, decoding, {"slm": {"schema_guided": guided}, "track": {}})
            requests = [row.request for row in asked if row.request]
            if args.engine == "vllm":
                written, seconds = through_vllm(folder, requests, decoding)
            else:
                slm = transformers_slm(args, folder, decoding) if args.phi4mini or slm is None else slm
                written, seconds = in_memory(slm, requests, args.batch)
            tokens = [written[i].tokens or [] for i in range(len(requests))]
            ended = [bool(ids) and ids[-1] in decoding.stops for ids in tokens]
            texts = [tokenizer.decode(ids[:-1]) for ids in tokens]
            good = [valid(row, text) for row, text, end in zip(rows, texts, ended, strict=True) if end]
            figures = {
                "data": str(data),
                "engine": args.engine,
                "guided": guided,
                "rows": len(requests),
                "unguided": unguided,
                "ms_a_row": round(1000 * seconds / len(requests), 2),
                "tokens": sum(map(len, tokens)),
                "tokens_per_s": round(sum(map(len, tokens)) / seconds),
                "ended": round(sum(ended) / len(ended), 4),
                "valid_of_ended": round(sum(good) / len(good), 4) if good else None,
            }
            print(json.dumps(figures), flush=True)
            for row, text, end in zip(rows, texts, ended, strict=True):
                if guided and end and not valid(row, text):
                    print(json.dumps({"invalid": text, "schema": row.schema}), flush=True)
            if args.phi4mini:
                new = max(1, round(figures["tokens"] / len(requests)))


def transformers_slm(args: argparse.Namespace, folder: Path, decoding: Any) -> Any:
    from fledgling.slm.transformers_engine import TransformersSlm

    return TransformersSlm(folder, precision=args.precision, batch_size=args.batch, decoding=decoding)


def in_memory(slm: Any, requests: list[Any], batch: int) -> tuple[dict[int, Any], float]:
    """The answers by position, and the seconds they took."""
    list(slm.answers(requests[:batch], lambda _: None))  # what is made once is not timed
    start, written = time.perf_counter(), {}
    for positions, answers in slm.answers(requests, lambda _: None):
        written |= dict(zip(positions, answers, strict=True))
    return written, time.perf_counter() - start


def through_vllm(folder: Path, requests: list[Any], decoding: Any) -> tuple[dict[int, Any], float]:
    """As `in_memory`, by the stage's own replica; a row's latency is the time so far divided by the rows so far."""
    from fledgling.slm.vllm_engine import VllmSlm, visible_cards

    slm = VllmSlm(
        folder, precision="bf16", max_prompt_tokens=4096, decoding=decoding, seed=0, cards=visible_cards()[:1]
    )
    written: dict[int, Any] = {}
    for positions, answers in slm.answers(requests, lambda _: None):
        written |= dict(zip(positions, answers, strict=True))
        seconds = answers[-1].latency_s * len(written)
    return written, seconds


def numbered(data: Path, count: int) -> list[Any]:
    """The rows again and again, each time with a number in the last turn, so that no two are the same."""
    from fledgling.records import read_examples

    own = list(read_examples(data))
    rows = []
    for number in range(count):
        row, again = own[number % len(own)], number // len(own)
        last = row.messages[-1]
        turn = last | {"content": f"{last['content']}{f' ({again})' if again else ''}"}
        rows.append(dataclasses.replace(row, messages=[*row.messages[:-1], turn]))
    return rows


def valid(row: Any, text: str) -> bool:
    """Whether an answer that ended is valid by its row's schema, or its calls by their tools'."""
    from fledgling import schema as json_schema
    from fledgling import strict_json
    from fledgling.tracks import toolcall

    if row.schema is not None:
        try:
            return json_schema.compiled(row.schema).valid(strict_json.loads(text))
        except ValueError:
            return False
    calls = toolcall.parse_calls(text)
    if calls is None:
        return not toolcall.attempts_call(text)
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row.tools or []}
    return all(
        call.name in schemas and json_schema.compiled(schemas[call.name]).valid(call.arguments) for call in calls
    )


if __name__ == "__main__":
    main()
