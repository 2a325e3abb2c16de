"""Slurm between Snakemake and its jobs: nothing is submitted twice, and silence of the scheduler is no end of a job.

    python -m fledgling.slurm submit JOBSCRIPT    submit command of profiles/slurm-generic
    python -m fledgling.slurm status ID           status command of profiles/slurm-generic
    python -m fledgling.slurm sbatch|squeue|sacct ARGUMENTS…    what the slurm plugin calls (profiles/slurm/bin)

Each submitted job has a record, `.snakemake/fledgling/jobs/{name}.json`. A driver that was killed and started again
finds its live jobs there: one of the same targets and configuration is taken over, another one of the same targets is
cancelled first, so two jobs never write the same outputs. The plugin 2.8.0 waits for ever where a job was preempted or
has left the scheduler's memory, or where one round of questions went unanswered; what its questions are answered here
knows no such states.

A scheduler that died restores what it wrote last, and holds jobs pending that have long ended, or gives their numbers to
others. So a job's own word counts more than the scheduler's: the last thing it does is to write its number beside its
record, and one that is started once more looks there first, and does nothing.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from fledgling.errors import ConfigError, DataError, Unavailable, UsageError
from fledgling.files import read_json, write_json
from fledgling.graph import lease
from fledgling.graph.driver import CONFIG
from fledgling.locks import lock
from fledgling.progress import EVENTS, emit

T = TypeVar("T")

JOBS = Path(".snakemake/fledgling/jobs")
ENDED_JOBS = JOBS / "ended"  # records that nothing reads any more: a thousand tracks make twenty thousand of them
CLIENTS = "FLEDGLING_CLIENTS"  # the folder of our own sbatch, squeue and sacct
WAIT = "FLEDGLING_SCHEDULER_WAIT_S"  # how long a submission waits for a scheduler that does not answer
WAIT_S = 1800.0
POLL_S = 1.0
ENDS_S = 120.0  # a cancelled job gets TERM, and KILL after KillWait
FRESH_S = 2.0  # how old an answer of squeue may be
TOLD_S = 600.0  # how long the plugin hears again that a job has ended, as one of its questions may have got lost
ENDED = {"COMPLETED"}
WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
# Reasons to wait that pass by themselves, and what is held until somebody lets it go.
PASSING = {"", "None", "Resources", "Priority", "BeginTime", "Dependency", "Cleaning", "Prolog", "Reservation"}
HELD = re.compile(r"(?i)\bheld|JobHeld|JobHold")
FAILED = {
    *("FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"),
    *("REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL", "ERROR"),
}
# What Slurm's clients say when the scheduler is away, not when it refuses.
AWAY = re.compile(
    r"(?i)unable to contact|connection (refused|reset|failure)|timed out|zero bytes were transmitted|standby"
    r"|communication|transport endpoint|resource temporarily|unexpected message|protocol authentication|munge"
)


@dataclass(frozen=True, slots=True)
class Job:
    """What is known of one submitted job; `id` is None until Slurm has given one.

    `targets` are the graph's jobs in it, `config` the digest of the configuration it follows, `driver` who looks
    after it, `run` the Snakemake run that the plugin asks about.
    """

    name: str
    targets: tuple[str, ...]
    config: str
    driver: str
    run: str
    id: str | None = None

    @property
    def file(self) -> Path:
        """Its record."""
        return JOBS / f"{self.name}.json"

    @property
    def done(self) -> Path:
        """Made by the job itself when it has ended well; holds its number."""
        return JOBS / f"{self.name}.done"

    @property
    def told(self) -> Path:
        """Holds when the plugin first heard of its end, by this machine's clock."""
        return JOBS / f"{self.name}.told"

    @property
    def waits(self) -> Path:
        """Holds the reason to wait that was said last."""
        return JOBS / f"{self.name}.waits"


class Seen(NamedTuple):
    """What the scheduler says of a job."""

    state: str
    name: str
    reason: str


Known = dict[str, Seen]


def records() -> list[Job]:
    """All jobs of this folder that have a record, but those whose good end has been told."""
    return [job for path in sorted(JOBS.glob("*.json")) if (job := _record(path))]


def _record(path: Path) -> Job | None:
    try:
        value = read_json(path)
    except DataError:
        if path.exists():
            raise
        return None  # put away since the folder was listed
    return Job(**{**value, "targets": tuple(value["targets"])})


