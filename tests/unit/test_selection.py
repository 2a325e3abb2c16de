"""Which model a folder works on: the catalog, the choice, and what it does to the configuration."""

import json
from pathlib import Path

import pytest

from fledgling import selection
from fledgling.errors import ConfigError

CATALOG = [
    {"id": "hub", "label": "H", "source": "huggingface", "modelId": "a/b", "revision": "0" * 40},
    {"id": "own", "label": "O", "source": "local", "path": "models/own"},
    {"id": "made", "label": "M", "source": "local", "steps": 9},
    {"id": "adapter", "label": "A", "source": "local_adapter", "path": "results/adapters/t", "base": "made"},
]
CONFIG = {"models": {"slm": {"source": "embedded", "steps": 250}, "big": {"source": "path", "path": "x"}}, "seed": 7}


def put(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_adapter(folder: Path, weights: str, fingerprint: str) -> None:
    put(folder / "adapter_model.safetensors", weights)
    put(folder / "adapter_config.json", {"base_model_name_or_path": "embedded"})
    put(folder / "manifest.json", {"base": {"name": "embedded", "fingerprint": fingerprint}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / selection.CATALOG, CATALOG)
    put(tmp_path / "models/own/config.json", {})
    write_adapter(tmp_path / "results/adapters/t/sft", "one", "base")
    return tmp_path


def chosen(folder: Path, name: str) -> object:
    selection.select(folder, name)
    return selection.apply(CONFIG, folder)["models"]


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("hub", {"source": "hub", "repo_id": "a/b", "revision": "0" * 40}),
        ("own", {"source": "path", "path": "models/own"}),
        ("made", {"source": "embedded", "steps": 9}),
    ],
)
def test_the_choice_takes_the_place_of_the_model(folder: Path, name: str, block: object) -> None:
    assert chosen(folder, name) == {"slm": block, "big": CONFIG["models"]["big"]}


def test_without_a_choice_the_configuration_stands(folder: Path) -> None:
    assert selection.apply(CONFIG, folder) == CONFIG
    (folder / selection.CATALOG).unlink()
    assert selection.apply(CONFIG, folder) == CONFIG


def test_an_adapter_is_merged_into_its_base_and_kept(folder: Path) -> None:
    models = chosen(folder, "adapter")
    (place,) = models["slm"].pop("merge")
    assert models["slm"] == {"source": "embedded", "steps": 9}
    write_adapter(folder / "results/adapters/t/sft", "two", "base")
    assert selection.apply(CONFIG, folder)["models"]["slm"]["merge"] == [place]  # as it was when it was chosen
    assert json.loads((folder / place / "adapter_model.safetensors").read_text()) == "one"
    assert chosen(folder, "adapter")["slm"]["merge"] != [place]


def test_an_adapter_of_a_merged_model_keeps_the_chain(folder: Path) -> None:
    first = chosen(folder, "adapter")["slm"]["merge"]
    put(folder / "results/models/slm/manifest.json", {"fingerprint": "merged"})
    write_adapter(folder / "results/adapters/t/sft", "two", "merged")
    second = chosen(folder, "adapter")["slm"]["merge"]
    assert len(second) == 2
    assert second[:1] == first
    assert chosen(folder, "adapter")["slm"]["merge"] == second  # choosing it once more changes nothing
    write_adapter(folder / "results/adapters/t/sft", "three", "base")
    assert len(chosen(folder, "adapter")["slm"]["merge"]) == 1


def test_a_copy_that_is_gone_is_said(folder: Path) -> None:
    (place,) = chosen(folder, "adapter")["slm"]["merge"]
    (folder / place / "manifest.json").unlink()
    with pytest.raises(ConfigError, match="choose it again"):
        selection.apply(CONFIG, folder)


def test_a_choice_that_the_catalog_has_lost(folder: Path) -> None:
    selection.select(folder, "own")
    put(folder / selection.CATALOG, CATALOG[:1])
    with pytest.raises(ConfigError, match=r"no model 'own' in config/model_catalog\.json"):
        selection.apply(CONFIG, folder)
    put(folder / selection.CATALOG, "broken")
    with pytest.raises(ConfigError, match=r"model_catalog\.json"):
        selection.apply(CONFIG, folder)


def test_a_broken_choice_leaves_the_last_one_in_force(folder: Path) -> None:
    selection.select(folder, "own")
    (folder / selection.SELECTION).write_text("{")
    assert selection.apply(CONFIG, folder)["models"]["slm"] == {"source": "path", "path": "models/own"}
    assert "model_selection.json" in selection.read_selection(folder).problem


def test_several_adapters_have_to_be_named(folder: Path) -> None:
    write_adapter(folder / "results/adapters/t/grpo", "x", "base")
    assert "several adapters" in selection.read_catalog(folder).entries["adapter"].problem


def test_a_folder_outside_the_project_cannot_be_chosen(folder: Path) -> None:
    (folder / "models/out").symlink_to("/etc")
    put(folder / selection.CATALOG, [{"id": "x", "label": "X", "source": "local", "path": "models/out"}])
    assert selection.read_catalog(folder).entries["x"].problem
    with pytest.raises(ConfigError):
        selection.select(folder, "x")
    assert not (folder / selection.SELECTION).exists()


def test_the_shipped_catalog_is_whole() -> None:
    found = selection.read_catalog(Path(__file__).parents[2])
    assert found.problems == ()
    assert all(not entry.problem for entry in found.entries.values() if entry.source != "local_adapter")
