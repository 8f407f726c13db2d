"""The table `[expect]`: what its keys may have, and what a value alone stands for."""

from __future__ import annotations

from typing import Any

import pytest

from notnow.errors import ScenarioError
from notnow.language.expect import Asked, Delivered, Expect
from notnow.language.loading import loads
from playbook import document, phase


def expect(**keys: Any) -> Expect:
    return loads(document(phase(), expect=keys)).expect


def test_delivered_is_once_unless_it_says_how_often() -> None:
    assert expect(delivered={"level": "should"}).delivered == Delivered(level="should", times=1)
    assert expect(delivered={"times": 2}).delivered == Delivered(level="must", times=2)


def test_what_is_asked_may_be_a_word_or_a_table() -> None:
    assert expect(no_duplicates=True).no_duplicates == Asked(level="must", asked=True)
    assert expect(no_duplicates={"level": "advice"}).no_duplicates == Asked(level="advice", asked=True)
    assert expect(no_duplicates=False).no_duplicates == Asked(asked=False)


@pytest.mark.parametrize("delivered", [0, {"times": 0}, {"level": "perhaps"}, {"often": 2}])
def test_a_value_that_it_cannot_have(delivered: Any) -> None:
    with pytest.raises(ScenarioError, match=r"expect\.delivered"):
        expect(delivered=delivered)
