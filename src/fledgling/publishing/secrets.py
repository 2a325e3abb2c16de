"""Finding credentials in files before they leave the machine."""

import json
import mmap
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Patterns start with a fixed text, so that a scan of a large file stays a search for that text.
RULES: Mapping[str, re.Pattern[bytes]] = {
    "Hugging Face token": re.compile(rb"hf_[A-Za-z0-9]{20,}"),
    "API key (sk-…)": re.compile(rb"sk-(?<![A-Za-z0-9]sk-)(?:(?=[\w-]*\d)[\w-]{20,}|[A-Za-z0-9]{20,})"),
    "AWS access key": re.compile(rb"A(?:KIA|SIA)(?<![A-Z0-9]A.{3})[0-9A-Z]{16}(?![0-9A-Z])"),
    "GitHub token": re.compile(rb"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,}"),
    "Google API key": re.compile(rb"AIza[A-Za-z0-9_-]{35}"),
    "private key": re.compile(rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
}
SECRET_NAME = re.compile(r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
SECRET_FILE = re.compile(
    r"\.env(?:\..*)?|.*\.(?:env|pem|key|p12|pfx|keystore|jks|ppk)|id_(?:rsa|dsa|ecdsa|ed25519)(?:\.pub)?"
    r"|\.netrc|\.pypirc|\.npmrc|\.git-credentials|credentials(?:\.json)?|stored_tokens",
    re.IGNORECASE,
)
SHORTEST = 8  # a shorter value is a placeholder, and would be found in innocent text


@dataclass(frozen=True)
class Finding:
    """A credential in a file: where it is and what it is, never its value."""

    file: str
    line: int | None
    offset: int
    rule: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line is not None else f"{self.file} at byte {self.offset}"
        return f"{place}: {self.rule}"


def secret_values(environment: Mapping[str, str]) -> dict[str, str]:
    """{variable: value} of the environment variables that hold a credential, by their names.

    Placeholders are left out: values under 8 characters, and single words under 12.
    """
    return {
        name: value.strip()
        for name, value in environment.items()
        if SECRET_NAME.search(name) and _is_secret(value.strip())
    }


def _is_secret(value: str) -> bool:
    return len(value) >= (12 if value.isalpha() else SHORTEST)


def is_secret_file(name: str) -> bool:
    """Whether a file is a credential by its name (`.env`, `id_rsa`, `server.key`, …)."""
    return SECRET_FILE.fullmatch(name) is not None


def scan(content: Path | bytes, values: Mapping[str, str], name: str) -> list[Finding]:
    """Credentials in one file (its path or its bytes), in the order in which they stand there.

    Looks for what credentials look like (RULES) and for the exact `values` ({variable: value}), in
    text and in binary files alike. `name` is what a finding calls the file.
    """
    if isinstance(content, bytes):
        return _scan(content, values, name)
    if not content.stat().st_size:
        return []
    with open(content, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return _scan(data[:].decode("utf-16", "replace").encode(), values, name)
        return _scan(data, values, name)


def _scan(data: bytes | mmap.mmap, values: Mapping[str, str], name: str) -> list[Finding]:
    found = {(match.start(), rule) for rule, pattern in RULES.items() for match in pattern.finditer(data)}
    for variable, value in values.items():
        # As it is, and as it stands inside a JSON string.
        for text in {value, json.dumps(value)[1:-1]}:
            found |= {(position, f"value of {variable}") for position in _positions(data, text.encode())}
    if not found:
        return []
    binary = data.find(b"\0") >= 0
    breaks = [] if binary else list(_positions(data, b"\n"))
    return [
        Finding(name, None if binary else bisect_right(breaks, offset) + 1, offset, rule)
        for offset, rule in sorted(found)
    ]


def _positions(data: bytes | mmap.mmap, text: bytes) -> Iterator[int]:
    position = data.find(text)
    while position >= 0:
        yield position
        position = data.find(text, position + len(text))
