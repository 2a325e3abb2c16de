"""What would run, why, and what it would cost: a dry run of the graph, and the forecast of its paid jobs."""

import os
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path

from fledgling.console.policy import Refused
from fledgling.console.reading import Folder, Object, obj, text
from fledgling.console.runs import Runs, end_of, spawn
from fledgling.contenders import ASKING
from fledgling.errors import FledglingError
from fledgling.files import digest
from fledgling.graph import runs as events
from fledgling.graph.runs import Tail

LONGEST_S = 60
MOST_WAITING = 5  # plans that are made or wait


class Price:
    """Plans of a folder; one at a time, since each starts Snakemake."""

    def __init__(self, folder: Folder, runs: Runs) -> None:
        self._folder, self._runs = folder, runs
        self._lock, self._room = threading.Lock(), threading.BoundedSemaphore(MOST_WAITING)

    def plan(self, wanted: list[str]) -> Object:
        """The jobs that targets need now with their reasons, the price, and the mark that confirms it.

        Raises:
            Refused: 409 where the graph cannot be planned; the message says what to mend. 503 where many wait already.
        """
        if not self._room.acquire(blocking=False):  # each holds one of the threads that all pages share
            raise Refused(503, "busy", "several plans are being made already; ask again in some seconds")
        try:
            with self._lock:
                jobs = self._dry_run(wanted)
        finally:
            self._room.release()
        config, problem = self._folder.configuration()
        lines = [] if problem else self._lines(config, jobs)
        total = _total(lines)
        body: Object = {
            "targets": wanted or ["all"],
            "command": " ".join(self._runs.command(wanted)),
            "jobs": jobs,
            "price": lines,
            "total": total,
            "more": any(job["rule"] == "compare" for job in jobs),
        }
        # Snakemake lists jobs in another order each time; what is confirmed is which they are, and their price.
        which = sorted(f"{job['rule']} {job['name']}" for job in jobs)
        return {**body, "confirm": digest([body["command"], which, lines])}

    def _dry_run(self, wanted: list[str]) -> list[Object]:
        with tempfile.TemporaryDirectory(prefix="fledgling-plan-") as place:
            said, output = Path(place, "events.jsonl"), Path(place, "output")
            command = [sys.executable, "-m", *self._runs.command(wanted, "--dry-run", "--quiet", "rules")]
            with open(output, "wb") as stream:
                process = spawn(command, self._folder.root, stream, FLEDGLING_PLAN=str(said))
            try:
                code = process.wait(LONGEST_S)
            except Exception:
                os.killpg(process.pid, 9)
                process.wait()
                raise Refused(504, "slow", f"the dry run took more than {LONGEST_S} seconds") from None
            found = list(Tail(said).read())
            if code:
                told = [events.text(event, "message") for event in found if event["event"] == "error"]
                raise Refused(409, "plan", "\n".join(told) or end_of(output, 20))
        return [
            {
                "rule": events.text(event, "rule"),
                "name": events.name(event),
                "track": (names := events.wildcards(event)).get("track", ""),
                "who": names.get("contender") or names.get("adapter") or ("teacher" if event["rule"] in ASKING else ""),
                "part": names.get("part", ""),
                "outputs": events.texts(event, "outputs"),
                "reason": reason(events.text(event, "reason")),
            }
            for event in found
            if event["event"] == "job_started" and events.text(event, "rule") != "all"
        ]

    def _lines(self, config: Object, jobs: list[Object]) -> list[Object]:
        """The forecast of the paid and GPU jobs that are in the plan, or that its gate may ask for."""
        from fledgling.forecast.plan import plan

        root = self._folder.root
        journal = root / (text(config.get("journal")) or ".journal")
        planned = {text(job["track"]) for job in jobs}
        tracks = {name: block for name, block in obj(config["tracks"]).items() if name in planned}
        try:
            lines = [
                asdict(line) for line in plan({**config, "tracks": tracks}, results=root / "results", journal=journal)
            ]
        except FledglingError as error:
            unknown = dict.fromkeys(
                ("rows", "kept", "calls", "prompt_tokens", "completion_tokens", "money", "gpu_minutes")
            )
            return [{"rule": "ask", "track": "", "note": f"unknown: {error}", **unknown}]
        now = {(rule, job["track"], job["who"], part) for job in jobs for rule, part in _does(job)}
        gates = {job["track"] for job in jobs if job["rule"] == "compare"}

        def runs(line: Object) -> bool:
            part = "repeat/" if line["repeat"] else "val/" if line["split"] == "val" else ""
            candidates = ("answer_candidates", line["track"], text(line["contender"]).rpartition(".")[0], "")
            asked_for = (line["rule"], line["track"], line["contender"], part) in now or (
                line["split"] == "val" and candidates in now
            )
            return asked_for or (line["track"] in gates and "gate" in text(line["note"]))

        return [line for line in lines if runs(line)]


def _does(job: Object) -> list[tuple[str, str]]:
    """What a job of the graph is in the forecast: rules, and the part of their files."""
    if job["rule"] == "answer":
        return [("answer", "val/"), ("answer", "")]
    if job["rule"] == "answer_again":
        return [("answer", "repeat/")]
    return [("ask" if job["rule"] in ASKING else text(job["rule"]), text(job["part"]))]


def reason(said: str) -> str:
    """Why a job would run, in a few words; what changed is said by key and value already."""
    for start, words in (
        ("Missing output files", "not built yet"),
        ("Updated input files", "its input changed"),
        ("Input files updated by another job", "its input is built anew"),
    ):
        if said.startswith(start):
            return words
    return said[:200]


def _total(lines: list[Object]) -> Object:
    """Sums of the plan; None where a part is unknown, which is never 0."""

    def sum_of(key: str, paid: bool) -> float | None:
        values = [line.get(key) for line in lines if not paid or text(line.get("rule")).startswith("ask")]
        known = [value for value in values if isinstance(value, (int, float))]
        return sum(known) if len(known) == len(values) else None

    return {
        "calls": sum_of("calls", True),
        "promptTokens": sum_of("prompt_tokens", True),
        "completionTokens": sum_of("completion_tokens", True),
        "money": sum_of("money", True),
        "currency": next((line["currency"] for line in lines if line.get("currency")), None),
        "gpuMinutes": sum_of("gpu_minutes", False),
        "kept": sum_of("kept", True),
    }
