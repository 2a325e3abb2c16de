"""Files that vouch for themselves and for each other: every byte counts, and who reads one checks it."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fledgling import artefacts, seals
from fledgling.artefacts import Datasheet, Metrics
from fledgling.errors import DataError
from fledgling.files import sha256_file, write_jsonl
from fledgling.integrity import refuse_edited, verify
from fledgling.score import score
from fledgling.sealing import verify_rows, write_predictions
from tests.project import write_sealed
from tests.unit.scored_rows import metrics, sheet


@pytest.mark.parametrize(("form", "text"), [(seals.JSON, '{\n  "a": 1\n}\n'), (seals.HTML, "<p>é</p>\n")])
def test_no_byte_can_be_changed_left_out_or_added(form: seals.Form, text: str) -> None:
    whole = (seals.sealed_json(text) if form is seals.JSON else seals.sealed(text, form)).encode()
    assert seals.problem(whole, form) is None
    for at in range(len(whole)):
        for other in (whole[at] ^ 1, whole[at] ^ 0x20, 0, 0x20):
            assert other == whole[at] or seals.problem(whole[:at] + bytes([other]) + whole[at + 1 :], form)
        assert seals.problem(whole[:at] + whole[at + 1 :], form)
        assert seals.problem(whole[:at] + b" " + whole[at:], form)
        assert seals.problem(whole[:at], form)
    assert seals.problem(whole + b"\n", form)
    assert seals.problem(b"", form)


def test_a_sealed_file_is_json_whose_last_key_is_the_seal(tmp_path: Path) -> None:
    path = tmp_path / "teacher.json"
    artefacts.write(Metrics, path, metrics(3, "a" * 64))
    assert list(json.loads(path.read_text()))[-1] == "seal"
    assert artefacts.read(Metrics, path) == metrics(3, "a" * 64)


def test_a_file_without_its_seal_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "teacher.json"
    path.write_text(json.dumps(metrics(3, "a" * 64)))
    with pytest.raises(DataError, match=rf"{path}: has no seal .*delete {path} and build it again with: snakemake"):
        artefacts.read(Metrics, path)
    write_sealed(path, metrics(3, "a" * 64))
    path.write_text(path.read_text().replace('"n": 3', '"n": 4', 1))
    with pytest.raises(DataError, match=rf"{path}: its bytes are not those that its seal vouches for"):
        artefacts.read(Metrics, path)


@pytest.mark.parametrize("path", ["models/slm/checkpoint/config.json", "models/slm/manifest.json"])
def test_files_of_a_checkpoint_come_with_its_manifest(path: str) -> None:
    manifest = "results/models/slm/manifest.json"
    assert artefacts.rebuilt_by(f"results/{path}") == (manifest, manifest)
    assert artefacts.rebuilt_by("results/data/t/test.jsonl") == ("results/data/t/test.jsonl",) * 2


def test_a_file_that_was_made_from_another_one_is_named() -> None:
    made = {"results/a.json": "1", "results/b.json": "2"}
    artefacts.require_same(made, {"results/a.json": "1", "results/c.json": "3"}, "results/verdict/t.json")
    with pytest.raises(DataError, match=r"results/verdict/t\.json: was made from another results/b\.json"):
        artefacts.require_same(made, {"results/b.json": "9"}, "results/verdict/t.json")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows, predictions and scores of one track, as the stages write them."""
    monkeypatch.chdir(tmp_path)
    data = Path("results/data/t")
    asked = [{"role": "user", "content": "Which number?"}]
    rows = [{"id": str(n), "group": str(n), "messages": asked, "answer": {"n": n}} for n in range(4)]
    write_jsonl(data / "test.jsonl", rows)
    described: dict[str, Any] = json.loads(json.dumps(sheet(4)))
    described["kind"] = "structured"
    described["splits"] = {"test": described["splits"]["test"] | {"sha256": sha256_file(data / "test.jsonl")}}
    artefacts.write(Datasheet, data / "datasheet.json", described)  # type: ignore[arg-type]
    out = Path("results/predictions/t/slm.jsonl")
    write_predictions(
        out,
        ({"id": str(n), "outcome": "ok", "raw": json.dumps({"n": n})} for n in range(4)),
        made_from=[data / "test.jsonl"],
    )
    scored = Path("results/metrics/t/slm.jsonl")
    score(data / "test.jsonl", out, "structured", scored.with_suffix(".json"), scored)
    return Path("results")


