"""One edit, one dry run: exactly the rules that depend on what was edited re-run."""

import os
import random
from pathlib import Path

import pytest
import yaml

from fledgling import contenders
from fledgling.config import BESIDE, WHERE
from fledgling.graph import sees

AFTER_DECIDE = {"decide": 2, "report": 2}
AFTER_COMPARE = {"compare": 2, **AFTER_DECIDE}
AFTER_VAL = {"try_on_val": 4, **AFTER_COMPARE}
AFTER_SCORE = {"score": 12, "try_on_val": 2, **AFTER_COMPARE}


def test_nothing_to_do(built):
    assert built.plan() == {}


SLM_AGAIN = {"answer": 2, "score": 4, **AFTER_VAL}
TRAIN_AGAIN = {
    "train": 2,
    "answer_candidates": 2,
    "answer": 2,
    "score": 8,
    "select_adapter": 2,
    "try_on_val": 2,
    **AFTER_DECIDE,
}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("margin: 0.05", "margin: 0.06", AFTER_VAL),
        ("power: 0.8", "power: 0.9", AFTER_VAL),
        ("learning_rate: 0.007", "learning_rate: 0.004", TRAIN_AGAIN),
        ("  sft: {}", "  sft: {rank: 32}", TRAIN_AGAIN),
        (
            "max_new_tokens: 64\n    requests_per_month: 1000000 # invented",
            "max_new_tokens: 65\n    requests_per_month: 1000000 # invented",
            {
                "answer_candidates": 1,
                "answer": 2,
                "score": 6,
                "select_adapter": 1,
                "try_on_val": 2,
                "compare": 1,
                "decide": 1,
                "report": 1,
            },
        ),
        ("error_rate: 0.06", "error_rate: 0.07", {"ask": 4, "score": 4, **AFTER_VAL}),
        (
            "repeats: []",
            "repeats: [teacher, slm, tuned]",
            {"ask": 2, "answer_again": 4, "score": 6, **AFTER_DECIDE},
        ),
        ("finetune: auto # auto", "finetune: never # auto", {"compare": 1, "decide": 1, "report": 1}),
        (
            "max_prompt_tokens: 2048",
            "max_prompt_tokens: 2047",
            {"answer_candidates": 2, "answer": 4, "score": 12, "select_adapter": 2, **AFTER_VAL},
        ),
        # A contender's own keys ask that contender again, and whoever judges it.
        ("  slm: {}\n", "  slm: {batch_size: 16}\n", SLM_AGAIN),
        ("  slm: {}\n", "  slm: {label: the base}\n", AFTER_COMPARE),
        (
            "  slm: {}\n",
            "  slm: {}\n  short: {max_new_tokens: 8}\n",
            {"answer": 2, "score": 4, "try_on_val": 2, **AFTER_COMPARE},
        ),
        # Prices and what is judged later ask nobody again.
        ("input_per_million: 2.5", "input_per_million: 2.6", {"score": 4, **AFTER_VAL}),
        ("price_per_hour: 0.35", "price_per_hour: 1.5", AFTER_DECIDE),
        ("allow_mixed_models: false", "allow_mixed_models: true", AFTER_VAL),
        # "Where" keys re-run nothing.
        ("gpus: 0, micro_batch_tokens: 2048", "gpus: 2, micro_batch_tokens: 4096", {}),
        ("deepspeed: false", "deepspeed: true", {}),
        ("  gpus: 0\n", "  gpus: 1\n", {}),
        ("concurrency: 8", "concurrency: 16", {}),
        ("timeout_s: 60", "timeout_s: 30", {}),
        ("max_tries: 6", "max_tries: 7", {}),
        ("requests_per_minute: null", "requests_per_minute: 60", {}),
        ("tokens_per_minute: null", "tokens_per_minute: 6000", {}),
        ("budget: {calls: null, money: null}", "budget: {calls: 5000, money: 5.0}", {}),
        ("journal: .journal", "journal: elsewhere", {}),
        ("# How the hosted model is asked.", "# A comment.", {}),
    ],
)
def test_configuration(built, old, new, expected):
    built.edit("config/config.yaml", old, new)
    plan = built.plan()
    if {
        "try_on_val",
        "compare",
    } <= expected.keys():  # what lies behind the checkpoint is known only when it has run again
        behind = {"answer_candidates", "answer", "score", "select_adapter", "try_on_val", "compare"}
        first = {rule: n for rule, n in expected.items() if rule not in behind}
        assert {rule: n for rule, n in plan.items() if rule not in behind} == first
        assert all(plan.get(rule, 0) <= expected.get(rule, 0) for rule in behind), plan
    else:
        assert plan == expected


