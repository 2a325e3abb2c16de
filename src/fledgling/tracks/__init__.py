"""What the answers of a track are worth: one module a kind, what they share, and answers that need no model."""

from fledgling.tracks.registry import kind

__all__ = ["kind"]