def live(jobs: Iterable[Job]) -> list[Job]:
    """Those that are still pending or running; the records of the others are removed, but this driver's own.

    Raises:
        Unavailable: the scheduler does not answer.
    """
    jobs = list(jobs)
    if not jobs:
        return []
    known = ask_scheduler()
    if known is None:
        raise Unavailable("Slurm does not answer (squeue); the same command goes on when it does")
    found = []
    for job in jobs:
        seen = job if job.id else _named(job, known)
        if seen and _settled(seen, known) not in ENDED | FAILED:
            found.append(seen)
        elif job.driver != lease.driver():  # whose status may not have been asked for yet
            _forget(job)
    return found


def _forget(job: Job) -> None:
    """Remove what is known of a job; should Slurm start it once more, it does nothing."""
    for path in (job.file, job.done, job.told, job.waits):
        path.unlink(missing_ok=True)


def _retire(job: Job) -> None:
    """Put the record of a job away whose good end has been told."""
    ENDED_JOBS.mkdir(exist_ok=True)
    for path in (job.file, job.done):
        with suppress(FileNotFoundError):
            path.rename(ENDED_JOBS / path.name)
    for path in (job.told, job.waits):
        path.unlink(missing_ok=True)


def _named(job: Job, known: Known) -> Job | None:
    """The job that was submitted under a name, where the one who submitted it was killed before it noted the id."""
    return next((replace(job, id=number) for number, seen in known.items() if seen.name == job.name), None)


def ask_scheduler() -> Known | None:
    """This user's jobs that the scheduler remembers, by their numbers; None where it does not answer."""
    done = _client("squeue", "--noheader", "--me", "--states=all", "--format=%i|%T|%r|%j", timeout=30)
    if done is None or done.returncode != 0:
        return None
    rows = (line.strip().split("|", 3) for line in done.stdout.splitlines())
    return {row[0]: Seen(row[1].split(" ")[0].rstrip("+"), row[3], row[2]) for row in rows if len(row) == 4}


def state(job: Job, known: Known | None) -> str:
    """Slurm's word for how a job is.

    One that the scheduler has forgotten has ended, and one that it holds pending or calls failed may have: well, if it
    said so itself. Where the scheduler is silent, it runs.
    """
    if known is None:
        return "RUNNING"
    word = _word(job, known)
    if word and word not in WAITING | FAILED:
        return word
    return "COMPLETED" if _ended_well(job) else word or "FAILED"


def _word(job: Job, known: Known) -> str | None:
    """The scheduler's own word for a job; None where its number is unknown, or another job's by now."""
    seen = known.get(job.id or "")
    return seen.state if seen and job.name in ("", seen.name) else None


def _ended_well(job: Job) -> bool:
    """Whether this very submission has written that it ended well."""
    try:
        return job.done.read_text(encoding="utf-8").strip() == job.id
    except FileNotFoundError:
        return False


def _settled(job: Job, known: Known | None) -> str:
    """`state`; but a job that has ended well and is still queued, which Slurm would keep for ever, is cancelled there.

    Why one waits is said where that may not pass by itself.
    """
    word = state(job, known)
    if word in WAITING and job.name and known and job.id:
        _say_why(job, known[job.id].reason)
    if word in ENDED and known and _word(job, known) in WAITING:
        assert job.id is not None
        _say(f"cancelling Slurm job {job.id} ({job.name}) in the queue: it has ended well, which Slurm does not know")
        _client("scancel", job.id, timeout=60)
    return word


def _say_why(job: Job, reason: str) -> None:
    """Say why a job waits: on the run's terminal and in the console, once a run and reason."""
    if reason in PASSING or (job.waits.exists() and job.waits.read_text(encoding="utf-8") == reason):
        return
    job.waits.write_text(reason, encoding="utf-8")
    remedy = ""
    if HELD.search(reason):
        who = "" if reason == "JobHeldUser" else ", for an administrator where Slurm refuses it to you"
        remedy = f"; scontrol release {job.id} lets it start{who}"
    said = f"Slurm job {job.id} ({job.name}) waits: {reason}{remedy}"
    if os.environ.get(EVENTS):
        emit("waiting", message=said)
    else:
        _say(said)


