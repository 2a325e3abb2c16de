"""Checkpoints from people who are not known: what cannot be used is said when it enters, with its file."""

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fledgling.errors import ConfigError, DataError
from fledgling.fetch import fetch
from fledgling.models import checkpoint
from tests.project import write_sealed

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "c"))


def enter(folder: Path) -> None:
    fetch({"source": "path", "path": str(folder)}, folder.parent / "manifest.json", seed=0)


def changed(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def header(path: Path, change: Any) -> None:
    """Change the header of a safetensors file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    new = json.loads(data[8 : 8 + size])
    change(new)
    text = json.dumps(new).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def test_a_whole_checkpoint_enters(folder: Path) -> None:
    enter(folder)
    assert checkpoint.load(folder.parent / "manifest.json", verify=True)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("config.json", "[]", "holds list"),
        ("config.json", "[" * 100_000, "nested too deeply"),
        ("config.json", "{", "not JSON"),
        ("config.json", '{"a": NaN}', "NaN is not JSON"),
        ("config.json", b"\xff\xfe", "not JSON"),
        ("tokenizer.json", "{}", "no tokenizer that can be used"),
        ("tokenizer.json", '{"a": NaN}', "NaN is not JSON"),
        ("tokenizer.json", '{"model": {"type": "BPE", "vocab": 3, "merges": []}}', "no tokenizer that can be used"),
        ("tokenizer_config.json", "3", "holds int"),
        ("generation_config.json", "[1]", "holds list"),
        ("chat_template.jinja", b"\xff", "not UTF-8"),
        ("chat_template.jinja", "{% if", "line 1"),
        (
            "chat_template.jinja",
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "1 s",
        ),
        ("chat_template.jinja", "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "more than 1,0"),
        ("chat_template.jinja", "{{ cycler.__init__.__globals__.os.system('touch /tmp/pwned') }}", "unsafe|Undefined"),
        (INDEX, '{"weight_map": {"a": 5}}', "no usable weight_map"),
        (INDEX, '{"weight_map": {"a": ".."}}', "no usable weight_map"),
        (INDEX, '{"weight_map": {"a": "../c/model.safetensors"}}', "no usable weight_map"),
        (INDEX, '{"weight_map": {"nothing": "model.safetensors"}}', "is missing"),
        (INDEX, '{"weight_map": []}', "no usable weight_map"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, file: str, content: str | bytes, says: str) -> None:
    (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=says) as stopped:
        enter(folder)
    assert str(folder) in str(stopped.value)
    assert not (folder.parent / "manifest.json").exists()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"architectures": {"a": 1}}, "architectures is no list of names"),
        ({"architectures": []}, "architectures is no list of names"),
        ({"architectures": ["Nobody"], "model_type": "nothing-known"}, "no configuration of a model"),
        ({"rope_scaling": "x"}, "rope_scaling is str"),
        ({"model_type": 3}, "model_type is int"),
        ({"vocab_size": "many"}, "vocab_size is str"),
        ({"hidden_size": True}, "hidden_size is bool"),
        ({"num_hidden_layers": 3}, "weights that config.json describes are in no file"),
        ({"hidden_size": 32}, "no model that these weights fit"),
        ({"intermediate_size": "x"}, "no configuration of a model"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(folder: Path, keys: dict[str, Any], says: str) -> None:
    changed(folder / "config.json", **keys)
    with pytest.raises(DataError, match=says):
        enter(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors[next(iter(tensors))].update(data_offsets=[0.0, 8.0]),
        lambda tensors: tensors[next(iter(tensors))].update(shape=["a"]),
        lambda tensors: tensors[next(iter(tensors))].update(shape=[-1, -1]),
        lambda tensors: tensors[next(iter(tensors))].update(dtype=3),
        lambda tensors: tensors[next(iter(tensors))].pop("shape"),
        lambda tensors: tensors.update(a=7),
        lambda tensors: tensors.update(a={"dtype": "F32", "shape": [1], "data_offsets": [0, 10**15]}),
    ],
)
def test_a_damaged_header_is_said(folder: Path, change: Any) -> None:
    header(folder / SINGLE, lambda tensors: (tensors.pop("__metadata__", None), change(tensors)))
    with pytest.raises(DataError, match="not a whole safetensors file"):
        enter(folder)


def test_a_tensor_less_is_noticed(folder: Path) -> None:
    """transformers would draw it at random, and say so once in a log."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / SINGLE)
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, folder / SINGLE, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"down_proj\.weight first; they would be drawn at random"):
        enter(folder)


@pytest.mark.parametrize("file", [SINGLE, "config.json", "tokenizer.json", "chat_template.jinja"])
def test_links_lead_nowhere_else(folder: Path, tmp_path: Path, file: str) -> None:
    (folder / file).rename(tmp_path / file)
    (folder / file).symlink_to(tmp_path / file)
    with pytest.raises(DataError, match=rf"{file}: leads out of the checkpoint's folder"):
        enter(folder)
    (folder / file).unlink()
    (tmp_path / file).rename(folder / f"own-{file}")
    (folder / file).symlink_to(f"own-{file}")
    enter(folder)


def test_the_cache_of_the_hub_may_link_to_its_own_store(tiny_checkpoint: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b/snapshots/0123"
    blobs = tmp_path / "models--a--b/blobs"
    shutil.copytree(tiny_checkpoint, blobs)
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    enter(snapshot)


@pytest.mark.parametrize("name", ["../other/config.json", "/etc/passwd", "..", "pytorch_model.bin"])
def test_a_manifest_names_files_of_a_checkpoint_only(folder: Path, name: str) -> None:
    enter(folder)
    path = folder.parent / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][0]["path"] = name
    write_sealed(path, manifest)
    with pytest.raises(DataError, match="no file of a checkpoint"):
        checkpoint.load(path)


ODD = [None, True, -1, 0, 3.5, 1e400, 10**30, "x", "", "../..", [], [1], {}, {"a": None}, [[]], "\x00"]


def test_a_hundred_damaged_checkpoints_end_in_words(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A key of a file gets another value, goes, or the file loses its end: refused in words, or still the same model."""
    random = Random(3)
    whole = {
        name: (tiny_checkpoint / name).read_bytes()
        for name in ("config.json", "tokenizer_config.json", "generation_config.json")
    }
    refused = 0
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "c"))
    for _ in range(100):
        name = random.choice(list(whole))
        value = json.loads(whole[name])
        key = random.choice(list(value))
        if random.random() < 0.1:
            text = whole[name][: random.randrange(len(whole[name]))]
        else:
            value[key] = random.choice(ODD)
            text = json.dumps(value).encode()
        (folder / name).write_bytes(text)
        try:
            enter(folder)
        except (DataError, ConfigError):
            refused += 1
        (folder / name).write_bytes(whole[name])
    assert refused > 30
