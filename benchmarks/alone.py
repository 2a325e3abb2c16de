"""One contender in a process of its own, so that none fills a card or warms a cache for the next."""

import json
import subprocess
import sys
import time
from typing import Any

MARK = "RESULT "


def run(name: str) -> dict[str, Any]:
    """Start this script again for one contender (`--one NAME`); its result, or its exit code where it failed."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *sys.argv, "--one", name], check=False, stdout=subprocess.PIPE, text=True)
    found = [line.removeprefix(MARK) for line in done.stdout.splitlines() if line.startswith(MARK)]
    result = json.loads(found[-1]) if done.returncode == 0 and found else {"exit_code": done.returncode}
    return {"name": name, **result, "wall_s": round(time.perf_counter() - start, 1)}


def tell(result: dict[str, Any]) -> None:
    """Hand the result to the process that asked for it; libraries print beside it."""
    print(MARK + json.dumps(result), flush=True)
