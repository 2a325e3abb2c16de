"""How long a dry run takes, and how much memory, against the same graph in bare Snakemake.

    python benchmarks/scale.py                     60, 250 and 1,000 tracks
    python benchmarks/scale.py --tracks 63         about 2,000 planned jobs

Each size is planned from nothing (`snakemake -n --quiet`) in a folder of its own: once by this project's graph, and once
by rules of the same shape without any function, parameter or configuration, which is what Snakemake itself costs.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]

# The rules of this graph before training, as bare as they can be.
BARE = """
T = [f"t{{i}}" for i in range({tracks})]
FLOORS = ["echo", "frequent", "empty"]
rule all:
    input: expand("r/{{t}}.html", t=T), expand("v/{{t}}.json", t=T)
rule fetch:
    output: "m/slm.json"
    shell: "touch {{output}}"
rule prepare:
    output: "d/{{t}}/train", "d/{{t}}/val", "d/{{t}}/test", "d/{{t}}/sheet"
    shell: "touch {{output}}"
rule ask:
    input: "d/{{t}}/test"
    output: "p/{{t}}/teacher.jsonl", "p/{{t}}/teacher.json"
    shell: "touch {{output}}"
rule answer:
    input: "d/{{t}}/test", "m/slm.json"
    output: "p/{{t}}/slm.jsonl", "p/{{t}}/slm.json"
    shell: "touch {{output}}"
rule floor:
    input: "d/{{t}}/train", "d/{{t}}/test"
    output: "p/{{t}}/floor-{{f}}.jsonl", "p/{{t}}/floor-{{f}}.json"
    shell: "touch {{output}}"
rule score:
    input: "d/{{t}}/test", "p/{{t}}/{{c}}.jsonl", "p/{{t}}/{{c}}.json"
    output: "s/{{t}}/{{c}}.json", "s/{{t}}/{{c}}.jsonl"
    shell: "touch {{output}}"
C = ["teacher", "slm", *(f"floor-{{f}}" for f in FLOORS)]
rule compare:
    input: "d/{{t}}/sheet", expand("s/{{{{t}}}}/{{c}}.json", c=C), expand("s/{{{{t}}}}/{{c}}.jsonl", c=C)
    output: "c/{{t}}.json"
    shell: "touch {{output}}"
rule decide:
    input: "c/{{t}}.json", expand("s/{{{{t}}}}/{{c}}.json", c=C), expand("s/{{{{t}}}}/{{c}}.jsonl", c=C)
    output: "v/{{t}}.json"
    shell: "touch {{output}}"
rule report:
    input: "v/{{t}}.json", "c/{{t}}.json", "d/{{t}}/test", expand("p/{{{{t}}}}/{{c}}.jsonl", c=C)
    output: "r/{{t}}.html"
    shell: "touch {{output}}"
"""


def measure(folder: Path, *arguments: str) -> tuple[int, float, float]:
    """(planned jobs, seconds, GiB at the peak) of a dry run."""
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", *arguments]
    began = time.monotonic()
    out = folder / "out"
    with open(out, "w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    text = out.read_text(encoding="utf-8")
    total = re.search(r"^total +(\d+)", text, re.MULTILINE)
    if os.waitstatus_to_exitcode(status) or not total:
        raise SystemExit(text[-3000:])
    return int(total[1]), seconds, usage.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, nargs="+", default=[60, 250, 1000])
    parser.add_argument(
        "--bare", action=argparse.BooleanOptionalAction, default=True, help="measure bare Snakemake too"
    )
    options = parser.parse_args()
    block = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))["tracks"]["toolcall"]
    print(f"{'tracks':>7} {'graph':>10} {'jobs':>7} {'seconds':>8} {'ms a job':>9} {'GiB':>6}")
    for tracks in options.tracks:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            own = {f"t{i}": block for i in range(tracks)} | {"toolcall": None, "structured": None}
            (folder / "tracks.yaml").write_text(json.dumps({"tracks": own}), encoding="utf-8")
            arguments = ("--snakefile", str(ROOT / "Snakefile"), "--configfile", str(folder / "tracks.yaml"))
            show(tracks, "fledgling", measure(folder, *arguments))
        if options.bare:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                (folder / "Snakefile").write_text(BARE.format(tracks=tracks), encoding="utf-8")
                show(tracks, "bare", measure(folder))


def show(tracks: int, graph: str, measured: tuple[int, float, float]) -> None:
    jobs, seconds, memory = measured
    print(f"{tracks:>7} {graph:>10} {jobs:>7} {seconds:>8.1f} {1000 * seconds / jobs:>9.2f} {memory:>6.2f}", flush=True)


if __name__ == "__main__":
    main()
