"""A checkpoint's manifest: whole files or none, named with the reason and the remedy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fledgling.errors import DataError
from fledgling.files import sha256_file
from fledgling.models import checkpoint, tensors


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint beside its manifest."""
    shutil.copytree(tiny_checkpoint, tmp_path / "slm" / "checkpoint")
    checkpoint.write(
        tmp_path / "slm" / "manifest.json", checkpoint.describe(tmp_path / "slm/checkpoint", source="path")
    )
    return tmp_path / "slm"


def weights(folder: Path, change: Callable[[bytearray], None]) -> None:
    path = folder / "checkpoint/model.safetensors"
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def cut(data: bytearray) -> None:
    del data[-100:]


def zero_tail(data: bytearray) -> None:
    data[-100:] = bytes(100)


def flip_bit(data: bytearray) -> None:
    data[len(data) // 2] ^= 4


def test_what_is_written_is_read(folder: Path) -> None:
    model = checkpoint.load(folder / "manifest.json", verify=True)
    assert model.checkpoint == folder / "checkpoint"
    assert model == checkpoint.describe(folder / "checkpoint", source="path")
    assert model.architecture == "Phi3ForCausalLM"
    assert model.parameters == sum(t.numbers for t in tensors.of_checkpoint(folder / "checkpoint").values()) > 50_000
    written = json.loads((folder / "manifest.json").read_text())
    assert (written["format"], written["path"], written["generated"]) == ("fledgling/model/1", "checkpoint", False)
    (file,) = (file for file in written["files"] if file["path"] == "model.safetensors")
    assert file["sha256"] == sha256_file(folder / "checkpoint/model.safetensors")


def test_manifest_and_checkpoint_move_together(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "moved")
    assert checkpoint.load(tmp_path / "moved/manifest.json", verify=True).checkpoint == tmp_path / "moved/checkpoint"


def test_a_checkpoint_elsewhere_is_named_by_its_whole_path(tiny_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "manifest.json", checkpoint.describe(tiny_checkpoint, source="path"))
    assert checkpoint.load(tmp_path / "manifest.json").checkpoint == tiny_checkpoint.resolve()


@pytest.mark.parametrize("damage", [cut, zero_tail, flip_bit])
def test_damaged_weights_are_refused(folder: Path, damage: Callable[[bytearray], None]) -> None:
    weights(folder, damage)
    with pytest.raises(DataError, match=r"model\.safetensors"):
        checkpoint.load(folder / "manifest.json", verify=True)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "chat_template.jinja"])
def test_a_missing_or_shorter_file_is_refused_without_reading_it_all(folder: Path, name: str) -> None:
    path = folder / "checkpoint" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{name}: has .* bytes"):
        checkpoint.load(folder / "manifest.json")
    path.unlink()
    with pytest.raises(DataError, match=rf"{name}: no such file"):
        checkpoint.load(folder / "manifest.json")


@pytest.mark.parametrize("text", ["{}", "[]", '{"format": "fledgling/model/1"}', "not json"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="build it again"):
        checkpoint.load(tmp_path / "manifest.json")


def test_truncated_weights_have_no_manifest(folder: Path) -> None:
    weights(folder, cut)
    with pytest.raises(DataError, match=r"model\.safetensors: not a whole"):
        checkpoint.describe(folder / "checkpoint", source="path")


@pytest.mark.parametrize(
    "header", [b"", b"\x00" * 8, b"\xff" * 16, b"\x02" + bytes(7) + b"[]", b"\x02" + bytes(7) + b"{x"]
)
def test_a_damaged_header_has_no_manifest(folder: Path, header: bytes) -> None:
    (folder / "checkpoint/model.safetensors").write_bytes(header)
    with pytest.raises(DataError, match=r"model\.safetensors: not a whole"):
        checkpoint.describe(folder / "checkpoint", source="path")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 65504.0])
def test_weights_are_finite(folder: Path, dtype: str, value: float) -> None:
    import torch
    from safetensors.torch import save_file

    path = folder / "checkpoint/model.safetensors"
    weight = torch.zeros(3000, dtype=getattr(torch, dtype))
    weight[2999] = value
    save_file({"model.layers.0.weight": weight}, path)
    if value == 65504.0:
        checkpoint.describe(folder / "checkpoint", source="path")
    else:
        with pytest.raises(DataError, match=r"layers\.0\.weight.*infinite"):
            checkpoint.describe(folder / "checkpoint", source="path")


def test_only_what_a_model_needs_is_part_of_it() -> None:
    names = ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "merges.txt"]
    others = [
        "pytorch_model.bin",
        "modeling.py",
        "README.md",
        "onnx/model.safetensors",
        "consolidated.safetensors",
        "adapter_model.safetensors",
        "optimizer.pt",
        "training_args.bin",
        "../config.json",
        ".env",
    ]
    assert checkpoint.parts(names + others) == sorted(names)
