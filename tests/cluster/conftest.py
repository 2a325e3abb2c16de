"""A throwaway Slurm, and drivers of the graph on it.

Debian's packages are enough: slurmctld slurmd slurm-client munge. Where they are not installed the tests are
skipped, unless FLEDGLING_REQUIRE_SLURM is set, as CI does. Several workers (`pytest -n 4`) have a Slurm each.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.project import copy_project

HERE = Path(__file__).parent
PROFILES = ("slurm", "slurm-generic")
QUICK = {
    "slurm": ("--slurm-init-seconds-before-status-checks", "2"),
    "slurm-generic": ("--seconds-between-status-checks", "1"),
}


def until(condition: Callable[[], object], what: str, timeout: float = 60, log: Callable[[], str] = str) -> None:
    """Wait for something; the test fails after the timeout, with a log."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"gave up waiting for {what}\n{log()[-6000:]}"
        time.sleep(0.1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, each ahead of a short one: a worker gets two tests at the start, which it runs one after another."""
    mine = [item for item in items if item.path.parent == HERE]
    long = [item for item in mine if item.path.name == "test_default.py"]
    rest = sorted((item for item in mine if item not in long), key=lambda item: item.path.name != "test_story.py")
    first = [item for one in long for item in (one, *([rest.pop()] if rest else []))]
    items[:] = [*first, *rest, *(item for item in items if item not in mine)]


@dataclass
class Cluster:
    """A running Slurm: two nodes, n1 and n2, of four GPUs each."""

    folder: Path
    port: int

    @property
    def env(self) -> dict[str, str]:
        """What its clients need."""
        return {"SLURM_CONF": f"{self.folder}/slurm.conf", "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}

    def ask(self, *command: str) -> str:
        """What one of Slurm's clients says."""
        done = subprocess.run(command, env=os.environ | self.env, text=True, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def script(self, what: str, *more: str) -> None:
        """Call mini-slurm."""
        env = os.environ | {"MINI_SLURM_PORT": str(self.port), "USER": os.environ.get("USER", "root")}
        subprocess.run([HERE / "mini-slurm", what, self.folder, *more], env=env, check=True, timeout=120)

    def jobs(self) -> list[str]:
        """The ids of live jobs."""
        return self.ask("squeue", "--noheader", "--format=%i").split()

    def mend(self) -> list[str]:
        """Give nodes back that Slurm holds for broken, as an administrator would; their names."""
        nodes = self.ask("sinfo", "--noheader", "-N", "--partition=all", "--states=drain", "--format=%N").split()
        for node in nodes:
            self.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
        return nodes

    def wrote(self, name: str) -> bool:
        """Whether the scheduler has written down that it knows a job of this name, as it does each 5 s at most."""
        path = self.folder / "state/job_state"
        return path.exists() and name.encode() in path.read_bytes()

    def remember(self) -> None:
        """Wait until the scheduler has written down all that it knows."""
        name = f"remembered-{time.monotonic_ns()}"
        number = self.ask("sbatch", "--parsable", "--hold", "-o/dev/null", f"--job-name={name}", "--wrap", "true")
        until(lambda: self.wrote(name), "the scheduler to write its state", 20)
        self.ask("scancel", number)

    def settle(self) -> None:
        """End all jobs and wait until one has run on n1.

        A scheduler that forgot a number gives it away again, and its node is drained.
        """

        def ran() -> bool:
            nonlocal number
            word = self.ask("squeue", "--noheader", "--states=all", "-j", number, "--format=%T")
            if self.mend():
                self.ask("scancel", number)
                number = self.ask(*probe)
            return word == "COMPLETED"

        probe = ("sbatch", "--parsable", "-w", "n1", "-o/dev/null", "--wrap", "true")
        self.ask("scancel", f"--user={os.getuid()}")
        number = self.ask(*probe)
        until(ran, "a job on n1", log=self.log)

    def log(self) -> str:
        """Jobs, nodes, and what the scheduler wrote last."""
        try:
            seen = [self.ask("squeue", "--states=all"), self.ask("sinfo", "-N", "--format=%N %T %E")]
        except (AssertionError, subprocess.TimeoutExpired) as error:
            seen = [str(error)]
        return "\n".join([*seen, (self.folder / "log/slurmctld.log").read_text()[-1500:]])

    def pids(self, **having: str) -> list[int]:
        """Processes whose environment has all of these values, those of this Slurm only."""
        wanted = {f"{key}={value}" for key, value in having.items()} | {f"SLURM_CONF={self.folder}/slurm.conf"}
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                variables = set(path.read_bytes().decode(errors="replace").split("\0"))
            except OSError:
                continue
            if wanted <= variables:
                found.append(int(path.parent.name))
        return found


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Slurm, started once a worker."""
    missing = [
        name
        for name in ("slurmctld", "slurmd", "munged", "sbatch")
        if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    ]
    if missing:
        reason = f"{', '.join(missing)} not installed: apt-get install slurmctld slurmd slurm-client munge"
        if os.environ.get("FLEDGLING_REQUIRE_SLURM"):
            pytest.fail(reason)
        pytest.skip(reason)
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    # A short path: sockets lie in it.
    folder = Path(tmp_path_factory.mktemp("slurm"))
    found = Cluster(folder, 17000 + 40 * worker + 200 * (os.getpid() % 50))
    try:
        found.script("up")
        yield found
    finally:
        found.script("down")


# Stands in for a long training: a step each quarter of a second, kept beside the output; done when told so.
SLOW = """\
import json, os, sys, time
from pathlib import Path
from fledgling.cli import run
def main():
    out = Path(sys.argv[sys.argv.index("--out") + 1])
    with open("starts", "a") as stream:
        stream.write(f"{os.environ.get('SLURM_JOB_ID', 'local')}\\n")
    kept = Path("kept")
    step = int(kept.read_text() or 0) if kept.exists() else 0
    deadline = time.monotonic() + 120
    try:
        while not Path("release").exists() and time.monotonic() < deadline:
            step += 1
            Path("kept.new").write_text(str(step))
            os.replace("kept.new", kept)
            with open("beats", "a") as stream:
                stream.write(f"{os.environ.get('SLURM_JOB_ID', 'local')} {time.monotonic()}\\n")
            time.sleep(0.25)
    except BaseException as error:
        Path("ended").write_text(type(error).__name__)
        raise
    out.write_text(json.dumps({"steps": step}))
run(main)
"""
TARGET = "results/models/slm/manifest.json"


@dataclass
class Project:
    """A copy of the graph on a cluster, whose `fetch` is slow; drivers that still run are ended with the test."""

    folder: Path
    cluster: Cluster
    profile: str
    drivers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def arguments(self, *more: str, partition: str = "gpu", extra: str = "") -> list[str]:
        """The command line of a driver."""
        resources = ["nodes=1", f"slurm_partition='{partition}'", *([f"slurm_extra='{extra}'"] if extra else [])]
        profile = ["--profile", f"profiles/{self.profile}", *QUICK[self.profile], "--latency-wait", "2"]
        return [sys.executable, "-m", "snakemake", *profile, "--default-resources", *resources, *more]

    def environment(self, **more: str) -> dict[str, str]:
        """That of a driver; a job waits 20 s for one."""
        clean = {
            key: value for key, value in os.environ.items() if not key.startswith(("FLEDGLING_", "SLURM", "AZURE_"))
        }
        return clean | self.cluster.env | {"FLEDGLING_GRACE_S": "20", "HF_HUB_OFFLINE": "1"} | more

    def start(
        self, *more: str, targets: Sequence[str] = (TARGET,), partition: str = "gpu", extra: str = "", **env: str
    ) -> "subprocess.Popen[bytes]":
        """Start a driver."""
        log = open(self.folder / f"driver-{len(self.drivers)}.log", "wb")  # noqa: SIM115
        driver = subprocess.Popen(
            [*self.arguments(*more, partition=partition, extra=extra), "--", *targets],
            cwd=self.folder,
            env=self.environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.drivers.append(driver)
        return driver

    def log(self) -> str:
        """What the last driver printed."""
        return (self.folder / f"driver-{len(self.drivers) - 1}.log").read_text()

    def seen(self) -> str:
        """`log`, and the state of the cluster."""
        return f"{self.log()}\n{self.cluster.log()}"

    def starts(self) -> list[str]:
        """Slurm's id of each start of the slow job."""
        path = self.folder / "starts"
        return path.read_text().split() if path.exists() else []

    def started(self, times: int = 1, timeout: float = 90) -> str:
        """Wait until the slow job has started so many times and works; its id."""
        until(lambda: len(self.starts()) >= times, f"start {times}", timeout, self.seen)
        beats = self.folder / "beats"
        size = beats.stat().st_size if beats.exists() else 0
        until(lambda: beats.exists() and beats.stat().st_size > size, "work", timeout, self.seen)
        return self.starts()[-1]

    def followed(self, driver: "subprocess.Popen[bytes]") -> bool:
        """Whether the records of the jobs name this driver."""
        records = [json.loads(path.read_text()) for path in (self.folder / ".snakemake/fledgling/jobs").glob("*.json")]
        return bool(records) and all(record["driver"].startswith(f"{driver.pid}:") for record in records)

    def release(self) -> None:
        """Let the slow job end."""
        (self.folder / "release").touch()

    def done(self, driver: "subprocess.Popen[bytes]", timeout: float = 120) -> dict[str, int]:
        """Wait for a driver to end well; what was made. No two jobs worked at the same time, and nothing is left to do."""
        assert driver.wait(timeout) == 0, self.log()[-5000:]
        beats = [line.split()[0] for line in (self.folder / "beats").read_text().splitlines()]
        changes = sum(one != other for one, other in itertools.pairwise(beats))
        assert changes == len(set(beats)) - 1, f"two jobs worked at once: {beats}"
        return json.loads((self.folder / TARGET).read_text())

    def close(self) -> None:
        """End what still runs."""
        for driver in self.drivers:
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)
                driver.wait()
        for number in set(self.starts()) & set(self.cluster.jobs()):
            self.cluster.ask("scancel", number)
        names = [
            json.loads(path.read_text())["id"] for path in (self.folder / ".snakemake/fledgling/jobs").glob("*.json")
        ]
        for number in set(filter(None, names)) & set(self.cluster.jobs()):
            self.cluster.ask("scancel", number)
        self.cluster.mend()


@pytest.fixture(params=PROFILES)
def slow(request: pytest.FixtureRequest, root: Path, cluster: Cluster, tmp_path: Path) -> Iterator[Project]:
    """The graph with a slow `fetch`, through each profile."""
    copy_project(root, tmp_path)
    (tmp_path / "scripts/fetch.py").write_text(SLOW)
    project = Project(tmp_path, cluster, request.param)
    yield project
    project.close()
