"""Every target plans, with either configuration; what is wrong is refused before anything runs."""

import json
import re
import subprocess
import sys
from collections import Counter

import pytest
import yaml

from fledgling import contenders
from fledgling.config import load

REAL = ["--configfile", "config/phi4-mini.yaml", "--"]
STAGES = {
    "results/models/slm/manifest.json": {"fetch"},
    "results/data/toolcall/test.jsonl": {"prepare"},
    "results/predictions/toolcall/teacher.jsonl": {"ask"},
    "results/predictions/toolcall/slm.jsonl": {"answer"},
    "results/predictions/structured/floor-echo.jsonl": {"floor"},
    "results/metrics/structured/slm.json": {"score"},
    "results/metrics/toolcall/val/slm.json": {"answer", "score"},
    "results/ladder/toolcall/slm.json": {"ask", "answer", "score", "try_on_val"},
    "results/compare/toolcall.json": {"compare"},
    "results/predictions/toolcall/val/teacher.jsonl": {"ask"},
    "results/predictions/toolcall/repeat/slm.jsonl": {"answer_again"},
    "results/candidates/structured/sft/training.json": {"train"},
    "results/metrics/structured/val/sft.2.json": {"train", "answer_candidates", "score"},
    "results/adapters/structured/sft/manifest.json": {"train", "answer_candidates", "score", "select_adapter"},
    "results/predictions/structured/tuned.jsonl": {"train", "select_adapter", "answer"},
    "results/verdict/toolcall.json": {"decide"},
    "results/report/toolcall.html": {"report"},
    "results/hub/toolcall.json": {"publish"},
    "all": {"decide", "report"},
}


@pytest.mark.parametrize("arguments", [["--"], REAL], ids=["embedded", "phi4-mini"])
def test_every_target_plans(empty, arguments):
    for target, rules in STAGES.items():
        plan = empty.plan(*arguments[:-1], "--", target)
        assert rules <= set(plan), target


def test_training_asks_for_four_cards(empty):
    result = empty.run("-n", *REAL, "results/adapters/toolcall/sft/manifest.json")
    job = result.stdout.partition("rule train:")[2].partition("rule ")[0]
    assert "gpu=4" in job, result.stdout


def test_the_historical_setting_is_an_overlay_of_the_real_configuration(empty):
    files = ["config/phi4-mini.yaml", "config/examples/historical.yaml"]
    target = "results/predictions/toolcall/slm.jsonl"
    plan = empty.plan("--configfile", *files, "--", target)
    assert {"fetch", "prepare", "answer"} <= set(plan)
    fast, slow = (load("config/config.yaml", *chosen) for chosen in (files[:1], files))
    assert (fast["slm"]["engine"], fast["slm"]["precision"]) == ("auto", "bf16")
    wanted = {"engine": "transformers", "precision": "int8", "batch_size": 8}
    assert {key: slow["slm"][key] for key in wanted} == wanted
    assert {key for key in fast if fast[key] != slow[key]} == {"slm"}


def test_always_shows_the_upper_bound(empty, overlay):
    plan = empty.plan("--configfile", overlay({"tracks": {"toolcall": {"finetune": "always"}}}), "--", "all")
    assert plan["train"] == 1
    assert plan["answer"] == 2 + 1, "slm and tuned of this track, the other track's slm; each val and test by one start"
    assert plan["answer_candidates"] == 1


def test_never_stops_at_the_gate(empty, overlay):
    both = {name: {"finetune": "never"} for name in ("toolcall", "structured")}
    empty.build("--configfile", overlay({"tracks": both}), "--", "all")
    assert not (empty.folder / "results/adapters").exists()
    assert (empty.folder / "results/report/toolcall.html").exists()


def test_publishing_is_not_part_of_all(built):
    assert not (built.folder / "results/hub").exists()
    assert built.plan("results/hub/toolcall.json") == {"publish": 1}


