import os
import subprocess
import sys

import pytest
import yaml

from fledgling.training.launch import arguments


@pytest.mark.parametrize(
    ("cards", "deepspeed", "name", "processes"),
    [
        (0, False, "cpu", 1),
        (1, False, "gpu1", 1),
        (2, False, "gpu4", 2),
        (3, False, "gpu4", 3),
        (2, True, "zero2", 2),
        (0, True, "cpu", 1),
    ],
)
def test_one_process_a_card(root, cards, deepspeed, name, processes):
    options = arguments(cards, deepspeed=deepspeed)
    assert options == ["--config_file", f"config/accelerate/{name}.yaml", "--num_processes", str(processes)]
    loaded = yaml.safe_load((root / options[1]).read_text())
    assert loaded["use_cpu"] is (cards == 0)


def test_the_launched_script_gets_its_arguments(root, tmp_path):
    (tmp_path / "s.py").write_text("import sys, os; print(os.environ.get('ACCELERATE_USE_CPU'), sys.argv[1:])")
    done = subprocess.run(
        [sys.executable, "-m", "fledgling.training.launch", str(tmp_path / "s.py"), "--a", "b c"],
        cwd=root,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "['--a', 'b c']" in done.stdout
