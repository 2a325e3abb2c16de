"""What a reply says, without the thoughts before it and the tokens that end its turn."""

import re

from fledgling import strict_json

THOUGHTS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel|>analysis<|message|>": "<|end|>",
    "<|channel>thought": "<channel|>",
}
# What a model puts around its answer, thoughts or not.
AROUND = {"<response>": "</response>", "<|begin_of_box|>": "<|end_of_box|>"}
END_OF_TURN = (
    "<|end|>",
    "<|endoftext|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<|eom|>",
    "<|end_of_text|>",
    "<|end_of_role|>",
    "<|endofturn|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|return|>",
    "<|call|>",
    "<|user|>",
    "<|role_end|>",
    "[|endofturn|]",
    "<turn|>",
    "<|observation|>",
    "<｜end▁of▁sentence｜>",
    "<end_of_turn>",
    "<eos>",
    "</s>",
    "<pad>",
    "<|pad|>",
)
_ENDS = {token[-1] for token in END_OF_TURN}
_FINAL = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>final(?: ?<\|constrain\|>\w{1,16})?<\|message\|>")
# Harmony's other messages before the final one: more thoughts, and words between calls. One that is sent to a tool has its
# name in the header, and is a call.
_ASIDE = re.compile(r"\s{0,8}<\|start\|>assistant<\|channel\|>(?:analysis|commentary)<\|message\|>")
_TRIES = 8  # values that are read in search of the one around a closing tag: together they bound its time


def spoken(text: str) -> str:
    """The part of a checked text that is the answer.

    Leading blocks of thoughts are left out, also one that is only closed, as where the prompt has opened it (a
    closing tag inside a JSON value is a part of that value). So are tokens that end a turn, harmony's header of the
    final channel, and tags around the whole answer (Granite's).

    Raises:
        ValueError: the reply ends inside its thoughts.
    """
    start = _after_thoughts(text)
    if header := _FINAL.match(text, strict_json.skip_space(text, start)):
        start = header.end()
    said = text[start : _turn_end(text, start)]
    begin = strict_json.skip_space(said, 0)
    for opening, closing in AROUND.items():
        if said.startswith(opening, begin) and said.endswith(closing):
            return said[begin + len(opening) : -len(closing)]
    return said


def _turn_end(text: str, start: int) -> int:
    end = len(text)
    while True:
        while end > start and text[end - 1] in " \t\n\r":
            end -= 1
        if end == start or text[end - 1] not in _ENDS:
            return end
        token = next((token for token in END_OF_TURN if text.endswith(token, start, end)), None)
        if token is None:
            return end
        end -= len(token)


def is_visible(text: str) -> bool:
    """Whether a reader sees anything of a text: spaces and characters without a form are nothing."""
    return any(sign.isprintable() and not sign.isspace() for sign in text)


def _after_thoughts(text: str) -> int:
    after = 0
    while (end := _thought_end(text, after)) is not None:
        after = end
    while aside := _ASIDE.match(text, after):
        after = _end(text, "<|end|>", aside.end())
    if after:
        return after
    for closing in THOUGHTS.values():
        if closing != "<|end|>" and (at := text.find(closing)) >= 0 and not _in_value(text, at):
            return at + len(closing)
    return 0


def _thought_end(text: str, start: int) -> int | None:
    """Where the block of thoughts ends that opens at a place, spaces aside; None where none does."""
    begin = strict_json.skip_space(text, start)
    for opening, closing in THOUGHTS.items():
        if text.startswith(opening, begin):
            return _end(text, closing, begin)
    return None


def _end(text: str, closing: str, start: int) -> int:
    at = text.find(closing, start)
    if at < 0:
        raise ValueError("the reply ends inside its thoughts")
    return at + len(closing)


def _in_value(text: str, at: int) -> bool:
    """Whether a place lies inside a JSON value."""
    position = 0
    for _ in range(_TRIES):
        start = min((found for found in (text.find(mark, position, at) for mark in "{[") if found >= 0), default=None)
        if start is None:
            return False
        try:
            position = strict_json.scan(text, start)[1]
        except ValueError:
            position = start + 1
        if position > at:
            return True
    return False
