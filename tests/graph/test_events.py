"""What a run leaves behind for those who watch it, and that a dry run leaves nothing."""

import json
import os
import signal
import time

from tests.graph.test_kills import start

TARGET = "results/models/slm/manifest.json"
FAILS = """\
from fledgling.cli import run
from fledgling.errors import ConfigError
def main(): raise ConfigError("the key is missing; write it into the file")
run(main)
"""


def the_run(graph):
    (folder,) = (graph.folder / ".fledgling/runs").iterdir()
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return json.loads((folder / "run.json").read_text()), events


def test_a_run_is_written_down(empty):
    done = empty.run("--cores", "2", TARGET)
    record, events = the_run(empty)
    assert record["argv"] == ["snakemake", "--cores", "2", TARGET]
    assert (record["state"], record["exit_code"]) == ("done", 0)
    assert record["run"].endswith(f"-{record['pid']}")
    assert [event["event"] for event in events] == ["plan", "job_started", "job_finished", "steps"]
    assert events[1]["outputs"] == [TARGET]
    assert "Done: 1 job in" in done.stdout
    assert "Nothing to be done" in empty.run("--cores", "2", TARGET).stdout
    the_run(empty)  # a run that did nothing is none


def test_a_dry_run_leaves_nothing_and_prints_what_snakemake_prints(empty):
    shown = empty.run("--dry-run", TARGET).stdout
    plain = empty.run("--dry-run", TARGET, "--workflow-profile", "none").stdout
    assert not (empty.folder / ".fledgling").exists()
    assert "reason: Missing output files: " + TARGET in shown
    assert shown[shown.index("Building DAG") :].count("\n") == plain[plain.index("Building DAG") :].count("\n")


def test_a_failure_is_cause_remedy_command_and_log(empty):
    (empty.folder / "scripts/fetch.py").write_text(FAILS)
    done = empty.run("--cores", "2", TARGET)
    assert done.returncode == 1
    record, events = the_run(empty)
    assert (record["state"], record["exit_code"]) == ("failed", 1)
    assert {"failed", "job_failed"} <= {event["event"] for event in events}
    said = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert said == [
        "cause   the key is missing",
        "remedy  write it into the file",
        f"go on   snakemake --cores 2 {TARGET}",
        "log     logs/fetch/slm.log",
    ]
    assert "--settings" not in done.stdout


def test_a_driver_that_was_killed_left_no_end(empty):
    from tests.graph.test_kills import SLOW

    (empty.folder / "scripts/fetch.py").write_text(SLOW)
    driver = start(empty)
    refused = empty.run("--cores", "1", TARGET)
    assert "another run works in this folder" in refused.stdout
    driver.send_signal(signal.SIGKILL)
    driver.wait(30)
    record, _ = the_run(empty)  # the refused one is no run
    assert "end" not in record
    assert record["pid"] == driver.pid
    time.sleep(1)
    assert not os.path.exists(empty.folder / "finished")