def _cached() -> Known | None:
    """`ask_scheduler`, but once for all jobs of this folder that are asked about at a time.

    The time in the file is this machine's; that of the disk may be hours away from it.
    """
    cache = JOBS / "squeue.cache"
    try:
        value = json.loads(cache.read_text(encoding="utf-8"))
        if 0 <= time.time() - value["at"] < FRESH_S:
            return {number: Seen(*row) for number, row in value["jobs"].items()}
    except (OSError, ValueError, LookupError, TypeError):
        pass
    at, known = time.time(), ask_scheduler()
    if known is not None:
        write_json(cache, {"at": at, "jobs": known})
    return known


def submit(targets: Sequence[str], run: str, rule: str, arguments: Sequence[str], wrap: str) -> str:
    """The id of the Slurm job that makes some targets: a live one of the same kind, or a new one of `sbatch arguments`.

    Raises:
        Unavailable: the scheduler did not answer for a long time, or a job that is in the way does not end.
        ConfigError: sbatch refused; says what it said.
    """
    JOBS.mkdir(parents=True, exist_ok=True)
    driver, config = lease.driver() or "", os.environ.get(CONFIG, "")
    with open(JOBS / "lock", "w") as stream:
        lock(stream.fileno(), JOBS / "lock", "run in a folder on another disk (snakemake --directory …)", wait=True)
        wanted = set(targets)
        for other in _patiently(lambda: live(records())):
            if wanted.isdisjoint(other.targets):
                continue
            if wanted == set(other.targets) and config == other.config:
                write_json(other.file, asdict(replace(other, driver=driver, run=run)))
                other.waits.unlink(missing_ok=True)  # said to who drove it before
                _say(f"taking over Slurm job {other.id} ({other.name})")
                assert other.id is not None
                return other.id
            _say(f"cancelling Slurm job {other.id} ({other.name}): it makes the same outputs in another way")
            _cancel(other)
        others = records()
        for other in others:
            if not wanted.isdisjoint(other.targets):
                _forget(other)  # what is replaced: Slurm may start it once more, as when its node comes back
        words = re.sub(r"[^A-Za-z0-9_.]+|\.{2,}", "-", rule).strip("-.")[:60]
        job = Job(f"fledgling-{words}-{uuid.uuid4().hex[:8]}", tuple(targets), config, driver, run)
        write_json(job.file, asdict(job))  # first, so that a submission is found again whenever this is killed
        try:
            number = _sbatch(job, arguments, wrap)
            while any(number == other.id for other in others):  # given away twice, by a scheduler that forgot the first
                _client("scancel", number, timeout=60)
                number = _sbatch(job, arguments, wrap)
        except BaseException:
            job.file.unlink(missing_ok=True)
            raise
        write_json(job.file, asdict(replace(job, id=number)))
        (JOBS / "squeue.cache").unlink(missing_ok=True)
        return number


def script_of(job: Job, wrap: str) -> str:
    """What the batch script of a job does, in sh: nothing where it has no record any more or has ended well before."""
    record, done = (shlex.quote(str(path.absolute())) for path in (job.file, job.done))
    return f"""export {lease.RECORD}={record}
[ -e {record} ] || {{ echo "slurm: {job.name} was replaced (no {record}): nothing to do" >&2; exit 1; }}
[ "$(cat {done} 2>/dev/null)" != "$SLURM_JOB_ID" ] || {{ echo "slurm: {job.name} has ended well before" >&2; exit 0; }}
( {wrap}
) && echo "$SLURM_JOB_ID" > {done}.$$ && mv {done}.$$ {done}"""


def _sbatch(job: Job, arguments: Sequence[str], wrap: str) -> str:
    script = script_of(job, wrap)
    deadline = time.monotonic() + _wait_s()
    told = False
    while True:
        done = _client("sbatch", "--parsable", f"--job-name={job.name}", *arguments, f"--wrap={script}", timeout=120)
        if done is not None and done.returncode == 0:
            return done.stdout.strip().split(";")[0]
        said = "no answer" if done is None else (done.stderr or done.stdout).strip()
        if done is not None and not AWAY.search(said):
            raise ConfigError(f"sbatch refused a job ({job.name}): {said}; look at the marked lines of the profile")
        # A submission that timed out may have gone through all the same.
        known = _patiently(_known)
        if seen := _named(job, known):
            assert seen.id is not None
            return seen.id
        if time.monotonic() > deadline:
            raise Unavailable(f"Slurm takes no jobs ({said}); the same command goes on when it does")
        if not told:
            _say(f"waiting for Slurm, which takes no jobs now ({said})")
            told = True
        time.sleep(POLL_S)


