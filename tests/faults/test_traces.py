"""Langfuse away, slow, wrong or killed off: results stay as they are, nothing waits, nothing is lost, nothing comes twice.

Real processes, as the rule runs them, against a local server that speaks Langfuse's API.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import langfuse
import pytest

from fledgling import artefacts
from fledgling.artefacts import Metrics, TraceMarker, Training, Verdict
from fledgling.files import read_jsonl, sha256_file, write_jsonl
from fledgling.tracing.collect import Sources
from fledgling.tracing.outbox import Outbox
from tests.servers.langfuse import MODES, PUBLIC, SECRET, Langfuse
from tests.unit.report_files import HOSTILE
from tests.unit.traced import built, command, copied, environment, revouch

LONGEST_DELAY_S = 5.0
ANSWERS = 3 * 420


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return built(tmp_path_factory.mktemp("traced"))


@pytest.fixture
def server() -> Iterator[Langfuse]:
    with Langfuse() as made:
        yield made


def traced(sources: Sources, folder: Path, env: dict[str, str], **trace: object) -> subprocess.CompletedProcess[str]:
    """Run the rule's own command; its log is stderr."""
    run = command(sources, folder / "trace.json", **trace)
    return subprocess.run(run, cwd=folder, env=environment(folder / "outbox", **env), capture_output=True, text=True)


def sending(folder: Path, env: dict[str, str], **options: object) -> subprocess.Popen[str]:
    run = [sys.executable, "-m", "fledgling", "trace", "--outbox", str(folder / "outbox")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(run, cwd=folder, env=environment(folder / "outbox", **env), **pipes)


def sent(folder: Path, env: dict[str, str]) -> tuple[int, str]:
    """`fledgling trace`, to its end: (exit code, what it said)."""
    process = sending(folder, env)
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


@pytest.fixture(scope="module")
def whole(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a server holds after a run in which nothing broke."""
    folder = tmp_path_factory.mktemp("whole")
    with Langfuse() as server:
        assert traced(sources, folder, {}).returncode == 0
        code, said = sent(folder, server.env())
        assert code == 0, said
        assert all(count == 1 for name, count in server.arrived.items() if not name.startswith("dataset ")), "each once"
        return server.holds()


def test_all_arrives_once(whole: dict[str, object]) -> None:
    assert {name: len(held) for name, held in whole.items()} == {
        "datasets": 1,
        "items": 420,
        "spans": ANSWERS + 3 + 3,  # the metrics of each run; training, gate and verdict
        "scores": len(whole["scores"]),
    }
    assert len(whole["scores"]) > 8 * ANSWERS


@pytest.mark.parametrize("mode", ["refuse", *MODES])
def test_results_stay_and_nobody_waits(mode: str, sources: Sources, server: Langfuse, tmp_path: Path, whole) -> None:
    env = server.env()
    if mode == "refuse":
        server.__exit__()
    else:
        server.become(mode)
    before = {path: sha256_file(path) for path in sources.all()}
    delays = []
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        began = time.monotonic()
        off = traced(sources, folder, env | {"LANGFUSE_DISABLED": "1"})
        alone = time.monotonic() - began
        marker = (folder / "trace.json").read_bytes()
        shutil.rmtree(folder)
        folder.mkdir()
        began = time.monotonic()
        done = traced(sources, folder, env)
        delays.append(time.monotonic() - began - alone)
        assert (off.returncode, done.returncode) == (0, 0), done.stderr
        assert (folder / "trace.json").read_bytes() == marker, "the marker says nothing of the receiver"
        assert {path: sha256_file(path) for path in sources.all()} == before
        if delays[-1] <= LONGEST_DELAY_S:
            break
    assert min(delays) <= LONGEST_DELAY_S, f"{delays} (tries: the machine may be busy)"
    kept = Outbox(folder / "outbox").kept("langfuse")
    if kept:  # a batch that was on its way when it was said may have been taken since
        told = re.search(r"([0-9,]+) kept in the outbox \(", done.stderr)
        assert told
        assert int(told[1].replace(",", "")) >= kept
    else:
        assert mode == "ok"
    assert done.stderr.count("401") <= 1
    assert SECRET not in done.stderr
    assert all(SECRET.encode() not in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    if mode == "refuse":
        with Langfuse(server.port) as back:
            assert sent(folder, env)[0] == 0
            assert _without_times(back.holds()) == _without_times(whole)
        return
    server.become("ok")
    code, said = sent(folder, env)
    assert code == 0, said
    assert _without_times(server.holds()) == _without_times(whole), "after recovery, each item exactly once"


def _without_times(held: dict[str, dict[str, dict[str, object]]]) -> object:
    """Comparable between servers: the address of this machine's folder and clock aside, everything."""
    return {
        name: {
            key: {k: v for k, v in one.items() if k not in ("start", "end", "timestamp")} for key, one in part.items()
        }
        for name, part in held.items()
    }


def test_two_kills_in_the_middle(sources: Sources, server: Langfuse, tmp_path: Path, whole) -> None:
    assert traced(sources, tmp_path, {}).returncode == 0
    server.delay_s = 0.03
    total = Outbox(tmp_path / "outbox").kept("langfuse")
    for share in (0.2, 0.6):
        process = sending(tmp_path, server.env())
        deadline = time.monotonic() + 120
        while sum(server.arrived.values()) < share * sum(map(len, whole.values())):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert 0 < Outbox(tmp_path / "outbox").kept("langfuse") < total
    server.delay_s = 0
    code, said = sent(tmp_path, server.env())
    assert code == 0, said
    assert Outbox(tmp_path / "outbox").waiting() == []
    assert _without_times(server.holds()) == _without_times(whole)
    repeated = sum(count - 1 for name, count in server.arrived.items() if name.startswith(("item ", "span ")))
    assert repeated <= 2 * 100, "no more than what was on its way when it was killed"


def test_a_reply_that_is_lost_is_asked_for_again(sources: Sources, server: Langfuse, tmp_path: Path, whole) -> None:
    server.become("drop after", after=50)
    assert traced(sources, tmp_path, server.env()).returncode == 0
    server.become("ok")
    assert sent(tmp_path, server.env())[0] == 0
    assert _without_times(server.holds()) == _without_times(whole)


def test_a_rate_limit_is_waited_for_by_hand(sources: Sources, server: Langfuse, tmp_path: Path, whole) -> None:
    assert traced(sources, tmp_path, {}).returncode == 0
    server.become("429")
    process = sending(tmp_path, server.env())
    while len(server.requests) < 2:
        time.sleep(0.05)
    server.become("ok")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert _without_times(server.holds()) == _without_times(whole)


def test_what_is_refused_is_set_aside_and_the_rest_arrives(sources: Sources, server: Langfuse, tmp_path: Path) -> None:
    server.refused.add("Weather number 20007 ")
    assert traced(sources, tmp_path, {}).returncode == 0
    code, said = sent(tmp_path, server.env())
    assert code == 0, said
    assert "4 refused, see" in said  # the row, and what three contenders answered
    lines = (tmp_path / "outbox/refused.jsonl").read_text().splitlines()
    assert len(lines) == 4
    assert all("400: " in line and "Weather number 20007 " in line for line in lines)
    assert (len(server.items), len(server.spans)) == (419, ANSWERS + 6 - 3)


def test_a_hostile_reply_holds_up_no_other(sources: Sources, server: Langfuse, tmp_path: Path) -> None:
    made = copied(sources, tmp_path / "made")
    rows = [row for _, row in read_jsonl(made.data[0])]
    rows[3]["messages"][1]["content"] += "\0 \ud800 \u2028 </script>"
    write_jsonl(made.data[0], rows)
    path = made.predictions[1]
    write_jsonl(path, ({**row, "raw": HOSTILE, "reason": HOSTILE} for _, row in read_jsonl(path)))
    revouch(made)
    assert traced(made, tmp_path, {}).returncode == 0
    code, said = sent(tmp_path, server.env())
    assert code == 0, said
    assert (len(server.items), len(server.spans)) == (420, ANSWERS + 6)


def test_a_dataset_that_is_refused_blames_no_row(sources: Sources, server: Langfuse, tmp_path: Path) -> None:
    server.refused.add("demo/test/")
    assert traced(sources, tmp_path, {}).returncode == 0
    code, said = sent(tmp_path, server.env())
    assert code == 4
    assert "refuses the dataset demo/test/" in said
    assert not (tmp_path / "outbox/refused.jsonl").exists()


HOOK = """\
import os, sys
def hook(event, arguments):
    if event in ("socket.__new__", "socket.connect", "socket.getaddrinfo"):
        with open(os.environ["SOCKETS"], "a") as stream:
            stream.write(f"{event} {arguments}\\n")
sys.addaudithook(hook)
"""


@pytest.mark.parametrize(("off", "opened"), [("1", False), ("0", True)])
def test_disabled_opens_no_socket(off: str, opened: bool, sources: Sources, server: Langfuse, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    seen = tmp_path / "sockets"
    env = environment(tmp_path / "outbox", **server.env(), LANGFUSE_DISABLED=off, SOCKETS=str(seen))
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    run = command(sources, tmp_path / "trace.json")
    done = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    by_hand = [sys.executable, "-m", "fledgling", "trace", "--outbox", str(tmp_path / "outbox")]
    again = subprocess.run(by_hand, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert again.returncode == (0 if opened else 4)
    assert seen.exists() == opened, seen.read_text()
    assert bool(server.requests) == opened
    if not opened:
        assert "kept in the outbox (LANGFUSE_DISABLED is set)" in done.stderr


def test_the_marker_does_not_depend_on_the_receiver_but_on_the_files(sources: Sources, tmp_path: Path) -> None:
    assert traced(sources, tmp_path, {}).returncode == 0
    marker = artefacts.read(TraceMarker, tmp_path / "trace.json")
    assert [one["contender"] for one in marker["runs"]] == ["teacher", "slm", "tuned"]
    assert set(marker["made_from"]) >= {str(path) for path in (sources.verdict, *sources.predictions)}


def test_langfuses_own_sdk_reads_back_what_was_written(sources: Sources, server: Langfuse, tmp_path: Path) -> None:
    assert traced(sources, tmp_path, {}).returncode == 0
    assert sent(tmp_path, server.env())[0] == 0
    marker = artefacts.read(TraceMarker, tmp_path / "trace.json")
    verdict = artefacts.read(Verdict, sources.verdict)
    rows = {row["id"]: row for _, row in read_jsonl(sources.data[0])}
    sdk = langfuse.Langfuse(public_key=PUBLIC, secret_key=SECRET, base_url=server.url, tracing_enabled=False)
    since = datetime(2000, 1, 1, tzinfo=UTC)

    dataset = sdk.get_dataset(marker["datasets"][0])
    assert len(dataset.items) == len(rows)
    row = {item.metadata["row"]: item for item in dataset.items}
    assert row.keys() == rows.keys()
    assert all(row[id].expected_output == rows[id]["answer"] for id in rows)
    assert all(row[id].input == {"messages": rows[id]["messages"], "tools": rows[id]["tools"]} for id in rows)

    runs = sdk.api.experiments.list(from_start_time=since, dataset_id=dataset.id, fields="core,metadata,scores").data
    assert sorted(run.name for run in runs) == sorted(run["name"] for run in marker["runs"])
    for run in runs:
        contender = run.metadata["contender"]
        scored = artefacts.read(Metrics, sources.metrics[0].with_stem(contender))
        told = {one.name: one.value for one in run.scores}
        assert run.item_count == len(rows)
        assert told.items() >= {name: rate["value"] for name, rate in scored["metrics"].items()}.items()
        if contender != "teacher":
            assert told["finding"] == verdict["comparisons"][contender]["finding"]
            gaps = {f"gap {name}": one["gap"] for name, one in verdict["comparisons"][contender]["metrics"].items()}
            assert told.items() >= gaps.items()
        predictions = {one["id"]: one for _, one in read_jsonl(sources.predictions[0].with_stem(contender))}
        worth = {one["id"]: one for _, one in read_jsonl(sources.metrics[0].with_stem(contender).with_suffix(".jsonl"))}
        found = list(_all_items(sdk, run.name, since))
        names = {item.id: item.metadata["row"] for item in dataset.items}
        assert sorted(names[one.experiment_item_id] for one in found) == sorted(rows)
        for one in found:
            id = names[one.experiment_item_id]
            assert one.expected_output == rows[id]["answer"]
            assert [part["content"] for turn in one.input for part in turn["parts"]] == [
                turn["content"] for turn in rows[id]["messages"]
            ]
            said = [part.get("content", part.get("arguments")) for part in one.output[0]["parts"]]
            calls = predictions[id]["tool_calls"]
            raw = [json.loads(call["function"]["arguments"]) for call in calls] if calls else [predictions[id]["raw"]]
            assert said == [part for part in raw if part is not None]
            assert {score.name: score.value for score in one.scores} == worth[id]["scores"]

    (judged,) = sdk.api.observations.get_many(name="verdict", fields="core,basic,io").data
    (deploy,) = sdk.api.scores.get_many(trace_id=judged.trace_id).data
    assert (deploy.name, deploy.value) == ("deploy", verdict["deploy"])
    assert verdict["statement"] in json.dumps(judged.output, ensure_ascii=False)
    (trained,) = sdk.api.observations.get_many(name="train sft", fields="core,basic,io").data
    losses = {one.name: one.value for one in sdk.api.scores.get_many(trace_id=trained.trace_id).data}
    training = artefacts.read(Training, sources.training[0])
    assert losses["final_loss"] == training["final_loss"]


def _all_items(sdk: langfuse.Langfuse, run: str, since: datetime) -> Iterator[Any]:
    cursor = None
    while True:
        page = sdk.api.experiments.list_items(
            from_start_time=since, experiment_name=run, fields="core,dataset,io,scores", limit=100, cursor=cursor
        )
        yield from page.data
        if not (cursor := page.meta.cursor):
            return
