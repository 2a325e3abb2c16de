"""Named places where a test may kill the process, so that a crash can be put exactly there."""

import os
import signal

_hits: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Kill this process (SIGKILL) where FLEDGLING_FAILPOINT="name:n" and this is the n-th pass; else nothing."""
    wanted = os.environ.get("FLEDGLING_FAILPOINT")
    if wanted and wanted.partition(":")[0] == name:
        _hits[name] = _hits.get(name, 0) + 1
        if _hits[name] == int(wanted.partition(":")[2] or 1):
            os.kill(os.getpid(), signal.SIGKILL)