def test_the_path_of_the_checkpoint_counts(built, tmp_path):
    """SLM_MODEL_PATH is part of the configuration: another one fetches, and asks again what answers with it."""
    env = {"SLM_MODEL_PATH": str(tmp_path)}
    result = built.run("--dry-run", env=env)
    assert "rule fetch" in result.stdout
    assert "rule answer" in result.stdout
    assert "rule ask" not in result.stdout


def test_every_key_is_seen_by_a_rule_or_says_where(root):
    """No key of the configuration changes an answer without planning it again."""
    schema = yaml.safe_load((root / "config/schemas/config.schema.yaml").read_text())
    for section in ("teacher", "slm"):
        seen = {key for rule in ("ask", "answer") for key in sees.SEES[rule].get(section, ())}
        rest = schema["properties"][section]["properties"].keys() - seen
        beside = {"price_per_hour"} if section == "slm" else {"looks"}  # of `buy`, which test_ladder.py edits
        assert rest == {*WHERE[section], *BESIDE.get(section, ()), *beside}
    track = set().union(*(rule.get("track", ()) for rule in sees.SEES.values()))
    assert schema["$defs"]["track"]["properties"].keys() <= track | {"recipe"}
    own = schema["$defs"]["contender"]["properties"].keys() - {*contenders.IDENTITY, *contenders.OF_TRACK}
    assert own == schema["properties"]["slm"]["properties"].keys()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("src/fledgling/tracks/toolcall.py", AFTER_SCORE),
        ("src/fledgling/stats.py", AFTER_COMPARE),
        ("scripts/report.py", {"report": 2}),
    ],
)
def test_code(built, file, expected):
    path = built.folder / file
    path.write_text(path.read_text() + "\n_EDITED = 1\n")
    plan = built.plan()
    assert set(plan) >= set(expected)
    assert not set(plan) & {"ask", "answer", "answer_candidates", "prepare", "fetch", "train"}


def test_comments_and_docstrings(built):
    for path in sorted(built.folder.glob("src/fledgling/**/*.py")) + sorted(built.folder.glob("scripts/*.py")):
        text = path.read_text()
        path.write_text(text.replace('"""\n', ' Really."""\n', 1) + "\n# A comment at the end.\n")
    assert built.plan() == {}


def test_touching_every_file(built):
    files = [path for path in built.folder.rglob("*") if path.is_file() and ".snakemake" not in path.parts]
    random.Random(0).shuffle(files)
    for second, path in enumerate(files):
        os.utime(path, (2_000_000_000 + second, 2_000_000_000 + second))
    assert built.plan() == {}


def test_one_more_source_row(empty, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "1"}\n')
    text = (empty.folder / "config/config.yaml").read_text()
    block = "- {embedded: structured, rows: 1000, house: 0.8}"
    assert block in text
    (empty.folder / "config/config.yaml").write_text(text.replace(block, f"- {{path: {rows}}}"))
    empty.build()
    assert empty.plan() == {}
    with rows.open("a") as stream:
        stream.write('{"id": "2"}\n')
    plan = empty.plan()
    assert plan["prepare"] == 1
    assert plan["ask"] == 2, "test and val; rows that were answered come out of the journal"
    assert "fetch" not in plan


