"""Adapters on the Hugging Face Hub. Never part of `all`: ask for results/hub/{track}.json.

needs   the verdict, the adapters of its ladder and their metrics; HF_TOKEN or a stored login when it runs
builds  results/hub/{track}.json: repository, commit, manifest digest
"""


rule publish:
    """Upload the adapter that the verdict deploys, with a card made from it; what has already landed is a no-op."""
    input:
        verdict="results/verdict/{track}.json",
        adapters=of_adapters("results/adapters/{track}/{adapter}/manifest.json"),
        weights=of_adapters("results/adapters/{track}/{adapter}/adapter_model.safetensors"),
        metrics=of_ladder("results/metrics/{track}/{contender}.json", "teacher"),
        ladder=said_on_val(names),
        models=expand("results/models/{model}/manifest.json", model=sorted({one.model for one in LADDER})),
    output:
        marker="results/hub/{track}.json",
    log:
        "logs/publish/{track}.log",
    conda:
        "../envs/base.yaml"
    resources:
        **needs("light"),
    params:
        settings=settings("publish"),
        code=code("scripts/publish.py"),
    shell:
        'python "$FLEDGLING_SCRIPTS/publish.py" --track {wildcards.track} --verdict {input.verdict} --adapters {input.adapters}'
        " --metrics {input.metrics} --models {input.models} --settings {params.settings:q}"
        " --out {output.marker} 2> {log}"
