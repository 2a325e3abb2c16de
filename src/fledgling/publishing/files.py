"""Which local files an upload takes, and what they are called in the repository."""

import hashlib
import io
import os
import stat
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from fledgling.artefacts import HubFile
from fledgling.errors import DataError, Unavailable, UsageError
from fledgling.files import sha256_file
from fledgling.secrets import is_secret_file

# Everything else stays here: pickled weights (.bin, .pt, .ckpt, .pkl) run code where they are loaded.
ALLOWED = frozenset(
    {".safetensors", ".json", ".jsonl", ".md", ".txt", ".yaml", ".yml", ".jinja", ".model", ".tiktoken"}
    | {".csv", ".tsv", ".parquet", ".arrow", ".html", ".svg", ".png", ".jpg", ".jpeg", ".pdf"}
)
ALLOWED_NAMES = frozenset({"LICENSE", "NOTICE", "CITATION.cff"})
ALLOWED_IN_SPACES = frozenset({".py", ".css", ".js", ".toml"})
ALLOWED_NAMES_IN_SPACES = frozenset({"Dockerfile"})


@dataclass(frozen=True)
class File:
    """One file of an upload: its path in the repository, its content (a local file or bytes), size and sha256.

    `origin` is the local file that the content is a copy of.
    """

    name: str
    content: Path | bytes
    bytes: int
    sha256: str
    origin: Path | None = None

    def open(self) -> BinaryIO:
        """The content, from its start."""
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else open(self.content, "rb")

    @property
    def git_oid(self) -> str:
        """Id of the content as a git blob (sha1, hex)."""
        total = hashlib.sha1(b"blob %d\0" % self.bytes, usedforsecurity=False)
        with self.open() as stream:
            while chunk := stream.read(1 << 20):
                total.update(chunk)
        return total.hexdigest()


@dataclass(frozen=True)
class Selection:
    """What goes, sorted by name, and the local paths inside folders that were left out."""

    files: tuple[File, ...]
    left_out: tuple[str, ...]


def local_file(name: str, path: Path) -> File:
    """A file of an upload from a local path."""
    return File(name, path, path.stat().st_size, sha256_file(path))