def test_what_is_taken_from_a_log_prepares_its_rows_again(empty, tmp_path):
    """Every key of a log's source, the date that splits it, and a score that people gave later; nothing of another track."""
    log, scores = tmp_path / "log.jsonl", tmp_path / "scores.jsonl"
    log.write_text('{"trace_id": "1", "type": "GENERATION"}\n')
    scores.write_text('{"trace_id": "1", "name": "ok", "value": 1}\n')
    path = empty.folder / "config/config.yaml"
    block = "- {embedded: structured, rows: 1000, house: 0.8}\n    splits: {train: 0.5, val: 0.1, test: 0.4}"
    source = (
        f"- {{path: {log}, format: traces, gold: feedback, feedback: {{score: ok, at_least: 1, path: {scores}}},"
        " where: {name: a*, since: 2026-01-01}, turns: reply, tool_errors: keep, redact: [secret]}\n"
        "    splits: {test_from: 2026-10-01}"
    )
    text = path.read_text()
    assert block in text
    before = text.replace(block, source)
    path.write_text(before)
    empty.build()
    assert empty.plan() == {}
    for old, new in [
        ("name: a*", "name: b*"),
        ("since: 2026-01-01", "since: 2026-01-02"),
        ("at_least: 1", "at_least: 2"),
        ("turns: reply", "turns: each"),
        ("tool_errors: keep", "tool_errors: turn"),
        ("redact: [secret]", "redact: [other]"),
        ("test_from: 2026-10-01", "test_from: 2026-10-02"),
    ]:
        assert old in before, old
        path.write_text(before.replace(old, new))
        plan = empty.plan()
        assert (plan["prepare"], plan["ask"]) == (1, 2), new
        assert "fetch" not in plan
    path.write_text(before)
    assert empty.plan() == {}
    with scores.open("a") as stream:
        stream.write('{"trace_id": "2", "name": "ok", "value": 0}\n')
    assert empty.plan()["prepare"] == 1


def test_removed_adapter_is_chosen_again_when_it_is_asked_for(built):
    Path(built.folder, "results/adapters/toolcall/sft/adapter_model.safetensors").unlink()
    assert built.plan() == {}, "everything that was made with it is still there"
    assert built.plan("results/adapters/toolcall/sft/adapter_model.safetensors") == {"select_adapter": 1}


def test_one_candidate_is_kept_without_asking_val(empty, overlay):
    alone = {"recipe": {"candidates": 1}, "tracks": {"toolcall": {"finetune": "always"}, "structured": None}}
    plan = empty.plan("--configfile", overlay(alone), "--", "results/verdict/toolcall.json")
    assert (plan["train"], plan["select_adapter"], plan["answer"]) == (1, 1, 2)


def test_what_the_untuned_model_answers_with_asks_no_candidate_again(built):
    """Candidates answer for it where it answers as they do, which is no part of what they answer."""
    built.edit("config/config.yaml", "  slm: {}\n", "  slm: {batch_size: 16}\n")
    assert built.plan("results/predictions/structured/val/sft.1.jsonl") == {}


ADAPTER = "results/adapters/toolcall/sft/manifest.json"


def test_an_edited_metric_chooses_again_without_training(built):
    path = built.folder / "src/fledgling/tracks/toolcall.py"
    path.write_text(path.read_text() + "\n_EDITED = 1\n")
    assert built.plan(ADAPTER) == {"score": 2, "select_adapter": 1}


def test_the_order_of_core_metrics_chooses_again_without_scoring(built):
    built.edit("config/config.yaml", "[ast_match_rate, args_f1]", "[args_f1, ast_match_rate]")
    assert built.plan(ADAPTER) == {"select_adapter": 1}
    assert built.plan("results/adapters/structured/sft/manifest.json") == {}


TRACE = "results/trace/toolcall.json"


def test_traces_are_part_of_all_only_where_they_are_switched_on(built):
    assert built.plan() == {}
    built.edit("config/config.yaml", "in_all: false", "in_all: true")
    assert built.plan() == {"trace": 2}


def test_edits_of_what_a_trace_sees(built):
    assert built.plan(TRACE) == {"trace": 1}
    built.build("--", TRACE)
    assert built.plan(TRACE) == {}
    for old, new, expected in (
        ("outbox: .outbox", "outbox: elsewhere", {}),
        ("wait_s: 4", "wait_s: 60", {}),
        ("mask: []", "mask: ['[0-9]{16}']", {"trace": 1}),
        ("to: [langfuse]", "to: [langfuse, otlp]", {"trace": 1}),
    ):
        built.edit("config/config.yaml", old, new)
        assert built.plan(TRACE) == expected, new
        assert built.plan() == {}, f"{new}: nothing depends on a trace"
        built.build("--", TRACE)


def test_an_edited_sender_traces_again_and_nothing_else(built):
    built.build("--", TRACE)
    path = built.folder / "src/fledgling/tracing/send.py"
    path.write_text(path.read_text() + "\n_EDITED = 1\n")
    assert built.plan(TRACE) == {"trace": 1}
    assert built.plan() == {}
