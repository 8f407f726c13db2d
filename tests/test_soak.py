"""A short soak on each loop; and what the soak is to find, it finds. `python -m tests.soak --minutes 10` runs a long one."""

from __future__ import annotations

import asyncio
import functools
import logging
import smtplib
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.soak.__main__ import problems, report
from tests.soak.clients import Ports, Seen, by_httpx
from tests.soak.ledger import Ledger
from tests.soak.memory import FEWEST, FIGURES, Figure, Memory, _mallinfo2, slope
from tests.soak.soaking import Soak, soak
from tests.soak.watch import leftovers, nothing_swallowed
from tests.soak.wire import Relay

from notnow import FakeHTTP, FakeSMTP

ROUNDS, SEED = 8, 421
FREED = """
from tests.soak.memory import _heap, without_caches_of_threads
without_caches_of_threads()
before = _heap()
kept = [bytearray(size) for size in range(520, 1000, 16) for _ in range(7)]
used = _heap() - before
del kept
print(used, _heap() - before)
"""


def test_a_short_soak(each_loop: str) -> None:
    found = soak(each_loop, 0, SEED, ROUNDS)
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
        found.ledger.compare("mail", Counter({("a", 1): 1}), Counter({("a", 2): 1}), {"a": "TimeoutError()"})
        assert len(problems(found)) == 2
        assert "mail: ('a', 1): clients 1, whose error was TimeoutError(), server 0" in problems(found)
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

    @pytest.mark.parametrize(
        "figure", [figure for figure in FIGURES if figure.allowed is not None], ids=lambda f: f.what
    )
    def test_a_little_for_each_connection_is_a_leak(self, figure: Figure) -> None:
        each = 2 * (figure.allowed or 0)
        (fault,) = memory({figure.what: lambda connections: 5000.0 + each * connections}).faults()
        assert fault.startswith(f"{figure.what} grow by {each:.3f} a connection")

    def test_what_comes_once_is_none(self) -> None:
        """A module that is imported late, in the middle of the run, and a cache that empties later."""
        once = {"objects": lambda n: 60_000 + 500 * (n > 1900), "blocks": lambda n: 90_000 - 4000 * (n > 2500)}
        assert memory(once).faults() == []

    def test_too_few_rounds_tell_nothing(self) -> None:
        few = memory({"objects": lambda connections: connections}, FEWEST - 1)
        assert (few.faults(), "not judged" in str(few)) == ([], True)

    def test_what_is_measured_is_there(self) -> None:
        found = Memory()
        found.look(0)  # what earlier tests have left goes now, and with it what only that has kept
        found = Memory()
        found.look(0)
        kept = [[str(i) + "x" * 600] for i in range(5000)]  # strings of more than 512 bytes are no blocks
        found.look(1)
        growth = {one.what: column[1] - column[0] for one, column in zip(FIGURES, found.table[1:], strict=True)}
        assert (len(kept), growth["objects"] >= 5000, growth["blocks"] >= 5000) == (5000, True, True)
        if sys.platform == "linux":
            assert growth["KiB of the heap"] > 2500

    def test_a_name_that_the_interpreter_keeps_is_none(self) -> None:
        """Its cache of attributes has 4096 places, each with room for a copy of a name."""
        found = Memory()
        found.look(0)  # what earlier tests have left goes now
        found.look(1)
        names = ["".join(("bit_", "length")) for _ in range(1000)]
        assert all(getattr(int, name) for name in names)
        names.clear()
        found.look(2)
        before, after = found.table[1 + [one.what for one in FIGURES].index("blocks")][1:]
        assert after - before < 100

    @pytest.mark.skipif(_mallinfo2 is None, reason="no mallinfo2(3): the heap is not measured")
    def test_what_a_thread_keeps_for_later_is_none(self) -> None:
        """What is free again counts as free."""
        command = [sys.executable, "-c", FREED]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=600)
        assert (done.returncode, done.stderr) == (0, "")
        used, left = map(float, done.stdout.split())
        assert used > 100 > 10 > left

    def test_caches_with_a_bound_are_empty_when_memory_is_looked_at(self) -> None:
        """But not those of a few things, as of the two CAs, nor those without a bound: they make sure that there is only one."""
        caches = [functools.lru_cache(maxsize=most)(lambda _: object()) for most in (1000, 2, None)]
        before = [cache(421) for cache in caches]
        Memory().look(0)
        assert [cache(421) is one for cache, one in zip(caches, before, strict=True)] == [False, True, True]


def memory(figures: dict[str, Callable[[int], float]], rounds: int = FEWEST) -> Memory:
    """Memory after so many rounds of 100 connections: these figures, as functions of their number; the others are flat."""
    found, connections = Memory(), range(0, 100 * rounds, 100)
    found.table[0].extend(connections)
    for one, column in zip(FIGURES, found.table[1:], strict=True):
        column.extend(map(figures.get(one.what, lambda _: 70_000), connections))
    return found


class TestTheExemptions:
    """An upload may be answered before its end has come, and the fake may close then.

    httpx (httpcore 1.0.9) gives up all requests at a GOAWAY, also one whose answer the GOAWAY promises.
    """

    def test_an_answer_counts_as_given_up_where_httpx_said_so(self) -> None:
        seen, counted, doubted = Seen(), Ledger(), Ledger()
        with FakeHTTP("http/goaway-graceful", tls="implicit") as fake:
            by_httpx(Ports(0, 0, fake.port, str(fake.ca_file)), seen, ["a", "b", "c"], 10, http2=True)
            fake.settle()
        counted._requests(fake.journal, seen)
        assert (seen.broken_off, [path for path, *_ in seen.answers]) == ({("/c/0", 0): 1}, ["/a/0", "/b/0", "/c/1"])
        assert counted.differences == []
        assert counted.lines["http answers to requests that httpx gave up at a GOAWAY"].server == 1
        seen.broken_off.clear()
        doubted._requests(fake.journal, seen)
        (difference,) = doubted.differences
        assert difference.startswith("http answers: ('/c/0', 0, 200, ")

    def test_an_upload_whose_rest_found_the_connection_closed(self) -> None:
        seen, counted, doubted = Seen(), Ledger(), Ledger()
        with FakeHTTP("http/overload", outage="20s", tls="none") as fake:
            with socket.create_connection((fake.host, fake.port), 60) as client, client.makefile("rb") as answer:
                client.sendall(b"PUT /a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nzzz")
                assert answer.readline().startswith(b"HTTP/1.1 503")
                fake.wait_for(lambda journal: any(x.http is not None and x.http.body_bytes == 3 for x in journal))
                fake.kick()
                answer.read()  # to the end: the fake has closed
                client.sendall(b"zzzzzzz")
            fake.settle()
            seen.answered("/a", 10, 503, 0)
        counted._requests(fake.journal, seen)
        assert counted.differences == []
        assert counted.lines["http uploads on their way when the fake closed"].clients == 1
        seen.answers.clear()
        seen.answered("/a", 2, 503, 0)  # fewer than have come
        doubted._requests(fake.journal, seen)
        assert len(doubted.differences) == 2
