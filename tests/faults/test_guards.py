"""The list of guards: each is in the sources, each names a test, and docs/faults.md shows them all."""

import pytest

from .guards import GUARDS, Guard
from .harness import ROOT

START = "| fault | guard | test |\n|---|---|---|\n"


def table() -> str:
    """The table of docs/faults.md."""
    return START + "".join(
        f"| {guard.faults} | {guard.what} | `{guard.test.removeprefix('tests/')}` |\n" for guard in GUARDS
    )


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.faults} {guard.what}")
def test_the_guard_is_there_and_so_is_its_test(guard: Guard) -> None:
    assert guard.path(ROOT).read_text().count(guard.before) == 1
    path, _, name = guard.test.partition("::")
    assert f"def {name}" in (ROOT / path).read_text()


def test_the_documentation_shows_every_guard() -> None:
    text = (ROOT / "docs" / "faults.md").read_text()
    assert text[text.index(START) :] == table()