FILES = (
    "data/t/test.jsonl",
    "data/t/datasheet.json",
    "predictions/t/slm.jsonl",
    "predictions/t/slm.json",
    "metrics/t/slm.jsonl",
    "metrics/t/slm.json",
)


def test_verify_is_quiet_where_all_is_well(results: Path) -> None:
    found = verify(results)
    assert (found.broken, found.unknown, found.files) == ({}, [], len(FILES))


@pytest.mark.parametrize("name", FILES)
def test_verify_names_the_file_that_was_edited_and_no_other(results: Path, name: str) -> None:
    path, lots = results / name, random.Random(name)
    whole = path.read_bytes()
    for _ in range(20):
        at = lots.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ lots.randrange(1, 256)]) + whole[at + 1 :])
        broken = verify(results).broken
        assert list(broken) == [path], broken
        assert f"snakemake --cores all {path}" in broken[path]
        with pytest.raises(DataError, match=str(path)):
            refuse_edited([path], results)


@pytest.mark.parametrize("name", FILES)
def test_verify_names_a_file_that_is_gone_or_that_nothing_vouches_for(results: Path, name: str) -> None:
    (results / name).unlink()
    broken = verify(results).broken
    beside = {Path(other) for other in FILES if Path(other).parent == Path(name).parent}
    assert broken, name
    assert {path.relative_to(results) for path in broken} <= beside


def test_verify_names_what_was_made_from_another_file(results: Path) -> None:
    out = results / "predictions/t/slm.jsonl"
    write_predictions(out, [{"id": "0", "outcome": "ok", "raw": "{}"}], made_from=[results / "data/t/test.jsonl"])
    assert list(verify(results).broken) == [results / "metrics/t/slm.json"]


def test_a_strange_file_is_a_note(results: Path) -> None:
    (results / "notes.txt").write_text("mine")
    shutil.copy(results / "notes.txt", results / "data/notes.txt")
    found = verify(results)
    assert found.broken == {}
    assert set(found.unknown) == {results / "data/notes.txt", results / "notes.txt"}


def _edit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))


STAGES: dict[str, Callable[[Path], object]] = {
    "rows": lambda results: verify_rows(results / "data/t/test.jsonl"),
    "score": lambda results: score(
        results / "data/t/test.jsonl", results / "predictions/t/slm.jsonl", "structured", "again.json", "again.jsonl"
    ),
}


@pytest.mark.parametrize(
    ("stage", "name"),
    [("rows", FILES[0]), ("rows", FILES[1]), *(("score", name) for name in FILES[:4])],
)
def test_who_reads_an_edited_file_stops_and_writes_nothing(results: Path, stage: str, name: str) -> None:
    STAGES[stage](results)
    for made in ("again.json", "again.jsonl"):
        Path(made).unlink(missing_ok=True)
    _edit(results / name)
    with pytest.raises(DataError, match=f"results/{name}: .*snakemake --cores all results/{name}"):
        STAGES[stage](results)
    assert not Path("again.json").exists()
    assert not Path("again.jsonl").exists()


def test_rows_that_change_while_they_are_answered_are_noticed(results: Path) -> None:
    def answers() -> Any:
        yield {"id": "0", "outcome": "ok", "raw": "{}"}
        _edit(results / "data/t/test.jsonl")

    out = results / "predictions/t/other.jsonl"
    with pytest.raises(DataError, match=r"data/t/test\.jsonl: its bytes are not those that"):
        write_predictions(out, answers(), made_from=[results / "data/t/test.jsonl"])
    assert not out.with_suffix(".json").exists()


def test_rows_from_elsewhere_need_no_seal(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "mine.jsonl", [{"id": "1"}])
    verify_rows(tmp_path / "mine.jsonl")


def test_every_kind_of_file_takes_a_seal(root):
    """`write` seals whatever has a format; a kind whose definition has no room for it could never be read again."""
    for path in (root / "src/fledgling/schemas").glob("*.json"):
        keys = json.loads(path.read_text())["properties"]
        assert ("seal" in keys) == ("format" in keys), path.name
