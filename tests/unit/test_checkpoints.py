"""Sealed checkpoints: only whole ones of this training are resumed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fledgling import checkpoints
from fledgling.errors import DataError


def checkpoint(folder: Path, step: int, run: str | None = "run") -> Path:
    path = folder / f"checkpoint-{step}"
    (path / "global_step").mkdir(parents=True)
    (path / "weights").write_bytes(os.urandom(1000))
    (path / "global_step" / "part").write_bytes(os.urandom(1000))
    if run:
        checkpoints.seal(path, run)
    return path


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)


def test_the_newest_by_number(tmp_path: Path) -> None:
    for step in (5, 100, 20):
        checkpoint(tmp_path, step)
    assert checkpoints.newest(tmp_path, "run") == tmp_path / "checkpoint-100"
    assert checkpoints.newest(tmp_path / "nothing", "run") is None


@pytest.mark.parametrize("damage", ["unsealed", "flipped", "truncated", "missing", "nested"])
def test_a_torn_one_is_set_aside_for_the_one_before(tmp_path: Path, damage: str) -> None:
    good = checkpoint(tmp_path, 10)
    torn = checkpoint(tmp_path, 20, None if damage == "unsealed" else "run")
    if damage == "flipped":
        flip(torn / "weights")
    elif damage == "truncated":
        os.truncate(torn / "weights", 999)
    elif damage == "missing":
        (torn / "weights").unlink()
    elif damage == "nested":
        flip(torn / "global_step" / "part")
    assert checkpoints.newest(tmp_path, "run") == good
    assert (tmp_path / "torn-checkpoint-20").is_dir()
    assert not torn.exists()
    checkpoint(tmp_path, 20, None)  # and again under the same name
    assert checkpoints.newest(tmp_path, "run") == good


def test_another_training_is_never_resumed(tmp_path: Path) -> None:
    checkpoint(tmp_path, 30, "another")
    assert checkpoints.newest(tmp_path, "run") is None
    assert not (tmp_path / "checkpoint-30").exists()


def test_verify_names_the_file(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 1)
    assert checkpoints.verify(path)["run"] == "run"
    flip(path / "weights")
    with pytest.raises(DataError, match="weights: missing or damaged"):
        checkpoints.verify(path)


def test_a_seal_that_is_no_json_is_torn(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 1)
    (path / checkpoints.SEAL).write_text('{"format": ')
    assert checkpoints.newest(tmp_path, "run") is None
    assert (tmp_path / "torn-checkpoint-1").is_dir()


def test_killed_before_the_seal_leaves_a_torn_one(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 7, None)
    code = f"from fledgling import checkpoints as c; from pathlib import Path; c.seal(Path({str(path)!r}), 'run')"
    for point, resumed in (("checkpoint.before_seal", None), ("checkpoint.after_seal", path)):
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"FLEDGLING_FAILPOINT": point})
        assert done.returncode == -signal.SIGKILL
        assert checkpoints.newest(tmp_path, "run") == resumed
        if resumed is None:
            (tmp_path / "torn-checkpoint-7").rename(path)
    assert json.loads((path / checkpoints.SEAL).read_text())["files"].keys() == {"weights", "global_step/part"}
