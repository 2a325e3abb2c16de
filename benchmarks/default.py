"""How long the embedded default takes to both verdicts, before and after, in pairs on one idle machine.

    python benchmarks/default.py [--refs 4d10bef HEAD] [--pairs 2] [--cores 2]

Each ref is unpacked beside the repository's own environment and run from nothing, one after the other and then the other
way round. Prints, a run: wall seconds to the first and to the last verdict, processor seconds of all processes, starts of
a model or training, and what is to be deployed. The machine must do nothing else; the load before each run is printed.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VERDICTS = [f"results/verdict/{track}.json" for track in ("toolcall", "structured")]
STAGES = ("answer", "predict", "predict_tuned", "train")  # those that load a model, by their logs


def unpack(ref: str, place: Path) -> Path:
    """The files of a commit."""
    place.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", ref], check=True, cwd=ROOT, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "x", "-C", place], check=True, input=archive)
    return place


def run(ref: str, tree: Path, cores: int) -> dict[str, Any]:
    """The default configuration, from nothing."""
    load, before, start = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    with tempfile.TemporaryDirectory(prefix="default-") as name:
        place = Path(name, "project")  # a whole copy: early Snakefiles look for their configuration beside the results
        shutil.copytree(tree, place)
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", str(cores), "--", *VERDICTS],
            check=False,
            cwd=place,
            env=os.environ
            | {
                "PYTHONPATH": f"{place / 'src'}:{os.environ.get('PYTHONPATH', '')}",
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            sys.exit(done.stderr[-5000:])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        verdicts = sorted(Path(place, "results/verdict").glob("*.json"), key=lambda path: path.stat().st_mtime)
        ready = [round(path.stat().st_mtime - start, 1) for path in verdicts]
        logs = [log for stage in STAGES for log in Path(place, "logs", stage).rglob("*.log")]
        return {
            "ref": ref,
            "load_before": round(load, 2),
            "first_verdict_s": ready[0],
            "last_verdict_s": ready[-1],
            "wall_s": round(time.time() - start, 1),
            "processor_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
            "starts": len(logs),
            "deploy": {path.stem: json.loads(path.read_text())["deploy"] for path in verdicts},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--refs", nargs="+", default=["4d10bef", "HEAD"])
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trees-") as trees:
        unpacked = {ref: unpack(ref, Path(trees, str(i))) for i, ref in enumerate(args.refs)}
        for pair in range(args.pairs):
            for ref in args.refs if pair % 2 == 0 else reversed(args.refs):
                print(json.dumps(run(ref, unpacked[ref], args.cores)), flush=True)


if __name__ == "__main__":
    main()
