"""Links between splits: rows from one source record, copies of a request, near-duplicates of one."""

import json
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from fledgling.data.table import NOWHERE, Column, Table, hash64
from fledgling.files import canonical

# Below this many words people say the same thing without having copied it ("lower the lights please").
MIN_WORDS = 6
SHINGLE = 4
PERMUTATIONS = 128
CHUNK = 8192  # rows whose signatures are compared at once
BUCKET = 100  # more rows than this share a band only where they are one text many times over
KINDS = ("record", "text", "normalised", "near_duplicate")


@dataclass(frozen=True, slots=True)
class Link:
    """Two rows of different splits that stem from one thing; `later` is in the split nearer to the test.

    Splits are 0 train, 1 val, 2 test.
    """

    kind: str
    row: int
    split: int
    later: int
    later_split: int


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
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_sorted_json(folded).split()).rstrip(".!? ")


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


def sense(normalised: str, answer: Any) -> int:
    """Digest of what two near-duplicates must agree on: the answer, and the numbers in the request; never 0.

    Requests made from one template ("a table for 4 in Oslo", "a table for 2 in Rome") look alike but
    teach different answers. A copy with a word changed keeps its answer.
    """
    numbers = sorted(re.findall(r"\d+", normalised))
    said = " ".join(canonical(answer).casefold().split())
    return hash64(f"{numbers}{said}") or 1


def shingles(normalised: str) -> frozenset[str]:
    """The overlapping pieces of four characters of a text, punctuation left out."""
    text = " " + re.sub(r"\W+", " ", normalised).strip() + " "
    return frozenset(text[index : index + SHINGLE] for index in range(max(1, len(text) - SHINGLE + 1)))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Share of the shingles of two texts that both have, from 0 to 1."""
    return len(first & second) / len(first | second)


def find(table: Table, threshold: float | None, text: Callable[[int], str]) -> list[Link]:
    """Every row that something links to a later split: one link for each such row and split.

    It has the first kind that applies: record (one group), text, normalised, near_duplicate (not
    looked for where `threshold` is None). `text(row)` gives a row's normalised request.
    """
    found: dict[tuple[int, int], Link] = {}
    splits = table["split"]
    exact = [
        link
        for kind, column in (("record", "group"), ("text", "text"), ("normalised", "normalised"))
        for link in _same_key(kind, table[column], splits)
    ]
    near = [] if threshold is None else _near_duplicates(table["sense"], splits, threshold, text)
    for link in [*exact, *near]:
        found.setdefault((link.row, link.later_split), link)
    return sorted(found.values(), key=lambda link: (KINDS.index(link.kind), link.row, -link.later_split))


def _same_key(kind: str, keys: Column, splits: Column) -> list[Link]:
    """Rows whose key also occurs in a later split, each with the first row there that has it."""
    links = []
    for split, later in ((0, 1), (0, 2), (1, 2)):
        rows, others = np.flatnonzero(splits == split), np.flatnonzero(splits == later)
        known, first = np.unique(keys[others], return_index=True)
        if len(known):
            at = np.minimum(np.searchsorted(known, keys[rows]), len(known) - 1)
            hit = known[at] == keys[rows]
            pairs = zip(rows[hit].tolist(), others[first[at[hit]]].tolist(), strict=True)
            links += [Link(kind, row, split, other, later) for row, other in pairs]
    return links


def _near_duplicates(senses: Column, splits: Column, threshold: float, text: Callable[[int], str]) -> list[Link]:
    """Rows with a near-duplicate in a later split, each with the first such row there.

    A sense of 0 marks a row that is too short to judge. Candidates share a band of their MinHash
    signatures (datasketch); what counts is the true Jaccard similarity of their shingles.
    """
    candidates = _in_several_splits(senses, splits)
    if not candidates.any():
        return []
    signer = _Signer(threshold)
    links: list[Link] = []
    later: list[list[tuple[Column, Column]]] = []  # for each split nearer to the test, its bands as _meeting takes them
    for split in (2, 1, 0):
        rows = np.flatnonzero(candidates & (splits == split))
        blocks = []
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            bands = np.stack([signer.bands(shingles(text(row)), senses[row].tobytes()) for row in chunk.tolist()])
            for others in later:
                links += _verified(_meeting(chunk, bands, others), senses, splits, threshold, text)
            blocks.append(bands)
        if split and blocks:
            columns = np.concatenate(blocks).T
            later.append(
                [(column[order], rows[order]) for column in columns for order in [np.argsort(column, kind="stable")]]
            )
    return links


class _Signer:
    """MinHash signatures cut into bands: texts at least as similar as the threshold share one, almost surely."""

    def __init__(self, threshold: float):
        from datasketch import MinHash

        self.blank = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=zlib.crc32)
        # The widest band, hence the fewest chance meetings, that misses one pair in a thousand at most.
        self.width = max(
            (width for width in range(1, 33) if (1 - threshold**width) ** (PERMUTATIONS // width) <= 0.001), default=1
        )
        self.factors = np.random.default_rng(1).integers(1, 1 << 63, self.width, dtype=np.uint64) | np.uint64(1)

    def bands(self, pieces: Iterable[str], tag: bytes) -> Column:
        """One 64-bit number a band; `tag` is part of every piece, so that only rows with the same one meet."""
        signature = self.blank.copy()
        signature.update_batch([tag + piece.encode("utf-8", "surrogatepass") for piece in pieces])
        count = PERMUTATIONS // self.width
        values = signature.hashvalues[: count * self.width].astype(np.uint64).reshape(count, self.width)
        return (values * self.factors).sum(axis=1, dtype=np.uint64)


def _meeting(rows: Column, bands: Column, others: list[tuple[Column, Column]]) -> list[tuple[int, int]]:
    """Pairs of a row and another that share a band, sorted; of a band that many share, the first BUCKET others.

    `others` holds per band the sorted numbers and the rows that they belong to.
    """
    pairs: set[tuple[int, int]] = set()
    for mine, (known, owners) in zip(bands.T, others, strict=True):
        first = np.searchsorted(known, mine, "left")
        last = np.minimum(np.searchsorted(known, mine, "right"), first + BUCKET)
        for at in np.flatnonzero(first < last):
            pairs.update((int(rows[at]), int(other)) for other in owners[first[at] : last[at]])
    return sorted(pairs)


def _verified(
    pairs: list[tuple[int, int]], senses: Column, splits: Column, threshold: float, text: Callable[[int], str]
) -> Iterator[Link]:
    """The first pair of each row whose texts are similar enough."""
    for row, found in groupby(pairs, key=itemgetter(0)):
        pieces = shingles(text(row))
        for _, other in found:
            if senses[row] == senses[other] and jaccard(pieces, shingles(text(other))) >= threshold:
                yield Link("near_duplicate", row, int(splits[row]), other, int(splits[other]))
                break


def _in_several_splits(senses: Column, splits: Column) -> Column:
    """Which rows have a sense that rows of more than one split have."""
    present = [np.unique(senses[(splits == split) & (senses != 0)]) for split in range(3)]
    values, counts = np.unique(np.concatenate(present), return_counts=True)
    return np.isin(senses, values[counts > 1]) & (splits != NOWHERE)
