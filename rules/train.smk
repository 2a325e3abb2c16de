"""Adapters, only where nothing cheaper promises to pass on val (or the track's policy asks for them).

needs   results/data/{track}/{train,val}.jsonl, results/models/{model}/manifest.json
builds  results/candidates/{track}/{adapter}/: training.json, and in 1/, 2/, … the adapters that a training kept on its
        way, which answer val as the contenders {adapter}.1, {adapter}.2, …;
        results/adapters/{track}/{adapter}/: adapter_model.safetensors, adapter_config.json, training.json, manifest.json
"""


rule train:
    """Tune a model on one track; a retry goes on from its last complete checkpoint."""
    input:
        train="results/data/{track}/train.jsonl",
        val="results/data/{track}/val.jsonl",
        datasheet=ancient("results/data/{track}/datasheet.json"),
        model=lambda wildcards: f"results/models/{contenders.adapter_model(config, wildcards.adapter)}/manifest.json",
    output:
        weights=expand("results/candidates/{{track}}/{{adapter}}/{number}/adapter_model.safetensors", number=CANDIDATES),
        configs=expand("results/candidates/{{track}}/{{adapter}}/{number}/adapter_config.json", number=CANDIDATES),
        manifests=expand("results/candidates/{{track}}/{{adapter}}/{number}/manifest.json", number=CANDIDATES),
        summary="results/candidates/{track}/{adapter}/training.json",
    log:
        "logs/train/{track}/{adapter}.log",
    benchmark:
        "logs/benchmarks/train/{track}/{adapter}.tsv"
    priority: 1  # what takes longest starts first, and answers of the model may come out of its candidates' start
    conda:
        TORCH_ENV
    resources:
        **needs("train", gpus=lambda wildcards: config["training"]["gpus"]),
    params:
        settings=settings("train"),
        code=code("scripts/train.py"),
    shell:
        "python -m fledgling.gpus {resources.gpu} python -m fledgling.training.launch"
        ' "$FLEDGLING_SCRIPTS/train.py" --track {wildcards.track} --adapter {wildcards.adapter} --train {input.train}'
        " --val {input.val} --model {input.model} --settings {params.settings:q} --out {output.summary} 2> {log}"


rule select_adapter:
    """Keep the adapter that answers val best by the track's own metrics; the test rows have no say in it."""
    input:
        candidates=rules.train.output.manifests,
        weights=rules.train.output.weights,
        configs=rules.train.output.configs,
        summary=rules.train.output.summary,
        metrics=(
            expand("results/metrics/{{track}}/val/{{adapter}}.{number}.json", number=CANDIDATES)
            if len(CANDIDATES) > 1
            else []
        ),
    output:
        weights="results/adapters/{track}/{adapter}/adapter_model.safetensors",
        config="results/adapters/{track}/{adapter}/adapter_config.json",
        summary="results/adapters/{track}/{adapter}/training.json",
        manifest="results/adapters/{track}/{adapter}/manifest.json",
    log:
        "logs/select_adapter/{track}/{adapter}.log",
    conda:
        "../envs/base.yaml"
    resources:
        **needs("light"),
    params:
        settings=settings("select_adapter"),
        code=code("scripts/select_adapter.py"),
    shell:
        'python "$FLEDGLING_SCRIPTS/select_adapter.py" --track {wildcards.track} --candidates {input.candidates}'
        " --metrics {input.metrics} --summary {input.summary} --settings {params.settings:q} --out {output.weights}"
        " 2> {log}"
