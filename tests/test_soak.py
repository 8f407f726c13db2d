"""A short soak on each loop; and what the soak is to find, it finds. `python -m tests.soak --minutes 10` runs a long one."""

from __future__ import annotations

import asyncio
import logging
import smtplib
import threading
from collections import Counter

import pytest
from tests.soak.__main__ import problems, report
from tests.soak.ledger import Ledger
from tests.soak.memory import FEWEST, Memory, slope
from tests.soak.soaking import Soak, soak
from tests.soak.watch import leftovers, nothing_swallowed
from tests.soak.wire import Relay

from notnow import FakeSMTP

SECONDS, ROUNDS, SEED = 6, 8, 421


def test_a_short_soak(each_loop: str) -> None:
    found = soak(each_loop, SECONDS, SEED, ROUNDS)
    assert problems(found) == [], report(each_loop, found)
    for what in ("smtp messages accepted", "ftp uploads", "ftp downloads", "http answers", "smtp replies 421"):
        assert found.ledger.lines[what].server > 0, report(each_loop, found)


class TestTheLedger:
    def test_it_takes_the_wire_at_its_word(self) -> None:
        ledger = Ledger()
        with FakeSMTP() as fake, Relay() as relay:
            wire = relay.before(fake.port, readable=True)
            for port in (fake.port, wire.port):
                with smtplib.SMTP(fake.host, port, timeout=60) as client:
                    client.noop()
            fake.wait_for(lambda journal: all(c.ended_by for c in journal.connections))
            ledger._connections("smtp", fake.journal, wire)
        assert (ledger.lines["smtp connections"].clients, ledger.lines["smtp connections"].server) == (1, 2)
        assert (ledger.lines["smtp replies 221"].clients, ledger.lines["smtp replies 221"].server) == (1, 1)
        (difference,) = ledger.differences
        assert "0 and 1 connections" in difference

    def test_an_item_that_one_side_does_not_know(self) -> None:
        found = Soak(1)
        found.ledger.compare("mail", Counter({("a", 1): 1}), Counter({("a", 2): 1}))
        assert len(problems(found)) == 2
        assert "NOT RIGHT" in report("asyncio", found)


class TestTheWatch:
    def test_a_thread_and_a_file(self) -> None:
        before, end = leftovers(), threading.Event()
        with open(__file__) as file:
            number = file.fileno()
            thread = threading.Thread(target=end.wait, name="still here")
            thread.start()
            found = leftovers() - before
            end.set()
            thread.join()
        assert found == {"thread still here", f"file {number} ({__file__})"}

    def test_what_would_be_swallowed(self) -> None:
        faults: list[str] = []

        async def forgetful() -> None:
            asyncio.get_running_loop().create_future().set_exception(ValueError("nobody hears this"))

        with nothing_swallowed(faults):
            asyncio.run(forgetful())
            thread = threading.Thread(target=lambda: 1 / 0, name="failing")
            thread.start()
            thread.join()
            logging.getLogger("told to nobody but the watch").warning("look")
        assert any("never retrieved" in fault for fault in faults)
        assert any(fault.startswith("in failing: ZeroDivisionError") for fault in faults)
        assert any("look" in fault for fault in faults)


class TestTheMemory:
    def test_slope(self) -> None:
        assert slope([0, 10, 20], [5, 10, 15]) == pytest.approx(0.5)
        assert slope([3, 3], [1, 2]) == 0

    @pytest.mark.parametrize(("a_connection", "grows"), [(1, True), (0, False)])
    def test_an_object_a_connection_is_a_leak(self, a_connection: int, grows: bool) -> None:
        memory = Memory([(100 * i, 60_000 + 100 * i * a_connection, 70_000) for i in range(FEWEST)])
        assert bool(memory.faults()) is grows
