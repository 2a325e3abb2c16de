"""Checkpoints.

needs   models.{model} in the configuration (a Hub repository, a folder, or nothing at all)
builds  results/models/{model}/manifest.json; the checkpoint lies beside it, or where its path says
"""


rule fetch:
    """Bring one checkpoint here, or make the embedded one, and record every file's digest."""
    output:
        manifest="results/models/{model}/manifest.json",
    log:
        "logs/fetch/{model}.log",
    priority: 1 if any(model["source"] == "hub" for model in config["models"].values()) else 2  # all else waits for it
    conda:
        "../envs/base.yaml"
    threads: 1
    resources:
        **needs("fetch"),
        rows_first=lambda wildcards: ROWS_FIRST if config["models"][wildcards.model]["source"] == "hub" else 0,
    params:
        settings=settings("fetch"),
        code=code("scripts/fetch.py"),
    shell:
        'python "$FLEDGLING_SCRIPTS/fetch.py" --model {wildcards.model} --settings {params.settings:q}'
        " --out {output.manifest} 2> {log}"
