"""A track's files for tests of traces, by the real stages, and the command line of the rule over them."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from fledgling import artefacts
from fledgling.artefacts import Datasheet, Metrics, Predictions
from fledgling.files import sha256_file
from fledgling.tracing.collect import Sources
from tests.unit.report_files import build

ROOT = Path(__file__).resolve().parents[2]
# Whatever the machine's own variables say.
FOREIGN = ("LANGFUSE_", "OTEL_", "AZURE_", "OPENAI_", "HF_", "FLEDGLING_")


def built(folder: Path, kind: str = "toolcall", **more: Any) -> Sources:
    """Files of teacher, slm and tuned over 420 rows."""
    made = build(folder, "tuned", kind, **more)
    names = [path.stem for path in made["predictions"]]
    return Sources(
        track="demo",
        verdict=made["verdict"],
        compare=made["compare"],
        data=[made["data"]],
        predictions=made["predictions"],
        metrics=[folder / f"metrics/{name}.json" for name in names],
        training=made["training"],
    )


def copied(sources: Sources, folder: Path) -> Sources:
    """The same files elsewhere."""
    old = sources.verdict.parent
    shutil.copytree(old, folder, dirs_exist_ok=True)

    def moved(path: Path) -> Path:
        return folder / path.relative_to(old)

    lists = {
        name: [moved(one) for one in getattr(sources, name)] for name in ("data", "predictions", "metrics", "training")
    }
    return replace(sources, verdict=moved(sources.verdict), compare=moved(sources.compare), **lists)


def reseal(sources: Sources, path: Path) -> None:
    """Vouch again for predictions and scored rows that a test has edited."""
    seal = path.with_suffix(".json")
    data = {str(one): sha256_file(one) for one in sources.data}
    sealed = artefacts.read(Predictions, seal)
    artefacts.write(Predictions, seal, {**sealed, "sha256": sha256_file(path), "made_from": data})
    scored = next(one for one in sources.metrics if one.stem == path.stem)
    digests = {"predictions_sha256": sha256_file(path), "rows_sha256": sha256_file(scored.with_suffix(".jsonl"))}
    artefacts.write(Metrics, scored, {**artefacts.read(Metrics, scored), **digests})


def revouch(sources: Sources) -> None:
    """The same for everything, after an edit of the rows."""
    (data,) = sources.data
    sheet = artefacts.read(Datasheet, data.parent / "datasheet.json")
    sheet["splits"]["test"]["sha256"] = sha256_file(data)
    artefacts.write(Datasheet, data.parent / "datasheet.json", sheet)
    for path in sources.predictions:
        reseal(sources, path)


def command(sources: Sources, out: Path, **trace: Any) -> list[str]:
    """What the rule runs."""
    settings = {"trace": {"to": ["langfuse"], **trace}, "teacher": {"provider": "simulated"}}
    lists = {"data": sources.data, "predictions": sources.predictions, "metrics": sources.metrics}
    options = [word for name, paths in lists.items() for word in (f"--{name}", *map(str, paths))]
    options += ["--training", *map(str, sources.training), "--settings", json.dumps(settings), "--out", str(out)]
    fixed = ["--track", sources.track, "--verdict", str(sources.verdict), "--compare", str(sources.compare)]
    return [sys.executable, str(ROOT / "scripts/trace.py"), *fixed, *options]


def environment(outbox: Path, **more: str) -> dict[str, str]:
    """A user's environment, with what the graph hands over."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    where = json.dumps({"trace": {"outbox": str(outbox)}})
    return clean | {"FLEDGLING_WHERE": where, "PYTHONPATH": str(ROOT / "src")} | more
