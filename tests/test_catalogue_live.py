"""Every scenario of the catalogue, played over real sockets: its faults are seen in the words of its file, and a
careful client achieves what its [expect] says."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from live import SEED, SPEED, UNSEEN, Live, assert_met, promised, unseen, variants
from live_ftp import FTP
from live_http import HTTP
from live_smtp import SMTP
from notnow import ManualClock, RealClock
from notnow.conduct import expected
from notnow.conduct.pictures.timeline import render
from notnow.language import catalogue

LIVE: dict[str, Live] = {"smtp": SMTP, "ftp": FTP, "http": HTTP}


def every_variant() -> Iterator[Any]:
    for protocol, live in LIVE.items():
        for name, knobs in variants(live, protocol):
            yield pytest.param(name, knobs, id="-".join([name, *map(str, knobs.values())]))


def of(name: str) -> Live:
    return LIVE[name.partition("/")[0]]


@pytest.mark.parametrize(("name", "knobs"), list(every_variant()))
def test_its_faults_are_met_and_a_careful_client_achieves_what_is_expected(name, knobs):
    live = of(name)
    case = live.case(name)
    knobs = {**case.knobs, **knobs}
    clock = RealClock(SPEED) if case.fast else ManualClock()
    with live.fake(name, clock=clock, seed=SEED, **knobs) as fake:
        heard = case.witness(fake) if case.witness else []
        met = [x for x in fake.journal if x.rule is not None]
        if case.witness:
            fake.settle()
            fake.reset()  # what the witness lost is not the careful client's
        client = live.client(fake, case, knobs, **({"patience": 0.25} if case.times_out(knobs) else {}))
        with contextlib.ExitStack() as stack:
            others = stack.enter_context(case.holding(fake)) if case.holding else []
            if not case.stays:
                waits = client.wait
                client.wait = lambda span: (stack.close(), waits(span))
            assert live.deliver(client, case), (client.heard, client.lost)
        fake.settle()
        assert_expected(fake, live.items(case))
        said = "\n".join([*heard, *others, *client.heard])
        assert_met(live, name, knobs, client, said, [*met, *(x for x in fake.journal if x.rule is not None)])


def assert_expected(fake: Any, count: int | None) -> None:
    """The client has achieved what is expected, whether or not a fault has met it."""
    wrong = [one for one in expected.of_fake(fake, count=count) if one.outcome in ("broken", "inconclusive")]
    assert wrong == [], (*(one.finding.why for one in wrong), render([fake.journal]))


@pytest.mark.parametrize("protocol", LIVE)
def test_what_is_unseen_is_explained_and_nothing_else(protocol):
    """The lists are kept true: these have no words of a refusal, and all others have."""
    live, names = LIVE[protocol], catalogue.names(f"{protocol}/*")
    for name in names:
        speaks = unseen(name) is None and name not in live.silent
        assert bool(promised(name, {})) == speaks, name
    assert set(live.cases) | set(live.silent) | set(live.stages) | set(live.more) | set(live.careless) <= set(names)


def test_nothing_is_explained_that_is_not_there():
    assert UNSEEN.keys() <= {name.partition("/")[2] for name in catalogue.names()}


@pytest.mark.parametrize("name", [name for live in LIVE.values() for name in live.careless])
def test_a_careless_client_fails_where_a_careful_one_passes(name):
    """What is expected can be missed: who does not come back has delivered nothing."""
    live = of(name)
    case = live.case(name)
    with live.fake(name, clock=ManualClock(), **case.knobs) as fake:
        assert not live.deliver(live.client(fake, case, {}, most=1), case)
        fake.settle()
        broken = [one.finding.why for one in expected.of_fake(fake) if one.outcome == "broken"]
        assert any(re.search("none was delivered|never came through", why) for why in broken), broken
