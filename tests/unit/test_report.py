"""The page, made from files that the real stages wrote: prepare, score, compare, decide, report."""

import hashlib
import json
import random
import re
import runpy
import subprocess
import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fledgling.data.prepare import prepare
from fledgling.errors import DataError
from fledgling.files import read_json, read_jsonl, write_json, write_jsonl
from fledgling.records import Example, Prediction, read_examples
from fledgling.report import diff, text
from fledgling.report.load import Inputs, load
from fledgling.report.render import render
from fledgling.score import score

ROOT = Path(__file__).resolve().parents[2]
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}
    for name, properties in {
        "get_weather": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"type": "string"}},
        "set_light": {"room": {"type": "string"}, "on": {"type": "boolean"}},
    }.items()
]
SCHEMA = {"title": "Trip", "type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}
CITIES = ("Berlin", "Paris", "Oslo", "Rome", "Łódź", "Faro", "Graz")
# How often each contender is right, by the answer that is to come out.
SHAPES: dict[str, tuple[int, dict[str, float]]] = {
    "swap": (420, {"teacher": 0.93, "slm": 0.96}),
    "fine_tune": (420, {"teacher": 0.93, "slm": 0.52, "tuned": 0.97}),
    "keep": (420, {"teacher": 0.97, "slm": 0.52, "tuned": 0.7}),
    "inconclusive": (60, {"teacher": 0.95, "slm": 0.93}),
}
SECTIONS = ("why", "metrics", "rows", "slices", "outcomes", "format", "cost", "trust", "data", "provenance")
HOSTILE = '</script><script>alert(1)</script><img src=x onerror=alert(1)> {{ 7 * 7 }} & "quotes" $x^2$\x00\x1b[31m\ud800 \u202e'


def answer(kind: str, number: int) -> Any:
    city, days = CITIES[number % len(CITIES)], number % 9 + 1
    if kind == "structured":
        return {"city": city, "days": days, "options": {"unit": "celsius", "tags": ["a", "b"]}}
    calls = [{"name": "get_weather", "arguments": {"city": city, "days": days, "unit": "celsius"}}]
    return [*calls, {"name": "set_light", "arguments": {"room": "kitchen", "on": True}}] if number % 5 == 0 else calls


def example(kind: str, number: int) -> dict[str, Any]:
    request = (
        f"Weather number {number} in {CITIES[number % len(CITIES)]} for {number % 9 + 1} days, half degrees please"
    )
    row = Example(
        id=f"row-{number:04d}",
        group=f"record-{number}",
        answer=answer(kind, number),
        messages=[{"role": "system", "content": "You are a house assistant."}, {"role": "user", "content": request}],
        tools=TOOLS if kind == "toolcall" else None,
        schema=SCHEMA if kind == "structured" else None,
        category="several" if number % 5 == 0 else "one",
    )
    return row.to_json()


def reply(kind: str, gold: Any, name: str, dice: random.Random, rate: float) -> dict[str, Any]:
    value, fate = json.loads(json.dumps(gold)), dice.random()
    if fate > rate:
        target = value[0]["arguments"] if kind == "toolcall" else value
        target["city"] = "Bergen"
        fate = (fate - rate) / (1 - rate)
        if fate > 0.9:
            return {"outcome": "length", "raw": None}
        if fate > 0.7:
            return {"raw": "```json\n" + json.dumps(value) + "\n```"}
        if fate > 0.4:
            target["note"] = None
            del target["days"]
    if name == "teacher" and kind == "toolcall":
        calls = [{"function": {"name": c["name"], "arguments": json.dumps(c["arguments"])}} for c in value]
        return {"tool_calls": calls}
    return {"raw": f"<|tool_call|>{json.dumps(value)}<|/tool_call|>" if kind == "toolcall" else json.dumps(value)}


def script(name: str, *arguments: str) -> None:
    """Run an entry point of scripts/ here, as its command line would."""
    before, sys.argv = sys.argv, [name, *arguments]
    try:
        assert not runpy.run_path(str(ROOT / f"scripts/{name}.py"), run_name=name)["main"]()
    finally:
        sys.argv = before


def build(folder: Path, shape: str, kind: str, *, hostile: str | None = None, foreign: bool = False) -> dict[str, Any]:
    """Files of every stage, by the real functions; returns the arguments of `load`."""
    n, rates = SHAPES[shape]
    for index, (split, rows) in enumerate((("train", 30), ("val", 10), ("test", n))):
        numbers = range(index * 10_000, index * 10_000 + rows)
        write_jsonl(folder / f"source/{split}.jsonl", (example(kind, number) for number in numbers))
    outputs = {split: folder / f"data/{split}.jsonl" for split in ("train", "val", "test")}
    sources = [{"path": str(folder / f"source/{split}.jsonl"), "split": split} for split in outputs]
    block = {"kind": kind, "title": "House assistant", "finetune": "auto", "leaks": {"near_duplicate": None}}
    datasheet = folder / "data/datasheet.json"
    write_json(datasheet, prepare(block | {"sources": sources}, 7, name="demo", outputs=outputs))
    examples = list(read_examples(outputs["test"]))
    prices = {"input_per_million": 2.5, "output_per_million": 10.0, "currency": "USD"}
    empty = "[]" if kind == "toolcall" else "{}"
    for name in (*rates, "floor-echo", "floor-empty"):
        dice = random.Random(f"{shape} {name}")
        answers = [
            {"raw": empty} if name not in rates else reply(kind, row.answer, name, dice, rates[name])
            for row in examples
        ]
        if hostile is not None and name == "slm":
            texts = [hostile + "x" * (1_000_000 if place % 10 == 0 else 0) for place in range(len(examples))]
            answers = [{"raw": one if kind == "toolcall" else json.dumps({"city": one})} for one in texts]
        usage = {"prompt_tokens": 280, "completion_tokens": 41}
        facts = {"outcome": "ok", "usage": usage, "latency_s": 0.2, "model": name, "fingerprint": "ab12cd"}
        lines = [asdict(Prediction(**{"id": row.id, **facts, **a})) for row, a in zip(examples, answers, strict=True)]
        path = folder / f"predictions/{name}.jsonl"
        write_jsonl(path, lines)
        score(
            outputs["test"],
            path,
            kind,
            folder / f"metrics/{name}.json",
            folder / f"metrics/{name}.jsonl",
            prices if name == "teacher" else None,
        )
    if foreign:  # the teacher's rows are those of another test
        path = folder / "metrics/teacher.jsonl"
        path.write_text(path.read_text().replace('"id":"row-', '"id":"other-'))
    settings: dict[str, Any] = {
        "decision": {
            "margin": 0.05,
            "alpha": 0.05,
            "power": 0.8,
            "min_coverage": 0.9,
            "resamples": 400,
            "core": {"toolcall": ["ast_match_rate", "args_f1"], "structured": ["exact_match_rate", "field_f1"]},
        },
        "seed": 7,
        "track": block,
        "simulated": True,
    }
    rows = [str(folder / f"metrics/{name}.jsonl") for name in rates]
    floors = [str(path) for path in sorted((folder / "metrics").glob("floor-*.jsonl"))]
    shared = ["--track", "demo", "--settings", json.dumps(settings), "--datasheet", str(datasheet), "--floors", *floors]
    compare, metrics = folder / "compare.json", [str(path) for path in sorted((folder / "metrics").glob("*.json"))]
    script("compare", *shared, "--teacher", rows[0], "--slm", rows[1], "--out", str(compare))
    script(
        "decide",
        *shared,
        "--compare",
        str(compare),
        "--rows",
        *rows,
        "--metrics",
        *metrics,
        "--ledger",
        str(folder / "looks.jsonl"),
        "--out",
        str(folder / "verdict.json"),
    )
    training = folder / "training.json"
    if "tuned" in rates:
        history = [{"step": step, "loss": 2 * 0.97**step, "tokens_per_s": 900.0} for step in range(1, 200, 5)]
        candidates = [{"step": step, "metrics": {"f1": value}} for step, value in ((98, 0.75), (196, 0.5))]
        summary = {"seconds": 33.1, "backend": "peft", "steps": 196, "eval_loss": 0.02}
        summary |= {"selection": {"rows": 40, "candidates": candidates, "step": 98}}
        write_json(training, summary | {"history": history})
    return {
        "verdict": folder / "verdict.json",
        "compare": compare,
        "data": outputs["test"],
        "datasheet": datasheet,
        "predictions": [folder / f"predictions/{name}.jsonl" for name in rates],
        "metrics": sorted((folder / "metrics").glob("*.json")),
        "rows": [folder / f"metrics/{name}.jsonl" for name in rates],
        "training": training if "tuned" in rates else None,
    }


class Page(HTMLParser):
    """What a screen reader and a network monitor would see."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.tables: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.tags.append((tag, found))
        if "id" in found:
            self.ids.append(str(found["id"]))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "table":
            self.tables.append({"caption": False, "scopes": True})
        if tag == "caption":
            self.tables[-1]["caption"] = True
        if tag == "th":
            self.tables[-1]["scopes"] &= found.get("scope") in ("col", "row", "rowgroup")
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.stack or self.stack.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.text.append(data)


def faults(html: str) -> list[str]:
    """What is wrong with the structure of a page; empty if nothing is."""
    page = Page(html)
    found = list(page.faults) + [f"{tag} left open" for tag in page.stack]
    if page.headings[:1] != [1] or page.headings.count(1) != 1:
        found.append(f"h1: {page.headings[:3]}")
    found += [f"h{a} then h{b}" for a, b in zip(page.headings, page.headings[1:], strict=False) if b > a + 1]
    found += [f"id {name} twice" for name in {name for name in page.ids if page.ids.count(name) > 1}]
    for tag, attributes in page.tags:
        if tag == "svg" and not (attributes.get("role") == "img" and attributes.get("aria-labelledby")):
            found.append(f"svg without a name: {attributes}")
        if tag == "img" and not attributes.get("alt"):
            found.append("img without alt")
        if tag == "pre" and attributes.get("tabindex") != "0":
            found.append("pre that scrolls out of reach of the keyboard")
        for key in ("aria-labelledby", "aria-describedby"):
            found += [
                f"{key} {name} leads nowhere" for name in (attributes.get(key) or "").split() if name not in page.ids
            ]
        target = attributes.get("href") or ""
        if target.startswith("#") and target[1:] not in page.ids:
            found.append(f"{target} leads nowhere")
    found += [f"table {number}: {table}" for number, table in enumerate(page.tables) if not all(table.values())]
    tags = {tag for tag, _ in page.tags}
    found += [f"no {tag}" for tag in ("main", "header", "footer", "nav", "title") if tag not in tags]
    return found


def loads(html: str) -> list[str]:
    """Whatever would make a browser fetch something or run something."""
    found = []
    for tag, attributes in Page(html).tags:
        if tag in ("script", "iframe", "object", "embed", "link", "base", "form", "video", "audio", "source", "image"):
            found.append(tag)
        for name, value in attributes.items():
            if name in ("src", "srcset", "action", "data", "background", "poster"):
                found.append(f"{name}={value}")
            if name.endswith("href") and not (value or "").startswith("#"):
                found.append(f"{name}={value}")
            if name.startswith("on"):
                found.append(name)
            found += [f"{name}: {value}" for target in re.findall(r"url\(([^)]*)", value or "") if target[:1] != "#"]
    style = "".join(re.findall(r"<style>(.*?)</style>", html, re.S))
    return found + re.findall(r"@import.*|url\([^)]*\)", style)


CASES = [(shape, kind) for shape in SHAPES for kind in ("toolcall", "structured")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """Arguments of `load` by shape and kind."""
    return {(shape, kind): build(tmp_path_factory.mktemp(f"{shape}-{kind}"), shape, kind) for shape, kind in CASES}


@pytest.fixture(scope="module")
def pages(made: dict[tuple[str, str], dict[str, Any]]) -> dict[tuple[str, str], str]:
    return {case: render(load("demo", {}, **arguments)) for case, arguments in made.items()}


@pytest.fixture
def inputs(made: dict[tuple[str, str], dict[str, Any]]) -> Inputs:
    return load("demo", {}, **made["fine_tune", "toolcall"])


def words_of(html: str) -> str:
    return " ".join(" ".join(Page(html).text).split())


@pytest.mark.parametrize(
    ("shape", "deploy", "headline"),
    [
        ("swap", "slm", "Move to the small model"),
        ("fine_tune", "tuned", "Move to the tuned small model"),
        ("keep", "teacher", "Keep the teacher"),
        ("inconclusive", "inconclusive", "Undecided: keep the teacher for now"),
    ],
)
@pytest.mark.parametrize("kind", ["toolcall", "structured"])
def test_every_answer_has_its_page(made: Any, pages: Any, shape: str, deploy: str, headline: str, kind: str) -> None:
    verdict = read_json(made[shape, kind]["verdict"])
    assert verdict["deploy"] == deploy
    shown = words_of(pages[shape, kind])
    assert headline in shown
    assert text.prose(verdict["statement"]).replace(text.NBSP, " ") in shown.replace(text.NBSP, " ")
    ids = Page(pages[shape, kind]).ids
    assert [name for name in SECTIONS if name in ids] == list(SECTIONS)
    assert ("training" in ids) == (made[shape, kind]["training"] is not None)
    kept = "after step 98, by what it answers to 40 rows of val (step 98: f1 0.750; step 196: f1 0.500)"
    assert (kept in shown) == ("training" in ids)
    for name in verdict["comparisons"]:
        for metric in verdict["core"]:
            assert text.points(verdict["comparisons"][name]["metrics"][metric]["high"]) in shown
    assert len(pages[shape, kind]) < 2_000_000


@pytest.mark.parametrize("case", CASES)
def test_structure_is_accessible_and_loads_nothing(pages: Any, case: tuple[str, str]) -> None:
    assert faults(pages[case]) == []
    assert loads(pages[case]) == []
    assert "http" not in pages[case].replace("http-equiv", "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<h3 id", "<h5 id"),
        ('role="img"', 'role="presentation"'),
        ("<caption>", "<p>"),
        ('scope="col"', ""),
        ('<pre tabindex="0"', "<pre"),
        ("</section>", ""),
        ('id="why"', 'id="metrics"'),
        ("<nav", "<div"),
    ],
)
def test_the_structure_check_can_fail(pages: Any, old: str, new: str) -> None:
    assert faults(pages["swap", "toolcall"].replace(old, new, 1))


@pytest.mark.parametrize(
    "added",
    [
        '<img src="https://x.test/a.png">',
        "<script>1</script>",
        '<a href="https://x.test">',
        '<p onclick="x">',
        '<p style="background: url(//x.test)">',
    ],
)
def test_the_network_check_can_fail(pages: Any, added: str) -> None:
    assert loads(pages["swap", "toolcall"].replace("<main", f"{added}<main", 1))


def test_same_inputs_same_bytes(made: Any, pages: Any, tmp_path: Path) -> None:
    """Also in another process, with other hash seeds, through the command line."""
    arguments = made["fine_tune", "toolcall"]
    options = []
    for name, value in arguments.items():
        options += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    out = tmp_path / "page.html"
    command = [
        sys.executable,
        ROOT / "scripts/report.py",
        "--track",
        "demo",
        "--settings",
        "{}",
        *options,
        "--out",
        out,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONHASHSEED": "5", "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert out.read_text(encoding="utf-8") == pages["fine_tune", "toolcall"]


def test_simulated_is_said_in_words_and_in_every_picture(inputs: Inputs, pages: Any) -> None:
    page = pages["fine_tune", "toolcall"]
    pictures = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(pictures) == 4
    assert all(">simulated<" in picture for picture in pictures)
    assert "simulated" in words_of(page)
    assert "(simulated)" in page.partition("</title>")[0]
    real = replace(
        inputs,
        verdict=inputs.verdict | {"simulated": False, "statement": "S."},
        compare=inputs.compare | {"statement": "S."},
    )
    assert "simulated" not in render(real).lower()


@pytest.mark.parametrize("kind", ["toolcall", "structured"])
def test_hostile_replies_do_no_harm(tmp_path: Path, kind: str) -> None:
    arguments = build(tmp_path, "inconclusive", kind, hostile=HOSTILE)
    html = render(load("demo", {}, **arguments))
    assert faults(html) == []
    assert loads(html) == []
    assert len(html) < 2_000_000
    assert "&lt;/script&gt;" in html
    assert "{{ 7 * 7 }}" in html
    html.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", html)


def test_hostile_names_reach_no_markup(inputs: Inputs) -> None:
    slices = inputs.verdict["slices"]
    dimension = next(iter(slices))
    renamed = {dimension: {f"{HOSTILE}{name}": entry for name, entry in slices[dimension].items()}}
    shown = replace(
        inputs,
        track=HOSTILE,
        settings={"teacher": {"model": HOSTILE}},
        verdict=inputs.verdict | {"title": HOSTILE, "statement": HOSTILE, "reasons": [HOSTILE], "slices": renamed},
    )
    html = render(shown)
    assert faults(html) == []
    assert loads(html) == []
    html.encode("utf-8")


def test_rows_are_chosen_by_hash_and_counted(inputs: Inputs) -> None:
    from fledgling.report import side_by_side as rows

    metric = inputs.verdict["core"][0]
    wanted = rows.kinds(inputs.contenders)
    found = {one.key: one for one in rows.select(inputs.rows, metric, wanted)}
    counts = inputs.verdict["comparisons"]["tuned"]["metrics"][metric]["counts"]
    assert found["teacher-only"].total == counts["teacher_only"]
    assert found["contender-only"].total == counts["contender_only"]
    assert all(len(found[kind.key].ids) == min(kind.limit, found[kind.key].total) for kind in wanted)
    scores = [
        {row["id"]: row["scores"][metric] for _, row in read_jsonl(inputs.rows[name])} for name in ("slm", "tuned")
    ]
    repaired = [identity for identity in scores[0] if scores[1][identity] > scores[0][identity]]
    first = sorted(repaired, key=lambda identity: hashlib.sha256(identity.encode()).digest())[:4]
    assert found["repaired"].ids == tuple(identity for identity in repaired if identity in first)
    more = {one.key: one for one in rows.select(inputs.rows, metric, [replace(kind, limit=9) for kind in wanted])}
    assert set(found["repaired"].ids) < set(more["repaired"].ids)  # a larger choice holds the smaller one


def test_rows_of_different_tests_are_refused_or_said(inputs: Inputs, tmp_path: Path) -> None:
    from fledgling.report import side_by_side as rows

    lines = inputs.rows["slm"].read_text().splitlines(keepends=True)
    for name, changed in (("short", lines[:-1]), ("swapped", [lines[1], lines[0], *lines[2:]])):
        path = tmp_path / name / "slm.jsonl"
        path.parent.mkdir()
        path.write_text("".join(changed))
        with pytest.raises(DataError, match=r"slm\.jsonl"):
            rows.select({**inputs.rows, "slm": path}, inputs.verdict["core"][0], rows.kinds(["teacher", "slm"]))


def test_an_invalid_comparison_has_a_page(made: Any, tmp_path: Path) -> None:
    """The teacher was scored on another test set: no gap is drawn, and the page says why."""
    arguments = build(tmp_path, "swap", "toolcall", foreign=True)
    verdict = read_json(arguments["verdict"])
    assert [body["finding"] for body in verdict["comparisons"].values()] == ["invalid"]
    html = render(load("demo", {}, **arguments))
    assert faults(html) == []
    assert "No verdict: the numbers cannot be trusted" in html
    assert "nothing to put side by side" in html


def test_files_that_do_not_fit_are_named(made: Any) -> None:
    arguments = dict(made["fine_tune", "toolcall"])
    with pytest.raises(DataError, match="--predictions: no file of 'tuned'"):
        load("demo", {}, **(arguments | {"predictions": arguments["predictions"][:2]}))
    with pytest.raises(DataError, match="--rows: no file of 'slm'"):
        load("demo", {}, **(arguments | {"rows": arguments["rows"][:1]}))


def test_cost_is_unknown_until_it_is_given(inputs: Inputs) -> None:
    shown = words_of(render(inputs))
    assert "no price given" in shown
    assert "pays for itself from" in shown
    priced = words_of(render(replace(inputs, settings={"slm": {"price_per_hour": 0.5}})))
    # One request: 280 · 2.5 + 41 · 10 = 1,110 millionths. A machine: 24 · 0.5 = 12 a day, 0.2 s a row.
    assert f"{12 / 1_110e-6:,.0f} requests a day" in priced
    assert f"answers {86_400 / 0.2:,.0f} a day, so it reaches" in priced
    assert f"{1_000 * 0.5 * 0.2 / 3_600:.3f} USD" in priced


def _luminance(colour: str) -> float:
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_has_contrast_in_every_theme(pages: Any) -> None:
    """WCAG AA: 4.5 to 1 for every colour of text on every ground that it stands on, pictures included."""
    style = re.findall(r"<style>(.*?)</style>", pages["swap", "toolcall"], re.S)[0]
    themes = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)
    ]
    assert len(themes) == 3
    for theme in themes[:2]:
        assert {"ink", "muted", "accent", "warn", "page", "paper", "soft", "shade", "tint"} <= theme.keys()
        for front, grounds in {
            "ink": ("page", "paper", "soft", "shade"),
            "muted": ("page", "paper", "soft"),
            "accent": ("page", "paper", "tint"),
            "warn": ("page", "paper", "shade"),
        }.items():
            for ground in grounds:
                assert _contrast(theme[front], theme[ground]) >= 4.5, (front, ground, theme)


def test_pictures_follow_the_theme(pages: Any) -> None:
    for picture in re.findall(r"<svg.*?</svg>", pages["fine_tune", "toolcall"], re.S):
        assert not re.findall(r"#[0-9a-f]{6}\b", picture)
        assert "fill: var(--muted)" in picture


def states(lines: list[diff.Line], name: str) -> dict[str, str]:
    return {line.path: line.cells[name].state for line in lines}


def test_diff_of_records() -> None:
    lines = diff.structured(
        {"a": 1, "b": {"c": [1, 2], "d.e": None}, "f": {}},
        {"slm": {"a": 1.0, "b": {"c": [1, 3, 4]}, "f": {}, "g": True}, "tuned": {"a": True}},
    )
    assert states(lines, "slm") == {
        "a": "same",
        "b.c[0]": "same",
        "b.c[1]": "different",
        'b."d.e"': "missing",
        "f": "same",
        "b.c[2]": "extra",
        "g": "extra",
    }
    assert states(lines, "tuned")["a"] == "different"  # true is not 1
    assert states(lines, "tuned")["g"] == "absent"
    assert [line.path for line in lines if line.agreed] == []


def test_diff_of_calls_ignores_their_order() -> None:
    gold = [{"name": "f", "arguments": {"x": 1}}, {"name": "f", "arguments": {"x": 2}}, {"name": "g", "arguments": {}}]
    given = [gold[2], gold[1], gold[0]]
    assert set(states(diff.toolcall(gold, {"slm": given}), "slm").values()) == {"same"}
    lines = diff.toolcall(gold[:1], {"slm": [{"name": "h", "arguments": {"x": 1}}, gold[0]]})
    assert states(lines, "slm") == {"call 1": "same", "call 1.x": "same", "call 2": "extra", "call 2.x": "extra"}
    assert set(states(diff.toolcall(gold, {"slm": []}), "slm").values()) == {"missing"}


def test_diff_of_calls_with_several_right_values() -> None:
    allowed = [{"name": "f", "arguments": {"x": ["a", "b"], "y": [1, ""]}}]
    lines = diff.toolcall([], {"slm": [{"name": "f", "arguments": {"x": "b"}}]}, allowed)
    assert states(lines, "slm") == {"call 1": "same", "call 1.x": "same", "call 1.y": "absent"}
    assert [line.optional for line in lines] == [False, False, True]


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (text.points(0.0321), "+3.2"),
        (text.points(-0.0321), "−3.2"),
        (text.points(-0.0001), "0.0"),
        (text.points(None), "n/a"),
        (text.percent(0.9), "90.0 %"),
        (text.money(0.00042, "USD"), "0.00042 USD"),
        (text.money(0, "USD"), "0.00 USD"),
        (text.money(None, "USD"), "n/a"),
        (text.seconds(0.00042), "0.42 ms"),
        (text.seconds(0.85), "850 ms"),
        (text.seconds(1.236), "1.24 s"),
        (text.seconds(200), "3 min 20 s"),
        (text.seconds(7_500), "2 h 05 min"),
        (text.count(12_400), "12,400"),
        (text.p_value(0.0004), "< 0.001"),
        (text.clean("a\x00\x7f\ud800\u202eb\n"), "a␀␡\ufffd[U+202E]b\n"),
        (text.clean("abc", 2), "ab … [3 characters, the first 2 shown]"),
    ],
)
def test_numbers_and_texts_as_people_read_them(shown: str, wanted: str) -> None:
    assert shown.replace(text.NBSP, " ") == wanted
