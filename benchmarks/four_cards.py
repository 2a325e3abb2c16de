"""Everything that more GPUs are for, from the rules' own commands: 1, 2, 4, … of them, as many as this machine has.

    python benchmarks/four_cards.py [--gpus 1 2 4] [--parts embedded training pairs predict kills] [--folder DIR]

embedded   the embedded default with half of the GPUs a training and with all: claims are disjoint, both verdicts are there;
           where --gpus has 1, before them on the CPU, as it is shipped, and with one GPU, which is no slower
training   the Phi-4-mini-sized checkpoint (benchmarks/phi4mini.py) with the back-end that `auto` takes and the recipe of
           config/phi4-mini.yaml: speed against one GPU, final losses
pairs      two equal tracks: one after the other on all GPUs, then side by side on half of them each
predict    the predict stage with one replica a GPU over --asked rows
kills      a training whose gradients are summed, and one under ZeRO-2, on all GPUs: one process is killed after the first
           sealed checkpoint, the group ends, the same command goes on

Prints one JSON line a measurement, and last whether each target was met: n replicas at least 0.9 n times one, training
at least 0.8 n times one on four GPUs (0.85 n on two), side by side no slower than one after the other, final losses
within 1e-2. A part that this machine has too few GPUs for is named as not run.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).parent)]

import infer  # noqa: E402
import phi4mini  # noqa: E402
import train as training  # noqa: E402

PARTS = ("embedded", "training", "pairs", "predict", "kills")
SMALL_LAYERS = 2


def tell(**measured: object) -> None:
    print(json.dumps(measured), flush=True)


def make(folder: Path, layers: int) -> None:
    """The checkpoint, by a process of its own: of what torch keeps on a card, none would be free for what is measured."""
    maker = multiprocessing.get_context("spawn").Process(target=phi4mini.make, args=(folder, layers))
    maker.start()
    maker.join()
    if maker.exitcode:
        sys.exit("the checkpoint could not be made")


def train(folder: Path, data: Path, run: str) -> dict[str, Any]:
    """One training by the rule's own command; `run` as in benchmarks/train.py."""
    result = training.fledgling(folder, data, run)
    if "exit_code" in result:
        sys.exit(f"{run} failed")
    return result


def measure_training(folder: Path, data: Path, gpus: list[int]) -> Iterator[tuple[str, bool]]:
    runs = {count: train(folder, data, f"auto-d-x{count}") for count in gpus}
    for count, run in runs.items():
        ratio = run["real_tokens_per_s"] / runs[gpus[0]]["real_tokens_per_s"]
        tell(part="training", gpus=count, against_one=round(ratio, 2), **run)
        if count > 1 and gpus[0] == 1:
            wanted = (0.85 if count == 2 else 0.8) * count
            yield f"training on {count} GPUs is at least {wanted:.1f} times one", ratio >= wanted
            near = abs(run["eval_loss"] - runs[1]["eval_loss"]) < 1e-2
            yield f"losses on {count} GPUs are within 1e-2 of one", near


