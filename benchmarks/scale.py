"""How long a dry run takes, and how much memory, against the same graph in bare Snakemake.

    python benchmarks/scale.py                     60, 105 and 1,000 tracks; 105 are about 2,000 planned jobs
    python benchmarks/scale.py --tracks 105        one size alone

Each size is planned from nothing (`snakemake -n --quiet`) in a folder of its own: once by this project's graph, and once
by rules of the same shape without any function, parameter or configuration, which is what Snakemake itself costs.
The ratio is that of processor time, which other work on the machine changes little.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]

# The rules of this graph before training, as bare as they can be; `part` is "" for test and "v/" for val.
BARE = """
T = [f"t{{i}}" for i in range({tracks})]
FLOORS = ["echo", "frequent", "empty"]
LOCAL = ["slm"]
C = ["teacher", *LOCAL, *(f"floor-{{f}}" for f in FLOORS)]
wildcard_constraints:
    part="(?:v/)?", t="[^/]+", c="[^/]+",
rule all:
    input: expand("r/{{t}}.html", t=T), expand("w/{{t}}.json", t=T)
rule fetch:
    output: "m/slm.json"
    shell: "touch {{output}}"
rule prepare:
    output: "d/{{t}}/train", "d/{{t}}/v/rows", "d/{{t}}/rows", "d/{{t}}/sheet"
    shell: "touch {{output}}"
rule ask:
    input: "d/{{t}}/{{part}}rows", "d/{{t}}/sheet"
    output: "p/{{t}}/{{part}}teacher.jsonl", "p/{{t}}/{{part}}teacher.json"
    shell: "touch {{output}}"
rule answer:
    input: "d/{{t}}/{{part}}rows", "d/{{t}}/sheet", "m/slm.json"
    output: "p/{{t}}/{{part}}{{c}}.jsonl", "p/{{t}}/{{part}}{{c}}.json"
    wildcard_constraints: c="|".join(LOCAL)
    shell: "touch {{output}}"
rule floor:
    input: "d/{{t}}/train", "d/{{t}}/rows", "d/{{t}}/sheet"
    output: "p/{{t}}/floor-{{f}}.jsonl", "p/{{t}}/floor-{{f}}.json"
    shell: "touch {{output}}"
rule score:
    input: "d/{{t}}/{{part}}rows", "d/{{t}}/sheet", "p/{{t}}/{{part}}{{c}}.jsonl", "p/{{t}}/{{part}}{{c}}.json"
    output: "s/{{t}}/{{part}}{{c}}.json", "s/{{t}}/{{part}}{{c}}.jsonl"
    shell: "touch {{output}}"
rule try_on_val:
    input: "d/{{t}}/sheet", expand("s/{{{{t}}}}/v/{{c}}.json{{l}}", c=["teacher", "{{c}}"], l=["", "l"])
    output: "l/{{t}}/{{c}}.json"
    shell: "touch {{output}}"
rule compare:
    input:
        "d/{{t}}/sheet", expand("s/{{{{t}}}}/{{c}}.json", c=C), expand("s/{{{{t}}}}/{{c}}.jsonl", c=C),
        expand("l/{{{{t}}}}/{{c}}.json", c=LOCAL),
    output: "c/{{t}}.json"
    shell: "touch {{output}}"
rule decide:
    input:
        "c/{{t}}.json", "d/{{t}}/sheet", expand("s/{{{{t}}}}/{{c}}.json", c=C), expand("s/{{{{t}}}}/{{c}}.jsonl", c=C),
        expand("l/{{{{t}}}}/{{c}}.json", c=LOCAL),
    output: "w/{{t}}.json"
    shell: "touch {{output}}"
rule report:
    input:
        "w/{{t}}.json", "c/{{t}}.json", "d/{{t}}/rows", "d/{{t}}/sheet",
        expand("p/{{{{t}}}}/{{c}}.jsonl", c=C), expand("s/{{{{t}}}}/{{c}}.json", c=C),
    output: "r/{{t}}.html"
    shell: "touch {{output}}"
"""


@dataclass(frozen=True)
class Measured:
    """A dry run: planned jobs, seconds by the clock and of a processor, GiB at the peak."""

    jobs: int
    seconds: float
    cpu: float
    memory: float


def measure(folder: Path, *arguments: str) -> Measured:
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", *arguments]
    began = time.monotonic()
    out = folder / "out"
    with open(out, "w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    text = out.read_text(encoding="utf-8")
    total = re.search(r"^total +(\d+)", text, re.MULTILINE)
    if os.waitstatus_to_exitcode(status) or not (total or "Nothing to be done" in text):
        raise SystemExit(text[-3000:])
    return Measured(int(total[1]) if total else 0, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, nargs="+", default=[60, 105, 1000])
    options = parser.parse_args()
    block = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))["tracks"]["toolcall"]
    print(f"{'tracks':>7} {'graph':>10} {'jobs':>7} {'seconds':>8} {'CPU':>7} {'ratio':>6} {'GiB':>6}")
    for tracks in options.tracks:
        with tempfile.TemporaryDirectory() as own, tempfile.TemporaryDirectory() as bare:
            blocks = {f"t{i}": block for i in range(tracks)} | {"toolcall": None, "structured": None}
            (Path(own) / "tracks.yaml").write_text(json.dumps({"tracks": blocks}), encoding="utf-8")
            (Path(bare) / "Snakefile").write_text(BARE.format(tracks=tracks), encoding="utf-8")
            arguments = ("--snakefile", str(ROOT / "Snakefile"), "--configfile", str(Path(own) / "tracks.yaml"))
            show(tracks, measure(Path(bare)), measure(Path(own), *arguments))


def show(tracks: int, bare: Measured, own: Measured) -> None:
    for graph, one in (("bare", bare), ("fledgling", own)):
        print(
            f"{tracks:>7} {graph:>10} {one.jobs:>7} {one.seconds:>8.1f} {one.cpu:>7.2f} {one.cpu / bare.cpu:>6.2f}"
            f" {one.memory:>6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
