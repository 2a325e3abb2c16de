"""Files that are either whole or absent: atomic writes, JSON and JSON Lines, digests."""

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fledgling.errors import ConfigError, DataError
from fledgling.failpoints import failpoint
from fledgling.locks import lock

Object = dict[str, Any]  # a JSON object of a shape that somebody else decides: a row, a message, a schema, a reply


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, so that equal values have equal digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical JSON text of a value."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def sha256_file(path: str | os.PathLike[str]) -> str:
    """sha256 (hex) of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fsync_dir(path: str | os.PathLike[str]) -> None:
    """Make the names inside a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def publish(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under its name only when the block ends well.

    Written beside its place under a private name, flushed and fsynced, renamed, then the folder is
    fsynced; on any exception the private file is removed and the old file stays as it was. What a
    killed process left of the same file is removed by the next.
    `mode` is "w" (UTF-8, line feeds as given) or "wb".
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    fd, temporary = _private(path)
    try:
        binary = "b" in mode
        with os.fdopen(fd, mode, encoding=None if binary else "utf-8", newline=None if binary else "\n") as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), 0o666 & ~_umask())
            os.fsync(stream.fileno())
            failpoint("files.before_rename")
            os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def _private(path: Path) -> tuple[int, str]:
    """A new file beside `path` under a name of its own, locked for as long as its writer lives."""
    while True:
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            lock(fd, temporary, "", wait=True)
        except (ConfigError, OSError):
            return fd, temporary  # a file system without locks: what a killed writer leaves stays there
        if os.path.exists(temporary):
            return fd, temporary
        os.close(fd)  # taken for abandoned before it was locked


def _remove_abandoned(path: Path) -> None:
    for file in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        try:
            with open(file, "rb") as stream:
                if lock(stream.fileno(), file, ""):
                    file.unlink()
        except FileNotFoundError:
            pass
        except (ConfigError, OSError):
            return


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Publish a text file (UTF-8)."""
    with publish(path) as stream:
        stream.write(text)


def copy_file(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Publish a copy of a file."""
    with open(source, "rb") as original, publish(path, "wb") as stream:
        shutil.copyfileobj(original, stream)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Publish one JSON value, indented, keys in the order given; lone surrogates are escaped."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n")


def json_line(value: Any) -> str:
    """One line of JSON Lines, without its line feed; valid UTF-8 whatever the strings hold."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Any]) -> int:
    """Publish JSON Lines; returns the number of rows."""
    count = 0
    with publish(path) as stream:
        for row in rows:
            stream.write(json_line(row) + "\n")
            count += 1
    return count


def read_json(path: str | os.PathLike[str]) -> Any:
    """Parse one JSON file that Fledgling wrote.

    Raises:
        DataError: missing, not UTF-8 or not JSON; names the file, the line and what to do.
    """
    return parse_json(path)[0]


def parse_json(path: str | os.PathLike[str]) -> tuple[Any, bytes]:
    """The value of one JSON file that Fledgling wrote, and its bytes.

    Raises:
        DataError: missing, not UTF-8 or not JSON; names the file, the line and what to do.
    """
    again = f"delete it and build it again with: snakemake --cores all {path}"
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise DataError(f"{path}: no plain file; {again}")
        data = Path(path).read_bytes()
        return json.loads(data.decode("utf-8")), data
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; build it with: snakemake --cores all {path}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON ({error.msg}); {again}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; {again}") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{path}: not readable JSON ({reason}); {again}") from None


def read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    r"""Yield (line number from 1, text) of the non-blank lines of a UTF-8 file, or of a .gz of one, streaming.

    A byte order mark and \r\n are accepted; only \n ends a line (U+2028, U+0085 and VT do not).

    Raises:
        DataError: missing, or not UTF-8; names file, line and byte.
    """
    with open_binary(path) as stream:
        for number, raw in enumerate(stream, 1):
            text = decode_line(path, number, raw)
            if text.strip():
                yield number, text


def decode_line(path: str | os.PathLike[str], number: int, raw: bytes) -> str:
    """The text of line `number` (from 1) of a file, without a byte order mark and without its end of line.

    Raises:
        DataError: not UTF-8; names file, line and byte.
    """
    if number == 1:
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path}:1: UTF-16 at byte 0; save the file as UTF-8")
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: not UTF-8 at byte {error.start} of the line; save the file as UTF-8"
        ) from None


def open_binary(path: str | os.PathLike[str]) -> IO[bytes]:
    """A file to read, unpacked where its name ends in .gz.

    Raises:
        DataError: it is missing, or a folder.
    """
    import gzip

    try:
        return gzip.open(path, "rb") if os.fspath(path).endswith(".gz") else open(path, "rb")  # type: ignore[return-value]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: this is a folder; name a file in it") from None


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a JSON Lines file, streaming.

    Raises:
        DataError: a line is not a JSON object; names file, line, column and what was found.
    """
    for number, text in read_lines(path):
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}:{error.colno}: not JSON ({error.msg})") from None
        except (RecursionError, ValueError) as error:
            raise DataError(f"{path}:{number}: not readable JSON ({error})") from None
        if not isinstance(value, dict):
            raise DataError(f"{path}:{number}: expected a JSON object, found {type(value).__name__}")
        yield number, value
