"""Adapters, only where the gate asks for one (or the track's policy does).

needs   results/data/{track}/{train,val}.jsonl, results/models/slm/manifest.json
builds  results/candidates/{track}/: training.json, and in 1/, 2/, … the adapters that a training kept on its way, with
        what they answer to val and what that is worth;
        results/adapters/{track}/: adapter_model.safetensors, adapter_config.json, training.json, manifest.json
"""


rule train:
    """Tune the slm on one track; a retry goes on from its last complete checkpoint."""
    input:
        train="results/data/{track}/train.jsonl",
        val="results/data/{track}/val.jsonl",
        model="results/models/slm/manifest.json",
    output:
        weights=expand("results/candidates/{{track}}/{candidate}/adapter_model.safetensors", candidate=CANDIDATES),
        configs=expand("results/candidates/{{track}}/{candidate}/adapter_config.json", candidate=CANDIDATES),
        manifests=expand("results/candidates/{{track}}/{candidate}/manifest.json", candidate=CANDIDATES),
        summary="results/candidates/{track}/training.json",
    log:
        "logs/train/{track}.log",
    conda:
        TORCH_ENV
    resources:
        **needs("train", gpu=config["training"]["gpus"]),
    params:
        settings=recipe,
        code=code("scripts/train.py"),
    shell:
        "python -m fledgling.gpus {resources.gpu} python -m fledgling.training.launch"
        " {SCRIPTS}/train.py --track {wildcards.track} --train {input.train} --val {input.val} --model {input.model}"
        " --settings {params.settings:q} --out {output.summary} 2> {log}"


use rule predict_tuned as predict_candidate with:
    input:
        data="results/data/{track}/val.jsonl",
        model="results/models/slm/manifest.json",
        adapter="results/candidates/{track}/{candidate}/manifest.json",
        weights="results/candidates/{track}/{candidate}/adapter_model.safetensors",
    output:
        predictions="results/candidates/{track}/{candidate}/predictions.jsonl",
    log:
        "logs/predict_candidate/{track}-{candidate}.log",


use rule score as score_candidate with:
    input:
        data="results/data/{track}/val.jsonl",
        predictions="results/candidates/{track}/{candidate}/predictions.jsonl",
    output:
        metrics="results/candidates/{track}/{candidate}/metrics.json",
        rows="results/candidates/{track}/{candidate}/metrics.jsonl",
    log:
        "logs/score_candidate/{track}-{candidate}.log",
    params:
        kind=kind,
        settings=canonical({"prices": None}),
        code=code("scripts/score.py"),


rule select:
    """Keep the adapter that answers val best by the track's own metrics; the test rows have no say in it."""
    input:
        candidates=rules.train.output.manifests,
        weights=rules.train.output.weights,
        configs=rules.train.output.configs,
        summary=rules.train.output.summary,
        metrics=(
            expand("results/candidates/{{track}}/{candidate}/metrics.json", candidate=CANDIDATES)
            if len(CANDIDATES) > 1
            else []
        ),
    output:
        weights="results/adapters/{track}/adapter_model.safetensors",
        config="results/adapters/{track}/adapter_config.json",
        summary="results/adapters/{track}/training.json",
        manifest="results/adapters/{track}/manifest.json",
    log:
        "logs/select/{track}.log",
    conda:
        "../envs/base.yaml"
    resources:
        **needs("light"),
    params:
        core=lambda wildcards: config["decision"]["core"][kind(wildcards)],
        code=code("scripts/select_adapter.py"),
    shell:
        "python {SCRIPTS}/select_adapter.py --candidates {input.candidates} --metrics {input.metrics}"
        " --summary {input.summary} --core {params.core} --out {output.weights} 2> {log}"
