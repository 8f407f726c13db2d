"""What a real Postfix has logged becomes a scenario, under which it logs the same deferrals again.

Its own times are real seconds, and so are those of the fakes here: what is repeated is how often, and in which words.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from notnow import FakeSMTP, RealClock
from notnow.chaos.replay import deliveries, maillog, writing
from notnow.language.loading import loads

if TYPE_CHECKING:
    from postfix import Postfix, Status

TWO = ("bob@fake.test", "carol@fake.test")
SPEED = 10

# The scenario, its knobs, how Postfix encrypts, and how many recipients there are.
MET: list[tuple[str, dict[str, Any], str, int]] = [
    ("overload", {"outage": "20s"}, "none", 1),
    ("at-stage", {"stage": "mail"}, "none", 2),
    ("at-stage", {"stage": "rcpt"}, "none", 2),
    ("at-stage", {"stage": "rcpt", "n": 2}, "none", 2),
    ("at-stage", {"stage": "data"}, "none", 1),
    ("at-stage", {"stage": "body"}, "none", 1),
    ("at-stage", {"stage": "message"}, "none", 2),
    ("greylisting", {"wait": "20s"}, "none", 2),
    ("bare-close", {}, "none", 1),
    ("bare-close", {"stage": "ehlo"}, "none", 1),
    ("bare-close", {"stage": "mail"}, "none", 1),
    ("bare-close", {"stage": "rcpt"}, "none", 2),
    ("bare-close", {"stage": "data"}, "none", 1),
    ("bare-close", {"stage": "message", "how": "reset"}, "none", 1),
    ("stalled-greeting", {}, "hasty", 1),
    ("starttls-refused", {}, "must", 1),
    ("untrusted-certificate", {}, "must", 1),
    ("dns-blocklist", {"like": "refusal"}, "none", 1),
]
IDS = ["-".join([name, *map(str, knobs.values())]) for name, knobs, *_ in MET]


class Told(NamedTuple):
    """What Postfix has logged: of the scenario, of the one that was made of that log, and that one."""

    first: list[Status]
    again: list[Status]
    toml: str


@pytest.fixture(autouse=True)
def loop() -> None:
    """On one loop: what a log says does not depend on it, and a log takes a while to be written."""


@pytest.fixture(scope="module")
def told(relay: Postfix) -> list[Told]:
    """All at once, so that their back-offs pass together."""
    with contextlib.ExitStack() as stack:
        sent = [_send(relay, stack, f"smtp/{name}", via, many, knobs) for name, knobs, via, many in MET]
        first = [_outcome(relay, message) for message in sent]
        made = [_scenario(relay.lines(message)) for message in sent]
        sent = [
            _send(relay, stack, loads(toml), via, many, {}) for toml, (_, _, via, many) in zip(made, MET, strict=True)
        ]
        again = [_outcome(relay, message) for message in sent]
    return [Told(*row) for row in zip(first, again, made, strict=True)]


def _send(
    relay: Postfix, stack: contextlib.ExitStack, scenario: Any, via: str, many: int, knobs: dict[str, Any]
) -> str:
    fake = stack.enter_context(FakeSMTP(scenario, clock=RealClock(SPEED), **knobs))
    return relay.send([fake.port], TWO[:many], via=via)


def _outcome(relay: Postfix, message: str) -> list[Status]:
    """What it has said of each delivery; as much of it as there is, if the server never takes the message."""
    with contextlib.suppress(TimeoutError):
        relay.wait_until_gone(message)
    return relay.statuses(message)


def _scenario(lines: list[str]) -> str:
    found = maillog.read(lines, "mail.log")
    return writing.document(deliveries.recording(found, "mail.log", len(lines)), "mail.log")


@pytest.mark.parametrize("row", range(len(MET)), ids=IDS)
def test_the_same_is_deferred_in_the_same_words(told: list[Told], row: int) -> None:
    first, again, toml = told[row]
    deferred = [status for status in first if status.what != "sent"]
    assert deferred
    assert [status for status in again if status.what != "sent"] == deferred, toml
    assert [status.what for status in again] == [status.what for status in first], toml
