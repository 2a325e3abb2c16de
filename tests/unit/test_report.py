"""The page, made from files that the real stages wrote: prepare, score, compare, decide, report."""

import base64
import copy
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from fledgling import seals
from fledgling.errors import DataError
from fledgling.files import read_json, read_jsonl
from fledgling.report import diff, plots, rows, text
from fledgling.report.cost import economy
from fledgling.report.load import Inputs, load
from fledgling.report.render import render
from fledgling.report.sections import answer
from tests.project import write_sealed
from tests.unit.report_files import HOSTILE, SHAPES, TOOLS, build, rung, widened

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "teacher": {"provider": "simulated", "model": "m", "concurrency": 8},
    "models": {"slm": {"source": "hub", "repo_id": "a/b"}},
    "slm": {"price_per_hour": None},
    "track": {"kind": "toolcall"},
}
SECTIONS = ("why", "rows", "slices", "cost", "metrics", "trust", "data", "provenance", "words")


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
        if "style" not in self.stack and "script" not in self.stack:
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
        named = attributes.get("role") == "img" and attributes.get("aria-labelledby")
        if tag == "svg" and not named and attributes.get("class") != "free" and attributes.get("aria-hidden") != "true":
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
    """Whatever would make a browser fetch something, or run something that the page's policy does not name."""
    found = []
    policy = next(
        (a["content"] or "" for t, a in Page(html).tags if a.get("http-equiv") == "Content-Security-Policy"), ""
    )
    for tag, attributes in Page(html).tags:
        if tag in ("iframe", "object", "embed", "link", "base", "form", "video", "audio", "source", "image"):
            found.append(tag)
        for name, value in attributes.items():
            if name in ("src", "srcset", "action", "data", "background", "poster"):
                found.append(f"{name}={value}")
            if name.endswith("href") and not (value or "").startswith("#"):
                found.append(f"{name}={value}")
            if name.startswith("on") or name == "style":
                found.append(name)
            found += [f"{name}: {value}" for target in re.findall(r"url\(([^)]*)", value or "") if target[:1] != "#"]
    for attributes, code in re.findall(r"<(?:script|style)([^>]*)>(.*?)</(?:script|style)>", html, re.S):
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        if "application/json" not in attributes and f"'sha256-{digest}'" not in policy:
            found.append(f"not in the policy: {code[:60]}")
    style = "".join(re.findall(r"<style>(.*?)</style>", html, re.S))
    return found + re.findall(r"@import.*|url\([^)]*\)", style)


