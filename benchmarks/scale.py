"""How long a dry run takes, and how much memory, against the same graph in bare Snakemake.

    python benchmarks/scale.py                     60, 143 and 1,000 tracks; 143 are about 2,000 planned jobs
    python benchmarks/scale.py --tracks 143        one size alone
    python benchmarks/scale.py --tracks 60 --idle  also where everything is built and nothing is to be done
    python benchmarks/scale.py --contenders 5      with five contenders a track, two of them trained, instead of one and one

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

# The rules of this graph before training, as bare as they can be.
BARE = """
T = [f"t{{i}}" for i in range({tracks})]
FLOORS = ["echo", "frequent", "empty"]
LOCAL = {local}
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
    output: "p/{{t}}/{{c}}.jsonl", "p/{{t}}/{{c}}.json"
    wildcard_constraints: c="|".join(LOCAL)
    shell: "touch {{output}}"
rule floor:
    input: "d/{{t}}/train", "d/{{t}}/test"
    output: "p/{{t}}/floor-{{f}}.jsonl", "p/{{t}}/floor-{{f}}.json"
    shell: "touch {{output}}"
rule score:
    input: "d/{{t}}/test", "p/{{t}}/{{c}}.jsonl", "p/{{t}}/{{c}}.json"
    output: "s/{{t}}/{{c}}.json", "s/{{t}}/{{c}}.jsonl"
    shell: "touch {{output}}"
C = ["teacher", *LOCAL, *(f"floor-{{f}}" for f in FLOORS)]
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


def build(folder: Path, *arguments: str) -> None:
    """Make every file of a graph a placeholder that Snakemake takes for built; the gate asks for no training."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all", *arguments]
    said = subprocess.run([*command, "--summary"], cwd=folder, check=True, text=True, stdout=subprocess.PIPE).stdout
    for line in said.splitlines()[1:]:
        path = folder / line.split("\t")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"fine_tune": 0}\n', encoding="utf-8")
    subprocess.run([*command, "--touch"], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, nargs="+", default=[60, 143, 1000])
    parser.add_argument("--idle", action="store_true", help="measure where everything is built, too")
    parser.add_argument("--contenders", type=int, default=2, help="beside the teacher; the last ones are trained")
    options = parser.parse_args()
    trained = {f"tuned{n}": {"adapter": "sft"} for n in range(options.contenders // 2)}
    local = {f"c{n}": {"max_new_tokens": 60 + n} for n in range(options.contenders - len(trained))}
    block = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))["tracks"]["toolcall"]
    print(f"{'tracks':>7} {'graph':>10} {'jobs':>7} {'seconds':>8} {'CPU':>7} {'ratio':>6} {'GiB':>6}")
    for tracks in options.tracks:
        with tempfile.TemporaryDirectory() as own, tempfile.TemporaryDirectory() as bare:
            blocks = {f"t{i}": block for i in range(tracks)} | {"toolcall": None, "structured": None}
            overlay = {"tracks": blocks, "contenders": {"slm": None, "tuned": None} | local | trained}
            (Path(own) / "tracks.yaml").write_text(json.dumps(overlay), encoding="utf-8")
            (Path(bare) / "Snakefile").write_text(BARE.format(tracks=tracks, local=list(local)), encoding="utf-8")
            arguments = ("--snakefile", str(ROOT / "Snakefile"), "--configfile", str(Path(own) / "tracks.yaml"))
            show(tracks, measure(Path(bare)), measure(Path(own), *arguments))
            if options.idle:
                build(Path(bare))
                build(Path(own), *arguments)
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
