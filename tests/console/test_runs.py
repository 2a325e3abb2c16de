"""Runs are planned, priced, started, watched, stopped and taken up again; the console may be killed meanwhile."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.console.conftest import Served
from tests.graph.conftest import copy_graph
from tests.graph.test_kills import SLOW

TARGET = "results/models/slm/manifest.json"


@pytest.fixture(scope="module")
def built(root, tmp_path_factory):
    graph = copy_graph(root, tmp_path_factory.mktemp("built"))
    graph.build()
    console = Served(graph.folder).start()
    yield console
    console.end()


@pytest.fixture
def graph(root, tmp_path):
    """A graph with nothing built, whose fetch waits to be released, and a console over it."""
    made = copy_graph(root, tmp_path)
    (tmp_path / "scripts/fetch.py").write_text(SLOW)
    console = Served(tmp_path).start()
    yield console
    (tmp_path / "release").touch()
    for run in console.get("/api/runs").json["runs"]:
        if run["state"] == "running":
            console.ask("POST", f"/api/runs/{run['run']}/stop", {})
    console.end()
    assert made


def start(console, *targets):
    """Confirm the price of a plan, and start it; the name of the run."""
    plan = console.get("/api/plan?" + "&".join(f"target={target}" for target in targets)).json
    reply = console.ask("POST", "/api/runs", {"targets": list(targets), "confirm": plan["confirm"]})
    assert reply.status == 202, reply.body
    return until(
        console, lambda: next((r["run"] for r in runs(console) if r["run"].endswith(f"-{reply.json['pid']}")), None)
    )


def runs(console):
    return console.get("/api/runs").json["runs"]


def until(console, found, seconds=60):
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, console.get("/api/runs").body
        time.sleep(0.1)
    return value


def state(console, run):
    return console.get(f"/api/runs/{run}").json["state"]


def test_a_plan_says_what_would_run_and_why(graph):
    plan = graph.get(f"/api/plan?target={TARGET}").json
    assert [(job["rule"], job["reason"]) for job in plan["jobs"]] == [("fetch", "not built yet")]
    assert plan["command"] == f"snakemake --cores all -- {TARGET}"
    assert plan["total"] == {
        "calls": 0, "promptTokens": 0, "completionTokens": 0, "money": 0, "currency": None, "gpuMinutes": 0, "kept": 0,
    }  # fmt: skip
    page = graph.get(f"/plan?target={TARGET}").body.decode()
    assert "not built yet" in page
    assert "nothing is paid" in page


def test_the_same_plan_has_the_same_mark(graph):
    assert len({graph.get("/api/plan").json["confirm"] for _ in range(4)}) == 1


def test_a_plan_of_what_cannot_be_planned(graph):
    reply = graph.get("/api/plan?target=results/verdict/nothing.json")
    assert (reply.status, reply.json["error"]) == (409, "plan")
    assert "no track 'nothing'" in reply.json["message"]
    assert "no track" in graph.get("/plan?target=results/verdict/nothing.json").body.decode()


def test_nothing_starts_at_a_price_that_was_not_confirmed(graph):
    for confirm in ("", "0" * 64):
        reply = graph.ask("POST", "/api/runs", {"targets": [TARGET], "confirm": confirm})
        assert (reply.status, reply.json["error"]) == (409, "price")
        assert reply.json["plan"]["jobs"]
    other = graph.get("/api/plan?target=results/data/toolcall/datasheet.json").json["confirm"]
    assert graph.ask("POST", "/api/runs", {"targets": [TARGET], "confirm": other}).status == 409
    assert runs(graph) == []


@pytest.mark.parametrize("target", ["--config", "-n", "x", "results/../x", "results/a b", "all\n", "results/", "$(id)"])
def test_targets_are_files_of_results(graph, target):
    assert graph.ask("POST", "/api/runs", {"targets": [target]}).json["error"] == "target"


def test_a_run_is_started_and_watched_to_its_end(graph):
    run = start(graph, TARGET)
    until(graph, (graph.folder / "started").exists)
    found = graph.get(f"/api/runs/{run}").json
    assert found["state"] == "running"
    assert [(job["rule"], job["state"]) for job in found["jobs"]] == [("fetch", "running")]
    again = graph.get(f"/api/plan?target={TARGET}").json["confirm"]
    assert graph.ask("POST", "/api/runs", {"targets": [TARGET], "confirm": again}).json["error"] == "busy"
    assert f"/runs/{run}" in graph.get("/").body.decode()
    with socket.create_connection(("127.0.0.1", graph.port), timeout=30) as stream:
        stream.sendall(f"GET /api/runs/{run}/events HTTP/1.1\r\nHost: {graph.host}\r\n\r\n".encode())
        (graph.folder / "release").touch()
        got = b""
        while b'"state": "done"' not in got:
            part = stream.recv(65536)
            assert part
            got += part
    assert b"text/event-stream" in got
    assert b'"state": "running"' in got
    found = graph.get(f"/api/runs/{run}").json
    assert (found["done"], found["total"], found["exitCode"]) == (1, 1, 0)
    assert (graph.folder / TARGET).exists()
    assert graph.get(f"/api/plan?target={TARGET}").json["jobs"] == []


def test_starts_at_once_are_one_run(graph):
    confirm = graph.get(f"/api/plan?target={TARGET}").json["confirm"]
    answers = []

    def one():
        answers.append(graph.ask("POST", "/api/runs", {"targets": [TARGET], "confirm": confirm}))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [202, 409, 409, 409], [one.json for one in answers]
    until(graph, lambda: len(runs(graph)) == 1)


def test_a_killed_console_harms_no_run(graph):
    run = start(graph, TARGET)
    until(graph, (graph.folder / "started").exists)
    graph.kill()
    graph.start()
    assert state(graph, run) == "running"
    (graph.folder / "release").touch()
    until(graph, lambda: state(graph, run) == "done")


def test_a_run_is_stopped_and_taken_up_again(graph):
    run = start(graph, TARGET)
    until(graph, (graph.folder / "started").exists)
    assert graph.ask("POST", f"/api/runs/{run}/stop", {}).status == 202
    until(graph, lambda: state(graph, run) == "stopped")
    assert not (graph.folder / "finished").exists()
    assert graph.ask("POST", f"/api/runs/{run}/stop", {}).json["error"] == "not_running"
    page = graph.get(f"/runs/{run}").body.decode()
    assert f"/plan?target={TARGET}" in page
    (graph.folder / "release").touch()
    again = start(graph, TARGET)
    until(graph, lambda: state(graph, again) == "done")
    assert [one["state"] for one in runs(graph)] == ["done", "stopped"]


def test_a_run_of_a_terminal_is_shown_and_can_be_stopped(graph):
    driver = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "2", TARGET],
        cwd=graph.folder,
        env={key: value for key, value in os.environ.items() if not key.startswith("FLEDGLING_")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    until(graph, (graph.folder / "started").exists)
    (run,) = runs(graph)
    assert (run["state"], run["command"]) == ("running", f"snakemake --cores 2 {TARGET}")
    graph.ask("POST", f"/api/runs/{run['run']}/stop", {})
    assert driver.wait(60)
    until(graph, lambda: state(graph, run["run"]) == "stopped")


def test_a_run_that_was_killed_is_called_so(graph):
    run = start(graph, TARGET)
    until(graph, (graph.folder / "started").exists)
    os.kill(int(run.rpartition("-")[2]), signal.SIGKILL)
    until(graph, lambda: state(graph, run) == "killed")
    assert {job["state"] for job in graph.get(f"/api/runs/{run}").json["jobs"]} == {"stopped"}


def test_a_failed_job_says_why(graph):
    (graph.folder / "scripts/fetch.py").write_text(
        "from fledgling.cli import run\nfrom fledgling.errors import DataError\n"
        "def main(): raise DataError('rows.jsonl:3: <b>wrong</b>; mend it')\nrun(main)"
    )
    run = start(graph, TARGET)
    until(graph, lambda: state(graph, run) == "failed")
    (job,) = graph.get(f"/api/runs/{run}").json["jobs"]
    assert (job["state"], job["message"]) == ("failed", "rows.jsonl:3: <b>wrong</b>; mend it")
    assert b"<b>wrong" not in graph.get(f"/runs/{run}").body
    assert "rows.jsonl:3" in graph.get(f"/api/runs/{run}/log").body.decode()


def test_another_model_builds_what_depends_on_it_and_nothing_else(built):
    assert built.get("/api/plan").json["jobs"] == []
    assert built.ask("POST", "/api/slm/select", {"modelId": "embedded"}).status == 200
    assert built.get("/api/plan").json["jobs"] == []  # it is what the configuration says
    built.ask("POST", "/api/slm/select", {"modelId": "hf-phi-4-mini"})
    plan = built.get("/api/plan").json
    rules = {job["rule"] for job in plan["jobs"]}
    assert "fetch" in rules
    assert {"train", "answer"} & rules
    assert not {"prepare", "ask", "floor"} & rules
    typed = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules"],
        cwd=built.folder, capture_output=True, text=True, env={k: v for k, v in os.environ.items() if k != "SLM_MODEL_PATH"},
    )  # fmt: skip
    assert "fetch" in typed.stdout + typed.stderr  # the command line sees the same selection
    (built.folder / "model_selection.json").unlink()
    (built.folder / ".fledgling/model_selection.json").unlink()
    assert built.get("/api/plan").json["jobs"] == []


def test_a_plan_names_calls_and_money(built):
    rows = [{"id": "a", "group": "a", "messages": [{"role": "user", "content": "hello"}], "answer": {"a": 1}}] * 3
    for split in ("test", "val"):
        file = built.folder / f"results/data/structured/{split}.jsonl"
        file.write_text("".join(json.dumps(row | {"id": str(n)}) + "\n" for n, row in enumerate(rows)))
    try:
        (built.folder / "results/predictions/structured/teacher.jsonl").unlink()
        plan = built.get("/api/plan?target=results/predictions/structured/teacher.jsonl").json
        (line,) = plan["price"]
        assert "unknown" not in line["note"], line
        assert (line["rule"], line["track"], line["rows"]) == ("ask", "structured", 3)
        assert plan["total"]["calls"] >= 1
        assert plan["total"]["money"] > 0
        assert plan["total"]["currency"] == "USD"
        page = built.get("/plan?target=results/predictions/structured/teacher.jsonl").body.decode()
        assert f"Start: {plan['total']['calls']:,} calls" in page
    finally:
        built.ask("GET", "/")
