"""Compact tables of sha256 keys: 8 bytes of a key stand for it, and whoever holds the whole key is asked."""

from array import array
from collections.abc import Callable

FREE, GONE = 0, 1  # what a slot holds instead of a place
FIRST = 2  # place 0 is kept as this
LOAD = 0.75  # the share of slots in use beyond which the table doubles


class Places:
    """A map from keys (sha256 in hex) to places (whole numbers from 0), in 21 to 43 bytes a key.

    While it grows, it takes half as much again. Keys are not kept, only their first 64 bits; `holds(place, key)` says
    whether a place is the key's, and is asked about each place whose key begins alike, so two keys are never taken for
    one.
    """

    def __init__(self, holds: Callable[[int, str], bool]) -> None:
        self._holds = holds
        self.clear()

    def __len__(self) -> int:
        return self._count

    def clear(self) -> None:
        """Forget all keys."""
        self._tags, self._slots = _zeros(16), _zeros(16)
        self._mask = 15
        self._used = self._count = 0  # slots that are not free, keys

    def get(self, key: str) -> int | None:
        """The place that was put last under a key, or None."""
        found = self._slots[self._find(key)]
        return found - FIRST if found else None

    def put(self, key: str, place: int) -> None:
        """Set the place of a key."""
        at = self._find(key)
        if self._slots[at] == FREE:
            self._tags[at] = int(key[:16], 16)
            self._count += 1
            self._used += 1
        self._slots[at] = place + FIRST
        if self._used > LOAD * self._mask:
            self._rebuild()

    def drop(self, key: str) -> None:
        """Forget a key, if it is known."""
        at = self._find(key)
        if self._slots[at] != FREE:
            self._slots[at] = GONE
            self._count -= 1

    def _find(self, key: str) -> int:
        """The slot of a key, or the free one where it would go."""
        tags, slots, mask = self._tags, self._slots, self._mask
        tag = int(key[:16], 16)
        at = tag & mask
        while (found := slots[at]) != FREE:
            if tags[at] == tag and found != GONE and self._holds(found - FIRST, key):
                break
            at = (at + 1) & mask
        return at

    def _rebuild(self) -> None:
        """Move all keys to a table with room for as many again."""
        before = zip(self._tags, self._slots, strict=True)
        size = 16
        while self._count >= size // 2:
            size *= 2
        tags, slots, mask = _zeros(size), _zeros(size), size - 1
        for tag, found in before:
            if found > GONE:
                at = tag & mask
                while slots[at]:
                    at = (at + 1) & mask
                tags[at], slots[at] = tag, found
        self._tags, self._slots, self._mask, self._used = tags, slots, mask, self._count


class Keys:
    """A set of keys (sha256 in hex), in 53 to 79 bytes a key."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._places = Places(lambda place, key: self._digests[place : place + 32] == bytes.fromhex(key))

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return bool(self._digests) and self._places.get(key) is not None

    def add(self, key: str) -> None:
        """Put a key into the set."""
        if key not in self:
            self._places.put(key, len(self._digests))
            self._digests += bytes.fromhex(key)


def _zeros(size: int) -> "array[int]":
    return array("Q", (0,)) * size
