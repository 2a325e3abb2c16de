import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fledgling.training.launch import command


@pytest.mark.parametrize(
    ("processes", "deepspeed", "name"), [(2, False, "gpus"), (3, False, "gpus"), (4, False, "gpus"), (2, True, "zero2")]
)
def test_accelerate_starts_several_processes(root, processes, deepspeed, name):
    given = command(processes, deepspeed=deepspeed)
    file = str(root / f"config/accelerate/{name}.yaml")
    assert given[1:] == ["-m", "accelerate.commands.launch", "--config_file", file, "--num_processes", str(processes)]
    assert yaml.safe_load(Path(file).read_text())["main_process_port"] == 0


@pytest.mark.parametrize("deepspeed", [False, True])
def test_one_process_needs_no_launcher(deepspeed):
    assert command(0, deepspeed=deepspeed) == command(1, deepspeed=deepspeed) == [sys.executable]


def test_the_launched_script_gets_its_arguments(root, tmp_path):
    (tmp_path / "s.py").write_text("import sys, os; print(sys.argv[1:])")
    done = subprocess.run(
        [sys.executable, "-m", "fledgling.training.launch", str(tmp_path / "s.py"), "--a", "b c"],
        cwd=root,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "['--a', 'b c']" in done.stdout
