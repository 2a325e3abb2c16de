"""What every entry point shares: the log and the exit codes."""

import errno
import logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from fledgling import redaction
from fledgling.errors import FledglingError, Unavailable
from fledgling.graph.driver import die_with_driver
from fledgling.progress import emit

MOST_NOTES = 5  # kinds of warnings of one stage that are shown where the run is watched; the log has all


def run(main: Callable[[], int | None]) -> None:
    """Run an entry point and exit with its code: 0 ok, 2–5 as in fledgling.errors, 130/143 on signals.

    What is said goes to stderr, which the rules send to the log file of the job, and repeats no secret of this machine.
    """
    secrets = redaction.on_this_machine()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(redaction.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", secrets))
    logging.basicConfig(level=logging.INFO, handlers=[handler, Notes(secrets)])
    for noisy in ("httpx", "httpcore", "urllib3", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    die_with_driver()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = main() or 0
        sys.stdout.flush()
    except FledglingError as error:
        code = _failed(redaction.redacted(str(error), secrets), error.exit_code)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        code = 130
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = error.filename or "an output"
            code = _failed(f"no space left for {place}; free some and run the same command", Unavailable.exit_code)
        elif error.errno in (errno.EACCES, errno.EROFS) and error.filename:
            remedy = "make it so for this user, or run in another folder"
            code = _failed(f"{error.filename}: not to be read or written ({error.strerror}); {remedy}", 3)
        elif error.errno == errno.EPIPE and _unread():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be written at the end
            code = 0
        else:
            code = _broke(error, secrets)
    except Exception as error:
        code = _broke(error, secrets)
    sys.stderr.flush()
    sys.exit(code)


class Notes(logging.Handler):
    """Hands warnings of ours to whoever watches the run, each kind of them once: they are read there and not in a log."""

    def __init__(self, secrets: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(redaction.Formatter("%(message)s", secrets))
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """One record, if it is ours and the first of its kind."""
        kind = str(record.msg)
        if record.name.startswith("fledgling.") and kind not in self._told and len(self._told) < MOST_NOTES:
            self._told.add(kind)
            emit("note", message=self.format(record))


def _unread() -> bool:
    """Whether nobody reads what is printed any more, as in `fledgling plan | head`."""
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in watched.poll(0))


def _failed(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    emit("failed", message=message, code=code)
    return code


def _broke(error: Exception, secrets: list[str]) -> int:
    print(redaction.redacted(traceback.format_exc(), secrets), end="", file=sys.stderr)
    emit("failed", message=redaction.redacted(f"{type(error).__name__}: {error}", secrets), code=1)
    return 1


def _terminate(signum: int, frame: Any) -> None:
    print("terminated; the same command goes on from here", file=sys.stderr)
    raise SystemExit(128 + signum)
