"""A seal inside a text file: the sha256 of all its other bytes, so that one edited byte is noticed by who reads it."""

import hashlib
import os
from dataclasses import dataclass

KEY = "seal"
_HEX = 64


@dataclass(frozen=True, slots=True)
class Form:
    """What stands before and after the digest, at the very end of a file."""

    before: bytes
    after: bytes

    @property
    def size(self) -> int:
        """Bytes of a seal."""
        return len(self.before) + _HEX + len(self.after)


JSON = Form(b'  "seal": "', b'"\n}\n')
HTML = Form(b"<!-- seal: ", b" -->\n")


def form_of(path: str | os.PathLike[str]) -> Form:
    """How a file of this name is sealed."""
    return HTML if os.fspath(path).endswith(".html") else JSON


def sealed_json(text: str) -> str:
    """The text of an indented JSON object, with its seal as the last key."""
    body = text.removesuffix("\n}\n")
    return sealed(f"{body}{',' if body != text else ''}\n", JSON)


def sealed(text: str, form: Form) -> str:
    """A text with its seal at the end."""
    head = text.encode() + form.before
    return f"{text}{form.before.decode()}{hashlib.sha256(head + form.after).hexdigest()}{form.after.decode()}"


def problem(data: bytes, form: Form) -> str | None:
    """Why a file's bytes are not those that were sealed; None where they are."""
    place = len(data) - len(form.after) - _HEX
    head, digest, tail = data[: max(place, 0)], data[max(place, 0) : place + _HEX], data[place + _HEX :]
    if place < 0 or tail != form.after or not head.endswith(form.before):
        return "has no seal at its end (edited by hand, cut off, or made by an earlier version)"
    if hashlib.sha256(head + tail).hexdigest().encode() != digest:
        return "its bytes are not those that its seal vouches for (edited by hand, or damaged)"
    return None
