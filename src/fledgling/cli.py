"""What every entry point shares: the log and the exit codes."""

import errno
import logging
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from fledgling.errors import FledglingError, Unavailable
from fledgling.graph.driver import die_with_driver
from fledgling.progress import emit


def run(main: Callable[[], int | None]) -> None:
    """Run an entry point and exit with its code: 0 ok, 2–5 as in fledgling.errors, 130/143 on signals.

    What is said goes to stderr, which the rules send to the log file of the job.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for noisy in ("httpx", "httpcore", "urllib3", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    die_with_driver()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = main() or 0
    except FledglingError as error:
        code = _failed(str(error), error.exit_code)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        code = 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        code = _failed(
            f"no space left for {error.filename or 'an output'}; free some and run the same command",
            Unavailable.exit_code,
        )
    except Exception as error:
        traceback.print_exc()
        emit("failed", message=f"{type(error).__name__}: {error}", code=1)
        code = 1
    sys.stderr.flush()
    sys.exit(code)


def _failed(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    emit("failed", message=message, code=code)
    return code


def _terminate(signum: int, frame: Any) -> None:
    print("terminated; the same command goes on from here", file=sys.stderr)
    raise SystemExit(128 + signum)
