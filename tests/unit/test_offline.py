"""The start of a stage: libraries are imported and models loaded without the garbage collector, and only those."""

import gc

import pytest

from fledgling.models.offline import importing


def test_the_collector_is_off_while_importing_and_on_again_even_after_an_error() -> None:
    assert gc.isenabled()
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()


def test_one_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
