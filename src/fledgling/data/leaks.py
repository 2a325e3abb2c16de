"""Links between rows: one source record, copies of a request, near-duplicates of one; between splits and within them."""

import html
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
WORDS_A_CHARACTER = 0.6  # in scripts that put no spaces between words: six words are ten characters
SHINGLE = 4
DENSE_SHINGLE = 2  # in those scripts, where a character says as much as half a word
JUDGED = 20_000  # characters of a request that near-duplicates are looked for in
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
    """Text without what does not change its meaning: case, white space, invisible characters, vowel points of Arabic and
    Hebrew, HTML's escapes, the order of JSON keys, final points; digits of every script as 0 to 9."""
    text = html.unescape(text) if "&" in text else text
    folded = text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    visible = folded if folded.isascii() else _INVISIBLE.sub("", folded).replace("ı", "i")
    visible = visible if visible.isascii() else _DIGIT.sub(lambda digit: str(unicodedata.digit(digit[0])), visible)
    return " ".join(_sorted_json(visible).split()).rstrip(_FINAL)


_DIGIT = re.compile(r"[^\D0-9]")
_FINAL = ".!?。！？…｡︒．؟۔।॥։።~ "
# Also the dot that small letters of Turkish keep, and points that are written in some texts and left out in most.
_POINTS = "\u0307\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed"
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff"
    + _POINTS
    + "]"
)
# Kana, Han, and Hangul, whose spaces are often left out.
_DENSE = "\u3041-\u309f\u30a1-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
_DENSE_CHARACTER = re.compile(f"[{_DENSE}]")
_ACCENT = re.compile("[\u0300-\u036f]")
_BETWEEN = re.compile(f"(?<=[{_DENSE}]) (?=[{_DENSE}])")
_RUNS = re.compile(f"[{_DENSE}]+|[^{_DENSE}]+")


_DECODER = json.JSONDecoder()
_MAX_VALUES = 2_000  # objects of one text that are sorted
_MAX_FAILURES = 64  # braces that open no JSON are common in prose and code; a text of nothing else stays cheap


def _sorted_json(text: str) -> str:
    """Every JSON object inside a text written canonically."""
    pieces: list[str] = []
    at, failures = 0, 0
    start = text.find("{")
    while start >= 0 and failures < _MAX_FAILURES and len(pieces) < 2 * _MAX_VALUES:
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
    """Words of a normalised text; where a script puts no spaces between them, as many as its characters make."""
    if normalised.isascii():
        return len(_WORD.findall(normalised))
    spaced, dense = _DENSE_CHARACTER.subn(" ", normalised)
    return len(_WORD.findall(spaced)) + int(dense * WORDS_A_CHARACTER)


_WORD = re.compile(r"\w+")


def sense(normalised: str, answer: Any) -> int:
    """Digest of what two near-duplicates must agree on: the answer, and the numbers in the request; never 0.

    Requests made from one template ("a table for 4 in Oslo", "a table for 2 in Rome") look alike but
    teach different answers. A copy with a word changed keeps its answer.
    """
    numbers = sorted(re.findall(r"\d+", normalised))
    said = " ".join(canonical(answer).casefold().split())
    return hash64(f"{numbers}{said}") or 1


