"""Fledgling: can a small local model take a track over from a hosted one?

    snakemake --cores all results/compare/toolcall.json    one answer, rebuilt where something changed
    snakemake --cores all                                  verdict and report of every track
    snakemake -n                                           what would run, and why
    snakemake --configfile config/phi4-mini.yaml -- all    the same graph over the real thing

A stage is included after those whose rules it names.
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: f"{workflow.basedir}/config/config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/predict.smk"
include: "rules/evaluate.smk"
include: "rules/publish.smk"
include: "rules/trace.smk"


rule all:
    default_target: True
    input:
        expand("results/report/{track}.html", track=config["tracks"]),
        expand("results/verdict/{track}.json", track=config["tracks"]),
        TRACED,
