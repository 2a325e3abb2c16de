"""The steps of the Containerfile as a script, for machines without a container engine, and then what the image does.

    python -m tests.container FOLDER

FOLDER stands for the root of the image: what the steps write to /opt, /work and /tmp goes below it. RUN is run, apt-get
included (so: as root, on Debian, in a continuous integration), with a fresh environment in the place of the base image's
Python. Then the entry point builds the rows of a track, as the user and in the surroundings of `podman run --user 54321`,
with a checkout that it cannot write.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
USER = 54321
TARGET = "results/data/structured/test.jsonl"
SMALL = {"tracks": {"structured": {"sources": [{"embedded": "structured", "rows": 60}]}}}


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, rest) of each, continued lines joined, comments left out."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def placed(text: str, inside: Path) -> str:
    """A text whose paths of the image lie below `inside`."""
    return re.sub(r"(?<![\w./])/(opt/fledgling|work|tmp)\b", lambda found: f"{inside}/{found[1]}", text)


def as_script(steps: list[tuple[str, str]], inside: Path, context: Path) -> str:
    """Bash that does what the steps do, with /opt/fledgling, /work and /tmp below `inside`.

    Raises:
        ValueError: an instruction that has no meaning here.
    """
    lines = ["set -euo pipefail"]
    for name, rest in steps:
        here = placed(rest, inside)
        if name == "FROM":
            lines += [f"python3 -m venv {inside}/python", f"export PATH={inside}/python/bin:$PATH"]
        elif name == "ARG":
            key, _, value = here.partition("=")
            lines.append(f"{key}=${{{key}-{value}}}")
        elif name == "ENV":
            # The host's packages were downloaded once already.
            lines.append("export " + " ".join(part for part in here.split() if part != "PIP_NO_CACHE_DIR=1"))
        elif name in ("WORKDIR", "VOLUME"):
            lines.append(f"mkdir -p {here}" + (f" && cd {here}" if name == "WORKDIR" else ""))
        elif name == "COPY":
            *sources, target = shlex.split(here)
            for source in sources:
                if (context / source).is_dir():
                    lines.append(f"mkdir -p {target} && cp -RT {context / source} {target}")
                else:
                    lines.append(f"cp {context / source} {target.rstrip('/')}/")
        elif name == "RUN":
            lines.append(here)
        elif name not in ("ENTRYPOINT", "CMD"):
            raise ValueError(f"{name}: no such step is known here")
    return "\n".join(lines) + "\n"


def command_of(steps: list[tuple[str, str]], inside: Path) -> list[str]:
    """The entry point, below `inside`."""
    entry = next(rest for name, rest in steps if name == "ENTRYPOINT")
    return [part.replace("/opt/fledgling", f"{inside}/opt/fledgling") for part in json.loads(entry)]


def environment_of(steps: list[tuple[str, str]], inside: Path) -> dict[str, str]:
    """What ENV says."""
    return dict(part.split("=", 1) for name, rest in steps if name == "ENV" for part in placed(rest, inside).split())


def other_user(work: Path, env: dict[str, str]) -> list[str]:
    """What goes before a command so that an unknown user runs it; nothing, with a word, where that cannot be."""
    as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    if os.getuid() != 0:
        print("not root: the entry point runs as this user", flush=True)
        return []
    if subprocess.run([*as_user, "python3", "-c", "import snakemake"], env=env, capture_output=True).returncode:
        print("this Python cannot be read by another user: the entry point runs as this one", flush=True)
        return []
    os.chown(work, USER, USER)
    return as_user


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    inside = parser.parse_args().folder.absolute()
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir(parents=True)
    (inside / "tmp").mkdir()
    (inside / "tmp").chmod(0o1777)
    steps = instructions((ROOT / "Containerfile").read_text())
    script = as_script(steps, inside, ROOT)
    print(script, flush=True)
    cache = subprocess.check_output([sys.executable, "-m", "pip", "cache", "dir"], text=True).strip()
    subprocess.run(["bash", "-c", script], env=os.environ | {"PIP_CACHE_DIR": cache}, check=True)
    work = inside / "work"
    (work / "small.yaml").write_text(json.dumps(SMALL))
    env = environment_of(steps, inside) | {"PATH": f"{inside}/python/bin:{os.environ['PATH']}"}
    as_user = other_user(work, env)
    command = [*as_user, *command_of(steps, inside), "--cores", "1", "--configfile", "small.yaml", "--", TARGET]
    print(shlex.join(command), flush=True)
    subprocess.run(command, cwd=work, env=env, check=True)
    rows = len((work / TARGET).read_text().splitlines())
    beside = sorted(path.name for path in (inside / "opt/fledgling").iterdir())
    unexpected = set(beside) & {"results", "logs", ".snakemake", ".journal", "tests"}
    if rows < 5 or unexpected:
        sys.exit(f"{rows} rows were built; beside the code: {sorted(unexpected)}")
    print(f"{rows} rows; nothing was written beside the code")


if __name__ == "__main__":
    main()
