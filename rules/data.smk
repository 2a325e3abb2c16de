"""Rows of every track, checked and split.

needs   the sources of tracks.{track}
builds  results/data/{track}/{train,val,test}.jsonl and datasheet.json
"""


rule prepare:
    """Read, check and split the rows of one track by group, so that adding rows moves none."""
    input:
        sources=sources,
    output:
        train="results/data/{track}/train.jsonl",
        val="results/data/{track}/val.jsonl",
        test="results/data/{track}/test.jsonl",
        datasheet="results/data/{track}/datasheet.json",
    log:
        "logs/prepare/{track}.log",
    priority: 1
    conda:
        "../envs/base.yaml"
    resources:
        **needs("light"),
        rows_first=1,
    params:
        settings=settings("prepare"),
        code=code("scripts/prepare.py"),
    shell:
        'python "$FLEDGLING_SCRIPTS/prepare.py" --track {wildcards.track} --settings {params.settings:q}'
        " --train {output.train} --val {output.val} --test {output.test} --datasheet {output.datasheet} 2> {log}"
