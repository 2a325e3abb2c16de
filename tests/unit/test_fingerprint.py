"""A base is known by what it computes: another name changes nothing, another weight everything."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fledgling.errors import DataError
from fledgling.models import fingerprint, tensors


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_sharding_and_file_names_do_not_count(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    shutil.copytree(tiny_checkpoint, tmp_path / "sharded")
    (tmp_path / "sharded/model.safetensors").unlink()
    model.save_pretrained(tmp_path / "sharded", max_shard_size="60KB")
    assert len(tensors.files(tmp_path / "sharded")) > 1
    assert fingerprint.base(tmp_path / "sharded") == fingerprint.base(tiny_checkpoint)


def test_a_missing_shard_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "sharded"))
    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(tiny_checkpoint).save_pretrained(folder, max_shard_size="60KB")
    shard = folder / tensors.files(folder)[0]
    shard.unlink()
    with pytest.raises(DataError, match=shard.name):
        fingerprint.base(folder)
    edit(folder / tensors.INDEX, lambda index: index["weight_map"].update(lost=tensors.files(folder)[1]))
    shard.write_bytes((folder / tensors.files(folder)[1]).read_bytes())
    with pytest.raises(DataError, match="is missing, though"):
        fingerprint.base(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.update(_name_or_path="someone/else", transformers_version="4.40.0", use_cache=False),
        lambda config: config.update(torch_dtype=config.pop("dtype", "float32")),
        lambda config: config.update(nothing=None),
    ],
)
def test_who_wrote_the_config_does_not_count(
    tiny_checkpoint: Path, copy: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    edit(copy / "config.json", change)
    assert fingerprint.base(copy) == fingerprint.base(tiny_checkpoint)


def test_rotary_settings_mean_the_same_in_old_and_new_places() -> None:
    old = {
        "rope_theta": 1e4,
        "partial_rotary_factor": 0.75,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0]},
    }
    new = {
        "rope_parameters": {
            "rope_type": "longrope",
            "short_factor": [1.0],
            "rope_theta": 1e4,
            "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 4096,
        },
        "partial_rotary_factor": 0.75,
        "original_max_position_embeddings": 4096,
    }
    assert fingerprint._meaning(old) == fingerprint._meaning(new)
    old["rope_scaling"]["short_factor"] = [1.1]  # type: ignore[index]
    assert fingerprint._meaning(old) != fingerprint._meaning(new)


def test_padding_and_truncation_of_the_tokenizer_do_not_count(tiny_checkpoint: Path, copy: Path) -> None:
    edit(copy / "tokenizer.json", lambda content: content.update(truncation={"max_length": 5}))
    assert fingerprint.base(copy) == fingerprint.base(tiny_checkpoint)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", lambda config: config.update(rms_norm_eps=1e-6)),
        ("config.json", lambda config: config.update(num_key_value_heads=2)),
        ("tokenizer.json", lambda content: content["model"]["merges"].pop()),
        ("tokenizer.json", lambda content: content["added_tokens"][0].update(special=False)),
    ],
)
def test_what_the_model_computes_counts(
    tiny_checkpoint: Path, copy: Path, file: str, change: Callable[[dict[str, Any]], Any]
) -> None:
    edit(copy / file, change)
    assert fingerprint.base(copy) != fingerprint.base(tiny_checkpoint)


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.1.self_attn.o_proj.weight",
        "model.norm.weight",
    ],
)
def test_one_number_counts(tiny_checkpoint: Path, copy: Path, name: str) -> None:
    tensor = tensors.of_checkpoint(copy)[name]
    data = bytearray(tensor.file.read_bytes())
    data[tensor.end - 2] ^= 1
    tensor.file.write_bytes(data)
    assert fingerprint.base(copy) != fingerprint.base(tiny_checkpoint)


def test_fewer_layers_count_even_where_the_config_lies(tiny_checkpoint: Path, copy: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = copy / "model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if "layers.1." not in k}, path)
    assert fingerprint.base(copy) != fingerprint.base(tiny_checkpoint)


def test_a_checkpoint_without_a_tokenizer_is_refused(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="no tokenizer"):
        fingerprint.base(copy)


def test_the_chat_template_is_one_text_wherever_it_lies(tiny_checkpoint: Path, copy: Path) -> None:
    own = copy / "chat_template.jinja"
    text = own.read_text()
    own.unlink()
    assert fingerprint.chat_template(copy) is None
    for form in (text, [{"name": "tools", "template": "x"}, {"name": "default", "template": text}]):
        edit(copy / "tokenizer_config.json", lambda config, form=form: config.update(chat_template=form))
        assert fingerprint.chat_template(copy) == fingerprint.chat_template(tiny_checkpoint)
    edit(copy / "tokenizer_config.json", lambda config: config.update(chat_template=text + " "))
    assert fingerprint.chat_template(copy) not in (None, fingerprint.chat_template(tiny_checkpoint))
