"""What was measured and decided, to Langfuse and other back-ends. Part of `all` only where trace.in_all says so.

needs   everything about a track up to its verdict; no receiver: what is not delivered stays in the outbox
builds  results/trace/{track}.json: what was put into the outbox, delivered or not; nothing depends on it
"""


rule trace:
    """Keep everything about a track in the outbox, masked, and send what receivers take; never breaks a build."""
    input:
        verdict="results/verdict/{track}.json",
        compare="results/compare/{track}.json",
        data=expand("results/data/{{track}}/{split}.jsonl", split=["test", "val"]),
        datasheet=ancient("results/data/{track}/datasheet.json"),
        predictions=of_everybody("predictions", ".jsonl"),
        seals=of_everybody("predictions", ".json"),
        metrics=of_everybody("metrics", ".json"),
        rows=of_everybody("metrics", ".jsonl"),
        training=of_adapters("results/adapters/{track}/{adapter}/training.json"),
        ladder=said_on_val(names),
    output:
        marker="results/trace/{track}.json",
    log:
        "logs/trace/{track}.log",
    conda:
        "../envs/trace.yaml"
    resources:
        **needs("light"),
    params:
        settings=settings("trace"),
        code=code("scripts/trace.py"),
    shell:
        'python "$FLEDGLING_SCRIPTS/trace.py" --track {wildcards.track} --settings {params.settings:q}'
        " --verdict {input.verdict} --compare {input.compare} --data {input.data} --predictions {input.predictions}"
        " --metrics {input.metrics} --training {input.training} --out {output.marker} 2> {log}"
