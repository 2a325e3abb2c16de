"""What all stages share: the validated configuration, settings and code digests as params. Builds nothing."""

import gc
import sys
from contextlib import contextmanager
from glob import glob
from pathlib import Path

from snakemake.exceptions import WorkflowError

gc.freeze()
gc.set_threshold(200_000, 50, 50)  # nearly all that a dry run makes is kept: looking for cycles costs a third of it
sys.modules.setdefault("pandas", None)  # Snakemake imports it to look at params (0.4 s); ours are all text
sys.path.insert(0, f"{workflow.basedir}/src")  # this folder's code, whatever is installed

from fledgling import contenders, selection
from fledgling.config import section, validate, where
from fledgling.errors import FledglingError
from fledgling.files import canonical, digest, sha256_file
from fledgling import slurm
from fledgling.graph import building, sees, work
from fledgling.graph.digests import digests
from fledgling.graph.driver import adopt_jobs, exits, hold_folder
from fledgling.tracks.floors import FLOORS

try:
    config = selection.apply(config, Path(workflow.basedir))
    typed = list(workflow.config_settings.configfiles)  # Snakemake lists them before those of the Snakefile
    files = [*workflow.configfiles[len(typed) :], *typed]
    config = validate(config, files=files, root=workflow.basedir)
except FledglingError as error:
    raise WorkflowError(str(error))

adopt_jobs(
    where(config) | {"untuned": contenders.untuned(config)},
    source=f"{workflow.basedir}/src",
    mode=workflow.exec_mode.name.lower(),
    config=digest({name: section(config, name) for name in config}),
)

# Memory, time and groups mean something to a scheduler (--jobs) and where --resources limits them; working them out for
# each job takes a fifth of a dry run.
RATIONED = workflow.resource_settings.nodes is not None or any(
    name in workflow.global_resources for name in ("mem_mb", "runtime")
)


# A download of gigabytes waits until all rows are read, as one wrong row would make it useless: it takes all of this
# resource, and reading the rows of a track takes one of it, at a higher priority.
ROWS_FIRST = 1_000_000

# A job is its command, with no shell above it: TERM ahead of a time limit goes to all processes of a job, and a shell that
# ends at once would have Snakemake take the job for ended while a training still saves its step.
shell.prefix("set -euo pipefail; exec ")

# What runs at a time, where neither a profile nor --resources says; the jobs' own Snakemake has nothing to limit.
if workflow.exec_mode.name == "DEFAULT" and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", 4)
if workflow.exec_mode.name == "DEFAULT":
    workflow.register_resource("rows_first", ROWS_FIRST)


def before_start():
    """Refuse a run that cannot reach an answer, before its first job."""
    from fledgling.forecast import start

    waiting = [(job.rule.name, job.wildcards.get("track")) for job in workflow.dag.needrun_jobs()]
    asked = {track for rule, track in waiting if rule in contenders.ASKING}
    start.require(
        config,
        asked=asked,
        prepared=asked - {track for rule, track in waiting if rule == "prepare"},
        results=Path("results"),
    )


# Instead of Snakemake's own lock (off in profiles/default), which outlives a killed process.
onstart:
    with exits():
        before_start()
        hold_folder(".snakemake/fledgling.lock")
        slurm.prepare(workflow.executor_plugin.name, clients=f"{workflow.basedir}/profiles/slurm/bin")


TORCH_ENV = "../envs/gpu.yaml" if config["training"]["gpus"] else "../envs/base.yaml"

LADDER = contenders.ladder(config)
LOCAL = [one.name for one in LADDER]
TRAINED = {one.name for one in LADDER if one.adapter}
FLOOR_NAMES = [contenders.floor(floor) for floor in FLOORS]
CANDIDATES = range(1, config["recipe"].get("candidates", 1) + 1)
PROVISIONAL = [f"{adapter}.{number}" for adapter in config["adapters"] for number in CANDIDATES]
TRACED = expand("results/trace/{track}.json", track=config["tracks"]) if config["trace"].get("in_all") else []


def any_of(names):
    """A wildcard's regular expression that these names match and nothing else does."""
    return "|".join(name.replace(".", r"\.") for name in names) or "(?!)"


IN_LOOKS = contenders.in_looks(config)
PART = "(?:val/|repeat/)?"


# `part` says which rows and which run: "" the test rows, "val/" those of val, "repeat/" the test rows once more.
wildcard_constraints:
    track="[^/]+",
    part=PART,
    contender=any_of(["teacher", *LOCAL, *PROVISIONAL, *FLOOR_NAMES]),
    floor=any_of(FLOORS),
    adapter=any_of(config["adapters"]),
    model=any_of(config["models"]),


def track_of(wildcards):
    """The configuration of the track that a target names."""
    if wildcards.track not in config["tracks"]:
        raise WorkflowError(f"no track {wildcards.track!r}; configured are: {', '.join(config['tracks'])}")
    return config["tracks"][wildcards.track]