def measure_pairs(folder: Path, data: Path, gpus: list[int]) -> Iterator[tuple[str, bool]]:
    most = max(gpus)
    if most < 2:
        tell(part="pairs", not_run="needs two GPUs")
        return
    start = time.monotonic()
    for _ in range(2):
        tell(part="pairs", gpus=most, **train(folder, data, f"auto-d-x{most}"))
    one_after_another = time.monotonic() - start
    start = time.monotonic()
    with ThreadPoolExecutor(2) as both:
        for run in both.map(lambda _: train(folder, data, f"auto-d-x{most // 2}"), range(2)):
            tell(part="pairs", gpus=most // 2, **run)
    side_by_side = time.monotonic() - start
    tell(
        part="pairs",
        gpus=most,
        one_after_another_s=round(one_after_another, 1),
        side_by_side_s=round(side_by_side, 1),
    )
    yield "two tracks side by side are no slower than one after the other", side_by_side <= one_after_another


def measure_predict(folder: Path, rows: Path, gpus: list[int]) -> Iterator[tuple[str, bool]]:
    model = folder / "model/manifest.json"
    runs = {count: infer.fledgling(model, rows, folder, count, "bf16") for count in gpus}
    for count, run in runs.items():
        ratio = run["requests_per_s"] / runs[gpus[0]]["requests_per_s"]
        tell(part="predict", against_one=round(ratio, 2), **run)
        if count > 1 and gpus[0] == 1:
            yield f"{count} replicas answer at least {0.9 * count:.1f} times one", ratio >= 0.9 * count


def measure_kills(folder: Path, gpus: list[int]) -> Iterator[tuple[str, bool]]:
    most = max(gpus)
    data = phi4mini.write(folder / "small.jsonl", phi4mini.training_examples(256))
    for flags in ("", "-zero2"):
        run = f"peft-x{most}{flags}-plain"
        whole, killed = ((folder / f"{run}-{name}/training.json").resolve() for name in ("whole", "killed"))
        finish(folder, data, run, whole)
        seconds = kill_one(folder, data, run, killed)
        finish(folder, data, run, killed)
        losses = [json.loads(path.read_text())["eval_loss"] for path in (whole, killed)]
        tell(part="kills", run=run, group_ended_after_s=round(seconds, 1), undisturbed=losses[0], resumed=losses[1])
        yield f"{run}: killed and resumed within 1e-2", abs(losses[0] - losses[1]) < 1e-2


def command(folder: Path, data: Path, run: str, out: Path) -> tuple[list[str], dict[str, str]]:
    argv, environment = training.command(folder.resolve(), data.resolve(), out, run)
    place = argv.index("--settings") + 1
    settings = json.loads(argv[place])
    settings["recipe"] |= {"save_steps": 3}
    argv[place] = json.dumps(settings)
    return argv, os.environ | environment


def finish(folder: Path, data: Path, run: str, out: Path) -> None:
    argv, environment = command(folder, data, run, out)
    done = subprocess.run(argv, check=False, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.stderr[-5000:])


def kill_one(folder: Path, data: Path, run: str, out: Path) -> float:
    """Kill the last process of a training once a checkpoint is sealed; seconds until the whole group has ended."""
    argv, environment = command(folder, data, run, out)
    job = subprocess.Popen(argv, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    while not list(out.parent.glob("checkpoints/checkpoint-*/seal.json")):
        if job.poll() is not None:
            sys.exit(f"{run} ended before it had sealed a checkpoint")
        time.sleep(0.02)
    os.kill(workers(out)[-1], signal.SIGKILL)
    start = time.monotonic()
    if job.wait() == 0:
        sys.exit(f"{run} went on without the process that was killed")
    return time.monotonic() - start


def workers(out: Path) -> list[int]:
    """The processes of a training by their place in it."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            place = re.search(rb"(?:^|\0)LOCAL_RANK=(\d+)", (folder / "environ").read_bytes())
            words = (folder / "cmdline").read_bytes()
            if place and str(out).encode() in words and b"accelerate.commands" not in words:
                found[int(place[1])] = int(folder.name)
    return [found[place] for place in sorted(found)]


def measure_embedded(folder: Path, gpus: list[int]) -> Iterator[tuple[str, bool]]:
    most, took = max(gpus), {}
    for count in sorted({max(1, most // 2), most} | ({0, 1} if 1 in gpus else set())):
        place = folder / f"embedded-{count}"
        place.mkdir(parents=True, exist_ok=True)
        overlay = place / "gpus.yaml"
        overlay.write_text(json.dumps({"training": {"gpus": count}, "slm": {"gpus": min(1, count)}}))
        start = time.monotonic()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "all"),
                *("--directory", str(place), "--resources", f"gpu={most}", "--configfile", str(overlay), "--", "all"),
            ],
            check=False,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        took[count] = time.monotonic() - start
        if done.returncode:
            sys.exit(done.stderr[-5000:])
        verdicts = {path.stem: json.loads(path.read_text())["deploy"] for path in place.glob("results/verdict/*.json")}
        claims = {
            log.parent.name: claimed[-1].split(", ")
            for log in place.glob("logs/train/**/*.log")
            if (claimed := re.findall(r"claimed GPU (.+)", log.read_text()))
        }
        tell(part="embedded", training_gpus=count, wall_s=round(took[count], 1), verdicts=verdicts, claims=claims)
        yield f"both verdicts with training.gpus {count}", len(verdicts) == 2
        taken = [gpu for track in claims.values() for gpu in track]
        yield (
            f"{count} GPUs a training",
            len(taken) == 2 * count and all(len(track) == count for track in claims.values()),
        )
        if 0 < 2 * count <= most:
            yield "two trainings side by side claim GPUs of their own", len(taken) == len(set(taken))
    if 1 in gpus:
        yield "the default on one GPU is no slower than on the CPU", took[1] <= took[0]


def main() -> None:
    import torch

    here = torch.cuda.device_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, nargs="+", default=[n for n in (1, 2, 4, 8) if n <= max(1, here)])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rows", type=int, default=8192, help="rows to train on; few have few lengths to be padded to")
    parser.add_argument("--asked", type=int, default=16384, help="rows to answer")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--folder", type=Path, default=Path("results/benchmark"))
    args = parser.parse_args()
    gpus = sorted(args.gpus)
    if too_many := [count for count in gpus if count > here]:
        tell(not_run=f"{too_many} GPUs: {here} are visible")
        gpus = [count for count in gpus if count <= here]
    if not gpus:
        sys.exit("no GPU is visible")
    tell(gpu=torch.cuda.get_device_name(0), visible=here, torch=torch.__version__)
    args.folder.mkdir(parents=True, exist_ok=True)
    if {"training", "pairs", "predict"} & set(args.parts):
        make(args.folder / "model", args.layers)
    data = phi4mini.write(args.folder / "train.jsonl", phi4mini.training_examples(args.rows))
    phi4mini.write(args.folder / "val.jsonl", phi4mini.training_examples(64, seed=4))
    met: list[tuple[str, bool]] = []
    for part in args.parts:
        if part == "embedded":
            met += measure_embedded(args.folder, gpus)
        elif part == "training":
            met += measure_training(args.folder, data, gpus)
        elif part == "pairs":
            met += measure_pairs(args.folder, data, gpus)
        elif part == "predict":
            rows = phi4mini.write(args.folder / "asked.jsonl", phi4mini.examples(args.asked))
            met += measure_predict(args.folder, rows, gpus)
        else:
            small = args.folder / "small"
            make(small / "model", SMALL_LAYERS)
            phi4mini.write(small / "val.jsonl", phi4mini.training_examples(64, seed=4))
            met += measure_kills(small, gpus)
    for target, reached in met:
        tell(target=target, met=reached)
    if not all(reached for _, reached in met):
        sys.exit(1)


if __name__ == "__main__":
    main()
