"""What a person sees of a run: answers at the end, errors with their remedy, nothing twice, nothing that breaks it."""

import io
import json
import logging

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from fledgling.graph.runs import Tail
from fledgling.graph.terminal import Terminal, answers, told
from snakemake_logger_plugin_fledgling import ours, translate


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Shown:
    """A terminal in memory, and a clock that is moved by hand."""

    def __init__(self, root, **options):
        self.stream, self.clock = io.StringIO(), Clock()
        options = {"live": False, "colour": False, **options}
        self.terminal = Terminal(self.stream, root, "snakemake --cores all", clock=self.clock, **options)

    def start(self, job, rule, target, **wildcards):
        self.terminal.handle(
            {
                "event": "job_started",
                "job": job,
                "rule": rule,
                "wildcards": wildcards,
                "outputs": [target],
                "logs": [f"logs/{rule}.log"],
            }
        )

    def finish(self, job, after):
        self.clock.now += after
        self.terminal.handle({"event": "job_finished", "job": job})

    def fail(self, job):
        self.terminal.handle({"event": "job_failed", "job": job})

    @property
    def text(self):
        return self.stream.getvalue()


@pytest.fixture
def shown(tmp_path):
    return Shown(tmp_path)


def put(root, path, value):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(value if isinstance(value, str) else json.dumps(value))


def test_a_long_job_has_a_line_with_its_time(shown):
    shown.start(1, "train", "results/a/training.json", track="calls")
    shown.finish(1, 75)
    assert "train calls, 1 min 15 s" in shown.text


def test_quick_jobs_share_a_line(shown):
    for job in range(6):
        shown.start(job, "score", f"m{job}", track="calls", contender=f"c{job}")
        shown.finish(job, 0.5)
    shown.terminal.end("done")
    assert shown.text.count("score") == 1
    assert "score × 6, 3 s" in shown.text


def test_a_pipe_hears_of_quick_jobs_once_a_minute_whatever_runs_beside(shown):
    for job in range(12):
        shown.start(job, "score", f"m{job}", track="calls", contender=f"c{job}")
        shown.finish(job, 10)
        shown.terminal.tick()
        shown.start(100 + job, "train", f"t{job}", track="calls")
        shown.finish(100 + job, 20)
    shown.terminal.end("done")
    assert shown.text.count("train calls, 20 s") == 12
    assert shown.text.count("score × 4, 40 s") == 3


def test_in_a_pipe_a_long_job_speaks_ever_more_rarely(shown):
    shown.start(1, "train", "t.json", track="calls")
    for _ in range(3600):
        shown.clock.now += 1
        shown.terminal.handle({"event": "progress", "target": "t.json", "done": 5, "total": 9, "unit": "step"})
        shown.terminal.tick()
    spoken = [line for line in shown.text.splitlines() if "so far" in line]
    assert len(spoken) == 6  # after 1, 2, 4, 8, 16 and 32 minutes
    assert "train calls … 5/9 steps, 1 min 00 s so far" in spoken[0]


def test_on_a_terminal_the_last_line_moves_every_second(tmp_path):
    shown = Shown(tmp_path, live=True)
    shown.start(1, "ask", "t.jsonl", track="calls")
    drawn = set()
    for second in range(10):
        shown.clock.now = second
        shown.terminal.tick()
        drawn.add(shown.text.rpartition("\033[2K")[2])
    assert len(drawn) == 10


def test_a_download_is_shown_in_gigabytes(tmp_path):
    shown = Shown(tmp_path, live=True)
    shown.start(1, "fetch", "m.json", model="slm")
    done = {"done": 1_234_567_890, "total": 7_700_000_000, "unit": "byte"}
    shown.terminal.handle({"event": "progress", "target": "m.json", **done})
    shown.terminal.tick()
    assert "1.23/7.70 GB, 0 s" in shown.text


def test_one_job_is_a_job(shown):
    shown.terminal.handle({"event": "plan", "jobs": {"prepare": 1}, "total": 1})
    assert "1 job: prepare 1" in shown.text


def test_an_error_is_cause_remedy_command_log_in_that_order(shown):
    shown.start(1, "ask", "t.jsonl", track="calls")
    shown.terminal.handle({"event": "failed", "target": "t.jsonl", "message": "KEY is not set; set it", "code": 3})
    shown.fail(1)
    said = [line.split()[0] for line in shown.text.splitlines() if line.startswith("  ")]
    assert said == ["cause", "remedy", "go", "log"]
    assert "cause   KEY is not set\n" in shown.text
    assert "remedy  set it\n" in shown.text
    assert "go on   snakemake --cores all\n" in shown.text
    assert "log     logs/ask.log" in shown.text


def test_an_error_of_a_stage_that_said_nothing_is_the_end_of_its_log(shown, tmp_path):
    put(tmp_path, "logs/ask.log", "much\n" * 5000 + "error: the disk is full\n")
    shown.start(1, "ask", "t.jsonl")
    shown.fail(1)
    assert "cause   error: the disk is full" in shown.text
    assert "much" not in shown.text


def test_many_errors_at_once_are_shown_up_to_a_length(shown):
    shown.start(1, "prepare", "d.json")
    message = "\n".join(f"rows.jsonl:{n}: wrong" for n in range(100))
    shown.terminal.handle({"event": "failed", "target": "d.json", "message": message, "code": 5})
    shown.fail(1)
    assert "rows.jsonl:24: wrong" in shown.text
    assert "rows.jsonl:25: wrong" not in shown.text
    assert "75 more lines are in the log" in shown.text


