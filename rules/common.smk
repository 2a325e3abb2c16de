"""What all stages share: the validated configuration, settings and code digests as params. Builds nothing."""

import gc
import json
import os
import shlex
import sys
from glob import glob
from pathlib import Path

from snakemake.exceptions import WorkflowError

gc.freeze()
gc.set_threshold(200_000, 50, 50)  # nearly all that a dry run makes is kept: looking for cycles costs a third of it
sys.modules.setdefault("pandas", None)  # Snakemake imports it to look at params (0.4 s); ours are all text
sys.path.insert(0, f"{workflow.basedir}/src")  # this folder's code, whatever is installed

from fledgling.graph import slurm, work
from fledgling.graph.driver import adopt_jobs, hold_folder
from fledgling.graph.digests import digests
from fledgling.config import section, validate, where
from fledgling.errors import ConfigError
from fledgling.files import canonical, digest, sha256_file
from fledgling.tracks.floors import FLOORS

try:
    config = validate(config, files=list(reversed(workflow.configfiles)), root=workflow.basedir)
except ConfigError as error:
    raise WorkflowError(str(error))

adopt_jobs(
    where(config),
    source=f"{workflow.basedir}/src",
    mode=workflow.exec_mode.name.lower(),
    config=digest({name: section(config, name) for name in config}),
)


# What runs at a time, where neither a profile nor --resources says; the jobs' own Snakemake has nothing to limit.
if workflow.exec_mode.name == "DEFAULT" and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", 4)


# Instead of Snakemake's own lock (off in profiles/default), which outlives a killed process.
onstart:
    hold_folder(".snakemake/fledgling.lock")
    slurm.prepare(workflow.executor_plugin.name, clients=f"{workflow.basedir}/profiles/slurm/bin")


# Code and configuration come from the checkout; everything else is relative to where Snakemake runs (--directory).
SCRIPTS = "scripts" if os.path.samefile(workflow.basedir, ".") else shlex.quote(f"{workflow.basedir}/scripts")

TORCH_ENV = "../envs/gpu.yaml" if config["training"]["gpus"] else "../envs/base.yaml"

CANDIDATES = [str(number + 1) for number in range(config["recipe"].get("candidates", 1))]


wildcard_constraints:
    track="[^/]+",
    contender=f"teacher|slm|tuned|{'|'.join(f'floor-{floor}' for floor in FLOORS)}",
    floor="|".join(FLOORS),
    candidate="|".join(CANDIDATES),


def track_of(wildcards):
    """The configuration of the track that a target names."""
    if wildcards.track not in config["tracks"]:
        raise WorkflowError(f"no track {wildcards.track!r}; configured are: {', '.join(config['tracks'])}")
    return config["tracks"][wildcards.track]


def sources(wildcards):
    """The local files of a track; rows from the Hub and generated rows have none."""
    patterns = [source["path"] for source in track_of(wildcards)["sources"] if "path" in source]
    return sorted({file for pattern in patterns for file in glob(pattern, recursive=True)})


def of_site(name):
    """A line of the profile's marked block; None where the profile has none of that name."""
    line = (workflow.resource_settings.default_resources or {}).get(name)
    return line and line.evaluate(None, input=[], attempt=1, threads=1, rulename="", async_run=None).value


def needs(kind, gpu=0, **more):
    """The resources of a rule by the kind of its work: memory, time, and for jobs with GPUs where these are."""
    partition = of_site("gpu_partition" if gpu else "slurm_partition")
    model = of_site("gpu_kind") if gpu else None
    return {
        "gpu": gpu,
        "mem_mb": work.mem_mb(kind),
        "runtime": work.runtime(kind, limit=of_site("longest")),
        **({"slurm_partition": partition} if partition else {}),
        **({"gpu_model": model} if model else {}),
        **more,
    }


def settings(*sections, track=(), **more):
    """Configuration sections as one canonical JSON text; Snakemake compares params by their repr.

    `simulated` and `allow_mixed_models` are no sections, but follow from several or from one key; `more` is put in
    as it stands.
    """

    def of(wildcards):
        derived = {
            "simulated": lambda: simulated(wildcards),
            "allow_mixed_models": lambda: config["teacher"].get("allow_mixed_models", False),
        }
        chosen = {name: derived[name]() if name in derived else section(config, name) for name in sections}
        if track:
            block = track_of(wildcards)
            chosen["track"] = {key: block[key] for key in track if key in block}
        return canonical(chosen | more)

    return of if track else of(None)


def code(script, *templates):
    """What the code of a script means, itself and what it imports: {file: digest of its syntax tree}.

    Templates count byte by byte.
    """
    files = {file: sha256_file(f"{workflow.basedir}/{file}") for file in templates}
    return canonical(digests(script, root=workflow.basedir) | files)


def kind(wildcards):
    """The kind of a track: toolcall or structured."""
    return track_of(wildcards)["kind"]


def simulated(wildcards):
    """Whether anything in the answer is made up: the teacher, the checkpoint or the rows."""
    sources = track_of(wildcards)["sources"]
    return (
        config["teacher"]["provider"] == "simulated"
        or config["models"]["slm"]["source"] == "embedded"
        or any("embedded" in source for source in sources)
    )


def trained(wildcards):
    """Whether a track has a tuned contender: by its policy, or because the gate asks for one."""
    policy = track_of(wildcards)["finetune"]
    if policy != "auto":
        return policy == "always"
    gate = checkpoints.compare.get(track=wildcards.track).output.compare
    return bool(json.loads(Path(gate).read_text())["fine_tune"])


def contenders(wildcards):
    """Everything that answers the rows of a track, floors aside; asks the gate whether to train."""
    return ["teacher", "slm", *(["tuned"] if trained(wildcards) else [])]


def metrics(wildcards):
    """Metrics of all contenders and floors of a track."""
    names = [*contenders(wildcards), *(f"floor-{floor}" for floor in FLOORS)]
    return [f"results/metrics/{wildcards.track}/{name}.json" for name in names]


def repeats(suffix):
    """The second runs that the configuration asks for: {contender} files of results/metrics/{track}/repeat."""

    def of(wildcards):
        twice = [name for name in contenders(wildcards) if name in config["repeats"]] if config["repeats"] else []
        return [f"results/metrics/{wildcards.track}/repeat/{name}{suffix}" for name in twice]

    return of


def recipe(wildcards):
    """What training depends on: the recipe with the track's own keys over it, prompts and seed."""
    track = track_of(wildcards)
    return canonical(
        {
            "recipe": config["recipe"] | track.get("recipe", {}),
            "slm": {"tool_dialect": config["slm"].get("tool_dialect", "auto")},
            "track": {key: track[key] for key in ("kind", "prompt") if key in track},
            "seed": config["seed"],
        }
    )


def prices(wildcards):
    """What the tokens of a contender cost: the teacher's are priced, those of the slm are not bought."""
    return canonical({"prices": (config["teacher"].get("prices") if wildcards.contender == "teacher" else None)})
