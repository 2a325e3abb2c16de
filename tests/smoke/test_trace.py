"""A built track goes to Langfuse through the graph's own rule: a local server that speaks its API."""

import subprocess
import sys

from fledgling.artefacts import TraceMarker, read
from tests.servers.langfuse import Langfuse


def test_a_built_track_is_traced_whole_and_once(copied):
    with Langfuse() as server:
        said = copied.build("--", "results/trace/toolcall.json", **server.env())
        assert "langfuse: " in said
        command = [sys.executable, "-m", "fledgling", "trace"]
        env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(copied.folder / "src"), **server.env()}
        done = subprocess.run(command, cwd=copied.folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        marker = read(TraceMarker, copied.folder / "results/trace/toolcall.json")
        assert {run["name"]: len(run["items"]) for run in server.experiments().values()} == {
            run["name"]: run["rows"] for run in marker["runs"]
        }
        assert {"teacher", "slm", "tuned", "sft.1", "sft.2", "floor-echo"} <= {
            run["contender"] for run in marker["runs"]
        }
        held = server.holds()
        (copied.folder / "results/trace/toolcall.json").unlink()
        copied.build("--", "results/trace/toolcall.json", **server.env())
        assert server.holds() == held, "what is delivered is not sent again"
    verified = subprocess.run([*command[:-1], "verify"], cwd=copied.folder, env=env, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout
