"""Answers of the teacher, of every contender and of the floors to the rows of a track.

needs   results/data/{track}/{train,val,test}.jsonl; results/models/{model}/manifest.json; the adapter of a trained contender
builds  results/predictions/{track}/{contender}.jsonl, one line an example, raw text kept, with a .json that seals it;
        under val/ the same for the rows of val (there also of the candidates of a training, {adapter}.1, {adapter}.2 …,
        all by one start of the engine), under repeat/ a second run of the contenders in `repeats`;
        results/shots/{track}/{contender}.jsonl and .json of a contender with shots
"""


rule ask:
    """Ask the teacher; a reply that is in the journal is not paid for again."""
    input:
        data=rows_asked,
        datasheet=ancient("results/data/{track}/datasheet.json"),
        bought=bought("repeat/"),
    output:
        predictions="results/predictions/{track}/{part}teacher.jsonl",
        seal="results/predictions/{track}/{part}teacher.json",
    log:
        "logs/ask/{track}/{part}teacher.log",
    benchmark:
        "logs/benchmarks/ask/{track}/{part}teacher.tsv"
    wildcard_constraints:
        part="val/|repeat/" if IN_LOOKS else PART,
    conda:
        "../envs/base.yaml"
    resources:
        **needs("teacher", teacher=1),
    params:
        bought=option("--bought", "bought"),
        settings=settings("ask", contender="teacher"),
        code=code("scripts/ask.py"),
    shell:
        'python "$FLEDGLING_SCRIPTS/ask.py" --track {wildcards.track} --data {input.data} --settings {params.settings:q}'
        " {params.bought} --out {output.predictions} 2> {log}"


rule buy:
    """With teacher.looks: ask the teacher the rows of test look by look, until they settle the verdict."""
    input:
        data="results/data/{track}/test.jsonl",
        datasheet=ancient("results/data/{track}/datasheet.json"),
        contenders=of_ladder("results/predictions/{track}/{contender}.jsonl"),
        seals=of_ladder("results/predictions/{track}/{contender}.json", *FLOOR_NAMES),
        floors=expand("results/predictions/{{track}}/{contender}.jsonl", contender=FLOOR_NAMES),
        ladder=said_on_val(names),
    output:
        predictions="results/predictions/{track}/teacher.jsonl",
        seal="results/predictions/{track}/teacher.json",
    log:
        "logs/ask/{track}/teacher.log",
    benchmark:
        "logs/benchmarks/ask/{track}/teacher.tsv"
    wildcard_constraints:
        track="[^/]+" if IN_LOOKS else any_of([]),
    conda:
        "../envs/base.yaml"
    resources:
        **needs("teacher", teacher=1),
    params:
        settings=settings("buy"),
        code=code("scripts/buy.py"),
    shell:
        'python "$FLEDGLING_SCRIPTS/buy.py" --track {wildcards.track} --data {input.data} --settings {params.settings:q}'
        " --contenders {input.contenders} --floors {input.floors} --ladder {input.ladder}"
        " --out {output.predictions} 2> {log}"


rule answer:
    """Let a small local model answer val and test in one start, under its adapter if it has one; a killed run goes on."""
    input:
        val="results/data/{track}/val.jsonl",
        test="results/data/{track}/test.jsonl",
        datasheet=ancient("results/data/{track}/datasheet.json"),
        model=model_of,
        adapter=adapter_of,
        shots=shots_of,
    output:
        val="results/predictions/{track}/val/{contender}.jsonl",
        test="results/predictions/{track}/{contender}.jsonl",
        seals=expand("results/predictions/{{track}}/{part}{{contender}}.json", part=["val/", ""]),
    log:
        "logs/answer/{track}/{contender}.log",
    benchmark:
        "logs/benchmarks/answer/{track}/{contender}.tsv"
    wildcard_constraints:
        contender=any_of(LOCAL),
    conda:
        TORCH_ENV
    resources:
        **needs("answer", gpus=gpus_to_answer, splits=["val", "test"]),
    params:
        adapter=option("--adapter", "adapter", first=True),
        shots=option("--shots", "shots", first=True),
        settings=settings("answer"),
        code=code("scripts/answer.py"),
    shell:
        'python -m fledgling.gpus {resources.gpu} python "$FLEDGLING_SCRIPTS/answer.py" --track {wildcards.track}'
        " --contender {wildcards.contender} --data {input.val} {input.test} --model {input.model} {params.adapter}"
        " {params.shots} --settings {params.settings:q} --out {output.val} {output.test} 2> {log}"


