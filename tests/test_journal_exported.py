"""A journal that was exported as JSON Lines and is read again has the same entries, and the same waits."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from tests.truth import ftp, http, smtp
from tests.truth.wire import Line, Wire

from notnow import ManualClock
from notnow.conduct.reading.comebacks import comebacks
from notnow.conduct.reading.run import Run
from notnow.journal import Journal, exported
from playbook import document


def lines(journal: Journal) -> list[str]:
    out = io.StringIO()
    out.write(json.dumps({"event": "listening", "name": journal.server, "protocol": journal.protocol}) + "\n")
    journal.export(out)
    return out.getvalue().splitlines()


def there_and_back(journal: Journal) -> Journal:
    (found,) = exported.journals(lines(journal), ManualClock())
    return found


def delays(journal: Journal) -> list[float]:
    return [one.delay for one in comebacks(Run([journal])).longest]


@pytest.mark.parametrize("kind", [smtp, ftp, http], ids=["smtp", "ftp", "http"])
def test_it_has_the_same_exchanges_and_the_same_waits(kind) -> None:  # type: ignore[no-untyped-def]
    @seed(1)
    @settings(
        max_examples=60, phases=[Phase.generate], deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        program, scenario = data.draw(kind.programs), data.draw(kind.scenarios)
        mine = kind.play(program, scenario)[0].recorder.journal
        yours = there_and_back(mine)
        assert [one.as_dict() for one in yours.exchanges] == [one.as_dict() for one in mine.exchanges]
        ended = {one.number: one.as_dict() for one in mine.connections if one.ended_by}
        assert {one.number: one.as_dict() for one in yours.connections if one.ended_by} == ended
        assert delays(yours) == pytest.approx(delays(mine), abs=1e-3)

    check()


def test_an_exchange_that_has_grown_counts_once() -> None:
    wire = Wire(document(), "smtp")
    wire.connect(Line).leave()
    told = lines(wire.recorder.journal)
    (found,) = exported.journals([*told, *told], ManualClock())
    assert [one.moment for one in found.exchanges] == ["connect"]


def test_servers_have_journals_of_their_own_and_other_lines_are_left_out() -> None:
    told = ["a word of the client", "{", "[1]", '{"event": "later"}', '{"event": "dropped", "count": 3}']
    for name in ("a", "b"):
        wire = Wire(document(), "smtp")
        wire.connect(Line)
        told += [json.dumps(json.loads(line) | {"name": name, "server": name}) for line in lines(wire.recorder.journal)]
    found = exported.journals(told, ManualClock())
    assert [(one.server, len(one), one.dropped) for one in found] == [("a", 1, 3), ("b", 1, 3)]


PLAYED = '{"event": "play", "index": 1, "server": "a", "protocol": "smtp"}'
WALL = '"wall": "2024-01-01T00:00:00+00:00"'
ASKED = f'"event": "exchange", "server": "a", "index": 2, "at": 0, "connection": 1, "client": "x", "moment": "connect", {WALL}'


@pytest.mark.parametrize(
    "entry",
    [
        '{"event": "exchange", "server": "a"}',
        f'{{{ASKED}, "facts": true}}',
        f'{{{ASKED}, "index": null}}',
        f'{{{ASKED}, "connection": {{}}}}',
        f'{{{ASKED}, "client": []}}',
        f'{{{ASKED}, "wall": 7}}',
        f"{{{ASKED.replace('wall', 'walls')}}}",
        f'{{{ASKED}, "after": 1}}'.replace("exchange", "closed"),
    ],
)
def test_an_impossible_entry_is_refused_with_a_reason(entry: str) -> None:
    with pytest.raises(ValueError, match=r"this is no entry of a journal|lacks '|this is no journal"):
        exported.journals([PLAYED, entry], ManualClock())