def sources(wildcards):
    """The local files of a track, those of scores among them; rows from the Hub and generated rows have none."""
    listed = track_of(wildcards)["sources"]
    patterns = [source["path"] for source in listed if "path" in source]
    patterns += [source["feedback"]["path"] for source in listed if "path" in source.get("feedback", {})]
    return sorted({file for pattern in patterns for file in glob(pattern, recursive=True)})


def in_markup(text):
    """The same JSON without `<`: Snakemake puts params as they are into a script element of its own report."""
    return text.replace("<", "\\u003c")


def of_site(name):
    """A line of the profile's marked block; None where the profile has none of that name."""
    line = (workflow.resource_settings.default_resources or {}).get(name)
    return line and line.evaluate(None, input=[], attempt=1, threads=1, rulename="", async_run=None).value


def minutes(kind, splits):
    """The time that a job of some kind of work gets."""
    as_whom = lambda name: contenders.answers_as(config, name)
    return work.runtime(kind, limit=of_site("longest"), answers_as=as_whom, splits=splits)


def needs(kind, gpus=None, splits=(), **more):
    """The resources of a job, by the kind of its work: memory, time, and for jobs with GPUs where these are.

    `gpus` says how many a job takes, from its wildcards; `splits` are those that it answers, where the wildcards do not say.
    """

    def where_gpus_are(with_gpus, without=None):
        return lambda wildcards: of_site(with_gpus) if gpus(wildcards) else without and of_site(without)

    return {
        **({"mem_mb": work.mem_mb(kind), "runtime": minutes(kind, splits)} if RATIONED else {}),
        **({"gpu": gpus} if gpus else {}),
        **(
            {"slurm_partition": where_gpus_are("gpu_partition", "slurm_partition")}
            if gpus and of_site("gpu_partition")
            else {}
        ),
        **({"gpu_model": where_gpus_are("gpu_kind")} if gpus and of_site("gpu_kind") else {}),
        **more,
    }


def small_group(wildcards):
    """Which small jobs a scheduler gets together: those of one track that are known, and ready, at the same time.

    Never two tracks, or one with bad rows would hold back the others. And no group that may grow once val or the gate has
    spoken, for Snakemake 9.27 submits one that has grown again, with the jobs of it that are running. --group-components
    counts all of these groups under the name `small`.
    """
    part, who = wildcards.get("part", ""), wildcards.get("contender", "")
    scored = "bought" if IN_LOOKS and who and part != "val/" else ""  # after the floors, with the teacher in between
    if not part and who not in [*LOCAL[1:], *TRAINED]:
        who = ""  # what is always there: floors, the teacher, the cheapest contender
    elif candidate := contenders.candidate_of(config, who):
        who = f"{candidate[0]}."
    group = ".".join(["small", wildcards.track, part.strip("/"), who, *([scored] if scored else [])])
    workflow.parent_groupids[group] = "small"
    return group


SMALL = small_group if RATIONED else None


def settings(rule, **fixed):
    """What a rule sees of the configuration (fledgling.graph.sees), as one canonical JSON text for its params.

    `fixed` are names beside the wildcards', and may hold some: contender="{adapter}.1".
    """

    def of(wildcards):
        named = {key: wildcards[key] for key in ("track", "contender", "model", "adapter") if key in wildcards.keys()}
        named |= {key: value.format(**wildcards) for key, value in fixed.items() if key != "part"}
        repeat = int((fixed.get("part") or wildcards.get("part")) == "repeat/")
        if "track" in named:
            track_of(wildcards)
        return in_markup(canonical(sees.settings(config, rule, **named, repeat=repeat)))

    return of


def code(script, *templates):
    """What the code of a script means, itself and what it imports: {file: digest of its syntax tree}.

    Templates count byte by byte.
    """
    files = {file: sha256_file(f"{workflow.basedir}/{file}") for file in templates}
    return canonical(digests(script, root=workflow.basedir) | files)


def kind(wildcards):
    """The kind of a track: toolcall or structured."""
    return track_of(wildcards)["kind"]


def rows_asked(wildcards):
    """The rows that a prediction answers: those of val, or those of test."""
    split = "val" if wildcards.part == "val/" else "test"
    return f"results/data/{wildcards.track}/{split}.jsonl"


CODE = {stage: code(f"scripts/{stage}.py") for stage in building.SCRIPTS}
BUILDING = building.Building(config, CODE)


@contextmanager
def refused():
    """What the library refuses, as Snakemake says it."""
    try:
        yield
    except FledglingError as error:
        raise WorkflowError(str(error))


