"""The kinds of track by name."""

from fledgling.errors import UsageError
from fledgling.records import KINDS
from fledgling.tracks.kinds import Kind


def kind(name: str) -> Kind:
    """The kind of that name; its module is imported only now, since the other kind's takes time to load.

    Raises:
        UsageError: there is none.
    """
    if name == "structured":
        from fledgling.tracks import structured

        return structured.KIND
    if name == "toolcall":
        from fledgling.tracks import toolcall

        return toolcall.KIND
    raise UsageError(f"no kind of track is called {name!r}; there are {' and '.join(KINDS)}")
