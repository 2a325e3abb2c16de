"""About how many tokens a text has, without a tokenizer: for limits, prices and plans."""

import math
import re

# Subword tokenizers cut a word about every six letters, a number every three digits, and keep most signs single.
PIECE = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_", re.UNICODE)


def text_tokens(text: str) -> int:
    """About how many tokens a text has; no tokenizer is asked, so this needs no download."""
    return sum(_piece_tokens(piece) for piece in PIECE.findall(text))


def _piece_tokens(piece: str) -> int:
    if piece.isdigit():
        return math.ceil(len(piece) / 3)
    return math.ceil(len(piece) / 6) if piece.isascii() else math.ceil(len(piece.encode("utf-8", "surrogatepass")) / 4)
