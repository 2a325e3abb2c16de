"""Locks of the kernel, with an error that says what to change where a file system has none."""

import errno
import fcntl
import os
from pathlib import Path

from fledgling.errors import ConfigError

# What file systems without locks answer: Lustre without -o flock, NFS without a lock daemon, some FUSE mounts.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOTTY)

LOCKS = "FLEDGLING_LOCKS"  # folder of what a user's processes on this machine share, instead of /tmp/fledgling-gpus-UID


def lock(fd: int, path: str | Path, remedy: str, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file for as long as it is open; False: someone else holds it (only where it does not wait).

    Several may hold a `shared` lock, and nobody an exclusive one beside it. `remedy` ends the error's sentence:
    which key or variable names another folder.

    Raises:
        ConfigError: the file system has no locks; names the folder and the remedy.
    """
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise without_locks(path, error, remedy) from None
    return True


def unlock(fd: int) -> None:
    """Give a lock back before its file is closed."""
    fcntl.flock(fd, fcntl.LOCK_UN)


def without_locks(path: str | os.PathLike[str], error: OSError, remedy: str) -> ConfigError:
    """What is said of a file system that has no locks."""
    return ConfigError(
        f"{Path(path).parent.absolute()}: this file system cannot lock files ({error.strerror}), so two runs could "
        f"not be kept apart; {remedy}"
    )


def lock_folder() -> Path:
    """The folder of this user's locks on this machine, made if need be. Not TMPDIR: two jobs may have two of those.

    Raises:
        ConfigError: it belongs to someone else, or cannot be made.
    """
    folder = Path(os.environ.get(LOCKS) or f"/tmp/fledgling-gpus-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made ({error.strerror}); set {LOCKS} to a folder of your own") from None
    if folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder}: belongs to uid {folder.stat().st_uid}; set {LOCKS} to a folder of your own")
    return folder
