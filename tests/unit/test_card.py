"""An adapter's card and its release: numbers that were measured, evidence that fits, nothing else."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import huggingface_hub.utils._http
import numpy as np
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load
from safetensors.numpy import save_file

from fledgling import artefacts
from fledgling.artefacts import Verdict
from fledgling.decision.choice import Rows
from fledgling.decision.rule import Rule
from fledgling.decision.scored import read_rows
from fledgling.decision.verdict import decide
from fledgling.errors import ConfigError, DataError
from fledgling.files import read_json, sha256_file, write_json, write_jsonl
from fledgling.models import adapter as adapters
from fledgling.models.checkpoint import File, Model
from fledgling.models.checkpoint import write as write_model
from fledgling.publishing.card import Facts, card
from fledgling.publishing.release import deployed, publish_adapter, refuse_unproven
from fledgling.score import score
from tests.project import write_sealed
from tests.servers.hub import TOKEN, Hub

from .scored_rows import SLM, TUNED, sheet

ROOT = Path(__file__).resolve().parents[2]
ROWS = 300
TITLE = "Orders: as JSON | fast"
RIGHT = {"teacher": 0.92, "slm": 0.5, "tuned": 0.97, "floor-empty": 0.0}


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artefacts of one track under results/, scored and judged by the real code."""
    results = tmp_path_factory.mktemp("published") / "results"
    data = results / "data/orders/test.jsonl"
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    write_jsonl(
        data,
        (
            {
                "id": f"r{i}",
                "group": f"r{i}",
                "messages": [{"role": "user", "content": f"order {i}"}],
                "schema": schema,
                "answer": {"n": i + 1},
            }
            for i in range(ROWS)
        ),
    )
    for contender, right in RIGHT.items():
        predictions = results / f"predictions/orders/{contender}.jsonl"
        write_jsonl(
            predictions,
            (
                {
                    "id": f"r{i}",
                    "outcome": "ok",
                    "raw": json.dumps({"n": i + 1 if i < right * ROWS else 0}),
                    "tool_calls": None,
                    "finish_reason": "stop",
                    "usage": {},
                    "latency_s": 0.1,
                    "model": contender,
                    "fingerprint": None,
                    "request": "x",
                }
                for i in range(ROWS)
            ),
        )
        metrics = results / f"metrics/orders/{contender}.json"
        score(data, predictions, "structured", metrics, metrics.with_suffix(".jsonl"))
    write_sealed(results / "verdict/orders.json", judge(results, ("slm", "tuned")))
    model = a_model(results)
    write_model(results / "models/slm/manifest.json", model)
    folder = results / "adapters/orders/sft"
    folder.mkdir(parents=True)
    layer = "model.layers.0.self_attn.qkv_proj"
    save_file({f"{layer}.weight": np.ones((8, 8), np.float32)}, model.checkpoint / "model.safetensors")
    lora = {"lora_A.weight": np.ones((2, 8), np.float32), "lora_B.weight": np.ones((8, 2), np.float32)}
    weights = {f"base_model.model.{layer}.{name}": value for name, value in lora.items()}
    save_file(weights, folder / "adapter_model.safetensors")
    write_json(folder / "adapter_config.json", {"r": 64})
    write_sealed(folder / "training.json", {"loss": [2.0, 0.1]})
    recipe = {"rank": 64, "alpha": 16, "learning_rate": 2e-4, "epochs": 1, "global_batch": 32, "quantization": "nf4"}
    adapters.seal(
        folder, track="orders", model=model, data={"train": "aa" * 32, "val": "bb" * 32}, recipe=recipe, backend="peft"
    )
    adapters.keep(folder, adapters.verified(folder / "manifest.json"))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "optimizer.pt").write_bytes(b"pickle")
    return results


def judge(results: Path, candidates: tuple[str, ...]) -> Verdict:
    rule = Rule.of(
        "orders",
        {
            "decision": {
                "core": {"structured": ["exact_match_rate", "field_f1"]},
                "margin": 0.05,
                "alpha": 0.05,
                "power": 0.8,
                "min_coverage": 0.95,
                "resamples": 300,
            },
            "track": {"kind": "structured", "title": TITLE, "finetune": "auto"},
            "seed": 7,
            "simulated": False,
        },
    )
    rows = {name: read_rows(results / f"metrics/orders/{name}.jsonl") for name in RIGHT}
    judged = Rows(rows["teacher"], tuple(rows[name] for name in candidates), (rows["floor-empty"],))
    ladder = [{"slm": SLM, "tuned": TUNED}[name] for name in candidates]
    return decide(rule, ladder, judged, sheet(ROWS, track="orders"), made_from={})


