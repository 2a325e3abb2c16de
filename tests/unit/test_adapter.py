"""An adapter fits one base and one chat template, whole or not at all."""

import json
import shutil
from pathlib import Path

import pytest

from fledgling.errors import DataError
from fledgling.models import adapter, checkpoint


@pytest.fixture
def model(tiny_model: Path) -> checkpoint.Model:
    return checkpoint.load(tiny_model)


@pytest.fixture
def sealed(tmp_path: Path, model: checkpoint.Model) -> Path:
    for name in (adapter.WEIGHTS, adapter.CONFIG, adapter.TRAINING):
        (tmp_path / name).write_text(name)
    adapter.seal(tmp_path, track="t", model=model, data={"train": "x"}, recipe={"rank": 4}, backend="peft")
    adapter.keep(tmp_path, adapter.verified(tmp_path / adapter.MANIFEST))
    return tmp_path / adapter.MANIFEST


def other(base: Path, folder: Path, change: str) -> checkpoint.Model:
    shutil.copytree(base, folder)
    if change == "template":
        path = folder / "chat_template.jinja"
        path.write_text(path.read_text() + " ")
    elif change == "weights":  # same shapes, one number differs
        path = folder / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[-4] ^= 1
        path.write_bytes(data)
    elif change == "config":
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"rms_norm_eps": 1e-6}))
    return checkpoint.describe(folder, source="path")


def test_it_fits_its_base_wherever_that_lies(sealed: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    loaded = adapter.load(sealed, other(tiny_checkpoint, tmp_path / "elsewhere", "nothing"))
    assert loaded.folder == sealed.parent
    assert len(loaded.digest) == 64


@pytest.mark.parametrize(
    ("change", "reason"),
    [("weights", "does not fit"), ("config", "does not fit"), ("template", "another chat template")],
)
def test_another_base_is_refused(sealed: Path, tiny_checkpoint: Path, tmp_path: Path, change: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        adapter.load(sealed, other(tiny_checkpoint, tmp_path / "other", change))


@pytest.mark.parametrize("name", [adapter.WEIGHTS, adapter.CONFIG, adapter.TRAINING])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_file_is_refused(sealed: Path, model: checkpoint.Model, name: str, damage: str) -> None:
    path = sealed.parent / name
    if damage == "gone":
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[:-1] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(DataError, match=name):
        adapter.load(sealed, model)


def test_something_else_is_no_adapter(tiny_model: Path, model: checkpoint.Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the manifest of an adapter"):
        adapter.load(tiny_model, model)
    with pytest.raises(DataError, match="no such file"):
        adapter.load(tmp_path / "manifest.json", model)


def test_the_digest_is_of_what_answers(sealed: Path, model: checkpoint.Model) -> None:
    before = adapter.load(sealed, model).digest
    (sealed.parent / adapter.TRAINING).write_text("another curve")
    adapter.seal(sealed.parent, track="t", model=model, data={}, recipe={}, backend="peft")
    assert adapter.load(sealed, model).digest == before
    (sealed.parent / adapter.WEIGHTS).write_text("other weights")
    adapter.seal(sealed.parent, track="t", model=model, data={}, recipe={}, backend="peft")
    assert adapter.load(sealed, model).digest != before
