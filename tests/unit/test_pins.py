"""One list of pins: the conda files repeat the pip requirements."""

from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def pins(root, name):
    lines = (root / "envs" / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(("conda", "pip"), [("base", ["base"]), ("gpu", ["base", "gpu"]), ("trace", ["base", "trace"])])
def test_conda_repeats_pip(root, conda, pip):
    environment = yaml.safe_load((root / "envs" / f"{conda}.yaml").read_text())
    (nested,) = (item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert nested == [pin for name in pip for pin in pins(root, name)]


def test_every_pin_is_exact_and_torch_is_first(root):
    for name in ("base", "gpu", "dev", "azure", "cluster", "slurm", "console", "real", "trace"):
        assert all("==" in pin for pin in pins(root, name))
    assert pins(root, "base")[0].startswith("torch==")


@pytest.mark.parametrize("extra", ["cluster", "console", "azure", "trace", "dev"])
def test_no_pin_rules_another_one_out(root, extra):
    """By the requirements of what is installed here; envs/slurm.txt says why it is installed without its own."""
    wanted = [Requirement(pin) for pin in [*pins(root, "base"), *pins(root, extra)]]
    pinned = {canonicalize_name(one.name): next(iter(one.specifier)).version for one in wanted}
    clashes = []
    for name, version in pinned.items():
        found = metadata.distribution(name)
        if Version(found.version).public != version:
            continue  # an environment from before the pin was moved: what it requires says nothing
        for need in map(Requirement, found.requires or []):
            given = pinned.get(canonicalize_name(need.name))
            if given and (not need.marker or need.marker.evaluate({"extra": ""})) and given not in need.specifier:
                clashes.append(f"{name} {version} needs {need}, and {given} is pinned")
    assert not clashes