def _known() -> Known:
    known = ask_scheduler()
    if known is None:
        raise Unavailable("Slurm does not answer (squeue); the same command goes on when it does")
    return known


def _patiently(question: Callable[[], T]) -> T:
    """The answer to a question to the scheduler, asked again while it is away."""
    deadline = time.monotonic() + _wait_s()
    told = False
    while True:
        try:
            return question()
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise
            if not told:
                _say(f"waiting: {error}")
                told = True
            time.sleep(POLL_S)


def _wait_s() -> float:
    return float(os.environ.get(WAIT) or WAIT_S)


def _cancel(job: Job) -> None:
    assert job.id is not None
    _client("scancel", job.id, timeout=60)
    deadline = time.monotonic() + ENDS_S
    while live([job]):
        if time.monotonic() > deadline:
            raise Unavailable(f"Slurm job {job.id} does not end; end it (scancel {job.id}) and run the same command")
        time.sleep(POLL_S)


def _client(name: str, *arguments: str, timeout: float) -> "subprocess.CompletedProcess[str] | None":
    """One of Slurm's clients, the real one; None where it gave no answer in time.

    Raises:
        ConfigError: there is none on PATH.
    """
    try:
        return subprocess.run([_real(name), *arguments], check=False, text=True, capture_output=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return None


def _real(name: str) -> str:
    """The client of that name behind our own of profiles/slurm/bin."""
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder != os.environ.get(CLIENTS)]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if not found:
        raise ConfigError(f"{name}: not on PATH; the Slurm profiles run where Slurm's clients are installed")
    return found


def prepare(executor: str, clients: str) -> None:
    """Called by the driver when it starts: the slurm plugin gets our own clients, which stand in the folder `clients`.

    A run that is not on Slurm stops here while Slurm jobs of an earlier one still work in this folder.

    Raises:
        ConfigError: names them, and what to do.
    """
    shutil.rmtree(ENDED_JOBS, ignore_errors=True)
    if executor == "slurm":
        os.environ[CLIENTS] = clients
        os.environ["PATH"] = os.pathsep.join([clients, os.environ.get("PATH", "")])
    if executor in ("slurm", "cluster-generic") or not (jobs := records()):
        return
    try:
        running = live(jobs)
    except (Unavailable, ConfigError) as error:
        names = ", ".join(job.id or job.name for job in jobs)
        raise ConfigError(
            f"Slurm jobs of an earlier run may still work in this folder ({names}) and Slurm cannot be asked ({error}); "
            f"go on with the profile of that run, or remove {JOBS} if none runs"
        ) from None
    if running:
        raise ConfigError(
            f"Slurm jobs of an earlier run still work in this folder: {', '.join(f'{job.id} ({job.name})' for job in running)}; "
            f"go on with the profile of that run, or end them: scancel {' '.join(job.id or '' for job in running)}"
        )


# What profiles/slurm-generic calls.


