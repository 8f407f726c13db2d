"""A journal that goes to another process and comes back is the same, and is judged the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from tests.truth import ftp, http, smtp
from tests.truth.wire import Wire

from notnow import ManualClock
from notnow.conduct.judging import judge
from notnow.conduct.reading.run import Run
from notnow.journal import Journal, transport
from notnow.journal.transport import pack, unpack


def packed(journal: Journal) -> Any:
    return json.loads("".join(pack(journal)))


def there_and_back(journal: Journal) -> Journal:
    return unpack(packed(journal), journal.clock)


@pytest.mark.parametrize("kind", [smtp, ftp, http], ids=["smtp", "ftp", "http"])
def test_it_is_the_same_and_judged_the_same(kind, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(transport, "PIECE", 3)

    @seed(1)
    @settings(
        max_examples=60, phases=[Phase.generate], deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        program, scenario = data.draw(kind.programs), data.draw(kind.scenarios)
        wire, _ = kind.play(program, scenario)
        assert isinstance(wire, Wire)
        mine = wire.recorder.journal
        yours = there_and_back(mine)
        assert packed(yours) == packed(mine)
        assert list(yours.as_dicts()) == list(mine.as_dicts())
        verdicts = [
            [(v.rule.id, v.outcome, v.finding.why) for v in judge(Run([j], [wire.scenario]))] for j in (mine, yours)
        ]
        assert verdicts[0] == verdicts[1]

    check()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "this is no journal"),
        ([], "this is no journal"),
        ({**packed(Journal(ManualClock())), "version": 99}, "the journal is of version 99; allowed: 1"),
        ({**packed(Journal(ManualClock())), "exchanges": [{"connection": 7}]}, "this is no journal"),
        ({**packed(Journal(ManualClock())), "exchanges": [{"connection": []}]}, "this is no journal"),
    ],
)
def test_what_is_no_journal(data: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        unpack(data, ManualClock())
