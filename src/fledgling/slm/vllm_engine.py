"""The slm through vLLM's offline engine: one replica a card, rows dealt out over them.

`python -m fledgling.slm.vllm_engine` is one replica. It reads a job (one JSON line) from standard
input and writes one JSON line a finished row; it ends when its standard input does, so that no
replica outlives the run that started it: after its last row, once the caller has taken the answers.
"""

import contextlib
import fcntl
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO, Literal

from fledgling.errors import ConfigError, Unavailable
from fledgling.files import Object
from fledgling.slm.batches import shuffled
from fledgling.slm.engine import Answer, Decoding, Found, Request, require_sound

log = logging.getLogger(__name__)

Lines = queue.SimpleQueue[tuple[int, Object | int]]  # (replica, what it said or its exit code)

MODULE = "fledgling.slm.vllm_engine"
PIPE = 1 << 20  # bytes between a replica and this process: no engine waits until an answer is read (Linux)
MOST_SLOTS = 8  # adapters in a GPU's memory at once; others wait in main memory
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM takes as max_lora_rank
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    # The engine's core in the replica's own process: it ends with it, and rows come in the same order.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # compiles at the first use; greedy decoding needs no sampler
}


class VllmSlm:
    """An slm in one process a card; see fledgling.slm.engine.Slm."""

    unit: Literal["row", "batch"] = "row"

    def __init__(
        self,
        checkpoint: Path,
        *,
        precision: str,
        max_prompt_tokens: int,
        decoding: Decoding,
        seed: int,
        adapters: Sequence[Path] = (),
        cards: list[str],
        repeat: int = 0,
    ) -> None:
        if not cards:
            raise ConfigError("slm.engine vllm needs a CUDA card, and none is visible; set slm.engine to transformers")
        if precision == "fp8":
            require_sound(precision, version("vllm"))
        self._cards = cards
        self._repeat = repeat
        self._job: Object = {
            "model": str(checkpoint.resolve()),
            "dtype": "float32" if precision == "fp32" else "bfloat16",
            "max_model_len": max_prompt_tokens + decoding.max_new_tokens,
            "max_new_tokens": decoding.max_new_tokens,
            "stops": list(decoding.stops),
            "seed": seed,
            "precision": precision,
            "adapters": [str(adapter.resolve()) for adapter in adapters],
            "rank": max(map(_rank, adapters), default=None),
        }
        self._places = {adapter: place for place, adapter in enumerate(adapters)}

    def answers(self, requests: list[Request], found: Found) -> Iterator[tuple[list[int], list[Answer]]]:
        """See fledgling.slm.engine.Slm.answers; rows come one by one, as any replica finishes them.

        Raises:
            Unavailable: a replica ended early; the rows finished until then have been yielded.
        """
        lines: Lines = queue.SimpleQueue()
        order = shuffled(requests, self._repeat) if self._repeat else by_prompt(requests)
        shards = [shard for shard in deal(requests, order, len(self._cards)) if shard]
        replicas = [self._start(card) for card, _ in zip(self._cards, shards, strict=False)]
        running = set(range(len(replicas)))
        failed: list[str] = []
        try:
            for number, (replica, shard) in enumerate(zip(replicas, shards, strict=True)):
                rows_asked = [[i, requests[i].prompt, requests[i].guide, self._place(requests[i])] for i in shard]
                job = self._job | {"rows": rows_asked}
                # Not a daemon: this process, which claims the cards, does not end before its replicas have.
                threading.Thread(target=_talk, args=(replica, job, number, lines)).start()
            while running:
                rows = []
                for number, said in _waiting(lines):
                    card = self._cards[number]
                    if isinstance(said, int):
                        if number in running:
                            failed.append(f"the replica on card {card} ended with exit code {said}")
                            running.remove(number)
                    elif "ready_s" in said:
                        log.info("the replica on card %s was ready after %.1f s", card, said["ready_s"])
                    elif "done" in said:
                        log.info(
                            "the replica on card %s answered %d rows in %.1f s", card, said["done"], said["took_s"]
                        )
                        running.remove(number)
                    else:
                        rows.append(said)
                if rows:
                    answers = [Answer(tokens=row["tokens"], latency_s=row["latency_s"]) for row in rows]
                    yield [row["i"] for row in rows], answers
        except BaseException:  # also where the caller wants no more: the rest of the work is of no use
            for replica in replicas:
                replica.kill()
                replica.wait()
            raise
        for replica in replicas:
            assert replica.stdin
            with contextlib.suppress(BrokenPipeError):
                replica.stdin.close()  # what it waits for when it is done
        if failed:
            raise Unavailable("; ".join(failed) + "; its reason is above; the same command goes on from here")

    def _place(self, request: Request) -> int | None:
        return None if request.adapter is None else self._places[request.adapter]

    def _start(self, card: str) -> subprocess.Popen[str]:
        environment = {**ENVIRONMENT, **os.environ, "CUDA_VISIBLE_DEVICES": card}
        replica = subprocess.Popen(
            [sys.executable, "-m", MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert replica.stdout
        with contextlib.suppress(OSError, AttributeError):  # not Linux, or the machine allows less: slower, no more
            fcntl.fcntl(replica.stdout, fcntl.F_SETPIPE_SZ, PIPE)
        return replica


def _waiting(lines: "Lines") -> Iterator[tuple[int, Object | int]]:
    """The next line of a replica, or its exit code, and all that are there by then: journalled together, with one fsync."""
    yield lines.get()
    with contextlib.suppress(queue.Empty):
        while True:
            yield lines.get_nowait()


def visible_cards() -> list[str]:
    """The cards that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def by_prompt(requests: list[Request]) -> list[int]:
    """Positions sorted by prompt, so that shared beginnings meet in one prefix cache, which adapters do not share."""
    return sorted(range(len(requests)), key=lambda i: (str(requests[i].adapter or ""), requests[i].prompt))


def deal(requests: list[Request], order: list[int], replicas: int) -> list[list[int]]:
    """Positions for each replica: the order cut into parts of like size in tokens."""
    total = sum(len(request.prompt) for request in requests)
    shards: list[list[int]] = [[] for _ in range(replicas)]
    seen = 0
    for i in order:
        shards[min(replicas - 1, seen * replicas // max(1, total))].append(i)
        seen += len(requests[i].prompt)
    return shards


def _rank(adapter: Path) -> int:
    rank = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"]
    for allowed in LORA_RANKS:
        if rank <= allowed:
            return allowed
    raise ConfigError(f"{adapter}: LoRA rank {rank} is more than vLLM's {LORA_RANKS[-1]}; set slm.engine transformers")


def _talk(replica: "subprocess.Popen[str]", job: Object, number: int, lines: "Lines") -> None:
    assert replica.stdin
    assert replica.stdout
    try:
        with contextlib.suppress(BrokenPipeError):
            replica.stdin.write(json.dumps(job) + "\n")
            replica.stdin.flush()  # stays open: its end is the replica's sign to stop
        for line in replica.stdout:
            if line.endswith("\n"):  # or it was killed while it wrote
                lines.put((number, json.loads(line)))
    finally:
        lines.put((number, replica.wait()))


def serve(job: Object, out: IO[str]) -> None:
    """Answer the rows of one job.

    Writes {"ready_s"} once the engine is up, {"i", "tokens", "latency_s"} as a row ends, {"done", "took_s"} after the last.
    """
    begun = time.perf_counter()
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import StructuredOutputsParams

    rows = job["rows"]
    guided = any(guide is not None for _, _, guide, _ in rows)
    adapters = [LoRARequest(f"adapter-{place}", place + 1, path) for place, path in enumerate(job["adapters"])]
    lora: Object = {}
    if adapters:
        slots = min(len(adapters), MOST_SLOTS)
        lora = {"enable_lora": True, "max_loras": slots, "max_cpu_loras": len(adapters), "max_lora_rank": job["rank"]}
    llm = LLM(
        model=job["model"],
        dtype=job["dtype"],
        **quantized(job["precision"]),
        seed=job["seed"],
        max_model_len=job["max_model_len"],
        enable_prefix_caching=True,
        skip_tokenizer_init=not guided,  # prompts come and answers go as token ids; a grammar needs the vocabulary
        **lora,
    )
    params = [
        SamplingParams(
            temperature=0.0,
            max_tokens=job["max_new_tokens"],
            stop_token_ids=job["stops"],
            detokenize=False,
            structured_outputs=None if guide is None else StructuredOutputsParams(structural_tag=guide),
        )
        for _, _, guide, _ in rows
    ]
    start = time.perf_counter()
    print(json.dumps({"ready_s": start - begun}), file=out, flush=True)
    llm.enqueue(
        [{"prompt_token_ids": prompt} for _, prompt, _, _ in rows],
        params,
        lora_request=[None if place is None else adapters[place] for _, _, _, place in rows] if adapters else None,
        use_tqdm=False,
    )
    # What LLM.wait_for_completion does, but with each row handed on when it is finished. Request ids
    # count from 0 in the order of enqueue.
    done = 0
    while llm.llm_engine.has_unfinished_requests():
        for output in llm.llm_engine.step():
            if output.finished:
                i, prompt, _, _ = rows[int(output.request_id)]
                if list(output.prompt_token_ids) != prompt:
                    raise RuntimeError(f"vLLM gave request {output.request_id} another prompt than it was asked")
                done += 1
                row = {
                    "i": i,
                    "tokens": list(output.outputs[0].token_ids),
                    "latency_s": (time.perf_counter() - start) / done,
                }
                print(json.dumps(row), file=out)
        out.flush()  # once a step: what ends together is read together
    print(json.dumps({"done": done, "took_s": time.perf_counter() - start}), file=out, flush=True)


def quantized(precision: str) -> Object:
    """What vLLM takes for a precision of its weights.

    fp8 is the weights' alone (W8A16, Marlin's kernels), as it must be on Ampere: an answer is the same function on every
    GPU.
    """
    if precision != "fp8":
        return {}
    return {"quantization": "fp8", "linear_backend": "marlin"}


def _end_with_input(done: threading.Event) -> None:
    sys.stdin.read()
    sys.stderr.flush()
    # Taking the engine down in order costs seconds and frees what the kernel frees.
    os._exit(0 if done.is_set() else 143)


def main() -> None:
    """Run one replica."""
    job = json.loads(sys.stdin.readline())
    done = threading.Event()
    waiting = threading.Thread(target=_end_with_input, args=(done,), daemon=True)
    waiting.start()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever vLLM prints belongs into the log
    serve(job, out)
    done.set()
    waiting.join()  # until the answers are in their files: the end of an engine keeps the whole machine busy for a second


if __name__ == "__main__":
    main()
