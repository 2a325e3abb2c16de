"""Links between splits: rows from one source record, copies of a request, near-duplicates of one."""

import json
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from fledgling.files import canonical

# Below this many words people say the same thing without having copied it ("lower the lights please").
MIN_WORDS = 6
SHINGLE = 4
PERMUTATIONS = 128
KINDS = ("record", "text", "normalised", "near_duplicate")


@dataclass(frozen=True, slots=True)
class Link:
    """Two rows of different splits that stem from one thing; `later` is in the split nearer to the test."""

    kind: str
    row: int
    later: int


def request(messages: list[dict[str, Any]]) -> str:
    """What is asked: every message but the system's, in order.

    The system message and the tools stay out: the same request under another prompt, or with other
    tools beside the right one, is still a copy.
    """
    asked = [message for message in messages if message["role"] != "system"]
    if len(asked) == 1:
        return asked[0]["content"] or ""
    return "\n".join(
        f"{message['role']}: {message['content'] or ''}"
        + (canonical(message["tool_calls"]) if message.get("tool_calls") else "")
        for message in asked
    )


def normalise(text: str) -> str:
    """Text without what does not change its meaning: case, white space, the order of JSON keys, final points."""
    text = unicodedata.normalize("NFKC", _sorted_json(text)).casefold()
    return " ".join(text.split()).rstrip(".!?… ")


_DECODER = json.JSONDecoder()
_MAX_FAILURES = 64  # braces that open no JSON are common in prose and code; a text of nothing else stays cheap


def _sorted_json(text: str) -> str:
    """Every JSON object inside a text written canonically."""
    pieces, at, failures = [], 0, 0
    start = text.find("{")
    while start >= 0 and failures < _MAX_FAILURES:
        try:
            value, end = _DECODER.raw_decode(text, start)
            pieces += [text[at:start], json.dumps(value, sort_keys=True, ensure_ascii=False)]
            at = end
        except (ValueError, RecursionError):
            failures += 1
            end = start + 1
        start = text.find("{", end)
    return "".join([*pieces, text[at:]])


def word_count(normalised: str) -> int:
    """Words of a normalised text."""
    return len(re.findall(r"\w+", normalised))


def sense(normalised: str, answer: Any) -> bytes:
    """What two near-duplicates must agree on: the answer, and the numbers in the request.

    Requests made from one template ("a table for 4 in Oslo", "a table for 2 in Rome") look alike but
    teach different answers. A copy with a word changed keeps its answer.
    """
    numbers = sorted(re.findall(r"\d+", normalised))
    said = " ".join(canonical(answer).casefold().split())
    return blake2b(f"{numbers}{said}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


def shingles(normalised: str) -> frozenset[str]:
    """The overlapping pieces of four characters of a text, punctuation left out."""
    text = f" {re.sub(r'\W+', ' ', normalised).strip()} "
    return frozenset(text[index : index + SHINGLE] for index in range(max(1, len(text) - SHINGLE + 1)))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Share of the shingles of two texts that both have, from 0 to 1."""
    return len(first & second) / len(first | second)


def same_key(kind: str, keys: "np.ndarray[Any, Any]", splits: "np.ndarray[Any, Any]") -> list[Link]:
    """Rows whose key also occurs in a later split (splits are 0 train, 1 val, 2 test, 255 none).

    One link for each such row and split, to the first row there with its key.
    """
    links = []
    for split in (0, 1):
        rows = np.flatnonzero(splits == split)
        for later in range(split + 1, 3):
            others = np.flatnonzero(splits == later)
            known, first = np.unique(keys[others], return_index=True)
            if not len(known):
                continue
            at = np.minimum(np.searchsorted(known, keys[rows]), len(known) - 1)
            hit = known[at] == keys[rows]
            links += [
                Link(kind, int(row), int(others[first[place]]))
                for row, place in zip(rows[hit], at[hit], strict=True)
            ]
    return links


def near_duplicates(
    senses: "np.ndarray[Any, Any]",
    splits: "np.ndarray[Any, Any]",
    text: Callable[[int], str],
    threshold: float,
) -> list[Link]:
    """Rows that some row of a later split is a near-duplicate of, each with one such row per split.

    `senses` holds the digest of `sense`, 0 where a row is too short to judge; `text(row)` gives the
    normalised request. Candidates come from MinHash with locality-sensitive hashing (datasketch) set
    to a lower similarity, and count when the Jaccard similarity of their shingles reaches `threshold`.
    """
    from datasketch import MinHash, MinHashLSH

    candidates = _shared(senses, splits)
    index = MinHashLSH(threshold=max(0.05, threshold - 0.15), num_perm=PERMUTATIONS)
    permutations = MinHash(num_perm=PERMUTATIONS, seed=1).permutations
    links: list[Link] = []
    for split in (2, 1, 0):
        signatures = []
        for row in np.flatnonzero(candidates & (splits == split)):
            pieces, tag = shingles(text(int(row))), senses[row].tobytes()
            signature = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=zlib.crc32, permutations=permutations)
            # The sense is part of every shingle, so that only rows with the same one can meet.
            signature.update_batch([tag + piece.encode("utf-8", "surrogatepass") for piece in pieces])
            links += _nearest(int(row), pieces, index.query(signature), senses, splits, text, threshold)
            signatures.append((int(row), signature))
        if split:
            for row, signature in signatures:
                index.insert(row, signature, check_duplication=False)
    return links


def _nearest(
    row: int,
    pieces: frozenset[str],
    found: list[int],
    senses: "np.ndarray[Any, Any]",
    splits: "np.ndarray[Any, Any]",
    text: Callable[[int], str],
    threshold: float,
) -> Iterator[Link]:
    linked: set[int] = set()
    for other in sorted(found):
        if splits[other] in linked or senses[other] != senses[row]:
            continue
        if jaccard(pieces, shingles(text(other))) >= threshold:
            linked.add(splits[other])
            yield Link("near_duplicate", row, other)


def _shared(senses: "np.ndarray[Any, Any]", splits: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Which rows have a sense that occurs in more than one split."""
    present = [np.unique(senses[(splits == split) & (senses != 0)]) for split in range(3)]
    values, counts = np.unique(np.concatenate(present), return_counts=True)
    return np.isin(senses, values[counts > 1]) & (splits < 3)
