"""How far up the ladder the graph builds: no more than val asks for, and after any edit what a fresh build would be."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.graph.conftest import Graph, copy_graph

SIX: dict[str, dict[str, object]] = {
    "slm": {},
    "guided": {"schema_guided": True},
    "fewshot": {"shots": "auto"},
    "both": {"shots": 2, "schema_guided": True},
    "tuned": {"adapter": "sft", "after": "slm"},
    "tuned_guided": {"adapter": "sft", "schema_guided": True, "after": "tuned"},
}
VERDICT = "results/verdict/toolcall.json"
ANSWERS = ("predictions", "metrics", "ladder", "shots", "adapters", "candidates")


def configure(
    graph: Graph,
    blocks: dict[str, object] = SIX,
    looks: int | None = None,
    repeats: tuple[str, ...] = (),
    **track: object,
) -> None:
    path = graph.folder / "config/config.yaml"
    config = yaml.safe_load(path.read_text())
    config["contenders"] = blocks
    config["repeats"] = list(repeats)
    config["teacher"].pop("looks", None)
    config["teacher"] |= {} if looks is None else {"looks": looks}
    config["tracks"] = {"toolcall": config["tracks"]["toolcall"] | track}
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def say(graph: Graph, **promises: object) -> None:
    """What the placeholders of val (False: it goes on no further) and of the gate (the next one) say."""
    (graph.folder / "says.json").write_text(
        json.dumps(
            {
                f"{'compare' if name == 'gate' else 'toolcall'}/{'toolcall' if name == 'gate' else name}": said
                for name, said in promises.items()
            }
        )
    )


def build(graph: Graph) -> None:
    graph.build("--", VERDICT)


def judged(graph: Graph) -> list[str]:
    """The contenders that the verdict is about."""
    of = json.loads((graph.folder / VERDICT).read_text())["of"]
    assert [Path(file).stem for file in of if "/ladder/" in file] in (
        [Path(f).stem for f in of if "/ladder/" not in f][1:],
        [],
    )
    return [Path(file).stem for file in of if "/ladder/" not in file][1:]


def files(graph: Graph, name: str) -> list[str]:
    """Everything under results/ that is about one contender or adapter."""
    return sorted(
        str(path.relative_to(graph.folder / "results"))
        for kind in ANSWERS
        for path in (graph.folder / "results" / kind).rglob("*")
        if path.stem == name or path.parent.name == name
    )


@pytest.mark.parametrize(("stop", "expected"), [("slm", 1), ("guided", 2), ("fewshot", 3), ("both", 4), ("tuned", 5)])
def test_nothing_above_the_nominee_is_built(empty: Graph, stop: str, expected: int) -> None:
    """The list of files: no answer, no shots, no training of anything that val did not ask for."""
    configure(empty)
    say(empty, **{stop: False})
    build(empty)
    names = list(SIX)
    assert judged(empty) == names[:expected]
    for name in names[expected:]:
        assert files(empty, name) == []
    results = empty.folder / "results"
    assert (results / "candidates").exists() == (expected >= 5)
    assert (results / "shots").exists() == (expected >= 3)


# What val says follows from the block alone, so that an answer changes where its contender does.
STOP: dict[str, object] = {"batch_size": 1}
EDITS: list[tuple[str, dict[str, Any]]] = [
    ("at first", {"fewshot": SIX["fewshot"] | STOP}),
    ("grows", {"fewshot": {"shots": 4}, "tuned": SIX["tuned"] | STOP}),
    ("a parameter of the first", {"slm": {"max_prompt_tokens": 99}}),
    ("shrinks", {"guided": SIX["guided"] | STOP}),
    ("grows by one, and what is above it is another", {"guided": SIX["guided"], "both": SIX["both"] | STOP}),
    ("a rung is gone", {"both": None}),
    ("one more rung", {"short": {"max_new_tokens": 8}, "tuned": SIX["tuned"]}),
    ("test does not confirm the first", {"slm": STOP}),
    ("and then it does", {"slm": STOP | {"label": "the slm"} | {"max_new_tokens": 63}}),
]


@pytest.mark.parametrize("looks", [None, 60])
def test_after_any_edit_the_verdict_is_that_of_a_fresh_build(
    empty: Graph, root: Path, tmp_path_factory: pytest.TempPathFactory, looks: int | None
) -> None:
    """Growing, shrinking, deleting and adding a rung, and flipping parameters of rungs, one edit after another."""
    blocks: dict[str, Any] = dict(SIX)
    for what, change in EDITS:
        blocks = {name: block for name, block in (blocks | change).items() if block is not None}
        stops = {name: False for name, block in blocks.items() if block.get("batch_size") == 1}
        confirmed = blocks["slm"].get("max_new_tokens") == 63
        for graph in (empty, copy_graph(root, tmp_path_factory.mktemp("fresh"))):
            configure(graph, blocks, looks)
            say(graph, **stops, gate=None if confirmed else "the next")
            build(graph)
        assert (empty.folder / VERDICT).read_text() == (graph.folder / VERDICT).read_text(), what
        assert empty.plan("--", VERDICT) == {}, what
        shutil.rmtree(graph.folder)


def test_a_rung_more_runs_itself_and_the_verdict(empty: Graph) -> None:
    configure(empty, {name: SIX[name] for name in ("slm", "guided")})
    build(empty)
    configure(empty, {"slm": {}, "guided": SIX["guided"], "longer": {"max_new_tokens": 99}})
    plan = empty.plan("--", VERDICT)
    assert plan == {"answer": 1, "score": 2, "try_on_val": 1, "compare": 1, "decide": 1}


def test_always_and_never_and_one_rung_ask_val_nothing_or_build_no_training(empty: Graph) -> None:
    configure(empty, finetune="always")
    plan = empty.plan("--", VERDICT)
    assert (plan["train"], plan["choose_shots"], plan["ask"]) == (1, 2, 1)
    assert "try_on_val" not in plan
    configure(empty, finetune="never")
    build(empty)
    assert judged(empty) == ["slm", "guided", "fewshot", "both"]
    configure(empty, {"slm": {}})
    plan = empty.plan("--", VERDICT)
    assert not set(plan) & {"try_on_val", "ask", "answer"}


def test_with_looks_the_teacher_is_asked_once_all_others_have_answered(empty: Graph) -> None:
    """The rows of test are bought by a rule of their own, and no contender follows on the gate."""
    configure(empty, looks=60)
    plan = empty.plan("--", VERDICT)
    assert (plan["ask"], plan["buy"]) == (1, 1)
    say(empty, guided=False, gate="the next")
    build(empty)
    assert judged(empty) == ["slm", "guided"]
    assert empty.plan("--", VERDICT) == {}
    configure(empty, finetune="always", looks=60)
    assert empty.plan("--", VERDICT)["buy"] == 1
    configure(empty, {"slm": {}}, looks=60)
    plan = empty.plan("--", VERDICT)
    assert "ask" not in plan
    build(empty)
    assert empty.plan("--", VERDICT) == {}


def test_what_looks_rest_on_buys_again(empty: Graph) -> None:
    """The looks themselves, what a contender answers, and what it is held to; a second run asks the rows of the first."""
    two = {"slm": {"batch_size": 1}, "guided": SIX["guided"]}
    configure(empty, two, looks=60)
    say(empty, slm=False)
    build(empty)
    for change in ({"looks": 70}, {"looks": 70, "margin": 0.06}):
        configure(empty, two, **change)
        plan = empty.plan("--", VERDICT)
        assert plan["buy"] == 1, change
        assert "answer" not in plan
        assert "ask" not in plan
        build(empty)
        assert empty.plan("--", VERDICT) == {}
    configure(empty, {"slm": {"batch_size": 1, "max_new_tokens": 9}, "guided": SIX["guided"]}, looks=70, margin=0.06)
    assert empty.plan("--", VERDICT)["buy"] == 1
    configure(empty, two, looks=70, margin=0.06, repeats=("teacher", "slm"))
    assert empty.plan("--", VERDICT) == {"ask": 1, "answer_again": 1, "score": 2, "decide": 1}
    configure(empty, two)
    plan = empty.plan("--", VERDICT)
    assert (plan["ask"], "buy" in plan) == (1, False)
