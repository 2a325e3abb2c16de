"""What sealing costs: the share of a run's work that goes into digests and seals of files.

    python benchmarks/seals.py                       builds the embedded default in a folder of its own
    python benchmarks/seals.py --configfile small.yaml -- results/report/structured.html

Every process of the run times itself and the calls of what seals and verifies (fledgling.files.sha256_file,
fledgling.seals, adapters' and checkpoints' manifests are made of these). Prints both sums and their ratio.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIMED = """
import atexit, json, os, sys, time
if any(name.startswith(os.environ.get("SCRIPTS", "/nowhere")) for name in sys.argv[:1] + sys.orig_argv[:3]):
    import importlib.abc, importlib.util
    spent, began, depth = [0.0], time.perf_counter(), [0]
    def timed(call):
        def wrapped(*given, **named):
            depth[0] += 1
            start = time.perf_counter()
            try:
                return call(*given, **named)
            finally:
                depth[0] -= 1
                if not depth[0]:
                    spent[0] += time.perf_counter() - start
        return wrapped
    import fledgling.files as files, fledgling.seals as seals
    files.sha256_file = timed(files.sha256_file)
    for name in ("problem", "sealed", "sealed_json"):
        setattr(seals, name, timed(getattr(seals, name)))
    def told():
        with open(os.environ["TOLD"], "a") as stream:
            stream.write(json.dumps([os.path.basename(sys.argv[0]), time.perf_counter() - began, spent[0]]) + "\\n")
    atexit.register(told)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", nargs="+", default=[], help="as snakemake's")
    parser.add_argument("--cores", default="2")
    parser.add_argument("targets", nargs="*", default=["all"])
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.project import copy_project

    with tempfile.TemporaryDirectory() as name:
        folder, hook = Path(name, "run"), Path(name, "hook")
        folder.mkdir()
        hook.mkdir()
        copy_project(ROOT, folder)
        (hook / "sitecustomize.py").write_text(TIMED)
        files = [str(Path(file).resolve()) for file in options.configfile]
        command = [sys.executable, "-m", "snakemake", "--cores", options.cores]
        command += [*(["--configfile", *files] if files else []), "--", *options.targets]
        paths = f"{folder / 'src'}{os.pathsep}{hook}"
        timed = {"PYTHONPATH": paths, "TOLD": f"{name}/told", "SCRIPTS": str(folder / "scripts")}
        subprocess.run(command, cwd=folder, env=os.environ | timed, check=True)
        told = [json.loads(line) for line in Path(name, "told").read_text().splitlines()]
    by: dict[str, tuple[int, float, float]] = {}
    for script, took, spent in told:
        count, all_took, all_spent = by.get(script, (0, 0.0, 0.0))
        by[script] = count + 1, all_took + took, all_spent + spent
    for script, (count, took, spent) in sorted(by.items()):
        print(f"{script:20} {count:3} processes {took:8.1f} s, of which seals {1000 * spent:8.1f} ms")
    total, sealing = sum(took for _, took, _ in told), sum(spent for _, _, spent in told)
    print(f"{sealing:.2f} s of {total:.1f} s are seals: {100 * sealing / total:.2f} %")


if __name__ == "__main__":
    main()
