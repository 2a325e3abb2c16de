"""One list of pins: the conda files repeat the pip requirements."""

import pytest
import yaml


def pins(root, name):
    lines = (root / "envs" / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(("conda", "pip"), [("base", ["base"]), ("gpu", ["base", "gpu"])])
def test_conda_repeats_pip(root, conda, pip):
    environment = yaml.safe_load((root / "envs" / f"{conda}.yaml").read_text())
    (nested,) = (item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert nested == [pin for name in pip for pin in pins(root, name)]


def test_every_pin_is_exact_and_torch_is_first(root):
    for name in ("base", "gpu", "dev", "azure"):
        assert all("==" in pin for pin in pins(root, name))
    assert pins(root, "base")[0].startswith("torch==")