rule answer_again:
    """Let a contender answer every test row a second time, to see how much it differs from itself."""
    input:
        data="results/data/{track}/test.jsonl",
        datasheet=ancient("results/data/{track}/datasheet.json"),
        model=model_of,
        adapter=adapter_of,
        shots=shots_of,
    output:
        predictions="results/predictions/{track}/repeat/{contender}.jsonl",
        seal="results/predictions/{track}/repeat/{contender}.json",
    log:
        "logs/answer/{track}/repeat/{contender}.log",
    benchmark:
        "logs/benchmarks/answer/{track}/repeat/{contender}.tsv"
    wildcard_constraints:
        contender=any_of(LOCAL),
    conda:
        TORCH_ENV
    resources:
        **needs("answer", gpus=gpus_to_answer),
    params:
        adapter=option("--adapter", "adapter", first=True),
        shots=option("--shots", "shots", first=True),
        settings=settings("answer", part="repeat/"),
        code=code("scripts/answer.py"),
    shell:
        'python -m fledgling.gpus {resources.gpu} python "$FLEDGLING_SCRIPTS/answer.py" --track {wildcards.track}'
        " --contender {wildcards.contender} --data {input.data} --model {input.model} {params.adapter}"
        " {params.shots} --settings {params.settings:q} --out {output.predictions} 2> {log}"


rule choose_shots:
    """Choose the answered rows of train that are put before every row of a contender; val chooses, test has no say."""
    input:
        train="results/data/{track}/train.jsonl",
        val="results/data/{track}/val.jsonl",
        model=model_of,
        adapter=adapter_of,
    output:
        rows="results/shots/{track}/{contender}.jsonl",
        choice="results/shots/{track}/{contender}.json",
    log:
        "logs/choose_shots/{track}/{contender}.log",
    benchmark:
        "results/benchmarks/choose_shots/{track}/{contender}.tsv"
    wildcard_constraints:
        contender=any_of(LOCAL),
    conda:
        TORCH_ENV
    resources:
        **needs("answer", gpus=lambda wildcards: contenders.gpus_for_shots(config, wildcards.contender)),
    params:
        adapter=option("--adapter", "adapter", first=True),
        settings=settings("choose_shots"),
        code=CODE["choose_shots"],
    shell:
        'python -m fledgling.gpus {resources.gpu} python "$FLEDGLING_SCRIPTS/choose_shots.py" --track {wildcards.track}'
        " --contender {wildcards.contender} --train {input.train} --val {input.val} --model {input.model}"
        " {params.adapter} --settings {params.settings:q} --out {output.rows} 2> {log}"


rule answer_candidates:
    """Let all candidates of a training answer val in one start, and test ahead where that is cheaper than a start."""
    input:
        data="results/data/{track}/val.jsonl",
        test="results/data/{track}/test.jsonl",
        datasheet=ancient("results/data/{track}/datasheet.json"),
        model=lambda wildcards: f"results/models/{contenders.adapter_model(config, wildcards.adapter)}/manifest.json",
        adapters=rules.train.output.manifests,
        weights=rules.train.output.weights,
    output:
        predictions=expand("results/predictions/{{track}}/val/{{adapter}}.{number}.jsonl", number=CANDIDATES),
        seals=expand("results/predictions/{{track}}/val/{{adapter}}.{number}.json", number=CANDIDATES),
    log:
        "logs/answer/{track}/val/{adapter}.log",
    benchmark:
        "logs/benchmarks/answer/{track}/val/{adapter}.tsv"
    priority: 1  # before the model without adapter, which then finds its answers (where no gate has asked it yet)
    conda:
        TORCH_ENV
    resources:
        **needs(
            "answer",
            gpus=lambda wildcards: contenders.answering(config, f"{wildcards.adapter}.1").get("gpus", 0),
            splits=["val"] * len(CANDIDATES) + ["test"],
        ),
    params:
        settings=settings("answer", contender="{adapter}.1"),
        code=code("scripts/answer.py"),
    shell:
        'python -m fledgling.gpus {resources.gpu} python "$FLEDGLING_SCRIPTS/answer.py" --track {wildcards.track}'
        " --contender {wildcards.adapter}.1 --data {input.data} --ahead {input.test} --model {input.model}"
        " --adapter {input.adapters} --settings {params.settings:q} --out {output.predictions} 2> {log}"


rule floor:
    """Answers that need no model; a contender that does not beat them all proves nothing."""
    input:
        train="results/data/{track}/train.jsonl",
        data="results/data/{track}/test.jsonl",
        datasheet=ancient("results/data/{track}/datasheet.json"),
    output:
        predictions="results/predictions/{track}/floor-{floor}.jsonl",
        seal="results/predictions/{track}/floor-{floor}.json",
    log:
        "logs/floor/{track}-{floor}.log",
    group:
        SMALL
    conda:
        "../envs/base.yaml"
    resources:
        **needs("small", small=1),
    params:
        kind=kind,
        code=code("scripts/floor.py"),
    shell:
        'python "$FLEDGLING_SCRIPTS/floor.py" --floor {wildcards.floor} --track-kind {params.kind}'
        " --train {input.train} --data {input.data} --out {output.predictions} 2> {log}"