def test_a_third_track_is_a_block_of_yaml(empty, overlay, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n")
    track = {
        "kind": "structured",
        "sources": [{"path": str(rows)}],
        "splits": {"train": 0.5, "val": 0.1, "test": 0.4},
        "finetune": "auto",
        "max_new_tokens": 64,
    }
    plan = empty.plan("--configfile", overlay({"tracks": {"mail": track}}), "--", "all")
    assert plan["prepare"] == 3
    assert plan["compare"] == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("recipe: {learning_rat: 0.1}", ["overlay.yaml:1", "recipe.learning_rat", "did you mean 'learning_rate'"]),
        ("recipe: {learning_rate: 2e-4}", ["overlay.yaml:1", "recipe.learning_rate", "is text", "0.0002"]),
        ("recipe:\n  rank: many", ["overlay.yaml:2", "recipe.rank", "integer"]),
        ("tracks:\n  toolcall: {finetune: no}", ["overlay.yaml:2", "tracks.toolcall.finetune"]),
        (
            "tracks:\n  mail: {kind: structured, sources: [{path: no-such.jsonl, split: test}], finetune: never, "
            "max_new_tokens: 8}",
            ["overlay.yaml:2", "tracks.mail.sources.0.path", "no-such.jsonl"],
        ),
        ("tracks:\n  toolcall:\n    splits: {train: 0.5, val: 0.5, test: 0.5}", ["overlay.yaml:3", "add up to 1.5"]),
        ("tracks:\n  toolcall:\n    recipe: {candidates: 4}", ["overlay.yaml:3", "set recipe.candidates"]),
        ("decision: {margin: -1}", ["overlay.yaml:1", "decision.margin"]),
        ("models: {slm: {source: hub, repo_id: a/b, revision: main}}", ["models.slm.revision"]),
    ],
)
def test_a_wrong_key_is_refused(empty, overlay, change, says):
    result = empty.run("-n", "--configfile", overlay(change), "--", "all")
    assert result.returncode != 0
    for part in says:
        assert part in result.stdout
    assert not (empty.folder / "results").exists()


def test_an_unknown_track_names_the_known_ones(empty):
    result = empty.run("-n", "results/compare/tolcall.json")
    assert result.returncode != 0
    assert "no track 'tolcall'; configured are: toolcall, structured" in result.stdout


def test_a_dry_run_needs_no_key_and_writes_nothing(empty):
    empty.plan(*REAL, "all")
    assert not (empty.folder / "results").exists()
    assert not (empty.folder / ".journal").exists()


def test_a_hundred_tracks_plan(empty, overlay):
    block = yaml.safe_load((empty.folder / "config/config.yaml").read_text())["tracks"]["toolcall"]
    plan = empty.plan("--configfile", overlay({"tracks": {f"t{i}": block for i in range(100)}}), "--", "all")
    assert plan["compare"] == 102


def test_lint_and_format(root):
    lint = subprocess.run([sys.executable, "-m", "snakemake", "--lint"], cwd=root, capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout + lint.stderr
    files = ["Snakefile", *sorted(str(path.relative_to(root)) for path in (root / "rules").glob("*.smk"))]
    form = subprocess.run(
        [sys.executable, "-m", "snakefmt", "--check", *files], cwd=root, capture_output=True, text=True
    )
    assert form.returncode == 0, form.stdout + form.stderr


def test_the_plan_lists_the_jobs_of_a_dry_run(empty, overlay):
    """Every paid and GPU job of the graph, under the policy that runs all, with repeats and a contender more."""
    change = {
        "tracks": {"toolcall": {"finetune": "always"}, "structured": {"finetune": "always"}},
        "repeats": ["teacher", "slm", "tuned"],
        "contenders": {"short": {"max_new_tokens": 8, "after": "slm"}, "few": {"shots": "auto"}},
    }
    path = overlay(change)
    planned = empty.plan("--configfile", path, "--", "all")
    config = load(empty.folder / "config/config.yaml", path, root=empty.folder)
    jobs = [job for track in config["tracks"] for job in contenders.jobs(config, track)]
    candidates = [job for job in jobs if contenders.candidate_of(config, job.contender)]
    assert len(candidates) == config["recipe"]["candidates"] * planned["answer_candidates"], "all of one by one start"
    asked = [job for job in jobs if job not in candidates]
    for rule in ("ask", "train", "choose_shots"):
        assert planned[rule] == sum(job.rule == rule for job in asked), rule
    answers = Counter((job.track, job.contender, job.repeat) for job in asked if job.rule == "answer")
    assert planned["answer"] == sum(repeat == 0 for _, _, repeat in answers), "val and test by one start"
    assert planned["answer_again"] == sum(repeat == 1 for _, _, repeat in answers)
    assert all(splits == 2 - repeat for (_, _, repeat), splits in answers.items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("contenders: {tuned: {adapter: stf}}", ["contenders.tuned.adapter", "no adapter 'stf'", "did you mean 'sft'"]),
        ("contenders: {x: {after: tunde}}", ["contenders.x.after", "did you mean 'tuned'"]),
        ("contenders: {x: {model: slim}}", ["contenders.x.model", "did you mean 'slm'"]),
        ("contenders: {teacher: {}}", ["contenders.teacher", "take another"]),
        ("contenders: {slm: null, tuned: {adapter: sft}}", ["contenders.tuned", "the gate judges"]),
        ("contenders: {tuned: {prompt: {schema: none}}}", ["contenders.tuned.prompt", "it was trained on"]),
        ("contenders: {x: {shots: 0}}", ["contenders.x.shots"]),
        ("adapters: {sft: {rnak: 8}}", ["adapters.sft.rnak", "did you mean 'rank'"]),
        ("repeats: [tund]", ["repeats.0", "did you mean 'tuned'"]),
        ("contenders: {tunde: null}", ["contenders.tunde", "did you mean 'tuned'"]),
    ],
)
def test_names_of_contenders_have_to_fit(empty, overlay, change, says):
    result = empty.run("-n", "--configfile", overlay(change), "--", "all")
    assert result.returncode != 0
    for part in says:
        assert part in result.stdout, result.stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("decision: {margin: 0.02}\ndecision: {alpha: 0.04}", ":2: decision: this key is on line 1 already"),
        ("tracks: {no: {kind: toolcall}}", ":1: tracks.no: a key is text"),
        ("tracks: {tolcall: null}", ":1: tracks.tolcall: null removes a track"),
        (
            "tracks:\n  toolcall: {recipe: {learning_rate: 2e-4}}",
            ":2: tracks.toolcall.recipe.learning_rate: '2e-4' is text",
        ),
    ],
)
def test_a_file_that_says_other_than_it_seems_is_refused(empty, tmp_path, text, says):
    path = tmp_path / "o.yaml"
    path.write_text(text)
    result = empty.run("-n", "--configfile", str(path), "--", "all")
    assert result.returncode != 0
    assert f"{path}{says}" in result.stdout, result.stdout


