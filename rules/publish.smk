"""Adapters on the Hugging Face Hub. Never part of `all`: ask for results/hub/{track}.json.

needs   the adapter, its verdict and metrics; HF_TOKEN or a stored login when it runs
builds  results/hub/{track}.json: repository, commit, manifest digest
"""


rule publish:
    """Upload one adapter with a card made from its verdict; what has already landed is a no-op."""
    input:
        adapter="results/adapters/{track}/manifest.json",
        weights="results/adapters/{track}/adapter_model.safetensors",
        verdict="results/verdict/{track}.json",
        metrics=expand(
            "results/metrics/{{track}}/{contender}.json",
            contender=["teacher", "slm", "tuned"],
        ),
        model="results/models/slm/manifest.json",
    output:
        marker="results/hub/{track}.json",
    log:
        "logs/publish/{track}.log",
    conda:
        "../envs/base.yaml"
    resources:
        **needs("light"),
    params:
        settings=settings("publish", track=("kind", "title")),
        code=code("scripts/publish.py"),
    shell:
        "python {SCRIPTS}/publish.py --track {wildcards.track} --adapter {input.adapter} --verdict {input.verdict}"
        " --metrics {input.metrics} --model {input.model} --settings {params.settings:q} --out {output.marker} 2> {log}"