def test_what_ends_because_the_run_was_stopped_is_no_failure(shown):
    shown.start(1, "ask", "t.jsonl", track="calls")
    shown.terminal.handle({"event": "stopping"})
    shown.fail(1)
    shown.terminal.end("stopped")
    assert "failed" not in shown.text
    assert "Go on with: snakemake --cores all" in shown.text


def test_a_reader_that_went_away_breaks_nothing(tmp_path):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    terminal = Terminal(Gone(), tmp_path, "snakemake", live=True, colour=True)
    terminal.handle({"event": "job_started", "job": 1, "rule": "ask"})
    terminal.handle({"event": "job_finished", "job": 1})
    terminal.end("done")


def test_rows_that_were_left_out_are_said(tmp_path):
    target = "results/data/calls/datasheet.json"
    rows = {"read": 30, "rejected": 3, "duplicates": 2, "beyond_limit": 0}
    put(
        tmp_path,
        target,
        {
            "kind": "structured",
            "sources": [{"rows": rows, "without_tools_or_schema": 7}],
            "splits": {"test": {"rows": 9}},
            "leaks": {"dropped": {"train": 4}},
        },
    )
    assert told(tmp_path, "prepare", [target]) == [
        "30 rows read: test 9",
        f"left out: 3 rejected, 2 duplicates, 4 too like a test row ({target} says why)",
        "7 rows come without a schema of their own",
    ]


def test_answers_that_are_none_are_said(tmp_path):
    target = "results/predictions/calls/slm.json"
    put(tmp_path, target, {"outcomes": {"ok": 90, "length": 8, "error": 2}})
    assert told(tmp_path, "answer", [target]) == ["of 100 rows without a whole answer: 8 length, 2 error"]


@pytest.fixture
def built(tmp_path):
    put(tmp_path, "results/verdict/calls.json", {"statement": "deploy tuned"})
    put(tmp_path, "results/compare/calls.json", {"statement": "not good enough"})
    put(tmp_path, "results/report/calls.html", "<html>")
    return tmp_path


@pytest.mark.parametrize(
    ("seen", "asked", "whole", "said"),
    [
        ({}, None, True, "deploy tuned"),
        ({"calls": {"compare"}}, None, True, "deploy tuned"),  # the gate was asked again, the verdict stands
        ({"calls": {"compare"}}, None, False, "not good enough"),  # what came after the gate failed
        ({"calls": {"compare", "decide"}}, None, False, "deploy tuned"),
        ({"calls": {"compare"}}, {"calls": {"compare"}}, True, "not good enough"),
        ({}, {"calls": {"verdict"}}, True, "deploy tuned"),
        ({}, {"calls": {"metrics"}}, True, None),
        ({"calls": {"score"}}, {"calls": {"metrics"}}, True, None),
    ],
)
def test_the_answer_at_the_end(built, seen, asked, whole, said):
    lines = answers(built, seen, asked, whole=whole)
    assert lines[:1] == ([f"calls: {said}"] if said else [])
    assert ("results/report/calls.html" in "".join(lines)) == (said == "deploy tuned")


def record(message, level=logging.ERROR, **fields):
    made = logging.LogRecord("snakemake", level, "x.py", 1, message, (), None)
    made.__dict__.update(fields)
    return made


def test_an_error_of_ours_loses_the_lines_of_the_rules():
    message = 'WorkflowError in file "/p/rules/common.smk", line 26:\nno such key\n  File "/p/rules/common.smk", line 26, in <module>'
    assert ours(message) == "no such key"
    wrapped = (
        'InputFunctionException in rule decide in file "/p/rules/evaluate.smk", line 79:\nError:\n'
        "  WorkflowError:\n    no track 'x'\nWildcards:\n  track=x\nTraceback:\n  File …"
    )
    assert ours(wrapped) == "no track 'x'"
    assert ours("KeyError in x\nsomething else") == "KeyError in x\nsomething else"


def test_the_text_of_a_command_is_never_shown():
    said = (
        "RuleException:\nCommand 'set -euo pipefail;  python x --settings '{\"a\":1}'' returned non-zero exit status 3."
    )
    (event,) = translate(record(said, event=LogEvent.ERROR))
    assert event["event"] == "over"
    (event,) = translate(record("disk quota", event=LogEvent.ERROR, exception="OSError"))
    assert (event["event"], event["message"]) == ("error", "disk quota")


def test_half_a_line_waits_for_its_rest(tmp_path):
    tail = Tail(tmp_path / "events.jsonl")
    assert list(tail.read()) == []
    tail.path.write_bytes(b'{"event": "a"}\nnonsense\n[1]\n{"event": ')
    assert [event["event"] for event in tail.read()] == ["a"]
    with open(tail.path, "ab") as stream:
        stream.write(b'"b"}\n')
    assert [event["event"] for event in tail.read()] == ["b"]


def test_a_training_that_can_hardly_be_rewarded_is_told_before_it_runs(shown, tmp_path):
    able = {"low": True, "sentence": "9 test rows, margin 5 points: an equally good model cannot pass."}
    put(tmp_path, "results/data/calls/datasheet.json", {"power": able})
    shown.start(1, "train", "t.json", track="calls", adapter="sft")
    assert "train calls sft: this training can hardly be rewarded. 9 test rows" in shown.text
    put(tmp_path, "results/compare/calls.json", {"split_power": {"low": False, "sentence": "enough"}})
    shown.start(2, "train", "t.json", track="calls", adapter="dpo")
    assert "dpo" not in shown.text
