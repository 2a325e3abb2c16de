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


PROJECTION = "base_model.model.model.layers.0.self_attn.o_proj"
Shapes = dict[str, tuple[int, int]]


def weights(path: Path, shapes: Shapes | None = None, value: float = 1.0) -> None:
    """LoRA weights in PEFT's format; those that fit the tiny checkpoint where none are named."""
    import torch
    from safetensors.torch import save_file

    own: Shapes = {f"{PROJECTION}.lora_A.weight": (4, 64), f"{PROJECTION}.lora_B.weight": (64, 4)}
    given = own if shapes is None else shapes
    save_file({name: torch.full(shape, value) for name, shape in given.items()}, path, metadata={"format": "pt"})


def seal(folder: Path, model: checkpoint.Model) -> None:
    adapter.seal(folder, track="t", model=model, data={"train": "x"}, recipe={"rank": 4}, backend="peft")


@pytest.fixture
def sealed(tmp_path: Path, model: checkpoint.Model) -> Path:
    for name in (adapter.CONFIG, adapter.TRAINING):
        (tmp_path / name).write_text(name)
    weights(tmp_path / adapter.WEIGHTS)
    seal(tmp_path, model)
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
    with pytest.raises(DataError, match="format is fledgling/model/1"):
        adapter.load(tiny_model, model)
    with pytest.raises(DataError, match="no such file"):
        adapter.load(tmp_path / "manifest.json", model)


def test_the_digest_is_of_what_answers(sealed: Path, model: checkpoint.Model) -> None:
    before = adapter.load(sealed, model).digest
    (sealed.parent / adapter.TRAINING).write_text("another curve")
    adapter.seal(sealed.parent, track="t", model=model, data={}, recipe={}, backend="peft")
    assert adapter.load(sealed, model).digest == before
    weights(sealed.parent / adapter.WEIGHTS, value=2.0)
    adapter.seal(sealed.parent, track="t", model=model, data={}, recipe={}, backend="peft")
    assert adapter.load(sealed, model).digest != before


@pytest.mark.parametrize(
    ("shapes", "value", "says"),
    [
        ({f"{PROJECTION.replace('o_proj', 'q_proj')}.lora_A.weight": (4, 64)}, 1.0, "belongs to no module"),
        ({"something.else": (4, 64)}, 1.0, "belongs to no module"),
        ({f"{PROJECTION.replace('layers.0', 'layers.7')}.lora_B.weight": (64, 4)}, 1.0, "belongs to no module"),
        ({f"{PROJECTION}.lora_A.weight": (4, 65)}, 1.0, "does not fit"),
        ({f"{PROJECTION}.lora_B.weight": (4, 64)}, 1.0, "does not fit"),
        (None, float("nan"), "infinite numbers or NaN"),
        (None, float("inf"), "infinite numbers or NaN"),
        ({}, 1.0, "holds no tensor"),
    ],
)
def test_weights_that_change_nothing_or_break_everything_are_refused(
    sealed: Path, model: checkpoint.Model, shapes: Shapes | None, value: float, says: str
) -> None:
    """PEFT loads all of these without a word."""
    weights(sealed.parent / adapter.WEIGHTS, shapes, value)
    seal(sealed.parent, model)
    with pytest.raises(DataError, match=says):
        adapter.load(sealed, model)


def test_an_adapter_is_read_in_its_folder_only(sealed: Path, model: checkpoint.Model, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in (adapter.CONFIG, adapter.TRAINING, adapter.MANIFEST):
        shutil.move(sealed.parent / name, folder / name)
    shutil.move(sealed.parent / adapter.WEIGHTS, outside / adapter.WEIGHTS)
    (folder / adapter.WEIGHTS).symlink_to(outside / adapter.WEIGHTS)
    with pytest.raises(DataError, match="leads out of"):
        adapter.load(folder / adapter.MANIFEST, model)
