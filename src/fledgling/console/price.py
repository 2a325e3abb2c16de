"""What would run, why, and what it would cost: a dry run of the graph, and the forecast of its paid jobs."""

import os
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from fledgling.console.policy import Refused
from fledgling.console.reading import Folder, Object, real, text
from fledgling.console.runs import Runs, end_of, spawn
from fledgling.errors import FledglingError
from fledgling.files import digest
from fledgling.graph import runs as events
from fledgling.graph.runs import Tail

LONGEST_S = 60


class Price:
    """Plans of a folder; one at a time, since each starts Snakemake."""

    def __init__(self, folder: Folder, runs: Runs) -> None:
        self._folder, self._runs = folder, runs
        self._lock = threading.Lock()

    def plan(self, wanted: list[str]) -> Object:
        """The jobs that targets need now with their reasons, the price, and the mark that confirms it.

        Raises:
            Refused: 409 where the graph cannot be planned; the message says what to mend.
        """
        with self._lock:
            jobs = self._dry_run(wanted)
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
        return {**body, "confirm": digest(body)}

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
                "name": " ".join(events.wildcards(event).values()),
                "track": events.wildcards(event).get("track", ""),
                "outputs": events.texts(event, "outputs"),
                "reason": reason(events.text(event, "reason")),
            }
            for event in found
            if event["event"] == "job_started" and events.text(event, "rule") != "all"
        ]

    def _lines(self, config: Mapping[str, object], jobs: list[Object]) -> list[Object]:
        """The forecast of the paid and GPU jobs that are in the plan, or that its gate may ask for."""
        from fledgling.forecast.plan import plan

        root = self._folder.root
        journal = root / (text(config.get("journal")) or ".journal")
        try:
            lines = [asdict(line) for line in plan(dict(config), results=root / "results", journal=journal)]
        except FledglingError as error:
            return [{"rule": "", "track": "", "note": f"unknown: {error}"}]
        now = {(job["rule"], job["track"]) for job in jobs}
        gates = {job["track"] for job in jobs if job["rule"] == "compare"}
        return [
            line
            for line in lines
            if (line["rule"], line["track"]) in now or (line["track"] in gates and "gate" in text(line["note"]))
        ]


def reason(said: str) -> str:
    """Why a job would run, without the texts of settings that Snakemake compares."""
    for start, words in (
        ("Missing output files", "not built yet"),
        ("Code has changed", "the code changed"),
        ("Params have changed", "settings changed"),
        ("Updated input files", "its input changed"),
        ("Input files updated by another job", "its input is built anew"),
        ("Set of input files has changed", "it has other inputs"),
        ("Forced execution", "forced"),
    ):
        if said.startswith(start):
            change = said.partition("before: ")[2]
            return f"{words}{': ' + change[:200] if change and len(change) < 200 else ''}"
    return said[:200]


def _total(lines: list[Object]) -> Object:
    """Sums of the plan; None where a part is unknown, which is never 0."""

    def sum_of(key: str, paid: bool) -> float | None:
        values = [line.get(key) for line in lines if not paid or text(line.get("rule")).startswith("ask")]
        return None if any(value is None for value in values) else sum(real(value) or 0 for value in values)

    return {
        "calls": sum_of("calls", True),
        "promptTokens": sum_of("prompt_tokens", True),
        "completionTokens": sum_of("completion_tokens", True),
        "money": sum_of("money", True),
        "currency": next((line["currency"] for line in lines if line.get("currency")), None),
        "gpuMinutes": sum_of("gpu_minutes", False),
        "kept": sum_of("kept", True),
    }
