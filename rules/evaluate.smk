"""From answers to a verdict that people can read.

needs   results/data/{track}, results/predictions/{track}
builds  results/metrics/{track}/{contender}.json (and .jsonl, a line a row), the same under val/ and repeat/,
        results/ladder/{track}/{contender}.json, results/compare/{track}.json, results/verdict/{track}.json, results/report/{track}.html
"""


rule score:
    """Score one contender's answers: strictly for the metrics, leniently for diagnosis."""
    input:
        data=rows_asked,
        datasheet=ancient("results/data/{track}/datasheet.json"),
        predictions="results/predictions/{track}/{part}{contender}.jsonl",
        seal="results/predictions/{track}/{part}{contender}.json",
        bought=bought("", "repeat/"),
    output:
        metrics=report(
            "results/metrics/{track}/{part}{contender}.json",
            caption="../report/captions/metrics.rst",
            category="{track}",
            labels={"file": "metrics", "contender": "{part}{contender}"},
        ),
        rows="results/metrics/{track}/{part}{contender}.jsonl",
    log:
        "logs/score/{track}/{part}{contender}.log",
    group:
        SMALL
    conda:
        "../envs/base.yaml"
    resources:
        **needs("small", small=1),
    params:
        kind=kind,
        bought=option("--bought", "bought"),
        settings=settings("score"),
        code=code("scripts/score.py"),
    shell:
        'python "$FLEDGLING_SCRIPTS/score.py" --data {input.data} --predictions {input.predictions} --track-kind {params.kind}'
        " --settings {params.settings:q} {params.bought} --out {output.metrics} --rows {output.rows} 2> {log}"


checkpoint try_on_val:
    """What val says of one contender: whether it promises to pass on test, or a dearer one is built."""
    input:
        datasheet="results/data/{track}/datasheet.json",
        rows=expand("results/metrics/{{track}}/val/{contender}.jsonl", contender=["teacher", "{contender}"]),
        metrics=expand("results/metrics/{{track}}/val/{contender}.json", contender=["teacher", "{contender}"]),
    output:
        trial=report(
            "results/ladder/{track}/{contender}.json",
            caption="../report/captions/ladder.rst",
            category="{track}",
            labels={"file": "on val", "contender": "{contender}"},
        ),
    log:
        "logs/try_on_val/{track}/{contender}.log",
    wildcard_constraints:
        contender=any_of(LOCAL),
    conda:
        "../envs/base.yaml"
    resources:
        **needs("small", small=1),
    params:
        key=lambda wildcards: BUILDING.key(wildcards.track, wildcards.contender),
        settings=settings("try_on_val"),
        code=CODE["try_on_val"],
    shell:
        'python "$FLEDGLING_SCRIPTS/try_on_val.py" --track {wildcards.track} --contender {wildcards.contender}'
        " --settings {params.settings:q} --datasheet {input.datasheet} --rows {input.rows} --metrics {input.metrics}"
        " --key {params.key} --out {output.trial} 2> {log}"


checkpoint compare:
    """The gate: the teacher against what needs no training, row by row. Says which contender is built next, if any."""
    input:
        datasheet="results/data/{track}/datasheet.json",
        always=expand("results/metrics/{{track}}/{contender}.jsonl", contender=["teacher", LOCAL[0]]),
        rows=of_judged("results/metrics/{track}/{contender}.jsonl"),
        floors=expand("results/metrics/{{track}}/{contender}.jsonl", contender=FLOOR_NAMES),
        known=expand("results/metrics/{{track}}/{contender}.json", contender=["teacher", LOCAL[0], *FLOOR_NAMES]),
        metrics=of_judged("results/metrics/{track}/{contender}.json"),
        ladder=said_on_val(judged),
        bought=bought(""),
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
        key=lambda wildcards: BUILDING.gate_key(wildcards.track, judged(wildcards)),
        bought=option("--bought", "bought"),
        settings=settings("compare"),
        code=CODE["compare"],
    shell:
        'python "$FLEDGLING_SCRIPTS/compare.py" --track {wildcards.track} --settings {params.settings:q}'
        " --datasheet {input.datasheet} --rows {input.always} {input.rows} --floors {input.floors}"
        " --metrics {input.known} {input.metrics} --ladder {input.ladder} {params.bought} --key {params.key}"
        " --out {output.compare} 2> {log}"


rule decide:
    """The verdict: the teacher and all contenders on the same rows; what to deploy, or how many rows are missing."""
    input:
        compare="results/compare/{track}.json",
        datasheet="results/data/{track}/datasheet.json",
        teacher="results/metrics/{track}/teacher.jsonl",
        rows=of_ladder("results/metrics/{track}/{contender}.jsonl"),
        floors=expand("results/metrics/{{track}}/{contender}.jsonl", contender=FLOOR_NAMES),
        metrics=of_ladder("results/metrics/{track}/{contender}.json", "teacher", *FLOOR_NAMES),
        predictions=of_ladder("results/predictions/{track}/{contender}.json", "teacher"),
        ladder=said_on_val(names),
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
        settings=settings("decide"),
        code=code("scripts/decide.py"),
    shell:
        'python "$FLEDGLING_SCRIPTS/decide.py" --track {wildcards.track} --settings {params.settings:q}'
        " --compare {input.compare} --datasheet {input.datasheet} --rows {input.teacher} {input.rows}"
        " --ladder {input.ladder} --floors {input.floors} --metrics {input.metrics} --predictions {input.predictions}"
        " --repeat {input.repeats} --repeat-metrics {input.repeat_metrics} --out {output.verdict} 2> {log}"


rule report:
    """The same for people: one self-contained page with pictures and rows side by side."""
    input:
        verdict="results/verdict/{track}.json",
        compare="results/compare/{track}.json",
        data="results/data/{track}/test.jsonl",
        datasheet="results/data/{track}/datasheet.json",
        predictions=of_ladder("results/predictions/{track}/{contender}.jsonl", "teacher"),
        seals=of_ladder("results/predictions/{track}/{contender}.json", "teacher"),
        rows=of_ladder("results/metrics/{track}/{contender}.jsonl", "teacher"),
        metrics=of_ladder("results/metrics/{track}/{contender}.json", "teacher", *FLOOR_NAMES),
        ladder=said_on_val(names),
        training=of_adapters("results/adapters/{track}/{adapter}/training.json"),
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
        settings=settings("report"),
        code=code(
            "scripts/report.py",
            "src/fledgling/report/templates/report.html",
            "src/fledgling/report/templates/report.css",
            "src/fledgling/report/templates/report.js",
        ),
    shell:
        'python "$FLEDGLING_SCRIPTS/report.py" --track {wildcards.track} --settings {params.settings:q}'
        " --verdict {input.verdict} --compare {input.compare} --data {input.data} --datasheet {input.datasheet}"
        " --predictions {input.predictions} --metrics {input.metrics} --rows {input.rows}"
        " --training {input.training} --ladder {input.ladder} --out {output.html} 2> {log}"