def submit_script(script: str) -> None:
    """Submit a job script of Snakemake's, with the resources that are written in it; prints the id."""
    text = Path(script).read_text(encoding="utf-8")
    header = re.search(r"^# properties = (\{.*)$", text, re.MULTILINE)
    if not header:
        raise UsageError(f"{script}: no job script of Snakemake's")
    properties = json.loads(header[1])
    resources = properties["resources"]
    rule = properties.get("rule") or properties.get("groupid") or "job"
    wildcards = "-".join(filter(None, map(str, (properties.get("wildcards") or {}).values())))
    threads = str(properties.get("threads") or 1)
    logs = Path("logs/slurm").absolute()
    logs.mkdir(parents=True, exist_ok=True)
    arguments = ["--nodes=1", "--ntasks=1", f"--cpus-per-task={threads}", f"--output={logs / '%x.%j.log'}"]
    for key, flag in (
        ("mem_mb", "--mem={}"),
        ("runtime", "--time={}"),
        ("slurm_partition", "--partition={}"),
        ("slurm_account", "--account={}"),
        ("qos", "--qos={}"),
        ("constraint", "--constraint={}"),
    ):
        if resources.get(key) not in (None, "", 0):
            arguments.append(flag.format(resources[key]))
    if gpus := resources.get("gpu"):
        arguments.append(
            "--gres=gpu:" + (f"{resources['gpu_model']}:" if resources.get("gpu_model") else "") + str(gpus)
        )
    arguments += shlex.split(str(resources.get("slurm_extra") or ""))
    # A step, because --signal=TERM@… reaches steps only, and with "B:" kills the batch shell and so the job.
    # Its shell stays when TERM comes, until the job has saved what it has.
    command = f"trap '' TERM; exec bash {shlex.quote(str(Path(script).absolute()))}"
    wrap = f"srun --ntasks=1 --cpus-per-task={threads} --cpu-bind=none bash -c {shlex.quote(command)}"
    print(submit(targets_of(text), "", f"{rule}-{wildcards}" if wildcards else rule, arguments, wrap))


def status(number: str) -> None:
    """Print running, success or failed."""
    known = _cached()
    job = next((job for job in records() if job.id == number), None)
    word = _settled(job or Job("", (), "", "", "", number), known)
    print("success" if word in ENDED else "failed" if word in FAILED else "running", flush=True)
    if job and word in ENDED:  # one that failed Slurm may start again, as when its node died
        _retire(job)


def targets_of(command: str) -> tuple[str, ...]:
    """The graph's jobs that a command of Snakemake's makes (--target-jobs), sorted."""
    found = re.search(r"--target-jobs\s+(.*?)\s+--allowed-rules", command, re.DOTALL)
    return tuple(sorted(shlex.split(found[1]))) if found else ()


# What the plugin calls.


def sbatch(arguments: Sequence[str]) -> None:
    """As sbatch, but a submission of the plugin's is a job of ours; prints the id."""
    wrapped = [argument for argument in arguments if argument.startswith("--wrap")]
    targets = targets_of(wrapped[0]) if wrapped else ()
    if not targets or "--parsable" not in arguments:
        os.execv(_real("sbatch"), ["sbatch", *arguments])
    rest, run, comment = [], "", "job"
    values = iter(arguments)
    for argument in values:
        flag, _, value = argument.partition("=")
        if flag == "--job-name":
            run = value or next(values)
        elif flag == "--wrap":
            wrap = value or next(values)
        elif flag == "--parsable":
            continue
        else:
            rest.append(argument)
            if flag == "--comment":
                comment = value or next(values)
                rest += [] if value else [comment]
    rule = comment.removeprefix("rule_").replace("_wildcards_", "-")
    print(submit(targets, run, rule, rest, wrap))


def answer(client: str, arguments: Sequence[str]) -> None:
    """As squeue or sacct; but the plugin's question about its run is answered from the records of its jobs."""
    text = " ".join(arguments)
    asked = re.search(r"--name[= ]([0-9a-f-]{36})", text)
    mine = [job for job in records() if asked and job.run == asked[1] and job.id]
    if not mine:
        os.execv(_real(client), [client, *arguments])
    known = ask_scheduler()
    for job in mine:
        word = _settled(job, known)
        print(f"{job.id}|{'FAILED' if word in FAILED and word != 'CANCELLED' else word}")
        if word in ENDED and _told_long_ago(job):
            _retire(job)


def _told_long_ago(job: Job) -> bool:
    try:
        return time.time() - float(job.told.read_text()) > TOLD_S
    except (FileNotFoundError, ValueError):
        job.told.write_text(str(time.time()))
        return False


def _say(line: str) -> None:
    print(f"slurm: {line}", file=sys.stderr, flush=True)


def main() -> None:
    """One of the commands above."""
    match sys.argv[1:]:
        case ["submit", script]:
            submit_script(script)
        case ["status", number]:
            status(number)
        case ["sbatch", *arguments]:
            sbatch(arguments)
        case [("squeue" | "sacct") as client, *arguments]:
            answer(client, arguments)
        case _:
            raise UsageError("usage: python -m fledgling.slurm submit JOBSCRIPT | status ID")


if __name__ == "__main__":
    from fledgling.cli import run

    run(main)
