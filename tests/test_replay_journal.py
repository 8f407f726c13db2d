"""A recorded run, played again: over the whole catalogue, the same client meets the same replies at the same places."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from live import SEED, SPEED, Live
from live_ftp import FTP
from live_http import HTTP
from live_smtp import SMTP
from notnow import ManualClock, RealClock, Scenario
from notnow.chaos.replay import entries, journal, writing
from notnow.language import catalogue
from notnow.language.loading import loads
from test_catalogue_live import every_variant

LIVE: dict[str, Live] = {"smtp": SMTP, "ftp": FTP, "http": HTTP}
main_python = pytest.mark.skipif(
    os.environ.get("NOTNOW_TEST_CLIENTS") == "python", reason="what a scenario does is the same on every Python"
)


def run(scenario: str | Scenario, name: str, knobs: dict[str, Any]) -> Any:
    """The fake after a careful client, and what else the scenario takes, have met it; it has stopped."""
    live = LIVE[name.partition("/")[0]]
    case = live.case(name)
    given = {**case.knobs, **knobs} if isinstance(scenario, str) else {}
    clock = RealClock(SPEED) if case.fast else ManualClock()
    with live.fake(scenario, clock=clock, seed=SEED, **given) as fake:
        if case.witness:
            case.witness(fake)
        client = live.client(fake, case, knobs, **_options(name, {**case.knobs, **knobs}))
        with contextlib.ExitStack() as stack:
            if case.holding:
                stack.enter_context(case.holding(fake))
            if not case.stays:
                waits = client.wait
                client.wait = lambda span: (stack.close(), waits(span))
            live.deliver(client, case)
        fake.settle()
        return fake


def _options(name: str, knobs: dict[str, Any]) -> dict[str, Any]:
    """What the client is told of the scenario: in the second run it cannot ask for the knobs."""
    way = str(knobs.get("stage", catalogue.scenario(name).knobs.get("stage"))).upper()
    found: dict[str, Any] = {"ways": (way, "PASV")} if way in ("EPSV", "PORT", "EPRT") else {}
    return found | ({"patience": 0.25} if LIVE[name.partition("/")[0]].case(name).times_out(knobs) else {})


def replayed(fake: Any, *left_out: str) -> str:
    """The scenario of a journal. `left_out` are keys that its `play` entry does not have."""
    out = io.StringIO()
    fake.journal.export(out)
    lines = [_without(line, left_out) for line in out.getvalue().splitlines()]
    found = entries.read(lines, "run.jsonl")
    return writing.document(journal.recording(found, "run.jsonl", len(lines)), "run.jsonl")


def _without(line: str, keys: tuple[str, ...]) -> str:
    told = json.loads(line)
    return json.dumps({k: v for k, v in told.items() if told["event"] != "play" or k not in keys})


def places(fake: Any) -> list[tuple[object, ...]]:
    """What each exchange was and what was said there, without the ports and dates that differ from run to run."""
    return [
        (x.connection.number, x.moment, _same(x.request), _same(x.reply), str(x.end or ""), x.stored)
        for x in fake.journal
        if not x.stopped
    ]


def _same(text: str | None) -> str:
    """Ports differ from run to run, and so does which of 150 and 125 comes: that of the data connection, or after it."""
    text = re.sub(
        r"^(150 .*about to open|125 Data connection).*", "1xx", text or "", flags=re.MULTILINE | re.IGNORECASE
    )
    text = re.sub(r"^(150|125) FILE", "1xx FILE", text)
    return re.sub(r"\d+,\d+\)|\|\|\|\d+\||\|\d+\|$|:\d+|,\d+,\d+$|REST \d+|position \d+", "…", text)


def _variants() -> Iterator[Any]:
    """One variant of each scenario but the slow ones; with NOTNOW_TEST_VARIANTS=all, each of all."""
    told = {"ftp/passive-blocked", "ftp/stalled-transfer"}  # the client waits for 20 s
    for one in every_variant():
        name, knobs = one.values
        if os.environ.get("NOTNOW_TEST_VARIANTS") == "all" or name not in told:
            told.add(name)
            yield one


@main_python
@pytest.mark.parametrize(("name", "knobs"), list(_variants()))
def test_the_same_client_meets_the_same_again(name: str, knobs: dict[str, Any]) -> None:
    first = run(name, name, knobs)
    if not any(x.rule for x in first.journal):
        return  # of healthy, and of those that a careful client never meets
    again = run(loads(replayed(first), name="replayed"), name, knobs)
    assert places(again) == places(first)


BARE: list[tuple[str, dict[str, Any]]] = [
    ("smtp/overload", {}),
    ("smtp/at-stage", {"stage": "rcpt"}),
    ("smtp/bare-close", {"stage": "message", "how": "reset"}),
    ("smtp/greylisting", {}),
    ("smtp/gmail-unusual-rate", {}),
    ("smtp/kept-then-421", {}),
    ("smtp/idle-timeout", {}),
    ("smtp/maintenance", {}),
    ("ftp/overload", {}),
    ("ftp/open-after-421", {"stage": "retr"}),
    ("ftp/at-stage", {"stage": "login"}),
    ("http/misdirected-times", {}),
    ("http/rate-limited", {}),
    ("http/goaway-mid-request", {}),
    ("http/stream-reset", {"stage": "request"}),
]


@main_python
@pytest.mark.parametrize(("name", "knobs"), BARE, ids=[name for name, _ in BARE])
def test_words_and_closes_are_told_without_the_scenario(name: str, knobs: dict[str, Any]) -> None:
    first = run(name, name, knobs)
    text = replayed(first, "toml")
    assert "does not have the scenario" in text
    again = run(loads(text, name="replayed"), name, knobs)
    assert places(again) == places(first)