def a_model(results: Path) -> Model:
    checkpoint = results / "models/slm/checkpoint"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "config.json").write_text("{}")
    return Model(
        checkpoint=checkpoint,
        source="hub",
        repo_id="some-lab/Small-3B",
        revision="c0ffee" * 6 + "abcd",
        files=(File("config.json", 2, sha256_file(checkpoint / "config.json")),),
        architecture="Phi3ForCausalLM",
        parameters=3_800_000_000,
        chat_template_sha256="11" * 32,
        fingerprint="22" * 32,
        generated=False,
    )


@pytest.fixture
def facts(track: Path) -> Facts:
    return Facts(
        repo_id="org/orders-slm",
        title=TITLE,
        verdict=artefacts.read(Verdict, track / "verdict/orders.json"),
        contender=TUNED,
        metrics={name: read_json(track / f"metrics/orders/{name}.json") for name in ("teacher", "slm", "tuned")},
        adapter=read_json(track / "adapters/orders/sft/manifest.json"),
        model=a_model(track),
        license="mit",
    )


def changed(value: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {**value, **keys}


# The card


def test_metadata_is_valid_and_complete(facts: Facts, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card(facts))
    assert metadata_load(tmp_path / "README.md") is not None
    data = ModelCard(card(facts)).data
    assert data.base_model == "some-lab/Small-3B"
    assert (data.license, data.library_name, data.model_name) == ("mit", "peft", "orders-slm")
    assert "simulated" not in data.tags
    measured = facts.metrics["tuned"]["metrics"]
    results = {result.metric_type: result for result in data.eval_results}
    assert {name: result.metric_value for name, result in results.items()} == {
        name: metric["value"] for name, metric in measured.items()
    }
    exact = results["exact_match_rate"]
    assert (exact.metric_value, exact.metric_args["n"], exact.metric_args["k"]) == (0.97, ROWS, 291)
    assert (exact.metric_args["low"], exact.metric_args["high"]) == (
        measured["exact_match_rate"]["low"],
        measured["exact_match_rate"]["high"],
    )
    assert (exact.dataset_name, exact.dataset_split) == (TITLE, "test")
    assert exact.dataset_args == {"sha256": facts.metrics["tuned"]["data_sha256"]}


def test_text_says_what_was_measured(facts: Facts) -> None:
    text = card(facts)
    assert facts.verdict["statement"] in text
    assert "Simulated" not in text
    assert "against the verdict" not in text
    row = next(line for line in text.splitlines() if line.startswith("| **exact_match_rate**"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    rates = [facts.metrics[name]["metrics"]["exact_match_rate"] for name in ("teacher", "slm", "tuned")]
    assert cells[1:4] == [f"{100 * r['value']:.1f} % ({100 * r['low']:.1f}–{100 * r['high']:.1f})" for r in rates]
    gap = facts.verdict["comparisons"]["tuned"]["metrics"]["exact_match_rate"]
    words = [
        f"{abs(100 * gap[key]):.1f} {'worse' if gap[key] > 0 else 'better'}" if round(gap[key], 3) else "level"
        for key in ("gap", "low", "high")
    ]
    assert cells[4] == f"{words[0]} ({words[1]} to {words[2]})"
    assert cells[5] == "yes"
    for part in (
        "some-lab/Small-3B at revision `c0ffee",
        "`" + "aa" * 32,
        "| LoRA rank | 64 |",
        "less than 5 points worse",
    ):
        assert part in text


def test_every_table_row_has_the_same_cells(facts: Facts) -> None:
    lines = [line for line in card(facts).splitlines() if line.startswith("| ") and "metric" not in line]
    assert {line.count("|") for line in lines} == {3, 7}


def test_what_was_not_measured_is_not_claimed(facts: Facts) -> None:
    tuned = facts.metrics["tuned"]
    less = {name: rate for name, rate in tuned["metrics"].items() if name != "field_f1"}
    without = replace(facts, metrics=facts.metrics | {"slm": changed(dict(facts.metrics["slm"]), metrics=less)})
    assert "not measured" in card(without)
    empty = {"field_f1": changed(dict(tuned["metrics"]["field_f1"]), n=0)}
    without = replace(facts, metrics=facts.metrics | {"tuned": changed(dict(tuned), metrics=tuned["metrics"] | empty)})
    names = {result.metric_type for result in ModelCard(card(without)).data.eval_results}
    assert names == set(tuned["metrics"]) - {"field_f1"}


def test_simulated_is_stamped_everywhere(facts: Facts) -> None:
    text = card(replace(facts, verdict=changed(dict(facts.verdict), simulated=True)))
    data = ModelCard(text).data
    assert "> **Simulated.**" in text
    assert "simulated" in data.tags
    assert all(result.dataset_name.endswith("(simulated)") for result in data.eval_results)


def test_over_a_log_the_card_speaks_of_agreement(facts: Facts) -> None:
    plain = card(facts)
    assert "an answer that is not right." in plain
    assert "agreement" not in plain
    text = card(replace(facts, verdict=changed(dict(facts.verdict), gold="reply")))
    assert "**Measured is agreement with logged answers**" in text
    assert "an answer that is not as logged." in text
    assert "not right" not in text


def test_forced_is_said(facts: Facts) -> None:
    text = card(replace(facts, verdict=changed(dict(facts.verdict), deploy="teacher"), forced=True))
    assert "> **Published against the verdict**, which is to deploy: teacher." in text


def test_base_that_is_not_on_the_hub(facts: Facts) -> None:
    local = replace(facts.model, repo_id=None, revision=None, source="embedded", generated=True)
    text = card(replace(facts, model=local, license=None))
    data = ModelCard(text).data
    assert data.base_model is None
    assert data.license is None
    assert "not on the Hub" in text
    assert "made for demonstration" in text
    assert "made for demonstration" not in card(facts)


def test_same_facts_same_card(facts: Facts) -> None:
    assert card(facts) == card(facts)


# The release


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    for name in list(os.environ):
        if name.startswith("HF_") or name.endswith(("_KEY", "_TOKEN")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
    huggingface_hub.utils._http.close_session()


SETTINGS: dict[str, Any] = {
    "publish": {"repo_id": "org/{track}-slm", "private": True, "license": "mit", "path_in_repo": None, "force": False},
    "track": {"kind": "structured", "title": TITLE},
}


def release(results: Path, **publish: Any) -> dict[str, Any]:
    return publish_adapter(
        track="orders",
        adapters=[results / "adapters/orders/sft/manifest.json"],
        verdict=results / "verdict/orders.json",
        metrics=[results / f"metrics/orders/{name}.json" for name in ("teacher", "slm", "tuned")],
        models=[results / "models/slm/manifest.json"],
        settings={**SETTINGS, "publish": SETTINGS["publish"] | publish},
    )


@pytest.fixture
def copy(track: Path, tmp_path: Path) -> Path:
    """The track's artefacts, to be damaged."""
    import shutil

    return Path(shutil.copytree(track, tmp_path / "results"))


def edit(path: Path, change: Callable[[Any], None]) -> None:
    value = read_json(path)
    change(value)
    write_sealed(path, value)


def test_exactly_the_six_files(hub: Hub, track: Path) -> None:
    marker = release(track)
    repo = hub.repo("org/orders-slm")
    folder = track / "adapters/orders/sft"
    assert set(repo.files) == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
        "training.json",
        "verdict.json",
    }
    assert repo.files["verdict.json"] == (track / "verdict/orders.json").read_bytes()
    assert repo.files["adapter_model.safetensors"] == (folder / "adapter_model.safetensors").read_bytes()
    assert ModelCard(repo.files["README.md"].decode()).data.model_name == "orders-slm"
    assert len(repo.commits) == 1
    assert marker["manifest_sha256"] == sha256_file(folder / "manifest.json")
    assert (marker["commit"], marker["private"]) == (repo.branches["main"][-1].oid, True)
    assert {f["path"]: f["sha256"] for f in marker["files"]}["training.json"] == sha256_file(folder / "training.json")


def test_again_is_a_no_op_with_the_same_marker(hub: Hub, track: Path) -> None:
    first = release(track)
    hub.requests.clear()
    assert release(track) == first
    assert hub.writes == []


def test_folder_in_the_repository(hub: Hub, track: Path) -> None:
    release(track, path_in_repo="adapters/{track}")
    assert all(name.startswith("adapters/orders/") for name in hub.repo("org/orders-slm").files)


def test_the_verdict_decides(hub: Hub, copy: Path) -> None:
    write_sealed(copy / "verdict/orders.json", {**judge(copy, ("slm", "tuned")), "deploy": "teacher"})
    with pytest.raises(DataError, match=r"deploy teacher, which has no adapter.*publish\.force"):
        release(copy)
    assert hub.requests == []
    release(copy, force=True)
    assert "against the verdict" in hub.repo("org/orders-slm").files["README.md"].decode()


def test_no_repository_configured(hub: Hub, track: Path) -> None:
    with pytest.raises(ConfigError, match=r"publish\.repo_id"):
        release(track, repo_id=None)


def test_damaged_adapter(hub: Hub, copy: Path) -> None:
    weights = copy / "adapters/orders/sft/adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DataError, match=r"adapter_model\.safetensors: edited or damaged"):
        release(copy)
    assert hub.requests == []


def test_other_base(hub: Hub, copy: Path) -> None:
    write_model(copy / "models/slm/manifest.json", replace(a_model(copy), fingerprint="33" * 32))
    with pytest.raises(DataError, match="trained on"):
        release(copy)
    assert hub.requests == []


def test_contenders_on_different_rows(hub: Hub, copy: Path) -> None:
    edit(copy / "metrics/orders/teacher.json", lambda value: value.update(data_sha256="44" * 32))
    with pytest.raises(DataError, match="different rows"):
        release(copy)


def test_metrics_of_another_run(hub: Hub, copy: Path) -> None:
    edit(copy / "metrics/orders/tuned.json", lambda value: value["metrics"]["field_f1"].update(value=0.99))
    with pytest.raises(DataError, match=r"field_f1 is 0\.97 there and 0\.99 in the metrics"):
        release(copy)


def test_verdict_without_a_tuned_model(facts: Facts) -> None:
    alone = changed(dict(facts.verdict), comparisons={"slm": facts.verdict["comparisons"]["slm"]})
    with pytest.raises(DataError, match="not measured"):
        refuse_unproven(alone, TUNED, facts.metrics, source="v.json")
    with pytest.raises(DataError, match=r"no adapter.*finetune: always"):
        deployed(changed(dict(facts.verdict), ladder=[SLM], deploy="slm"), source="v.json", force=True)


def test_the_verdict_of_another_track(hub: Hub, copy: Path) -> None:
    edit(copy / "verdict/orders.json", lambda value: value.update(track="calls"))
    with pytest.raises(DataError, match="is about track 'calls', not 'orders'"):
        release(copy)


def test_secret_in_training_json(hub: Hub, copy: Path) -> None:
    folder = copy / "adapters/orders/sft"
    write_sealed(folder / "training.json", {"argv": ["--key", "sk-" + "aB3" * 9]})
    edit(
        folder / "manifest.json",
        lambda value: value["files"]["training.json"].update(
            bytes=(folder / "training.json").stat().st_size, sha256=sha256_file(folder / "training.json")
        ),
    )
    with pytest.raises(DataError, match=re.escape("training.json:4: API key (sk-…)")):
        release(copy)
    assert hub.requests == []


def test_command_of_the_graph(hub: Hub, track: Path, tmp_path: Path) -> None:
    out = tmp_path / "hub.json"
    metrics = [track / f"metrics/orders/{name}.json" for name in ("teacher", "slm", "tuned")]
    command = [
        sys.executable,
        ROOT / "scripts/publish.py",
        "--track",
        "orders",
        "--adapters",
        track / "adapters/orders/sft/manifest.json",
        "--verdict",
        track / "verdict/orders.json",
        "--metrics",
        *metrics,
        "--models",
        track / "models/slm/manifest.json",
        "--settings",
        json.dumps(SETTINGS),
        "--out",
        out,
    ]
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert read_json(out)["commit"] == hub.repo("org/orders-slm").branches["main"][-1].oid
