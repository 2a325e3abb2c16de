"""Adapters, only where the gate asks for one (or the track's policy does).

needs   results/data/{track}/{train,val}.jsonl, results/models/slm/manifest.json
builds  results/adapters/{track}/: adapter_model.safetensors, adapter_config.json, training.json, manifest.json
"""


rule train:
    """Tune the slm on one track; a retry goes on from its last complete checkpoint."""
    input:
        train="results/data/{track}/train.jsonl",
        val="results/data/{track}/val.jsonl",
        model="results/models/slm/manifest.json",
    output:
        weights="results/adapters/{track}/adapter_model.safetensors",
        config="results/adapters/{track}/adapter_config.json",
        summary="results/adapters/{track}/training.json",
        manifest="results/adapters/{track}/manifest.json",
    log:
        "logs/train/{track}.log",
    conda:
        TORCH_ENV
    resources:
        gpu=config["training"]["gpus"],
    params:
        settings=recipe,
        code=code("scripts/train.py"),
    shell:
        "python -m fledgling.gpus {resources.gpu} python -m fledgling.training.launch"
        " scripts/train.py --track {wildcards.track} --train {input.train} --val {input.val} --model {input.model}"
        " --settings {params.settings:q} --out {output.weights} 2> {log}"
