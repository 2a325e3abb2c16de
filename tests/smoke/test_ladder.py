"""Planted ladders on the embedded default: where a rung suffices, nothing above it is answered, chosen or trained."""

import pytest
import yaml

from .conftest import Project

# A teacher that errs as often as the small model; a contender that may write three tokens is right about nothing.
TEACHER = {"simulated": {"error_rate": 0.55}}
MARGIN = 0.65  # examples hurt the embedded model, which has never seen a prompt with any; so wide a margin takes them
MUTE = {"max_new_tokens": 3}
GUIDED, FEW = {"schema_guided": True}, {"shots": 2}
TUNED = {"adapter": "sft"}
PLANTED = {
    "slm": {"slm": {}, "guided": GUIDED, "fewshot": FEW, "tuned": TUNED},
    "guided": {"slm": MUTE, "guided": GUIDED, "fewshot": FEW, "tuned": TUNED},
    "fewshot": {"slm": MUTE, "guided": GUIDED | MUTE, "fewshot": FEW, "tuned": TUNED},
    "tuned": {"slm": MUTE, "guided": GUIDED | MUTE, "fewshot": FEW | MUTE, "tuned": TUNED, "last": TUNED | GUIDED},
}
KINDS = ("predictions", "metrics", "ladder", "shots", "candidates", "adapters")


def built(project: Project) -> set[str]:
    """Contenders and adapters that anything under results/ is about."""
    found = set()
    for kind in KINDS:
        for path in (project.folder / "results" / kind / "structured").rglob("*"):
            if path.suffix in (".json", ".jsonl", ".safetensors"):
                found.add(path.parent.name if kind in ("candidates", "adapters") else path.stem)
    return found - {"teacher", "floor-echo", "floor-empty", "floor-frequent", "training", "1", "2", "sft.1", "sft.2"}


@pytest.mark.parametrize("enough", ["slm", "guided", "fewshot", "tuned"])
def test_where_a_rung_suffices_nothing_above_it_is_built(copied: Project, enough: str) -> None:
    results = copied.folder / "results"
    for kind in KINDS:
        for path in sorted((results / kind).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    config = yaml.safe_load((copied.folder / "config/config.yaml").read_text())
    config["contenders"] = PLANTED[enough]
    config["teacher"] |= TEACHER
    config["tracks"] = {"structured": config["tracks"]["structured"] | {"margin": MARGIN}}
    (copied.folder / "config/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    copied.build("results/report/structured.html")
    names = list(PLANTED[enough])
    expected = names[: names.index(enough) + 1]
    assert built(copied) == {*expected, *({"sft"} if enough == "tuned" else set())}
    verdict = copied.read("verdict/structured.json")
    assert verdict["climb"]["nominee"] == enough, verdict["climb"]
    assert [name for name, step in verdict["climb"]["rungs"].items() if step["built"]] == expected
    assert verdict["deploy"] == enough, verdict["statement"]
    assert "Who was built, cheapest first" in (results / "report/structured.html").read_text()
    assert "Nothing to be done" in copied.build("--dry-run", "results/report/structured.html")
