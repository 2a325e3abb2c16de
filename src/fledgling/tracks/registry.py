"""The kinds of track by name."""

from fledgling.errors import UsageError
from fledgling.records import KINDS
from fledgling.tracks import structured, toolcall
from fledgling.tracks.kinds import Kind


def kind(name: str) -> Kind:
    """The kind of that name.

    Raises:
        UsageError: there is none.
    """
    if name == "structured":
        return structured.KIND
    if name == "toolcall":
        return toolcall.KIND
    raise UsageError(f"no kind of track is called {name!r}; there are {' and '.join(KINDS)}")
