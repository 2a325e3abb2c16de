"""Which adapter of a training to keep: candidates answer rows of val as they were trained, and the best one stays.

`python -m fledgling.training.select` is one choice, in a process of its own: unsloth leaves a process whose models
no longer answer as plain ones do, and a card whose memory is spoken for. It reads a job (one JSON line) from standard
input and writes {"metric", "rows", "values"}.
"""

import json
import logging
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledgling.cli import run
from fledgling.errors import Unavailable
from fledgling.gpus import die_with_parent
from fledgling.models import manifest
from fledgling.records import Example, read_examples
from fledgling.slm.quiet import offline_and_quiet
from fledgling.tracks import kind
from fledgling.training import adapter
from fledgling.training.recipe import Recipe

log = logging.getLogger(__name__)

MODULE = "fledgling.training.select"
LAUNCHED = ("RANK", "LOCAL_", "WORLD_SIZE", "GROUP_", "ROLE_", "MASTER_", "ACCELERATE_", "TORCHELASTIC_")
BATCH_SIZE = 16
ROOM_TOKENS = 16  # how much longer than the longest right answer one may get


@dataclass(frozen=True, slots=True)
class Selection:
    """What each candidate, by the step it was kept after, reached on `rows` rows of val, and which one stays."""

    metric: str
    rows: int
    values: dict[int, float]
    step: int

    def to_json(self) -> dict[str, Any]:
        """The selection as recorded beside an adapter."""
        candidates = [{"step": step, "value": value} for step, value in self.values.items()]
        return {"metric": self.metric, "rows": self.rows, "candidates": candidates, "step": self.step}


def steps(total: int, candidates: int) -> tuple[int, ...]:
    """The steps after which candidates are kept: evenly spaced, the last among them."""
    return tuple(sorted({-(-total * part // candidates) for part in range(1, candidates + 1)}))


def best(values: dict[int, float]) -> int:
    """The step of the highest value; of equals the latest, which has seen most rows."""
    return max(values, key=lambda step: (values[step], step))


def select(*, model: Path, val: Path, config: Path, candidates: dict[int, Path], settings: dict[str, Any]) -> Selection:
    """Let each candidate ({step: weights}) answer rows of val, and choose by the core metric of the track's kind.

    `settings` are those of the training, `config` is the adapter's configuration. Rows are a sample of
    `recipe.candidate_rows`, seeded; they are decoded greedily, the base quantised as in training.

    Raises:
        Unavailable: the process that asks them ended; its reason is in the log.
    """
    job = {
        "model": str(model), "val": str(val), "config": str(config), "settings": settings,
        "candidates": {step: str(path) for step, path in candidates.items()},
    }  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHED)}
    done = subprocess.run(
        [sys.executable, "-m", MODULE],
        check=False,
        input=json.dumps(job) + "\n",
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    if done.returncode:
        raise Unavailable(
            f"the choice among {len(candidates)} adapters ended with exit code {done.returncode}; its reason is above; "
            "the same command goes on from here"
        )
    found = json.loads(done.stdout)
    values = {int(step): value for step, value in found.pop("values").items()}
    selection = Selection(**found, values=values, step=best(values))
    shown = ", ".join(f"step {step}: {value:.3f}" for step, value in values.items())
    log.info("%s on %d rows of val (%s): step %d stays", selection.metric, selection.rows, shown, selection.step)
    return selection


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """What `python -m fledgling.training.select` does."""
    from transformers import AutoTokenizer

    from fledgling.slm import predict, prompts
    from fledgling.slm.transformers_engine import TransformersSlm
    from fledgling.training.peft_backend import precision

    settings = job["settings"]
    recipe, track = Recipe.of(settings), kind(settings["track"]["kind"])
    base = manifest.load(Path(job["model"]))
    tokenizer = AutoTokenizer.from_pretrained(base.checkpoint.resolve(), local_files_only=True)
    examples = sample(Path(job["val"]), recipe)
    dialect = prompts.dialect_of(tokenizer, settings.get("slm", {}).get("tool_dialect", "auto"))
    right = tokenizer([prompts.completion(example, dialect) for example in examples], add_special_tokens=False)
    longest = max(len(ids) for ids in right["input_ids"])
    decoding = predict.decode_greedily(tokenizer, base.checkpoint, longest + ROOM_TOKENS)
    asked = predict.ask(examples, tokenizer, decoding, settings)
    chosen = [i for i, row in enumerate(asked) if len(row.request.prompt) <= recipe.max_length]
    requests = [asked[i].request for i in chosen]

    def value(weights: str) -> float:
        with tempfile.TemporaryDirectory(dir=Path(weights).parent) as name:
            (Path(name) / adapter.WEIGHTS).symlink_to(Path(weights).resolve())
            (Path(name) / adapter.CONFIG).symlink_to(Path(job["config"]).resolve())
            slm = TransformersSlm(
                base.checkpoint,
                precision=precision(recipe),
                batch_size=BATCH_SIZE,
                decoding=decoding,
                adapter=Path(name),
            )
            total = 0.0
            for positions, answers in slm.answers(requests, lambda _: None):
                for position, found in zip(positions, answers, strict=True):
                    row = chosen[position]
                    said = predict.prediction(asked[row], found, tokenizer, decoding, "candidate", "candidate")
                    total += track.score(examples[row], said).scores[track.core]
        return total / len(chosen)

    values = {step: value(weights) for step, weights in job["candidates"].items()}
    return {"metric": track.core, "rows": len(chosen), "values": values}


def sample(val: Path, recipe: Recipe) -> list[Example]:
    """Up to `recipe.candidate_rows` rows of val that have an answer, drawn with the recipe's seed."""
    rows = [example for example in read_examples(val) if example.answer is not None]
    return random.Random(recipe.seed).sample(rows, min(len(rows), recipe.candidate_rows))


def main() -> None:
    """Choose once."""
    die_with_parent()
    offline_and_quiet()
    job = json.loads(sys.stdin.readline())
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print belongs into the log
    print(json.dumps(answer(job)), file=out, flush=True)


if __name__ == "__main__":
    run(main)