def test_a_whole_number_with_a_point_plans(empty, overlay):
    assert empty.plan(
        "--configfile", overlay("recipe: {candidates: 2.0}"), "--", "results/adapters/toolcall/sft/manifest.json"
    )


def test_the_schema_describes_every_key(root):
    schema = yaml.safe_load((root / "config/schemas/config.schema.yaml").read_text())

    def undescribed(node, path):
        for key, value in node.get("properties", {}).items():
            if "description" not in value and "$ref" not in value:
                yield f"{path}.{key}"
            yield from undescribed(value, f"{path}.{key}")

    missing = list(undescribed(schema, ""))
    for name, value in schema["$defs"].items():
        missing += undescribed(value, name)
    assert missing == [], json.dumps(missing)


def test_the_reference_names_every_key_with_its_description(root):
    schema = yaml.safe_load((root / "config/schemas/config.schema.yaml").read_text())
    text = (root / "config/README.md").read_text()

    def described(node):
        for value in node.get("properties", {}).values():
            if "description" in value:
                yield value["description"]
            yield from described(value)

    for node in (schema, *schema["$defs"].values()):
        for description in described(node):
            assert description in text or "editors" in description, description


def test_memory_and_time_are_worked_out_where_somebody_rations_them(empty):
    """For a scheduler, and under --resources; nobody else pays for it in each dry run."""
    target = "results/metrics/toolcall/teacher.json"
    assert "mem_mb=" not in empty.run("-n", target).stdout
    assert "mem_mb=4000" in empty.run("-n", "--resources", "mem_mb=9000", "--", target).stdout
    for profile in ("slurm", "slurm-generic"):
        said = empty.run("-n", "--profile", f"profiles/{profile}", "--", target).stdout
        assert re.search(r"mem_mb=2000, .*runtime=15, .*small=1", said), said
        assert re.search(r"mem_mb=2000, .*runtime=1440, .*teacher=1", said), said


def test_of_two_files_the_one_that_counts_is_named(empty, overlay, tmp_path):
    first = overlay("decision: {margin: 0.1}")
    second = tmp_path / "second.yaml"
    second.write_text("seed: 1\ndecision: {margin: -1}\n")
    result = empty.run("-n", "--configfile", first, second, "--", "all")
    assert f"{second}:2: decision.margin" in result.stdout


def test_small_jobs_go_out_together_by_track(empty):
    """Floors and scores that are always there; what val or the gate may add is no part of their group."""
    said = empty.run("-n", "--profile", "profiles/slurm-generic").stdout
    blocks = re.split(r"\n(?=\[.*\] (?:Group job|Job) |\[.*\]\n(?:rule|checkpoint) )", said)
    groups = [block for block in blocks if "Group job small." in block]
    first = [block for block in groups if re.search(r"Group job small\.\w+\.\. ", block)]
    assert len(first) == 2
    for block in groups:
        assert len(set(re.findall(r"wildcards: track=(\w+)", block))) == 1, block
    for block in first:
        made = re.findall(r"output: results/(\w+)/\w+/(\S+?)\.json", block)
        assert len([name for stage, name in made if stage == "predictions"]) == 3, "floors"
        assert {name for stage, name in made if stage == "metrics"} == {
            "teacher",
            "slm",
            *("floor-echo", "floor-frequent", "floor-empty"),
        }
