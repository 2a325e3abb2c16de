"""Answers of every contender to the test rows of a track.

needs   results/data/{track}/test.jsonl; results/models/slm/manifest.json; for tuned the adapter
builds  results/predictions/{track}/{contender}.jsonl, one line an example, raw text kept, and
        results/predictions/{track}/repeat/{contender}.jsonl: a second run, of the contenders in `repeats`
"""


rule ask:
    """Ask the teacher; a reply that is in the journal is not paid for again."""
    input:
        data="results/data/{track}/test.jsonl",
    output:
        predictions="results/predictions/{track}/teacher.jsonl",
    log:
        "logs/ask/{track}.log",
    conda:
        "../envs/base.yaml"
    resources:
        **needs("teacher", teacher=1),
    params:
        settings=settings("teacher", "seed", track=("kind", "prompt")),
        code=code("scripts/ask.py"),
    shell:
        "python {SCRIPTS}/ask.py --track {wildcards.track} --data {input.data} --settings {params.settings:q}"
        " --out {output.predictions} 2> {log}"


rule predict:
    """Let the small local model answer; a killed run goes on where it stopped."""
    input:
        data="results/data/{track}/test.jsonl",
        model="results/models/slm/manifest.json",
    output:
        predictions="results/predictions/{track}/slm.jsonl",
    log:
        "logs/predict/{track}.log",
    conda:
        TORCH_ENV
    resources:
        **needs("answer", gpu=config["slm"].get("gpus", 0)),
    params:
        settings=settings("slm", "seed", track=("kind", "prompt", "max_new_tokens")),
        code=code("scripts/predict.py"),
    shell:
        "python -m fledgling.gpus {resources.gpu} python {SCRIPTS}/predict.py --track {wildcards.track}"
        " --data {input.data} --model {input.model} --settings {params.settings:q}"
        " --out {output.predictions} 2> {log}"


rule predict_tuned:
    """The same model under the adapter of its track; an adapter of another base is refused."""
    input:
        data="results/data/{track}/test.jsonl",
        model="results/models/slm/manifest.json",
        adapter="results/adapters/{track}/manifest.json",
        weights="results/adapters/{track}/adapter_model.safetensors",
    output:
        predictions="results/predictions/{track}/tuned.jsonl",
    log:
        "logs/predict_tuned/{track}.log",
    conda:
        TORCH_ENV
    resources:
        **needs("answer", gpu=config["slm"].get("gpus", 0)),
    params:
        settings=settings("slm", "seed", track=("kind", "prompt", "max_new_tokens")),
        code=code("scripts/predict.py"),
    shell:
        "python -m fledgling.gpus {resources.gpu} python {SCRIPTS}/predict.py --track {wildcards.track}"
        " --data {input.data} --model {input.model} --adapter {input.adapter} --settings {params.settings:q}"
        " --out {output.predictions} 2> {log}"


use rule ask as ask_repeat with:
    output:
        predictions="results/predictions/{track}/repeat/teacher.jsonl",
    log:
        "logs/ask_repeat/{track}.log",
    params:
        settings=settings("teacher", "seed", track=("kind", "prompt"), repeat=1),
        code=code("scripts/ask.py"),


use rule predict as predict_repeat with:
    output:
        predictions="results/predictions/{track}/repeat/slm.jsonl",
    log:
        "logs/predict_repeat/{track}.log",
    params:
        settings=settings("slm", "seed", track=("kind", "prompt", "max_new_tokens"), repeat=1),
        code=code("scripts/predict.py"),


use rule predict_tuned as predict_tuned_repeat with:
    output:
        predictions="results/predictions/{track}/repeat/tuned.jsonl",
    log:
        "logs/predict_tuned_repeat/{track}.log",
    params:
        settings=settings("slm", "seed", track=("kind", "prompt", "max_new_tokens"), repeat=1),
        code=code("scripts/predict.py"),


rule floor:
    """Answers that need no model; a contender that does not beat them all proves nothing."""
    input:
        train="results/data/{track}/train.jsonl",
        data="results/data/{track}/test.jsonl",
    output:
        predictions="results/predictions/{track}/floor-{floor}.jsonl",
    log:
        "logs/floor/{track}-{floor}.log",
    group:
        "small"
    conda:
        "../envs/base.yaml"
    resources:
        **needs("small", small=1),
    params:
        kind=kind,
        code=code("scripts/floor.py"),
    shell:
        "python {SCRIPTS}/floor.py --floor {wildcards.floor} --track-kind {params.kind}"
        " --train {input.train} --data {input.data} --out {output.predictions} 2> {log}"