def copied(file: File, stack: ExitStack) -> File:
    """The same file with a private copy as its content, made from one open; bytes stay as they are.

    The copy is private and gone when `stack` closes.

    Raises:
        DataError: the file is gone, is a link or no plain file by now, or has other bytes than when it was listed.
        Unavailable: there is no room for the copy.
    """
    if isinstance(file.content, bytes):
        return file
    total, size = hashlib.sha256(), 0
    try:
        fd = os.open(file.content, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise DataError(f"{file.content}: cannot be read by now ({error.strerror}); nothing was sent") from None
    with open(fd, "rb") as source:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise DataError(f"{file.content}: no plain file; nothing was sent")
        copy = stack.enter_context(_private())
        try:
            while chunk := source.read(1 << 20):
                total.update(chunk)
                size += len(chunk)
                copy.write(chunk)
            copy.flush()
        except OSError as error:
            raise Unavailable(
                f"{file.content}: no copy could be made in {tempfile.gettempdir()} ({error.strerror}); set TMPDIR to a "
                "folder with room, then run the same command"
            ) from None
    if (total.hexdigest(), size) != (file.sha256, file.bytes):
        raise DataError(f"{file.content}: changed after it was listed; nothing was sent, run the same command")
    place = Path(f"/proc/self/fd/{copy.fileno()}")
    return replace(file, content=place if place.exists() else Path(copy.name), origin=file.content)


def _private() -> IO[bytes]:
    """A new file that this process can open by its descriptor and nobody by a name; without /proc, one of its user's."""
    nameless = os.path.isdir("/proc/self/fd")
    return tempfile.TemporaryFile() if nameless else tempfile.NamedTemporaryFile()


def generated_file(name: str, content: bytes) -> File:
    """A file of an upload that exists nowhere else."""
    return File(name, content, len(content), hashlib.sha256(content).hexdigest())


def folder_in_repo(text: str | None) -> str:
    """A folder of the repository as a prefix of names: "" or "a/b/".

    Raises:
        UsageError: it leads out of the repository or into its .git, on any system that fetches it, or has characters
            that nobody sees.
    """
    parts = [part for part in (text or "").split("/") if part not in ("", ".")]
    if not all(map(_is_plain, parts)):
        raise UsageError(f"--path-in-repo {text!r}: must be a folder inside the repository, in plain characters")
    return "".join(f"{part}/" for part in parts)


def _is_plain(name: str) -> bool:
    """Whether a name is what it looks like wherever a repository is fetched: no step up, no .git (which Windows and
    macOS also know by other spellings), no separator of Windows."""
    seen = unicodedata.normalize("NFKC", name).casefold().rstrip(" .")
    return (
        seen == seen.strip()
        and seen not in ("", ".git", "git~1")
        and name.isprintable()
        and not any(sign in f"{name}{seen}" for sign in "/\\:")
    )


def select(
    paths: Sequence[str | Path], *, path_in_repo: str | None = None, auto_subdir: bool = False, repo_type: str = "model"
) -> Selection:
    """The files that local paths (files, folders) stand for.

    A folder's content goes to `path_in_repo` as it lies; with `auto_subdir` each folder goes to a
    folder of its own name there. From folders, only allowed kinds of files are taken; hidden ones and
    symbolic links are left out. A path that is named outright and is not allowed is an error.

    Raises:
        UsageError: two paths would have the same name in the repository, or `path_in_repo` leads out of it.
        DataError: a path does not exist, is a symbolic link, is not allowed; a credential file is
            among the files; nothing is left to upload.
    """
    prefix = folder_in_repo(path_in_repo)
    chosen: dict[str, Path] = {}
    left_out: list[str] = []
    for text in paths:
        path = Path(os.path.abspath(text))
        if link := _link(path):
            raise DataError(f"{link}: a symbolic link, which is not followed; give the path that it leads to")
        if path.is_dir():
            top = prefix + (f"{path.name}/" if auto_subdir else "")
            found = {top + name: file for name, file in _walk(path, left_out, repo_type)}
        elif path.is_file():
            if is_secret_file(path.name) or not is_allowed(path.name, repo_type):
                raise DataError(f"{text}: this kind of file is not uploaded (weights as .safetensors only, no keys)")
            found = {prefix + path.name: path}
        else:
            raise DataError(f"{text}: no such file or folder")
        for name, file in found.items():
            if not all(map(_is_plain, name.split("/"))):
                raise DataError(f"{str(file)!r}: a name that other systems read otherwise; rename it")
            if chosen.setdefault(name, file) != file:
                raise UsageError(
                    f"{chosen[name]} and {file} would both become {name}; use --auto-subdir or --path-in-repo"
                )
    if not chosen:
        raise DataError(f"nothing to upload in {', '.join(map(str, paths))}: no file of an allowed kind")
    return Selection(tuple(local_file(name, chosen[name]) for name in sorted(chosen)), tuple(left_out))


def _link(path: Path) -> Path | None:
    """The first symbolic link on the way to a path: in the folder that is worked in, on all of it, else its end."""
    here = Path.cwd()
    ways = [path, *path.parents][: len(path.parts) - len(here.parts)] if path.is_relative_to(here) else [path]
    return next((way for way in reversed(ways) if way.is_symlink()), None)


def is_allowed(name: str, repo_type: str = "model") -> bool:
    """Whether a file of this name may be uploaded to a repository of this type."""
    suffix = PurePosixPath(name).suffix.lower()
    if repo_type == "space" and (suffix in ALLOWED_IN_SPACES or name in ALLOWED_NAMES_IN_SPACES):
        return True
    return suffix in ALLOWED or name in ALLOWED_NAMES


def _walk(folder: Path, left_out: list[str], repo_type: str) -> Iterator[tuple[str, Path]]:
    for entry in sorted(folder.iterdir()):
        if is_secret_file(entry.name):
            raise DataError(f"{entry}: a credential by its name; move it out of the folder")
        if (
            entry.is_symlink()
            or entry.name.startswith(".")
            or (entry.is_file() and not is_allowed(entry.name, repo_type))
        ):
            left_out.append(str(entry))
        elif entry.is_dir():
            for name, file in _walk(entry, left_out, repo_type):
                yield f"{entry.name}/{name}", file
        elif entry.is_file():
            yield entry.name, entry


def records(files: Sequence[File]) -> list[HubFile]:
    """Files as a marker lists them."""
    return [{"path": file.name, "sha256": file.sha256, "bytes": file.bytes} for file in files]
