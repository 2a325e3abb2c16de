"""Which split a row belongs to: by its group, through a keyed hash, so that adding rows moves none."""

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

SPLITS = ("train", "val", "test")
# Public data sets whose ids show the record that a row was derived from.
_RECORDS = {
    "sgd": re.compile(r"(.+)_\d+"),  # one dialogue, cut at several turns
    "bfcl_v4": re.compile(r"(bfcl_live_[a-z_]+)_\d+-(\d+)-\d+"),  # one contributed set of tools, asked several ways
}


def position(key: str, group: str) -> float:
    """Where a group lies in [0, 1): the same for the same key and group, uniform over groups."""
    salt = blake2b(key.encode(), digest_size=32).digest()
    hashed = blake2b(group.encode("utf-8", "surrogatepass"), digest_size=8, key=salt).digest()
    return (int.from_bytes(hashed, "big") >> 11) / (1 << 53)


def choose(at: float, shares: Mapping[str, float]) -> str:
    """The split that holds a position: train from 0 on, then val, then test.

    `shares` has a fraction per split; they add up to 1. A position that rounding leaves over goes
    to the last split with a share.
    """
    end, last = 0.0, SPLITS[0]
    for name in SPLITS:
        if shares.get(name, 0.0) > 0:
            end, last = end + shares[name], name
            if at < end:
                return name
    return last


def before_test(shares: Mapping[str, float]) -> dict[str, float]:
    """Shares of train and val alone, in the same proportion, for rows that are older than the test."""
    both = shares["train"] + shares["val"]
    return {"train": shares["train"] / both, "val": shares["val"] / both}


def record(source: str | None, identity: str, answer: str) -> str | None:
    """The source record of a row of a data set that is known, None for others.

    `answer` is the answer's canonical text: E2E has several texts for one meaning, the answer.
    """
    if source == "e2e_nlg":
        return "e2e-" + blake2b(answer.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    pattern = _RECORDS.get(source or "")
    match = pattern.fullmatch(identity) if pattern else None
    return "_".join(match.groups()) if match else None


def opening(messages: list[dict[str, Any]]) -> str:
    """What the first user message says: the group of rows that name no source record.

    The first and not the last, because rows cut from one dialogue share it, and because the last is
    often "yes, please" in dialogues that have nothing else in common.
    """
    return next((message["content"] for message in messages if message["role"] == "user"), "")
