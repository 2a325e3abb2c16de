"""Scored rows for tests of the gate: contenders whose right and wrong rows are spelt out."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fledgling.artefacts import Datasheet, Metrics, Rung, Training
from fledgling.decision.rule import Rule
from fledgling.decision.scored import Scored

SETTINGS: dict[str, Any] = {
    "decision": {
        "margin": 0.05,
        "alpha": 0.05,
        "power": 0.8,
        "min_coverage": 0.95,
        "resamples": 2000,
        "family": "each",
        "core": {"toolcall": ["ast_match_rate", "args_f1"], "structured": ["exact_match_rate", "field_f1"]},
    },
    "seed": 7,
    "track": {"kind": "toolcall", "title": "Lights", "finetune": "auto"},
}


def rule(**changes: Any) -> Rule:
    """The rule of SETTINGS, with some of its fields changed."""
    made = Rule.of("lights", SETTINGS)
    return Rule(**{field: changes.get(field, getattr(made, field)) for field in Rule.__dataclass_fields__})


def scored(
    name: str,
    right: Sequence[float],
    *,
    f1: Sequence[float] | None = None,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    outcomes: dict[int, str] | None = None,
    models: dict[str, int] | None = None,
    fingerprints: dict[str, int] | None = None,
    parsed: dict[str, Any] | None = None,
    slices: Sequence[dict[str, Any]] | None = None,
) -> Scored:
    """One contender; `right` holds its ast_match score a row, args_f1 is the same where not given."""
    n = len(right)
    ids = tuple(ids or (f"r{index}" for index in range(n)))
    return Scored(
        name=name,
        ids=ids,
        groups=tuple(groups or ids),
        outcomes=tuple((outcomes or {}).get(index, "ok") for index in range(n)),
        slices=tuple(slices or ({"tool": "ab"[index % 2]} for index in range(n))),
        scores={"ast_match_rate": np.array(right, float), "args_f1": np.array(right if f1 is None else f1, float)},
        parsed=parsed or {},
        models=Counter(models or {name: n}),
        fingerprints=Counter(fingerprints or {}),
    )


def wrong(n: int, *rows: int | range) -> list[float]:
    """n scores of 1, but 0 on these rows."""
    out = [1.0] * n
    for part in rows:
        for index in [part] if isinstance(part, int) else part:
            out[index] = 0.0
    return out


def floors(n: int) -> list[Scored]:
    """Three floors, right on a tenth of the rows, or on none."""
    return [
        scored("floor-echo", wrong(n, range(n))),
        scored("floor-frequent", wrong(n, range(n - n // 10))),
        scored("floor-empty", wrong(n, range(n))),
    ]


def lines(one: Scored) -> list[dict[str, Any]]:
    """The same contender as lines of results/metrics/{track}/{contender}.jsonl."""
    return [
        {
            "id": one.ids[index],
            "group": one.groups[index],
            "outcome": one.outcomes[index],
            "scores": {metric: float(values[index]) for metric, values in one.scores.items()},
            "parsed": one.parsed.get(one.ids[index]),
            "slice": one.slices[index],
            "latency_s": 0.1,
            "model": next(iter(one.models)),
            "fingerprint": None,
        }
        for index in range(len(one.ids))
    ]


SLM: Rung = {"name": "slm", "label": "the untuned small model", "model": "slm", "adapter": None, "after": None}
TUNED: Rung = {"name": "tuned", "label": "the tuned small model", "model": "slm", "adapter": "sft", "after": "slm"}


def sheet(rows: int, sha256: str = "a" * 64, track: str = "lights") -> Datasheet:
    """The datasheet of a split that nobody made."""
    split: Any = {
        "rows": rows,
        "sha256": sha256,
        "groups": rows,
        "weight": rows,
        "near_copies": 0,
        "categories": {},
        "request_characters": {},
    }
    return {
        "format": "fledgling/datasheet/1",
        "track": track,
        "kind": "toolcall",
        "generated": False,
        "split_key": "fledgling",
        "sources": [],
        "splits": dict.fromkeys(("train", "val", "test"), split),
        "conflicting_answers": 0,
        "conflicts": [],
        "summary": "",
        "unwinnable": {"rows": 0, "reasons": {}, "first": []},
        "leaks": {"near_duplicate": None, "links": {}, "dropped": {}, "near_duplicate_ratio": None, "pairs": []},
    }


def metrics(n: int, data_sha256: str = "a" * 64, rows_sha256: str | None = None, **more: Any) -> Metrics:
    """A metrics file that vouches for rows."""
    made: Any = {
        "format": "fledgling/metrics/1",
        "made_from": {},
        "kind": "toolcall",
        "n": n,
        "weight": float(n),
        "metrics": {},
        "lenient": {},
        "outcomes": {},
        "reasons": {},
        "slices": {},
        "tokens": {},
        "cost": {"amount": None, "currency": None, "estimated": False},
        "latency_s": None,
        "models": {},
        "fingerprints": {},
        "data_sha256": data_sha256,
        "predictions_sha256": "b" * 64,
        "rows_sha256": rows_sha256,
    }
    return made | more


def training(**more: Any) -> Training:
    """What a training writes about itself."""
    made: Any = {
        "format": "fledgling/training/1",
        "made_from": {},
        "track": "t",
        "recipe": {},
        "history": [],
        "rows": 1,
        "left_out": {},
        "steps": 1,
        "final_loss": 0.1,
        "eval_loss": None,
        "seconds": 90,
        "world_size": 1,
        "micro_batch_tokens": 2048,
        "accumulation": 1,
        "base_fingerprint": "f",
        "backend": "peft",
    }
    return made | more
