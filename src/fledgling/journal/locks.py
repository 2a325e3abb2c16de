"""Locks on single bytes of a file, and what is said where a file system has none."""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from fledgling.locks import NO_LOCKS, without_locks

REMEDY = (
    "nothing was asked; set `journal` to a folder on a disk that has them (a local disk, or mount Lustre with -o flock "
    "and NFS with version 4)"
)


def lock_byte(fd: int, place: int, kind: int, *, wait: bool = False) -> bool:
    """Lock (F_RDLCK, F_WRLCK) or free (F_UNLCK) one byte of a file; False: another process holds it.

    The lock belongs to the open file (F_OFD_SETLK), so it ends with the process and no other
    descriptor of this process can drop it. The byte does not have to exist.
    """
    command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    try:
        fcntl.fcntl(fd, command, struct.pack("hhqqi4x", kind, os.SEEK_SET, place, 1, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


@contextmanager
def require_locks(path: str | os.PathLike[str], remedy: str = REMEDY) -> Iterator[None]:
    """What is done inside needs locks at a path; where the file system has none, say so.

    Raises:
        ConfigError: names the folder and the key of the configuration.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise without_locks(path, error, remedy) from None
