"""From answers to a verdict that people can read.

needs   results/data/{track}, results/predictions/{track}
builds  results/metrics/{track}/{contender}.json (and .jsonl, a line a row), the same under repeat/ for second runs,
        results/compare/{track}.json, results/verdict/{track}.json, results/report/{track}.html
"""


rule score:
    """Score one contender's answers: strictly for the metrics, leniently for diagnosis."""
    input:
        data="results/data/{track}/test.jsonl",
        predictions="results/predictions/{track}/{contender}.jsonl",
    output:
        metrics=report(
            "results/metrics/{track}/{contender}.json",
            caption="../report/captions/metrics.rst",
            category="{track}",
            labels={"file": "metrics", "contender": "{contender}"},
        ),
        rows="results/metrics/{track}/{contender}.jsonl",
    log:
        "logs/score/{track}-{contender}.log",
    group:
        "small"
    conda:
        "../envs/base.yaml"
    resources:
        **needs("small", small=1),
    params:
        kind=kind,
        settings=prices,
        code=code("scripts/score.py"),
    shell:
        "python {SCRIPTS}/score.py --data {input.data} --predictions {input.predictions} --track-kind {params.kind}"
        " --settings {params.settings:q} --out {output.metrics} --rows {output.rows} 2> {log}"


use rule score as score_repeat with:
    input:
        data="results/data/{track}/test.jsonl",
        predictions="results/predictions/{track}/repeat/{contender}.jsonl",
    output:
        metrics="results/metrics/{track}/repeat/{contender}.json",
        rows="results/metrics/{track}/repeat/{contender}.jsonl",
    log:
        "logs/score_repeat/{track}-{contender}.log",


checkpoint compare:
    """The gate: the teacher against the slm, row by row. Says whether to train, in a file."""
    input:
        datasheet="results/data/{track}/datasheet.json",
        teacher="results/metrics/{track}/teacher.jsonl",
        slm="results/metrics/{track}/slm.jsonl",
        floors=expand("results/metrics/{{track}}/floor-{floor}.jsonl", floor=FLOORS),
        metrics=expand(
            "results/metrics/{{track}}/{contender}.json",
            contender=["teacher", "slm", *(f"floor-{floor}" for floor in FLOORS)],
        ),
    output:
        compare=report(
            "results/compare/{track}.json",
            caption="../report/captions/compare.rst",
            category="{track}",
            labels={"file": "gate"},
        ),
    log:
        "logs/compare/{track}.log",
    conda:
        "../envs/base.yaml"
    resources:
        **needs("light"),
    params:
        settings=settings(
            "decision", "seed", "simulated", "allow_mixed_models", track=("kind", "title", "finetune", "margin")
        ),
        code=code("scripts/compare.py"),
    shell:
        "python {SCRIPTS}/compare.py --track {wildcards.track} --settings {params.settings:q}"
        " --datasheet {input.datasheet} --teacher {input.teacher} --slm {input.slm} --floors {input.floors}"
        " --metrics {input.metrics} --out {output.compare} 2> {log}"


rule decide:
    """The verdict: teacher, slm and tuned on the same rows; what to deploy, or how many rows are missing."""
    input:
        compare="results/compare/{track}.json",
        datasheet="results/data/{track}/datasheet.json",
        rows=lambda wildcards: expand(
            "results/metrics/{{track}}/{contender}.jsonl",
            contender=contenders(wildcards),
        ),
        floors=expand("results/metrics/{{track}}/floor-{floor}.jsonl", floor=FLOORS),
        metrics=metrics,
        repeats=repeats(".jsonl"),
        repeat_metrics=repeats(".json"),
    output:
        verdict=report(
            "results/verdict/{track}.json",
            caption="../report/captions/verdict.rst",
            category="{track}",
            labels={"file": "verdict"},
        ),
    log:
        "logs/decide/{track}.log",
    conda:
        "../envs/base.yaml"
    resources:
        **needs("light"),
    params:
        settings=settings(
            "decision", "seed", "simulated", "allow_mixed_models", track=("kind", "title", "finetune", "margin")
        ),
        code=code("scripts/decide.py"),
    shell:
        "python {SCRIPTS}/decide.py --track {wildcards.track} --settings {params.settings:q}"
        " --compare {input.compare} --datasheet {input.datasheet} --rows {input.rows}"
        " --floors {input.floors} --metrics {input.metrics}"
        " --repeat {input.repeats} --repeat-metrics {input.repeat_metrics} --out {output.verdict} 2> {log}"


rule report:
    """The same for people: one self-contained page with pictures and rows side by side."""
    input:
        verdict="results/verdict/{track}.json",
        compare="results/compare/{track}.json",
        data="results/data/{track}/test.jsonl",
        datasheet="results/data/{track}/datasheet.json",
        predictions=lambda wildcards: expand(
            "results/predictions/{{track}}/{contender}.jsonl",
            contender=contenders(wildcards),
        ),
        rows=lambda wildcards: expand(
            "results/metrics/{{track}}/{contender}.jsonl",
            contender=contenders(wildcards),
        ),
        metrics=metrics,
        training=lambda wildcards: (["results/adapters/{track}/training.json"] if trained(wildcards) else []),
    output:
        html=report(
            "results/report/{track}.html",
            caption="../report/captions/report.rst",
            category="{track}",
            labels={"file": "report"},
        ),
    log:
        "logs/report/{track}.log",
    conda:
        "../envs/base.yaml"
    resources:
        **needs("light"),
    params:
        settings=settings(
            "teacher",
            "slm",
            "decision",
            "recipe",
            "models",
            track=("kind", "title", "finetune", "margin"),
        ),
        training=lambda wildcards, input: (f"--training {input.training}" if input.training else ""),
        code=code(
            "scripts/report.py",
            "src/fledgling/report/templates/report.html",
            "src/fledgling/report/templates/report.css",
        ),
    shell:
        "python {SCRIPTS}/report.py --track {wildcards.track} --settings {params.settings:q}"
        " --verdict {input.verdict} --compare {input.compare} --data {input.data} --datasheet {input.datasheet}"
        " --predictions {input.predictions} --metrics {input.metrics} --rows {input.rows} {params.training}"
        " --out {output.html} 2> {log}"
