"""The Hub token of a project: one file outside results/ and git, that only its owner can read."""

import os
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from fledgling.errors import ConfigError

TOKEN = Path(".fledgling/secrets/hf_token")
LARGEST = 1024


def read(root: Path) -> str | None:
    """The token; None where none is kept.

    Raises:
        ConfigError: the file is a link, not the user's own, or others can read it.
    """
    try:
        file = os.open(root / TOKEN, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError:
        raise ConfigError(f"{TOKEN}: a link or no plain file; remove it and set the token again") from None
    with os.fdopen(file) as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise ConfigError(f"{TOKEN}: others can read it, or it is not yours; remove it and set the token again")
        return stream.read(LARGEST).strip() or None


def updated_at(root: Path) -> str | None:
    """When the token was set; None where none is kept."""
    try:
        found = os.lstat(root / TOKEN)
    except OSError:
        return None
    return datetime.fromtimestamp(found.st_mtime, UTC).isoformat(timespec="milliseconds")


def write(root: Path, token: str) -> None:
    """Keep a token; it appears whole or not at all, and nothing is written through a link.

    Raises:
        ConfigError: its folder is a link or open to others, or git tracks the file.
    """
    folder = root / TOKEN.parent
    for place in (folder.parent, folder):
        place.mkdir(mode=0o700 if place == folder else 0o755, exist_ok=True)
        if place.is_symlink() or not place.is_dir():
            raise ConfigError(f"{place.relative_to(root)}: a link; the token is not written through it")
    if folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{TOKEN.parent}: belongs to another user; the token is not written there")
    folder.chmod(0o700)
    if _tracked(root):
        raise ConfigError(f"{TOKEN}: git tracks this file; git rm --cached it, and revoke the token that it held")
    private = folder / f".{TOKEN.name}.{os.getpid()}.{os.urandom(4).hex()}"
    file = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(file, "w") as stream:
            stream.write(token + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(private, root / TOKEN)
    except BaseException:
        private.unlink(missing_ok=True)
        raise


def delete(root: Path) -> None:
    """Forget the token."""
    (root / TOKEN).unlink(missing_ok=True)


def _tracked(root: Path) -> bool:
    try:
        done = subprocess.run(
            ["git", "ls-files", "--error-unmatch", str(TOKEN)], cwd=root, capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