def shingles(normalised: str) -> frozenset[str]:
    """The overlapping pieces of a text, punctuation and accents left out: of four characters, of two in scripts without
    spaces."""
    text = " " + re.sub(r"\W+", " ", normalised[:JUDGED]).strip() + " "
    if not text.isascii():
        text = unicodedata.normalize("NFC", _ACCENT.sub("", unicodedata.normalize("NFKD", text)))
        text = _BETWEEN.sub("", text)
    if text.isascii():
        return frozenset(text[index : index + SHINGLE] for index in range(max(1, len(text) - SHINGLE + 1)))
    pieces: set[str] = set()
    for run in _RUNS.finditer(text):
        width = DENSE_SHINGLE if _DENSE_CHARACTER.match(run[0]) else SHINGLE
        start, end = max(0, run.start() - 1), min(len(text), run.end() + 1)  # with its neighbours, so that order counts
        pieces.update(text[at : at + width] for at in range(start, max(start + 1, end - width + 1)))
    return frozenset(pieces)


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Share of the shingles of two texts that both have, from 0 to 1."""
    return len(first & second) / len(first | second)


@dataclass(frozen=True, slots=True)
class Found:
    """Links between splits, and pairs of near-duplicates within one (row, earlier row)."""

    links: list[Link]
    within: list[tuple[int, int]]


def find(table: Table, threshold: float | None, text: Callable[[int], str]) -> Found:
    """Every row that something links to a later split: one link for each such row and split; and the near-duplicates
    within each split, as many pairs as it takes to connect all of them.

    A link has the first kind that applies: record (one group), text, normalised, near_duplicate (not looked for where
    `threshold` is None). `text(row)` gives a row's normalised request.
    """
    found: dict[tuple[int, int], Link] = {}
    splits = table["split"]
    exact = [
        link
        for kind, column in (("record", "group"), ("text", "text"), ("normalised", "normalised"))
        for link in _same_key(kind, table[column], splits)
    ]
    near = Found([], []) if threshold is None else _near_duplicates(table["sense"], splits, threshold, text)
    for link in [*exact, *near.links]:
        found.setdefault((link.row, link.later_split), link)
    links = sorted(found.values(), key=lambda link: (KINDS.index(link.kind), link.row, -link.later_split))
    return Found(links, near.within)


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


def _near_duplicates(senses: Column, splits: Column, threshold: float, text: Callable[[int], str]) -> Found:
    """Rows with a near-duplicate in a later split, each with the first such row there, and the pairs within a split.

    A sense of 0 marks a row that is too short to judge. Candidates share a band of their MinHash signatures
    (datasketch); what counts is the true Jaccard similarity of their shingles.
    """
    candidates = _with_company(senses, splits)
    found = Found([], [])
    if not candidates.any():
        return found
    signer = _Signer(threshold)
    bands_of: list[tuple[Column, Column]] = []  # rows of the splits nearer to the test, and their bands
    for split in (2, 1, 0):
        rows = np.flatnonzero(candidates & (splits == split))
        if not len(rows):
            continue
        bands = np.stack([signer.bands(shingles(text(row)), senses[row].tobytes()) for row in rows.tolist()])
        for others, other_bands in bands_of:
            for start in range(0, len(rows), CHUNK):
                part = slice(start, start + CHUNK)
                meeting = _meeting(rows[part], bands[part], others, other_bands)
                found.links.extend(_verified(meeting, senses, splits, threshold, text))
        found.within.extend(_connected(rows, bands, senses, threshold, text))
        bands_of.append((rows, bands))
    return found


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
        encoded = [tag + piece.encode("utf-8", "surrogatepass") for piece in pieces]
        for start in range(0, len(encoded), 4096):  # the library makes a table of all pieces times all permutations
            signature.update_batch(encoded[start : start + 4096])
        count = PERMUTATIONS // self.width
        values = signature.hashvalues[: count * self.width].astype(np.uint64).reshape(count, self.width)
        return (values * self.factors).sum(axis=1, dtype=np.uint64)


def _meeting(rows: Column, bands: Column, others: Column, other_bands: Column) -> list[tuple[int, int]]:
    """Pairs of a row and another that share a band, sorted; of a band that many share, the first BUCKET others."""
    pairs: set[tuple[int, int]] = set()
    for mine, column in zip(bands.T, other_bands.T, strict=True):
        order = np.argsort(column, kind="stable")
        known, owners = column[order], others[order]
        first = np.searchsorted(known, mine, "left")
        last = np.minimum(np.searchsorted(known, mine, "right"), first + BUCKET)
        for at in np.flatnonzero(first < last):
            pairs.update((int(rows[at]), int(other)) for other in owners[first[at] : last[at]])
    return sorted(pairs)


def _connected(
    rows: Column, bands: Column, senses: Column, threshold: float, text: Callable[[int], str]
) -> Iterator[tuple[int, int]]:
    """Pairs (row, earlier row) of near-duplicates in one split that together connect all of them.

    Rows that are connected already are not compared again, so that a thousand copies cost about a thousand
    comparisons; a row is compared with the first BUCKET others of a band at most.
    """
    joined = Joined(len(rows))
    for column in bands.T:
        order = np.argsort(column, kind="stable")
        values = column[order]
        for bucket in np.split(order, np.flatnonzero(values[1:] != values[:-1]) + 1):
            earlier: list[int] = []
            for at in bucket.tolist() if len(bucket) > 1 else ():
                pieces: frozenset[str] | None = None
                for other in earlier:
                    if joined.find(at) == joined.find(other):
                        continue
                    row, first = int(rows[at]), int(rows[other])
                    pieces = shingles(text(row)) if pieces is None else pieces
                    if senses[row] == senses[first] and jaccard(pieces, shingles(text(first))) >= threshold:
                        joined.join(at, other)
                        yield max(row, first), min(row, first)
                if len(earlier) < BUCKET:
                    earlier.append(at)


class Joined:
    """Sets of numbers that grow together (union–find); a set is called by its smallest number."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def find(self, number: int) -> int:
        """What the set of a number is called."""
        above = self._above
        while above[number] != number:
            above[number] = above[above[number]]
            number = above[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Make the sets of two numbers one."""
        low, high = sorted((self.find(one), self.find(other)))
        self._above[high] = low


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


def _with_company(senses: Column, splits: Column) -> Column:
    """Which rows have a sense that another row has too."""
    judged = (senses != 0) & (splits != NOWHERE)
    values, counts = np.unique(senses[judged], return_counts=True)
    return np.isin(senses, values[counts > 1]) & judged
