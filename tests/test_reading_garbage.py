"""No garbage is collected while a long journal is read."""

from __future__ import annotations

import gc

import pytest

from notnow.garbage import uncollected


def test_the_collector_rests_meanwhile_and_goes_on_after_an_error() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="x"), uncollected():
        raise ValueError("x")
    assert gc.isenabled()


def test_one_that_the_caller_has_switched_off_stays_off() -> None:
    gc.disable()
    try:
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
