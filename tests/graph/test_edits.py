"""One edit, one dry run: exactly the rules that depend on what was edited re-run."""

import os
import random
from pathlib import Path

import pytest

AFTER_DECIDE = {"decide": 2, "report": 2}
AFTER_COMPARE = {"compare": 2, **AFTER_DECIDE}
AFTER_SCORE = {"score": 12, **AFTER_COMPARE}


def test_nothing_to_do(built):
    assert built.plan() == {}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("margin: 0.05", "margin: 0.06", AFTER_COMPARE),
        ("power: 0.8", "power: 0.9", AFTER_COMPARE),
        (
            "learning_rate: 0.005",
            "learning_rate: 0.004",
            {
                "train": 2,
                "predict_candidate": 4,
                "score_candidate": 4,
                "select": 2,
                "predict_tuned": 2,
                "score": 2,
                **AFTER_DECIDE,
            },
        ),
        (
            "max_new_tokens: 64\n\n  structured",
            "max_new_tokens: 65\n\n  structured",
            {"predict": 1, "score": 1, "compare": 1, "decide": 1, "report": 1},
        ),
        ("error_rate: 0.06", "error_rate: 0.07", {"ask": 2, "score": 2, **AFTER_COMPARE}),
        (
            "repeats: []",
            "repeats: [teacher, slm, tuned]",
            {"ask_repeat": 2, "predict_repeat": 2, "predict_tuned_repeat": 2, "score_repeat": 6, **AFTER_DECIDE},
        ),
        ("gpus: 0, micro_batch_tokens: 2048", "gpus: 2, micro_batch_tokens: 4096", {}),
        ("concurrency: 8", "concurrency: 16", {}),
        ("journal: .journal", "journal: elsewhere", {}),
        ("timeout_s: 60", "timeout_s: 30", {}),
        ("# How the hosted model is asked.", "# A comment.", {}),
    ],
)
def test_configuration(built, old, new, expected):
    built.edit("config/config.yaml", old, new)
    plan = built.plan()
    # What lies behind the checkpoint is known only when it has run again.
    assert {
        rule: n for rule, n in plan.items() if rule in expected or rule not in ("train", "predict_tuned")
    } == expected


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
    assert not set(plan) & {"ask", "predict", "predict_tuned", "predict_candidate", "prepare", "fetch", "train"}


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
    assert plan["ask"] == 1
    assert "fetch" not in plan


def test_removed_adapter_is_chosen_again_when_it_is_asked_for(built):
    Path(built.folder, "results/adapters/toolcall/adapter_model.safetensors").unlink()
    assert built.plan() == {}, "everything that was made with it is still there"
    assert built.plan("results/adapters/toolcall/adapter_model.safetensors") == {"select": 1}


def test_one_candidate_is_kept_without_asking_val(empty, overlay):
    alone = {"recipe": {"candidates": 1}, "tracks": {"toolcall": {"finetune": "always"}, "structured": None}}
    plan = empty.plan("--configfile", overlay(alone), "--", "results/verdict/toolcall.json")
    assert (plan["train"], plan["select"], plan["predict_tuned"]) == (1, 1, 1)
    assert not {"predict_candidate", "score_candidate"} & set(plan)


ADAPTER = "results/adapters/toolcall/manifest.json"


def test_an_edited_metric_chooses_again_without_training(built):
    path = built.folder / "src/fledgling/tracks/toolcall.py"
    path.write_text(path.read_text() + "\n_EDITED = 1\n")
    assert built.plan(ADAPTER) == {"score_candidate": 2, "select": 1}


def test_the_order_of_core_metrics_chooses_again_without_scoring(built):
    built.edit("config/config.yaml", "[ast_match_rate, args_f1]", "[args_f1, ast_match_rate]")
    assert built.plan(ADAPTER) == {"select": 1}
    assert built.plan("results/adapters/structured/manifest.json") == {}