def asked_on_val(wildcards):
    """Whether val says how far a track's ladder is built; waits for its first answer, and is asked again after each.

    One `get` and no more: a loop of them that has to grow on a re-run leaves a stale verdict (docs/decisions/0006). The
    further files are plain inputs of whatever calls this, so that Snakemake looks again when they are made.
    """
    track_of(wildcards)
    if not contenders.asks_val(config, wildcards.track):
        return False
    checkpoints.try_on_val.get(track=wildcards.track, contender=LOCAL[0])
    return True


def judged(wildcards):
    """The names of the contenders that the gate judges: those that need no training, as far as val lets be built."""
    asked_on_val(wildcards)
    with refused():
        return BUILDING.judged(wildcards.track)


def ladder(wildcards):
    """The contenders of a track that are built, cheapest first: as far as val says, and one more if the gate asks."""
    asked_on_val(wildcards)
    with refused():
        return [contenders.of(config, name) for name in BUILDING.built(wildcards.track)]


def of_judged(pattern):
    """Files of the contenders that the gate judges beside the cheapest: a pattern with {track} and {contender}."""
    return lambda wildcards: expand(pattern, track=wildcards.track, contender=judged(wildcards)[1:])


def said_on_val(names):
    """What val says of the contenders that a function names; nothing where it is not asked."""

    def of(wildcards):
        found = names(wildcards)
        asked = contenders.asks_val(config, wildcards.track)
        return expand(
            "results/ladder/{track}/{contender}.json", track=wildcards.track, contender=found if asked else []
        )

    return of


def names(wildcards):
    """The names of the contenders that are built."""
    return [one.name for one in ladder(wildcards)]


def of_ladder(pattern, *more):
    """Files of the contenders of a track that are built, and of `more`: a pattern with {track} and {contender}."""
    return lambda wildcards: expand(
        pattern,
        track=wildcards.track,
        contender=[*names(wildcards), *more],
    )


def of_adapters(pattern):
    """Files of the adapters in the ladder of a track: a pattern with {track} and {adapter}."""
    return lambda wildcards: expand(
        pattern,
        track=wildcards.track,
        adapter=list(dict.fromkeys(one.adapter for one in ladder(wildcards) if one.adapter)),
    )


def of_everybody(folder, suffix):
    """Files of all who answered: teacher, ladder and floors, second runs, and the candidates of trainings on val."""

    def of(wildcards):
        again = answering_twice(wildcards)
        adapters = dict.fromkeys(one.adapter for one in ladder(wildcards) if one.adapter)
        val = [f"{adapter}.{number}" for adapter in adapters for number in CANDIDATES] if len(CANDIDATES) > 1 else []
        files = [
            "teacher",
            *names(wildcards),
            *FLOOR_NAMES,
            *(f"repeat/{name}" for name in again),
            *(f"val/{name}" for name in val),
        ]
        return [f"results/{folder}/{wildcards.track}/{file}{suffix}" for file in files]

    return of


def answering_twice(wildcards):
    """Who of the teacher and the contenders that are built answers every test row a second time."""
    return [name for name in ["teacher", *names(wildcards)] if name in config["repeats"]] if config["repeats"] else []


def repeats(suffix):
    """The second runs that the configuration asks for: {contender} files of results/metrics/{track}/repeat."""

    def of(wildcards):
        return [f"results/metrics/{wildcards.track}/repeat/{name}{suffix}" for name in answering_twice(wildcards)]

    return of


def model_of(wildcards):
    """The checkpoint that a contender answers with."""
    return f"results/models/{contenders.of(config, wildcards.contender).model}/manifest.json"


def adapter_of(wildcards):
    """The adapter that a contender answers under, with its weights; none for those that are not trained."""
    adapter = contenders.of(config, wildcards.contender).adapter
    folder = f"results/adapters/{wildcards.track}/{adapter}"
    return [f"{folder}/manifest.json", f"{folder}/adapter_model.safetensors"] if adapter else []


def bought(*parts):
    """What says which rows of test were bought, for predictions and scores of these parts; nothing without looks."""

    def of(wildcards):
        there = IN_LOOKS and wildcards.get("part", "") in parts
        return f"results/predictions/{wildcards.track}/teacher.json" if there else []

    return of


def option(name, files, first=False):
    """An option of a command with the input files of a name, or the first of several; nothing where there are none."""

    def of(wildcards, input):
        found = getattr(input, files)
        return f"{name} {found[0] if first else found}" if found else ""

    return of


def gpus_to_answer(wildcards):
    """The GPUs that a contender's answers claim."""
    return contenders.answering(config, wildcards.contender).get("gpus", 0)


def shots_of(wildcards):
    """The answered rows that are put before every row of a contender; none where it has no shots."""
    place = f"results/shots/{wildcards.track}/{wildcards.contender}"
    return [f"{place}.jsonl", f"{place}.json"] if contenders.of(config, wildcards.contender).shots else []
