"""What a job asks a scheduler for: by the kind of its work, from what was measured before, more with each attempt."""

import json
from pathlib import Path

from fledgling.graph import work


def put(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def test_memory_follows_the_checkpoint_and_the_attempt(tmp_path: Path) -> None:
    asked = work.mem_mb("train", results=tmp_path)
    assert asked({}, None, 1) == 64_000
    put(tmp_path / "models/slm/manifest.json", {"files": [{"bytes": 1_500_000_000}, {"bytes": 500_000_000}]})
    assert asked({}, None, 1) == 16_000
    assert asked({}, None, 2) == 24_000
    assert work.mem_mb("small", results=tmp_path)({}, None, 1) == 2_000


def test_time_follows_the_same_job_of_an_earlier_run(tmp_path: Path) -> None:
    asked = work.runtime("train", results=tmp_path, limit=2_000)
    here = {"track": "mail", "adapter": "sft"}
    assert asked(here, None, 1) == 1_440
    assert asked(here, None, 2) == 2_000, "no longer than the site allows"
    put(tmp_path / "candidates/mail/sft/training.json", {"seconds": 3_600})
    assert asked(here, None, 1) == 140
    assert asked(here, None, 2) == 280
    put(tmp_path / "metrics/mail/slm.json", {"n": 1_000, "latency_s": {"mean": 1.5}})
    assert work.runtime("answer", results=tmp_path)({"track": "mail", "contender": "slm"}, None, 1) == 70
    assert work.runtime("answer", results=tmp_path)({"track": "other", "contender": "slm"}, None, 1) == 480


def test_time_is_for_the_rows_that_there_are_now_and_for_candidates_as_for_their_contender(tmp_path: Path) -> None:
    asked = work.runtime("answer", results=tmp_path, answers_as={"sft.1": "tuned"}.get)  # type: ignore[arg-type]
    put(tmp_path / "metrics/mail/tuned.json", {"n": 1_000, "latency_s": {"mean": 3}})
    put(tmp_path / "data/mail/datasheet.json", {"splits": {"val": {"rows": 200}, "test": {"rows": 4_000}}})
    assert asked({"track": "mail", "contender": "sft.1", "part": "val/"}, None, 1) == 2 * 10 + 20
    assert asked({"track": "mail", "contender": "sft.1"}, None, 1) == 2 * 200 + 20
    together = work.runtime(
        "answer",
        results=tmp_path,
        answers_as={"sft.1": "tuned"}.get,  # type: ignore[arg-type]
        splits=["val", "val", "test"],
    )
    assert together({"track": "mail", "adapter": "sft"}, None, 1) == 2 * (10 + 10 + 200) + 20


def test_a_damaged_file_is_no_estimate(tmp_path: Path) -> None:
    path = tmp_path / "candidates/mail/sft/training.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert work.runtime("train", results=tmp_path)({"track": "mail"}, None, 1) == 1_440
