"""A file system without locks is said, with its folder and what to set, by everyone who locks a file."""

import errno
import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

from fledgling import slurm
from fledgling.decision.looks import look
from fledgling.errors import ConfigError
from fledgling.graph import lease
from fledgling.graph.driver import hold_folder
from fledgling.journal import Journal
from fledgling.journal.care import verify

LOCKERS: dict[str, Callable[[Path], object]] = {
    "the driver of a folder": lambda folder: hold_folder(str(folder / "driver.lock")),
    "the ledger of looks": lambda folder: look(folder / "looks.jsonl", test="a", inputs="b"),
    "a journal": lambda folder: Journal(folder, "slm").__enter__(),
    "the care of a journal": lambda folder: verify(folder / "teacher.jsonl"),
    "a submission to Slurm": lambda folder: slurm.submit(["train:track=a"], "run", "train", [], "true"),
}


@pytest.mark.parametrize("who", LOCKERS)
@pytest.mark.parametrize("said", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str, said: int) -> None:
    with Journal(tmp_path, "teacher"):
        pass

    def refuse(*_: object) -> None:
        raise OSError(said, "No locks available")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lease, "give", lambda: None)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ConfigError, match=rf"{tmp_path}.*: this file system .*(journal|another disk)"):
        LOCKERS[who](tmp_path)
