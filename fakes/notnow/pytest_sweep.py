"""`@pytest.mark.notnow("smtp/healthy", sweep=True)`: a test of each cell of a sweep, after the healthy test.

The healthy test runs first, as pytest has collected it; what its client did there is known only then. So the tests of the
cells are made and run behind it, each with its own name, fixtures and report.

The plugin registers this where a test asks for it.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from _pytest import python as pytest_python
from _pytest.runner import runtestprotocol

from notnow.pytest_run import CELL, SWEPT

if TYPE_CHECKING:
    from notnow.chaos.cells import Base, Cell
    from notnow.chaos.outcomes import Healthy, Played
    from notnow.conduct.reading.result import Exit
    from notnow.servers.base.fake import Fake

TIMEOUT = 10.0  # real seconds before a fake hangs up on a client that waits for ever

_sound: pytest.StashKey[Healthy] = pytest.StashKey()
_healthy = pytest.StashKey[str]()  # the name of the healthy test


def asks(item: pytest.Item) -> bool:
    """True if the marker of a test asks for a sweep, and the test is not that of a cell."""
    return CELL not in item.stash and any(mark.kwargs.get("sweep") for mark in item.iter_markers("notnow"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run the healthy test and, if it passes, those of the cells."""
    if not asks(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    # What has a wider scope than the test stays: the next item is a sibling, whatever it is.
    reports = runtestprotocol(item, nextitem=item.parent, log=True)  # type: ignore[arg-type]
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    tests = _tests(item) if all(report.passed for report in reports) else []
    item.session.testscollected += len(tests)
    place = item.session.items.index(item)
    for i, test in enumerate(tests):
        item.session.items[place] = test  # where pytest-xdist looks for the name of a test that reports
        test.ihook.pytest_runtest_protocol(item=test, nextitem=tests[i + 1] if i + 1 < len(tests) else nextitem)
    item.session.items[place] = item
    if not tests:
        item.session._setupstate.teardown_exact(nextitem)
    return True


def _tests(item: pytest.Item) -> list[pytest.Item]:
    """The tests of the cells."""
    from notnow.chaos import cells

    sound = item.stash[_sound]
    only = next(mark.kwargs["sweep"] for mark in item.iter_markers("notnow") if mark.kwargs.get("sweep"))
    planned = cells.plan(_base(item.stash[SWEPT]), sound.steps, only if only is not True else ())
    wanted: Collection[str] = item.config.getoption("notnow_cells")
    return [_test(item, cell, sound) for cell in planned.cells if not wanted or cell.id in wanted]


def _base(fake: Fake) -> Base:
    from notnow.chaos.cells import base_of

    return base_of(fake.scenario)


def _test(item: pytest.Item, cell: Cell, sound: Healthy) -> pytest.Item:
    """The same test under another name, for this cell."""
    before = getattr(item, "callspec", None)
    ids = [*before._idlist, cell.id] if before is not None else [cell.id]
    callspec = replace(before, _idlist=ids) if before is not None else _call_spec()(_idlist=ids)
    original = getattr(item, "originalname", item.name)
    made: pytest.Item = type(item).from_parent(
        item.parent,  # type: ignore[arg-type]
        name=f"{original}[{'-'.join(ids)}]",
        originalname=original,
        callspec=callspec,
        callobj=getattr(item, "obj", None),
        fixtureinfo=getattr(item, "_fixtureinfo", None),
    )
    made.own_markers[:] = item.own_markers
    made.stash[CELL], made.stash[_sound], made.stash[_healthy] = cell, sound, item.nodeid
    return made


def _call_spec() -> Any:
    """The class of pytest for the parameters of a test; it was called CallSpec2 before pytest 9.2."""
    return getattr(pytest_python, "CallSpec", None) or pytest_python.CallSpec2


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Judge what the client did: in the healthy test that all is well, in that of a cell that nothing went wrong."""
    fake = item.stash.get(SWEPT, None)
    if fake is None:
        return (yield)
    from notnow.chaos import contents, outcomes
    from notnow.chaos.playing import hung_up

    with hung_up(fake, TIMEOUT) as hung:
        result = yield
    played = _played(fake, bool(hung))
    cell = item.stash.get(CELL, None)
    if cell is None:
        sound = item.stash[_sound] = outcomes.healthy(played, fake.scenario, None)
        if sound.failure:
            pytest.fail(f"the client fails without any fault: {sound.failure}", pytrace=False)
        return result
    sound = item.stash[_sound]
    short = contents.shortened(played.run, contents.usual([sound.played.run]))
    outcome = outcomes.outcome(cell, played, sound, short=short)
    if outcome.word == "not reached":
        pytest.skip(outcome.sentence)
    if outcome.bad:
        pytest.fail(_told(outcome, item), pytrace=False)
    return result


def _played(fake: Fake, hung: bool) -> Played:
    from notnow.chaos.outcomes import Played
    from notnow.conduct.reading.result import Exit
    from notnow.conduct.reading.run import Run

    fake.settle()
    noted: Exit = fake._ended if fake._ended.good is not None else Exit(0)
    return Played(Run([fake.journal], [fake.scenario]), Exit(hung=True) if hung else noted, 0.0)


def _told(outcome: Any, item: pytest.Item) -> str:
    broke = f"; it broke {', '.join(outcome.broken)}" if outcome.broken else ""
    exposed = "; in clear text, although it goes over TLS without the fault" if outcome.exposed else ""
    again = shlex.join(["pytest", item.stash[_healthy], "--notnow-cell", outcome.cell.id])
    return f"{outcome.cell.in_words}: {outcome.sentence}{exposed}{broke}\nagain: {again}"
