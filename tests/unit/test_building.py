"""How far the ladder is built, read from files: a file that an edit has made old says nothing."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from fledgling import config as configuration
from fledgling.errors import DataError
from fledgling.graph.building import SCRIPTS, Building
from fledgling.seals import sealed_json

ROOT = Path(__file__).parents[2]
CODE = {script: f"code of {script}" for script in SCRIPTS}
NAMES = ["slm", "guided", "fewshot", "fewshot_guided", "tuned", "tuned_guided"]


def six() -> dict[str, Any]:
    return configuration.load(ROOT / "config/config.yaml", ROOT / "config/ladder.yaml", root=ROOT, selected=False)


def said(path: Path, **value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(sealed_json(json.dumps(value, indent=2) + "\n"))


def on_val(results: Path, building: Building, *names: str, goes_on: bool = True) -> None:
    for name in names:
        said(results / f"ladder/toolcall/{name}.json", key=building.key("toolcall", name), goes_on=goes_on)


def test_building_goes_as_far_as_val_says(tmp_path: Path) -> None:
    building = Building(six(), CODE, tmp_path)
    assert building.built("toolcall") == NAMES[:1]
    on_val(tmp_path, building, "slm", "guided")
    assert building.built("toolcall") == NAMES[:3]
    on_val(tmp_path, building, "fewshot", goes_on=False)
    on_val(tmp_path, building, "fewshot_guided", "tuned")  # left over from a longer ladder
    assert building.built("toolcall") == building.judged("toolcall") == NAMES[:3]
    on_val(tmp_path, building, *NAMES)
    assert (building.built("toolcall"), building.judged("toolcall")) == (NAMES, NAMES[:4])


def test_the_gate_asks_for_one_more(tmp_path: Path) -> None:
    building = Building(six(), CODE, tmp_path)
    on_val(tmp_path, building, "slm", goes_on=False)
    said(tmp_path / "compare/toolcall.json", key=building.gate_key("toolcall", ["slm"]), next="guided")
    assert building.built("toolcall") == NAMES[:2]
    assert building.judged("toolcall") == NAMES[:1]
    said(tmp_path / "compare/toolcall.json", key="of other settings", next="guided")
    assert building.built("toolcall") == NAMES[:1]


@pytest.mark.parametrize(
    ("edit", "known"),
    [
        (lambda c: c["slm"].update(max_prompt_tokens=100), 1),
        (lambda c: c["decision"].update(margin=0.1), 1),
        (lambda c: c["teacher"].update(model="another"), 1),
        (lambda c: c["tracks"]["toolcall"]["sources"][0].update(rows=99), 1),
        (lambda c: c["contenders"]["guided"].update(max_new_tokens=9), 2),
        (lambda c: c["contenders"]["fewshot"].update(shots=3), 3),
        (lambda c: c["recipe"].update(rank=8), 5),
        (lambda c: c["adapters"]["sft"].update(rank=8), 5),
        (lambda c: c["contenders"]["tuned_guided"].update(precision="bf16"), 6),
        (lambda c: c["teacher"].update(concurrency=1), 6),
        (lambda c: c["contenders"].update(more={}), 7),
    ],
)
def test_what_an_edit_has_made_old_says_nothing(tmp_path: Path, edit: Any, known: int) -> None:
    """So that nothing above it is built, or trained, before it has been asked again."""
    given = six()
    on_val(tmp_path, Building(given, CODE, tmp_path), *NAMES)
    changed = copy.deepcopy(given)
    edit(changed)
    assert len(Building(changed, CODE, tmp_path).built("toolcall")) == known
    other = CODE | {"choose_shots": "other code"}
    assert len(Building(given, other, tmp_path).built("toolcall")) == 3


def test_an_edited_answer_stops_the_graph(tmp_path: Path) -> None:
    building = Building(six(), CODE, tmp_path)
    on_val(tmp_path, building, "slm")
    assert building.built("toolcall") == NAMES[:2]
    path = tmp_path / "ladder/toolcall/slm.json"
    path.write_text(path.read_text().replace("true", "false"))
    with pytest.raises(DataError, match=r"slm\.json: its bytes are not those.*build it again"):
        building.built("toolcall")
