"""Forty questions in twenty wordings each are forty questions: the bound is the one of rows whose groups are known."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fledgling import stats
from fledgling.data.prepare import prepare
from fledgling.records import read_examples

CITIES = [
    "Paris",
    "Rome",
    "Oslo",
    "Lima",
    "Cairo",
    "Delhi",
    "Tokyo",
    "Quito",
    "Dakar",
    "Hanoi",
    "Sofia",
    "Turin",
    "Basel",
    "Perth",
    "Miami",
    "Bogota",
    "Zagreb",
    "Prague",
    "Vienna",
    "Lisbon",
    "Athens",
    "Dublin",
    "Berlin",
    "Madrid",
    "Warsaw",
    "Helsinki",
    "Brussels",
    "Budapest",
    "Bucharest",
    "Ljubljana",
    "Reykjavik",
    "Stockholm",
    "Copenhagen",
    "Amsterdam",
    "Nairobi",
    "Manila",
    "Jakarta",
    "Seoul",
    "Beijing",
    "Havana",
]
ENDS = [
    "",
    *[
        " please",
        " now",
        " thanks",
        " today",
        " pls",
        " ok",
        " thx",
        " ty",
        " mate",
        " again",
        " then",
        " tonight",
        " too",
    ],
]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}


def english(city: str, number: int, lots: random.Random) -> str:
    """One of twenty ways to ask the same: politeness before and after, other capitals, spaces and signs."""
    asked = f"What will the weather be like tomorrow evening in {city}"
    before = lots.choice(["", "", "hi "])
    after = ENDS[number % len(ENDS)] + lots.choice(["", "?", " ?", "!"])
    return before + (asked.upper() if number % 7 == 3 else asked) + after


def japanese(city: str, number: int, lots: random.Random) -> str:
    """The same in a language without spaces."""
    after = ["", "。", "?", "お願いします", "よろしくお願いします", "!", "教えて", "ね"][number % 8]
    return f"明日の{city}の天気はどうなりますか、傘は必要でしょうか{after}"


def rows(worded: Any, kept: list[str]) -> Iterator[dict[str, Any]]:
    lots = random.Random(4)
    for city in kept:
        for number in range(20):
            asked = [{"role": "user", "content": worded(city, number, lots)}]
            gold = [{"name": "get_weather", "arguments": {"city": city}}]
            yield {"id": f"{city}-{number}", "messages": asked, "tools": [TOOL], "answer": gold}


@pytest.mark.parametrize("worded", [english, japanese])
def test_the_bound_is_the_grouped_one(worded: Any, tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows(worded, CITIES)))
    outputs = {split: tmp_path / f"{split}.jsonl" for split in ("train", "val", "test")}
    block = {"kind": "toolcall", "sources": [{"path": str(source), "split": "test"}]}
    sheet = prepare(block, 7, name="t", outputs=outputs)
    examples = list(read_examples(outputs["test"]))
    assert sheet["splits"]["test"]["groups"] == 40
    assert sheet["splits"]["test"]["near_copies"] > 100
    questions = [example.id.partition("-")[0] for example in examples]
    lots = random.Random(9)
    right = {city: (float(lots.random() < 0.95), float(lots.random() < 0.88)) for city in CITIES}
    flip = [lots.random() < 0.03 for _ in examples]
    teacher = [right[city][0] for city in questions]
    slm = [1 - right[city][1] if flipped else right[city][1] for city, flipped in zip(questions, flip, strict=True)]

    def bound(groups: list[str] | None, seed: int = 7) -> float:
        return stats.paired_gap(teacher, slm, groups, alpha=0.05, resamples=5_000, seed=seed).high

    known, found, alone = bound(questions), bound([example.group for example in examples]), bound(None)
    noise = max(abs(bound(questions, seed) - known) for seed in range(1, 6))
    assert abs(found - known) <= noise + 1e-9
    assert found - alone > 0.02, "rows counted one by one would look far surer"
