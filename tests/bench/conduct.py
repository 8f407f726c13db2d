"""Judging a journal of 100,000 exchanges by all rules of its protocol, and their result, from journals of several shapes.

`python -m tests.bench.conduct CASE EXCHANGES` prints the seconds of processor time that it takes, as JSON, and with
`memory` behind it the most megabytes that judging needs beside the journal.
"""

from __future__ import annotations

import cProfile
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from tests.bench.processes import module
from tests.bench.table import Bench, Row, Target

from notnow.clock import ManualClock
from notnow.conduct.judging import judge
from notnow.conduct.reading.result import Exit, result
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.storm import storm
from notnow.journal import Exchange, Journal, Message, Recorder, Request, Transfer

EXCHANGES = 100_000
TARGET = Target("figure", "≤", 1.0)
LINEAR = Target("ratio", "≤", 2.2)  # twice the exchanges
BUSY = ("connect", "", "421 4.3.2 All server ports are busy", "reply")
GREETED = (("connect", "", "220 x", None), ("ehlo", "EHLO x", "250 x", None))

# One connection after another: what is asked, and what is answered by which fault. {n} is its number, {c} one of a few.
CASES: dict[str, tuple[str, tuple[tuple[str, str, str | None, str | None], ...]]] = {
    "delivered": (
        "messages delivered",
        (
            *GREETED, ("mail", "MAIL FROM:<{n}@x>", "250 x", None), ("rcpt", "RCPT TO:<{n}@y>", "250 x", None),
            ("data", "DATA", "354 x", None), ("message", "(9 bytes)", "250 x", None), ("quit", "QUIT", "221 x", None),
        ),
    ),
    "overload": ("connections refused", (BUSY,)),
    "one-sender": (
        "recipients of one sender refused",
        (*GREETED, ("mail", "MAIL FROM:<a@x>", "250 x", None), ("rcpt", "RCPT TO:<{n}@y>", "450 4.2.0 x", "reply")),
    ),
    "in-turns": (
        "senders refused and tried again",
        (*GREETED, ("mail", "MAIL FROM:<{c}@x>", "421 4.7.{c} x", "reply")),
    ),
    "one-connection": ("transactions on one connection refused", (("mail", "MAIL FROM:<{n}@x>", "421 {c}\n421 x", "reply"),)),
    "ftp-downloads": (
        "files fetched",
        (
            ("connect", "", "220 x", None), ("user", "USER a", "331 x", None), ("pass", "PASS ***", "230 x", None),
            ("pasv", "PASV", "227 x", None), ("retr", "RETR {n}", "150 x\n226 x", None), ("quit", "QUIT", "221 x", None),
        ),
    ),
    "ftp-overload": ("connections refused", (("connect", "", "421 Too many users", "reply"),)),
    "ftp-cut": (
        "uploads of a few files cut",
        (
            ("connect", "", "220 x", None), ("user", "USER a", "331 x", None), ("pass", "PASS ***", "230 x", None),
            ("pasv", "PASV", "227 x", None), ("stor", "STOR {c}", "150 x\n421 x", "reply"),
        ),
    ),
    "http-requests": ("requests answered", (("request", "GET a.test/{n}", "200 OK", None),)),
    "http-refused": ("requests refused and tried again", (("request", "GET a.test/{c}", "503 Busy", "status"),)),
}  # fmt: skip


def journal(case: str, exchanges: int) -> Journal:
    clock, protocol = ManualClock(), case.partition("-")[0] if case.startswith(("ftp", "http")) else "smtp"
    made = Recorder(clock, server=protocol, protocol=protocol)
    connections = None
    for number, steps in enumerate(_repeated(case, exchanges)):
        client = f"127.0.0.{number % 7 + 1}"
        if connections is None or case != "one-connection":
            connections = made.open(f"c{number}", client, 1)
        for moment, request, reply, fault in steps:
            name = {"n": number, "c": number % 1000}
            exchange = made.ask(connections, moment, request.format(**name), "one")
            if fault is not None:
                made.refused(exchange, fault)
                if case != "one-connection":
                    made.end(exchange)
            _facts(made, exchange, number, fault)
            made.answer(exchange, (reply or "").format(**name))
        if case != "one-connection":
            made.close(connections, "client")
        clock.advance(0.1)
    return made.journal


def _facts(made: Recorder, exchange: Exchange, number: int, fault: str | None) -> None:
    moment, (verb, _, rest) = exchange.moment, exchange.request.partition(" ")
    if moment == "message":
        made.facts(exchange, Message(f"{number}@x", "0", f"{number}@x", (f"{number}@y",)))
    elif moment in ("retr", "stor"):
        direction = "download" if moment == "retr" else "upload"
        whole = fault is None
        made.facts(exchange, Transfer(f"/{rest}", direction, "passive", 0, 1000, whole, None if whole else "fin"))
    elif moment == "request":
        status = 503 if fault else 200
        path = "/" + rest.partition("/")[2]
        made.facts(exchange, Request(1, "1.1", verb, "a.test", "a.test", path, (), status, 0, None, 9, True, False))


def _repeated(case: str, exchanges: int) -> Iterator[tuple[tuple[str, str, str | None, str | None], ...]]:
    steps = CASES[case][1]
    return (steps for _ in range(exchanges // len(steps)))


def judged(case: str, exchanges: int) -> float:
    """The seconds that all rules take together."""
    made = journal(case, exchanges)
    gc.collect()  # what was left by making it
    begun = time.process_time()
    _judge(made)
    return time.process_time() - begun


def needed(case: str, exchanges: int) -> float:
    """The most megabytes that judging needs beside the journal."""
    made = journal(case, exchanges)
    tracemalloc.start()
    _judge(made)
    return tracemalloc.get_traced_memory()[1] / 1e6


def _judge(made: Journal) -> None:
    """All that a report asks of a run."""
    run = Run([made])
    judge(run)
    result(run.ledger, Exit(0))
    storm(run)


def run(case: str, quick: bool) -> list[Row]:
    took = sorted(module("conduct", case, EXCHANGES) for _ in range(1 if quick else 3))
    what = f"judging {EXCHANGES:,} exchanges, {CASES[case][0]}"
    return [Row(f"conduct-{case}", what, took[len(took) // 2], "s", target=TARGET), _memory(case)]


def _memory(case: str) -> Row:
    half, whole = (module("conduct", case, exchanges, "memory") for exchanges in (EXCHANGES // 2, EXCHANGES))
    what = f"memory of judging {EXCHANGES:,} exchanges, {CASES[case][0]}"
    reference = f"{EXCHANGES // 2:,}:"
    return Row(f"conduct-{case}-memory", what, whole, "MB", reference, half, whole / half, LINEAR)


def profile(case: str, into: Path) -> None:
    made = journal(case, EXCHANGES)
    profiler = cProfile.Profile()
    profiler.runcall(_judge, made)
    profiler.dump_stats(into)


def _bench(case: str) -> Bench:
    what = f"all rules, {CASES[case][0]}"
    return Bench(f"conduct-{case}", what, lambda quick: run(case, quick), lambda into: profile(case, into))


BENCHES = tuple(_bench(case) for case in CASES)


if __name__ == "__main__":
    measure = needed if sys.argv[3:] == ["memory"] else judged
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