CASES = [(shape, kind) for shape in SHAPES for kind in ("toolcall", "structured")]
Made = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Arguments of `load` by shape and kind."""
    return {(shape, kind): build(tmp_path_factory.mktemp(f"{shape}-{kind}"), shape, kind) for shape, kind in CASES}


@pytest.fixture(scope="module")
def pages(made: Made) -> dict[tuple[str, str], str]:
    return {case: render(load("demo", SETTINGS, **arguments)) for case, arguments in made.items()}


@pytest.fixture
def inputs(made: Made) -> Inputs:
    return load("demo", SETTINGS, **made["tuned", "toolcall"])


def words_of(html: str) -> str:
    return " ".join(" ".join(Page(html).text).split()).replace(text.NBSP, " ")


def data_of(html: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        re.findall(r'<script type="application/json" id="rows-data">(.*?)</script>', html, re.S)[0]
    )
    return found


def changed(inputs: Inputs, **keys: Any) -> Inputs:
    """The same with some keys of the verdict replaced."""
    return replace(inputs, verdict={**copy.deepcopy(inputs.verdict), **keys})  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("shape", "deploy", "headline", "step"),
    [
        ("swap", "slm", "Move to the untuned small model", "Move a small part of the traffic first"),
        ("tuned", "tuned", "Move to the tuned small model", "snakemake --cores all -- results/hub/demo.json"),
        ("keep", "teacher", "Keep the teacher", "Give training more rows (it learnt from 30)"),
        ("fine_tune", "teacher", "Keep the teacher for now: train next", "set tracks.demo.finetune to auto"),
        ("inconclusive", "inconclusive", "Undecided: keep the teacher for now", "test rows, which is"),
        ("tried", "inconclusive", "Undecided: keep the teacher for now", "test rows, which is"),
        ("invalid", "inconclusive", "No verdict: the numbers cannot be trusted", "The teacher left 140 of 420 rows"),
    ],
)
@pytest.mark.parametrize("kind", ["toolcall", "structured"])
def test_every_answer_has_its_page(
    made: Made, pages: Any, shape: str, deploy: str, headline: str, step: str, kind: str
) -> None:
    verdict = read_json(made[shape, kind]["verdict"])
    assert verdict["deploy"] == deploy
    html = pages[shape, kind]
    shown = words_of(html)
    assert f'">{headline}</span></h1>' in html
    assert text.prose(verdict["statement"]).replace(text.NBSP, " ") in shown
    assert step in shown
    assert "snakemake --cores all -- results/report/demo.html" in shown
    assert ("Training was tried: " in shown) == (shape in ("keep", "tried"))
    assert ("Training was not tried" in shown) == (shape in ("fine_tune", "inconclusive"))
    assert ("Not at all" in shown) == (shape == "invalid")
    ids = Page(html).ids
    assert [name for name in SECTIONS if name in ids] == list(SECTIONS)
    assert ("training" in ids) == bool(made[shape, kind]["training"])
    assert len(html) < 2_000_000


def test_marks_never_contradict_the_headline(pages: Any) -> None:
    """Green stands for what is deployed and for nothing else; where nothing can be trusted nothing is judged."""
    for (shape, kind), html in pages.items():
        greens = len(re.findall(r'class="(?:mark|span) good"', html))
        assert (greens > 0) == (shape in ("swap", "tuned")), (shape, kind)
        if shape == "invalid":
            assert not re.findall(r'class="mark (?:bad|holds)"', html.partition('id="metrics"')[0])
            assert "not judged" in words_of(html)
            assert "chance that we call" not in words_of(html).partition("Why this verdict")[0]
    gaps = pages["tuned", "toolcall"].partition('id="why"')[2].partition("</figure>")[0]
    assert re.findall(r'lane (\w+)"><span class="lane-name">', gaps) == ["bad", "bad", "good", "good"]


def everything(inputs: Inputs) -> list[str]:
    """Every caveat, count and risk of a verdict file, as the page has to say it."""
    verdict = inputs.verdict
    said = [text.capital(text.prose(caveat)) for caveat in verdict["caveats"]]
    said += [text.prose(reason) for reason in verdict["reasons"]]
    said += [f"{text.count(verdict['n'])} test rows"]
    if verdict["rows_missing"]:
        said.append(str(verdict["statement"]))
    if verdict["looks"]:
        said.append(
            f"Chance that we call a too-bad model good: {text.percent(verdict['looks']['false_swap_at_most'], 0)}"
        )
    for name, body in verdict["comparisons"].items():
        for _metric, entry in body["metrics"].items():
            said.append(text.span(entry["low"], entry["high"]))
            said.append(text.gap(entry["gap"]))
            counts = entry["counts"]
            said.append(f"{text.count(counts['teacher_only'])}, {text.count(counts['contender_only'])}")
            if entry["core"]:
                said.append(text.count(entry["rows_needed_if_equal"]))
                said.append(text.percent(entry["discordance"]))
                if entry["rows_needed"]:
                    said.append(text.count(entry["rows_needed"]))
                if body["finding"] != "invalid":
                    said.append(answer.says(inputs, name, entry)[0])
    for regression in verdict["regressions"].values():
        said += [text.capital(text.prose(reason)) for reason in regression["reasons"]]
        said += [text.span(entry["low"], entry["high"]) for entry in regression["metrics"].values()]
    said += [text.capital(text.prose(noise["reason"])) for noise in verdict["noise"].values()]
    if verdict["sensitivity"]:
        said += [text.capital(text.prose(one["meaning"])) for one in verdict["sensitivity"]["scenarios"].values()]
        if verdict["sensitivity"]["rows"]["any"]:
            said.append(f"rows in all: {text.count(verdict['sensitivity']['rows']['any'])}")
    if verdict["if_labels_are_wrong"]:
        rows = verdict["if_labels_are_wrong"]["rows"]
        said.append("the row that looks mislabelled" if rows == 1 else f"all {rows} rows that look mislabelled")
    if verdict["suspected_label_errors"]:
        said.append(f"{len(verdict['suspected_label_errors'])} row")
        said += [text.clean(one["id"], 120) for one in verdict["suspected_label_errors"][:10]]
    if verdict["agreement"]:
        said.append(text.percent(verdict["agreement"]["value"]))
    for values in verdict["slices"].values():
        for value, part in values.items():
            said += [
                f"{value} ({part['n']})",
                *(text.span(one["low"], one["high"]) for one in part["contenders"].values()),
            ]
    return [one.replace(text.NBSP, " ") for one in said]


@pytest.mark.parametrize("case", CASES)
def test_what_the_verdict_file_holds_is_on_the_page(made: Made, pages: Any, case: tuple[str, str]) -> None:
    found = everything(load("demo", SETTINGS, **made[case]))
    shown = words_of(pages[case])
    assert [one for one in found if one not in shown] == []
    assert len(found) > 25


def test_many_caveats_all_stand_on_the_first_screen(inputs: Inputs) -> None:
    caveats = [f"caveat {number} with <b>markup</b> and 3.5 %" for number in range(12)]
    noisy = {"n": 9, "metrics": {}, "refused": False, "reason": "run twice, tuned differs from itself by 2 points"}
    shown = changed(inputs, caveats=caveats, noise={"tuned": noisy}, looks={"number": 3, "false_swap_at_most": 0.15})
    html = render(shown)
    first = words_of(html.partition('id="why"')[0])
    assert all(f"Caveat {number} with <b>markup</b> and 3.5 %." in first for number in range(12))
    assert [one for one in everything(shown) if one not in words_of(html)] == []
    # One number for one risk, wherever it is said.
    assert set(re.findall(r"(?i)chance[^.]*?: (\d+ %)", words_of(html))) == {"15 %"}
    assert "verdict number 3 on these rows" in first


def test_a_margin_that_is_not_the_usual_one_is_said(inputs: Inputs) -> None:
    usual = yaml.safe_load((ROOT / "config/config.yaml").read_text())["decision"]["margin"]
    assert usual == answer.DEFAULT_MARGIN
    assert "The usual margin" not in words_of(render(inputs))
    assert "The usual margin is 5: this track allows more." in words_of(render(changed(inputs, margin=0.45)))


def test_weakest_slices_stand_on_the_first_screen(inputs: Inputs) -> None:
    slices = copy.deepcopy(inputs.verdict["slices"])
    values = next(iter(slices.values()))
    name = next(iter(values))
    part = values[name]["contenders"]["tuned"]
    part |= {"gap": 0.242, "low": 0.099, "high": 0.39, "p_holm": 0.365, "differs": False}
    html = render(changed(inputs, slices=slices))
    first = words_of(html.partition('id="why"')[0])
    assert "24.2 points worse (at least 9.9, on" in first
    assert "not proven after correction for many looks (p 0.365)" in first
    part |= {"differs": True, "low": 0.05}  # as low as the margin, which is not above it
    first = words_of(render(changed(inputs, slices=slices)).partition('id="why"')[0])
    assert "24.2 points worse" not in first


def test_what_settings_decided_and_what_nobody_can_get_right_is_said(inputs: Inputs) -> None:
    limit = {"key": "slm.max_prompt_tokens", "value": 512, "rows": 19, "what": "the prompt did not fit"}
    seals = {**inputs.seals, "tuned": {**inputs.seals["tuned"], "limits": [limit], "given_up": 4}}
    sheet = {**inputs.datasheet, "unwinnable": {"rows": 17, "reasons": {"gold": 17}, "first": ["a:3: x"]}}
    shown = words_of(render(replace(inputs, seals=seals, datasheet=sheet)))  # type: ignore[arg-type]
    assert "Slm.max_prompt_tokens (512) decided 19 rows of the tuned small model: the prompt did not fit." in shown
    assert "4 rows of the tuned small model were given up without an answer." in shown
    assert "17 rows of the sources were left out, since nobody could get them right" in shown
    known = changed(inputs, caveats=["slm.max_prompt_tokens (512) cut 19 rows"])
    assert "decided 19 rows" not in words_of(render(replace(known, seals=seals)))  # said once


@pytest.mark.parametrize(
    "names",
    [["slm"], ["slm", "tuned"], ["slm", "guided", "tuned"], ["slm", "fewshot", "guided", "tuned-more"]],
)
def test_any_number_of_contenders(inputs: Inputs, names: list[str]) -> None:
    shown = widened(inputs, names)
    html = render(shown)
    assert faults(html) == []
    assert [one for one in everything(shown) if one not in words_of(html)] == []
    labels = ["teacher", *(rung(name)["label"] for name in names)]
    data = data_of(html)
    assert data["labels"] == labels
    assert data["decisive"] == len(names)
    assert all(len(row["s"]) == len(labels) for row in data["rows"])
    for label in labels:
        assert text.capital(label) in words_of(html)


def test_the_report_names_no_contender_of_its_own() -> None:
    """Names and labels come from the verdict; `slm` stands here only as the section of the configuration."""
    found = []
    for path in sorted((ROOT / "src/fledgling/report").rglob("*.*")):
        if path.suffix in (".py", ".html", ".js"):
            lines = path.read_text().splitlines()
            found += [line.strip() for line in lines if re.search(r"\b(slm|tuned)\b", line)]
    assert all('"slm"' in line or "slm.price_per_hour" in line or "`slm`" in line for line in found), found
    assert len(found) <= 4


@pytest.mark.parametrize("case", CASES)
def test_structure_is_accessible_and_loads_nothing(pages: Any, case: tuple[str, str]) -> None:
    assert faults(pages[case]) == []
    assert loads(pages[case]) == []
    assert "http" not in pages[case].replace("http-equiv", "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<h2 id", "<h5 id"),
        ('role="img"', 'role="presentation"'),
        ("<caption>", "<p>"),
        ('scope="col"', ""),
        ('<pre tabindex="0"', "<pre"),
        ("</section>", ""),
        ('id="why"', 'id="metrics"'),
        ("<nav", "<div"),
        ('aria-hidden="true"', ""),
    ],
)
def test_the_structure_check_can_fail(pages: Any, old: str, new: str) -> None:
    assert faults(pages["tuned", "toolcall"].replace(old, new, 1))


@pytest.mark.parametrize(
    "added",
    [
        '<img src="https://x.test/a.png">',
        "<script>1</script>",
        "<style>p { color: red }</style>",
        '<a href="https://x.test">',
        '<p onclick="x">',
        '<p style="color: red">',
    ],
)
def test_the_network_check_can_fail(pages: Any, added: str) -> None:
    assert loads(pages["swap", "toolcall"].replace("<main", f"{added}<main", 1))


def test_same_inputs_same_bytes(made: Made, pages: Any, tmp_path: Path) -> None:
    """Also in another process, with other hash seeds, through the command line."""
    options: list[str] = []
    for name, value in made["tuned", "toolcall"].items():
        options += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    out = tmp_path / "page.html"
    command = [sys.executable, ROOT / "scripts/report.py", "--track", "demo", "--settings", json.dumps(SETTINGS)]
    environment = {"PYTHONHASHSEED": "5", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([*command, *options, "--out", out], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert seals.problem(out.read_bytes(), seals.HTML) is None
    assert out.read_text(encoding="utf-8").partition("<!-- seal: ")[0] == pages["tuned", "toolcall"] + "\n"


def test_simulated_is_said_in_words_and_in_every_picture(inputs: Inputs, pages: Any) -> None:
    page = pages["tuned", "toolcall"]
    pictures = re.findall(r"<figure.*?</figure>", page, re.S)
    assert len(pictures) >= 6
    assert all(">simulated<" in picture for picture in pictures)
    assert "simulated" in words_of(page)
    assert "(simulated)" in page.partition("</title>")[0]
    real = replace(
        changed(inputs, simulated=False, statement="S."),
        gate={**inputs.gate, "statement": "S."},
        settings={},
    )
    assert "simulated" not in render(real).lower()


@pytest.mark.parametrize("kind", ["toolcall", "structured"])
def test_hostile_replies_do_no_harm(tmp_path: Path, kind: str) -> None:
    arguments = build(tmp_path, "inconclusive", kind, hostile=HOSTILE)
    html = render(load("demo", SETTINGS, **arguments))
    assert faults(html) == []
    assert loads(html) == []
    assert len(html) < 2_000_000
    assert "&lt;/script&gt;" in html
    assert "\\u003c/script\\u003e" in html
    assert "{{ 7 * 7 }}" in html
    html.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u2028\u2029\u202a-\u202e\ufeff]", html)


def test_hostile_names_reach_no_markup(inputs: Inputs) -> None:
    slices = inputs.verdict["slices"]
    dimension = next(iter(slices))
    renamed = {dimension: {f"{HOSTILE}{name}": entry for name, entry in slices[dimension].items()}}
    ladder = [{**one, "label": HOSTILE + one["name"]} for one in inputs.verdict["ladder"]]
    limit = {"key": HOSTILE, "value": 5, "rows": 19, "what": HOSTILE}
    shown = replace(
        changed(
            inputs,
            title=HOSTILE,
            statement=HOSTILE,
            reasons=[HOSTILE],
            slices=renamed,
            caveats=[HOSTILE],
            ladder=ladder,
        ),
        track=HOSTILE,
        settings={"teacher": {"model": HOSTILE}},
        seals={**inputs.seals, "tuned": {**inputs.seals["tuned"], "limits": [limit]}},  # type: ignore[dict-item]
    )
    html = render(shown)
    assert faults(html) == []
    assert loads(html) == []
    html.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", html)


def test_every_row_of_the_split_is_on_the_page(inputs: Inputs, pages: Any) -> None:
    """With how it ended for everybody, as the scores say, and its question first."""
    data = data_of(pages["tuned", "toolcall"])
    metric = inputs.verdict["core"][0]
    examples = [row for _, row in read_jsonl(inputs.data)]
    assert [row["id"] for row in data["rows"]] == [row["id"] for row in examples]
    assert [row["q"] for row in data["rows"]] == [row["messages"][-1]["content"] for row in examples]
    for place, name in enumerate(inputs.answerers):
        scored = [row for _, row in read_jsonl(inputs.rows[name])]
        assert [row["s"][place] == "r" for row in data["rows"]] == [row["scores"][metric] == 1 for row in scored]
        for row, score in zip(data["rows"], scored, strict=True):
            ended = {"r": "ok", "w": "ok", "i": "ok", "e": "length"}[row["s"][place]]
            assert score["outcome"] == ended
            assert (row["s"][place] == "i") == (ended == "ok" and score["parsed"] is None)
    counts = inputs.verdict["comparisons"]["tuned"]["metrics"][metric]["counts"]
    parted = [row["s"] for row in data["rows"] if (row["s"][0] == "r") != (row["s"][2] == "r")]
    assert sum(states[0] == "r" for states in parted) == counts["teacher_only"]
    assert sum(states[2] == "r" for states in parted) == counts["contender_only"]
    assert {data["slices"][number] for row in data["rows"] for number in row["k"]} >= {"tool: get_weather"}
    suspects = {suspect["id"] for suspect in inputs.verdict["suspected_label_errors"]}
    assert {row["id"] for row in data["rows"] if 0 in row.get("n", [])} == suspects != set()


def test_a_few_rows_of_each_kind_stand_without_a_script(inputs: Inputs, pages: Any) -> None:
    """Chosen by a hash of their ids: who chooses again gets the same ones."""
    html = pages["tuned", "toolcall"].partition("</script>")[0]
    table = rows.table(inputs)
    only_teacher = [row["id"] for row in table.rows if row["s"][0] == "r" and row["s"][2] != "r"]
    first = sorted(only_teacher, key=lambda identity: hashlib.sha256(identity.encode()).digest())[: rows.LEAST]
    assert f"The teacher is right, the tuned small model is not: {len(only_teacher)} rows" in words_of(html)
    assert set(re.findall(r'aria-label="Row ([^"]+)"', html)) >= set(first)


def test_a_large_split_stays_a_page_that_goes_by_mail(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rows.table(inputs)
    monkeypatch.setattr(rows, "BUDGET", len(whole.json()) // 2)
    shorter = rows.table(inputs)
    assert len(shorter.rows) == len(whole.rows)
    assert shorter.shortened
    monkeypatch.setattr(rows, "BUDGET", 40_000)
    least = rows.table(inputs)
    assert len(least.json()) <= 40_000
    assert len(least.rows) + least.left_out == len(whole.rows)
    wrong = sum(set(row["s"]) != {"r"} for row in whole.rows)
    assert sum(set(row["s"]) != {"r"} for row in least.rows) == min(wrong, len(least.rows))  # right ones went first
    assert f"{least.left_out:,} rows are not on it" in words_of(render(inputs))


def test_rows_of_different_tests_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    lines = inputs.rows["slm"].read_text().splitlines(keepends=True)
    for name, altered in (("short", lines[:-1]), ("swapped", [lines[1], lines[0], *lines[2:]])):
        path = tmp_path / name / "slm.jsonl"
        path.parent.mkdir()
        path.write_text("".join(altered))
        with pytest.raises(DataError, match=r"slm\.jsonl"):
            rows.table(replace(inputs, rows={**inputs.rows, "slm": path}))


def test_an_unpaired_comparison_has_a_page(tmp_path: Path) -> None:
    """The teacher was scored on another test set: no gap is drawn, and the page says why."""
    arguments = build(tmp_path, "swap", "toolcall", foreign=True)
    html = render(load("demo", SETTINGS, **arguments))
    assert faults(html) == []
    assert "No verdict: the numbers cannot be trusted" in html
    assert "nothing to put side by side" in html
    assert "The files do not hold the same rows." in words_of(html)


def test_files_that_do_not_fit_are_named(made: Made, tmp_path: Path) -> None:
    arguments = made["tuned", "toolcall"]
    with pytest.raises(DataError, match="--predictions: no file of 'tuned', which the verdict judges"):
        load("demo", {}, **(arguments | {"predictions": arguments["predictions"][:2]}))
    with pytest.raises(DataError, match="--rows: no file of 'slm'"):
        load("demo", {}, **(arguments | {"rows": arguments["rows"][:1]}))
    edited = tmp_path / "slm.jsonl"
    edited.write_text(arguments["rows"][1].read_text().replace("0.0", "1.0"))
    rows_ = [arguments["rows"][0], edited, *arguments["rows"][2:]]
    with pytest.raises(DataError, match=r"not those that .*slm\.json vouches for"):
        load("demo", {}, **(arguments | {"rows": rows_}))
    broken = tmp_path / "verdict.json"
    write_sealed(broken, read_json(arguments["verdict"]) | {"caveats": "none"})
    with pytest.raises(DataError, match="caveats"):
        load("demo", {}, **(arguments | {"verdict": broken}))


def test_what_val_said_is_held_against_the_verdict(made: Made, tmp_path: Path) -> None:
    arguments = made["tuned", "toolcall"]
    path = tmp_path / "slm.json"
    trial = {
        "format": "fledgling/ladder/1",
        "made_from": {},
        "key": "k",
        "track": "demo",
        "contender": "slm",
        "promising": False,
        "goes_on": True,
        "reason": "it is 30 points worse",
        "rows": 40,
        "test_rows": 40,
        "level": 0.04,
        "rows_needed": None,
        "metrics": {},
    }
    write_sealed(path, trial)
    load("demo", SETTINGS, **(arguments | {"ladder": [path]}))
    judged = tmp_path / "verdict.json"
    verdict = read_json(arguments["verdict"])
    write_sealed(judged, verdict | {"made_from": verdict["made_from"] | {str(path): "0" * 64}})
    with pytest.raises(DataError, match=r"was made from another .*slm\.json"):
        load("demo", SETTINGS, **(arguments | {"verdict": judged, "ladder": [path]}))
    path.write_text(path.read_text().replace("30 points", "10 points"))
    with pytest.raises(DataError, match="its bytes are not those that its seal vouches for"):
        load("demo", SETTINGS, **(arguments | {"ladder": [path]}))


def settled(inputs: Inputs, **keys: Any) -> str:
    """The page under other prices and traffic."""
    track = {"requests_per_month": keys["requests"]} if "requests" in keys else {}
    return words_of(render(replace(inputs, settings={"slm": {"price_per_hour": keys.get("price")}, "track": track})))


def test_what_a_month_saves(inputs: Inputs) -> None:
    """One request: 280 · 2.5 + 41 · 10 = 1,110 millionths; a machine 730 h a month; 0.2 s a row."""
    shown = settled(inputs)
    assert "Not known yet" in shown
    assert "slm.price_per_hour what an hour of your machine costs" in shown
    assert "tracks.demo.requests_per_month how many requests a month" in shown
    assert "teacher.prices" not in shown.partition("Why this verdict")[0]
    assert f"{24 / 1_110e-6:,.0f} requests a day" in shown
    shown = settled(inputs, price=0.5, requests=2_000_000)
    assert "What it saves a month 1,855 USD" in shown  # 2,220 − 730 · 0.5
    assert "At 2,000,000 requests a month: teacher 2,220 USD, one machine always on 365 USD." in shown
    assert "Not known yet" not in shown
    assert f"{12 / 1_110e-6:,.0f} requests a day" in shown
    shown = settled(inputs, price=0.5, requests=20_000_000)  # 4,000,000 s of work in 2,628,000 s of a month
    assert "2 machines always on 730 USD" in shown
    shown = settled(inputs, price=0.5, requests=100_000)
    assert "Nothing: it costs 254 USD more" in shown  # 111 − 365
    assert "at the stated traffic a move costs more than it saves: wait with it." in shown
    metrics = {**inputs.metrics, "teacher": {**inputs.metrics["teacher"], "cost": {"amount": None, "currency": None}}}
    unpriced = words_of(render(replace(inputs, metrics=metrics)))  # type: ignore[arg-type]
    assert "teacher.prices what the teacher's tokens cost" in unpriced
    assert "price not set" in unpriced


def test_unknown_costs_stay_unknown(inputs: Inputs) -> None:
    free = {**inputs.metrics["teacher"], "cost": {"amount": None, "currency": None, "estimated": False}}
    found = economy(free, inputs.metrics["tuned"], 0.5, 1_000)  # type: ignore[arg-type]
    assert (found.teacher, found.saved, found.break_even, found.per_unit) == (None, None, None, None)
    untimed = {**inputs.metrics["tuned"], "latency_s": None}
    found = economy(inputs.metrics["teacher"], untimed, 0.5, 1_000)  # type: ignore[arg-type]
    assert (found.busy, found.own_month, found.saved, found.capacity) == (None, None, None, None)


def test_nothing_empty_is_shown(pages: Any) -> None:
    for case, page in pages.items():
        html = re.sub('<div id="browser".*?<div id="first">', "", page, flags=re.S)  # the script fills it
        assert not re.findall(
            r"<(td|th|dd|dt|li|p|figcaption|caption|ul|ol|dl|tbody)[^>]*>(?:<span>)?\s*(?:</span>)?</\1>", html
        ), case
        shown = words_of(html)
        assert "None" not in re.sub(r"None of \d+ slices", "", shown).replace("None of it can be trusted", ""), case
        assert "McNemar" not in shown or "n/a" not in shown.partition("McNemar")[2].partition("Rows side by side")[0], (
            case
        )


def test_an_embedded_checkpoint_on_own_rows_is_a_caveat(inputs: Inputs) -> None:
    embedded = replace(inputs, settings={"models": {"slm": {"source": "embedded"}}})
    assert "knows nothing but its generated rows" in words_of(render(embedded))
    generated: Any = {**inputs.datasheet, "generated": True}
    assert "knows nothing but its generated rows" not in words_of(render(replace(embedded, datasheet=generated)))
    reasons = {"invalid_call": 414, "wrong_arguments": 6}
    unread: Any = {**inputs.metrics, "slm": {**inputs.metrics["slm"], "reasons": reasons}}
    assert "98.6 % of the replies of the untuned small model cannot be read" in words_of(
        render(replace(inputs, metrics=unread))
    )


def test_weights_families_and_power_are_shown_where_there_are_any(inputs: Inputs) -> None:
    shown = words_of(render(inputs))
    assert "standing for" not in shown
    assert "Requests they stand for" not in shown
    assert text.prose(inputs.gate["split_power"]["sentence"]).replace(text.NBSP, " ") in shown
    held = {"p": 0.012, "level": 0.025, "passed": True, "why": ""}
    other = {"p": None, "level": None, "passed": False, "why": "the one before it did not pass"}
    family = {"name": "holm", "promise": "At most 5 %.", "nominee": None, "stopped": "all were tested"}
    family |= {"rungs": {"slm": other, "tuned": held}}
    weighted: Any = copy.deepcopy(inputs.datasheet)
    weighted["splits"]["test"]["weight"] = 1234.0
    comparisons: Any = copy.deepcopy(inputs.verdict["comparisons"])
    comparisons["tuned"]["requests"] = 1234
    shown = words_of(render(replace(changed(inputs, family=family, comparisons=comparisons), datasheet=weighted)))
    assert "420 test rows, standing for 1,234 requests" in shown
    assert "right alone counts requests" in shown
    assert "The tuned small model 0.012 2.5 % yes" in shown
    assert "The untuned small model n/a not tested no: the one before it did not pass" in shown


def test_no_caveat_no_panel(inputs: Inputs) -> None:
    assert "What to keep in mind" in words_of(render(changed(inputs, caveats=["this and that"])))
    assert "What to keep in mind" not in words_of(render(changed(inputs, caveats=[])))


def test_the_recipe_is_the_one_that_was_used(inputs: Inputs) -> None:
    settings = {**SETTINGS, "recipe": {"epochs": 1}, "track": {"recipe": {"epochs": 2}}}
    shown = words_of(render(replace(inputs, settings=settings)))  # type: ignore[arg-type]
    assert "epochs 2" in shown
    assert '"epochs": 1' not in shown
    assert "after step 98, kept 75.0 %" in shown
    assert "after step 196 50.0 %" in shown


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
    blocks = re.findall(r":root \{(.*?)\}", style, re.S)
    themes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block)) for block in blocks]
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


def test_pictures_follow_theme_and_width(pages: Any) -> None:
    """No colour of their own, and nothing across in pixels: a phone shows all of them."""
    for picture in re.findall(r"<svg.*?</svg>", pages["tuned", "toolcall"], re.S):
        assert not re.findall(r"#[0-9a-f]{6}\b", picture)
        assert "viewBox" not in picture
    bars = re.findall(r'<svg class="bar".*?</svg>', pages["tuned", "toolcall"], re.S)
    places = [float(place) for bar in bars for place in re.findall(r'(?:x|x1|x2)="([\d.-]+)%"', bar)]
    assert len(places) > 100
    assert all(0 <= place <= 100 for place in places)


def test_axes_are_round_and_hold_what_they_show() -> None:
    axis = plots.Axis.around([-3.0, 38.0])
    assert axis.low < -3
    assert axis.high > 38
    assert axis.ticks == (0, 10, 20, 30)
    assert axis.at(-1e9) == f"{plots.INSET:.2f}%"
    assert float(axis.at(axis.high)[:-1]) == 100 - plots.INSET
    assert plots.Axis.around([5.0, 5.0]).low < 5 < plots.Axis.around([5.0, 5.0]).high
    decades = plots.Axis.decades([0.002, 1.5])
    assert decades.ticks == (0.01, 0.1, 1)
    assert float(decades.at(0.01)[:-1]) < float(decades.at(0.1)[:-1])


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


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def test_diff_of_calls_ignores_their_order() -> None:
    gold = [call("f", x=1), call("f", x=2), call("g")]
    assert set(states(diff.toolcall(gold, {"slm": gold[::-1]}), "slm").values()) == {"same"}
    lines = diff.toolcall(gold[:1], {"slm": [call("h", x=1), gold[0]]})
    assert states(lines, "slm") == {"call 1": "same", "call 1.x": "same", "call 2": "extra", "call 2.x": "extra"}
    assert set(states(diff.toolcall(gold, {"slm": []}), "slm").values()) == {"missing"}


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "object", "required": ["x", "y"]},
        {"allOf": [{"required": ["x", "y"]}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"required": ["x", "y"]}}},
    ],
)
def test_diff_judges_one_argument_whatever_else_the_tool_requires(parameters: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    lines = diff.toolcall([call("f", x="Oslo", y=1)], {"slm": [call("f", x="oslo.", y=1)]}, None, tools)
    assert states(lines, "slm") == {"call 1": "same", "call 1.x": "alike", "call 1.y": "same"}


def test_diff_of_calls_with_several_right_values() -> None:
    allowed = [call("f", x=["a", "b"], y=[1, ""])]
    lines = diff.toolcall([], {"slm": [call("f", x="b")], "tuned": [call("f", x="B.")]}, allowed)
    assert states(lines, "slm") == {"call 1": "same", "call 1.x": "same", "call 1.y": "absent"}
    assert states(lines, "tuned")["call 1.x"] == "alike"  # case and punctuation are ignored by the scorer
    assert [line.optional for line in lines] == [False, False, True]


NESTED = [
    # (an argument's allowed values, gold, right as well, wrong)
    (
        [{"city": ["Berlin", "berlin"], "zip": ["", 1]}],
        {"city": "Berlin"},
        {"city": "berlin", "zip": 1},
        {"city": "Rome"},
    ),
    ([[{"a": [1]}, {"a": [2]}]], [{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 2}], [{"a": 2}, {"a": 1}]),
    ([["x y", "z"]], ["x y", "z"], ["X Y", "Z"], ["z", "x y"]),
    ([{"a": [{"b": ["c", "d"]}]}], {"a": {"b": "c"}}, {"a": {"b": "d"}}, {"a": {"b": "e"}}),
]


@pytest.mark.parametrize(("values", "gold", "other", "wrong"), NESTED)
def test_diff_agrees_with_the_scorer_inside_nested_values(values: Any, gold: Any, other: Any, wrong: Any) -> None:
    """Gold never differs from itself, and what the scorer counts as right is never drawn as wrong."""
    allowed = [call("f", x=values)]
    answers = {"gold": [call("f", x=gold)], "other": [call("f", x=other)], "wrong": [call("f", x=wrong)]}
    lines = diff.toolcall([call("f", x=gold)], answers, allowed)
    assert set(states(lines, "gold").values()) <= {"same", "absent"}
    assert set(states(lines, "other").values()) <= {"same", "alike"}
    assert {"different", "missing", "extra"} & set(states(lines, "wrong").values())


def test_diff_says_where_inside_a_value_calls_part() -> None:
    gold = [call("f", x={"a": 1, "b": {"c": "Paris"}})]
    lines = diff.toolcall(gold, {"slm": [call("f", x={"a": 2, "b": {"c": "paris"}})], "tuned": gold})
    assert states(lines, "slm") == {"call 1": "same", "call 1.x.a": "different", "call 1.x.b.c": "alike"}
    assert set(states(lines, "tuned").values()) == {"same"}


def test_what_the_scorer_refuses_as_a_whole_is_not_drawn_as_right() -> None:
    """Strings this deep count to the letter there."""
    gold = [call("f", x={"cards": ["Ace of spades"]})]
    lines = diff.toolcall(gold, {"slm": [call("f", x={"cards": ["ACE of spades"]})]})
    assert states(lines, "slm") == {"call 1": "same", "call 1.x.cards[0]": "different"}
    lines = diff.toolcall([call("f", n=7)], {"slm": [call("f", n=7.0)]})  # equal, and of another type
    assert states(lines, "slm") == {"call 1": "same", "call 1.n": "different"}


def test_diff_reads_types_as_the_scorer_does() -> None:
    """An argument that the tool does not declare is wrong, and a required one that is missing spoils no other."""
    gold = [call("get_weather", city="Oslo", days=1, unit="c")]
    tools = copy.deepcopy(TOOLS)
    tools[0]["function"]["parameters"]["required"] = ["city", "days"]
    lines = diff.toolcall(gold, {"slm": [call("get_weather", city="oslo", unit="C")]}, None, tools)
    assert states(lines, "slm") == {
        "call 1": "same",
        "call 1.city": "alike",
        "call 1.days": "missing",
        "call 1.unit": "alike",
    }


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (text.gap(0.339), "33.9 points worse"),
        (text.gap(-0.02), "2 points better"),
        (text.gap(0.01), "1 point worse"),
        (text.gap(-0.0001), "no difference"),
        (text.gap(None), "n/a"),
        (text.span(0.292, 0.381), "29.2 to 38.1 points worse"),
        (text.span(-0.025, 0.013), "2.5 points better to 1.3 worse"),
        (text.span(-0.385, -0.296), "29.6 to 38.5 points better"),
        (text.span(0.0, 0.05), "0 to 5 points worse"),
        (text.percent(0.9), "90.0 %"),
        (text.money(0.00042, "USD"), "0.00042 USD"),
        (text.money(0, "USD"), "0.00 USD"),
        (text.money(1384.4, "USD", whole=True), "1,384 USD"),
        (text.money(None, "USD"), "n/a"),
        (text.seconds(0.00042), "0.42 ms"),
        (text.seconds(0.85), "850 ms"),
        (text.seconds(1.236), "1.24 s"),
        (text.seconds(200), "3 min 20 s"),
        (text.seconds(7_500), "2 h 05 min"),
        (text.count(12_400), "12,400"),
        (text.p_value(0.0004), "< 0.001"),
        (text.clean("a\x00\x7f\ud800\u202eb\n"), "a␀␡\ufffd[U+202E]b\n"),
        (text.clean("\ufeffa\u2028b\u200bc\u00add\u3164"), "[U+FEFF]a[U+2028]b[U+200B]c[U+00AD]d[U+3164]"),
        (text.clean("می\u200cخواهم 👨\u200d👩 ❤\ufe0f"), "می\u200cخواهم 👨\u200d👩 ❤\ufe0f"),  # needed there
        (text.clean("a\u200cb x\u200d a\ufe0f"), "a[U+200C]b x[U+200D] a[U+FE0F]"),
        (text.value("a\u00a0b"), '"a[U+00A0]b"'),
        (text.clean("a\u00a0!"), "a\u00a0!"),
        (text.clean("abc", 2), "ab … [3 characters, the first 2 shown]"),
    ],
)
def test_numbers_and_texts_as_people_read_them(shown: str, wanted: str) -> None:
    assert shown.replace(text.NBSP, " ") == wanted.replace(text.NBSP, " ")


def test_over_a_log_the_page_speaks_of_agreement(inputs: Inputs) -> None:
    from .test_verdict import TRACED

    sheet: Any = {**inputs.datasheet, "traces": TRACED}
    html = render(replace(changed(inputs, gold="reply"), datasheet=sheet))
    shown = words_of(html)
    assert 'data-right="as logged"' in html
    assert "scores are agreement with it" in shown
    assert "As logged or not is judged by" in shown
    assert "evaluation is per turn, given the real history" in shown
    assert "50.0 % of them in an earlier prompt of the same trajectory" in shown
    assert "counts as right" not in shown
    assert " is right" not in shown
