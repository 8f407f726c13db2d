"""Postfix as a relaying MTA meets the catalogue: it defers, tries again by itself, and nothing is lost or bounced.

What is asserted of its log was seen of Postfix 3.7. Its own times are real seconds (see postfix.py); the fake's
clock stands still until the test moves it, so that an outage ends when Postfix has met it, and not before.
"""

from __future__ import annotations

import contextlib
import smtplib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from notnow import FakeSMTP, ManualClock, RealClock

if TYPE_CHECKING:
    from coverage_table import Proves
    from postfix import Postfix

LATER = "10m"
THREE = ("bob@fake.test", "carol@fake.test", "dave@fake.test")


def refused(fake: FakeSMTP) -> None:
    """Return when the fake has refused something."""
    fake.wait_for(lambda journal: any(x.refused and x.fault for x in journal), timeout=10)


def outcomes(relay: Postfix, message: str) -> list[str]:
    """What became of each attempt, several of the same kind in a row as one."""
    seen = [status.what for status in relay.statuses(message)]
    return [what for i, what in enumerate(seen) if i == 0 or what != seen[i - 1]]


def why(relay: Postfix, message: str) -> str:
    """What Postfix said of the first attempt."""
    return relay.statuses(message)[0].text


# The scenario and its knobs, how Postfix encrypts, and a part of what its log has.
DEFERRED = [
    ("overload", {}, "none", "refused to talk to me: 421 4.3.2 All server ports are busy"),
    ("flapping-overload", {"down": "30s", "up": "50s"}, "none", "refused to talk to me: 421 4.3.2"),
    ("weather", {"chance": "100%"}, "none", "refused to talk to me: 421"),
    ("yahoo-tss04", {}, "none", "refused to talk to me: 421 4.7.0 [TSS04] Messages from 127.0.0.1"),
    ("ip-blocked", {}, "none", "refused to talk to me: 451 IP temporarily blacklisted"),
    ("haraka-deny", {}, "none", "refused to talk to me: 421 Come back later"),
    ("bare-close", {}, "none", "lost connection with 127.0.0.1[127.0.0.1] while receiving the initial server greeting"),
    ("at-stage", {"stage": "ehlo"}, "none", "refused to talk to me: 421 fake.notnow.test Service not available"),
    ("at-stage", {"stage": "mail"}, "none", "(in reply to MAIL FROM command)"),
    ("outlook-rp-001", {}, "none", "421 RP-001"),
    ("at-stage", {"stage": "rcpt"}, "none", "(in reply to RCPT TO command)"),
    ("bare-close", {"stage": "rcpt"}, "none", "lost connection with 127.0.0.1[127.0.0.1] while sending RCPT TO"),
    ("dns-blocklist", {}, "none", "421 4.7.1 Service unavailable; client [127.0.0.1] is on a DNS blocklist"),
    ("greylisting", {}, "none", "451 4.7.1 Greylisted, please try again later (in reply to RCPT TO command)"),
    ("shutdown", {}, "none", "421 fake.notnow.test: Service not available - closing connection (in reply to RCPT TO"),
    ("at-stage", {"stage": "data"}, "none", "(in reply to DATA command)"),
    ("at-stage", {"stage": "body"}, "none", "(in reply to end of DATA command)"),
    ("at-stage", {"stage": "message"}, "none", "(in reply to end of DATA command)"),
    ("bare-close", {"stage": "message", "how": "reset"}, "none", "message may be sent more than once"),
    ("starttls-refused", {}, "must", "TLS is required, but host 127.0.0.1[127.0.0.1] refused to start TLS: 454"),
    ("starttls-refused", {"like": "starttls-421"}, "must", "refused to start TLS: 421"),
    ("starttls-refused", {"like": "starttls-421"}, "may", "while sending MAIL FROM"),
    ("untrusted-certificate", {}, "must", "Server certificate not verified"),
    ("expired-certificate", {}, "must", "Server certificate not verified"),
    ("wrong-certificate", {}, "must", "Server certificate not verified"),
]


def _ids(rows: Sequence[Sequence[Any]]) -> list[str]:
    """The scenario, the values of its knobs and how Postfix encrypts."""
    return ["-".join([name, *map(str, knobs.values()), *more[:1]]) for name, knobs, *more in rows]


@dataclass(frozen=True)
class Meeting:
    """A fake, and the message that is on its way to it."""

    fake: FakeSMTP
    message: str


@pytest.fixture(scope="module")
def meetings(relay: Postfix) -> Iterator[list[Meeting]]:
    """One for each of DEFERRED, up to the end of its outage; all at once, so that their back-offs pass together."""
    with contextlib.ExitStack() as stack:
        found = []
        for name, knobs, via, _text in DEFERRED:
            fake = stack.enter_context(FakeSMTP(f"smtp/{name}", clock=ManualClock(), **knobs))
            found.append(Meeting(fake, relay.send([fake.port], via=via)))
        for meeting in found:
            relay.wait_until_deferred(meeting.message)
            meeting.fake.clock.advance(LATER)
        yield found


@pytest.mark.parametrize("row", range(len(DEFERRED)), ids=_ids(DEFERRED))
def test_is_deferred_and_delivered_once(relay: Postfix, meetings: list[Meeting], proves: Proves, row: int) -> None:
    name, _knobs, _via, text = DEFERRED[row]
    fake, message = meetings[row].fake, meetings[row].message
    relay.wait_until_gone(message)

    assert outcomes(relay, message) == ["deferred", "sent"]
    assert text in why(relay, message)
    fake.assert_delivered(times=1, count=1)
    assert fake.messages[0].envelope.connection > 1
    fake.assert_expected(count=1)
    assert_refused(fake)
    proves(f"smtp/{name}", "postfix")


def assert_refused(fake: FakeSMTP) -> None:
    """The fake has refused something and was tried again; or Postfix has not liked its first certificate."""
    if "certificate" not in fake.scenario.name:
        fake.assert_retried(times=1)
        return
    first = fake.journal.connections[0]
    assert first.tls is not None
    assert f"smtp/{first.tls.certificate}-certificate" == fake.scenario.name
    assert "mail" not in [x.moment for x in first.exchanges]


AT_ONCE = [
    ("healthy", {}, "none"),
    ("maintenance", {}, "none"),
    ("accepted-then-421", {}, "none"),
    ("at-stage", {"stage": "quit"}, "none"),
    ("tls-required", {}, "may"),
    ("tls-required", {"like": "gmail"}, "must"),
    ("starttls-refused", {}, "may"),  # in clear text
    ("untrusted-certificate", {}, "may"),  # "if it is offered" does not ask who the other one is
]


@pytest.mark.parametrize(("name", "knobs", "via"), AT_ONCE, ids=_ids(AT_ONCE))
def test_is_delivered_at_once(relay: Postfix, proves: Proves, name: str, knobs: dict[str, Any], via: str) -> None:
    with FakeSMTP(f"smtp/{name}", clock=ManualClock(), **knobs) as fake:
        message = relay.send([fake.port], via=via)
        relay.wait_until_gone(message)

        assert outcomes(relay, message) == ["sent"]
        fake.assert_delivered(times=1)
        if name != "tls-required":  # no fault fires for a client that uses TLS
            fake.assert_expected()
        assert fake.journal.count("connect") == 1
        assert (fake.journal.connections[0].tls is None) is (via == "none" or name == "starttls-refused")
        proves(f"smtp/{name}", "postfix")


FOR_GOOD = [
    ("tls-required", {}),
    ("dns-blocklist", {"like": "refusal"}),
    ("gmail-daily-limit", {"messages": 0}),
    ("workspace-daily-limit", {"messages": 0, "like": "relay"}),
    ("microsoft-daily-limit", {"messages": 0}),
]


@pytest.mark.parametrize(("name", "knobs"), FOR_GOOD, ids=_ids(FOR_GOOD))
def test_bounces_what_is_refused_for_good(relay: Postfix, proves: Proves, name: str, knobs: dict[str, Any]) -> None:
    with FakeSMTP(f"smtp/{name}", clock=ManualClock(), **knobs) as fake:
        message = relay.send([fake.port])
        relay.wait_until_gone(message)

        assert outcomes(relay, message) == ["bounced"]
        assert fake.messages == []
        assert fake.journal.count("connect") == 1
        proves(f"smtp/{name}", "postfix")


# ---- second copies ----------------------------------------------------------------------------------


def test_sends_again_what_was_kept_and_refused(relay: Postfix, proves: Proves) -> None:
    """That is no fault of Postfix: it was told 421, and the receiver can recognise the copy by its Message-ID."""
    with FakeSMTP("smtp/kept-then-421") as fake:
        message = relay.send([fake.port])
        relay.wait_until_gone(message)

        assert outcomes(relay, message) == ["deferred", "sent"]
        assert len({stored["Message-ID"] for stored in fake.messages}) == 1
        assert len(fake.messages) == 2
        fake.assert_no_duplicates()
        fake.assert_expected()
        proves("smtp/kept-then-421", "postfix")


def test_sends_to_all_again_when_one_recipient_is_told_421(relay: Postfix) -> None:
    """A 421 ends the transaction (RFC 5321 §3.8): those recipients that had their 250 have nothing yet."""
    with FakeSMTP("smtp/at-stage", stage="rcpt", n=2, clock=ManualClock()) as fake:
        message = relay.send([fake.port], THREE)
        refused(fake)
        fake.clock.advance(LATER)
        relay.wait_until_gone(message)

        assert outcomes(relay, message) == ["deferred", "sent"]
        fake.assert_delivered(times=1)
        assert sorted(fake.messages[0].envelope.recipients) == sorted(THREE)


@pytest.mark.parametrize("stage", ["connect", "ehlo", "mail", "rcpt", "data", "message"])
def test_falls_back_to_the_next_host_at_once(relay: Postfix, stage: str) -> None:
    clock = ManualClock()
    with FakeSMTP("smtp/at-stage", stage=stage, clock=clock) as first, FakeSMTP(clock=clock) as second:
        message = relay.send([first.port, second.port])
        relay.wait_until_gone(message)

        assert outcomes(relay, message) == ["sent"]
        assert (first.journal.count("connect"), second.journal.count("connect")) == (1, 1)
        assert first.messages == []
        second.assert_delivered(times=1)


# ---- caps, rates, and connections that are kept -----------------------------------------------------


@pytest.mark.parametrize("name", ["too-many-connections", "too-many-per-client"])
def test_gets_the_place_that_another_leaves(relay: Postfix, proves: Proves, name: str) -> None:
    with FakeSMTP(f"smtp/{name}", cap=1) as fake:
        with smtplib.SMTP(fake.host, fake.port, "guest.test"):
            message = relay.send([fake.port])
            refused(fake)
        relay.wait_until_gone(message)

        assert outcomes(relay, message) == ["deferred", "sent"]
        fake.assert_expected()
        fake.assert_never_exceeded(connections=2)
        proves(f"smtp/{name}", "postfix")


def test_reads_all_six_lines_of_gmail(relay: Postfix, proves: Proves) -> None:
    with FakeSMTP("smtp/gmail-unusual-rate", messages=1, window="1m", clock=ManualClock()) as fake:
        relay.wait_until_gone(relay.send([fake.port]))
        message = relay.send([fake.port])
        refused(fake)
        fake.clock.advance("61s")
        relay.wait_until_gone(message)

        assert outcomes(relay, message) == ["deferred", "sent"]
        assert why(relay, message).count("421-4.7.28") == 5
        assert "review our Bulk Email Senders Guidelines" in why(relay, message)
        fake.assert_expected()
        proves("smtp/gmail-unusual-rate", "postfix")


def test_finds_its_idle_connection_closed(relay: Postfix, proves: Proves) -> None:
    """A kept connection that has ended with a 421 meanwhile costs no attempt: Postfix opens another."""
    with FakeSMTP("smtp/idle-timeout", timeout="30s", clock=ManualClock()) as fake:
        relay.wait_until_gone(relay.send([fake.port], via="cached"))
        fake.clock.advance("31s")
        message = relay.send([fake.port], via="cached")
        relay.wait_until_gone(message)

        assert outcomes(relay, message) == ["sent"]
        assert [m.envelope.connection for m in fake.messages] == [1, 2]
        assert [x.reply for x in fake.journal if x.moment == "idle"] == [
            "421 4.4.2 fake.notnow.test Error: timeout exceeded"
        ]
        fake.assert_expected()
        proves("smtp/idle-timeout", "postfix")


@pytest.mark.parametrize(("like", "text"), [("yahoo", "said: 421 Max message"), ("yahoo-silent", "lost connection")])
def test_needs_a_second_connection_for_more_messages(relay: Postfix, proves: Proves, like: str, text: str) -> None:
    with FakeSMTP("smtp/messages-per-connection", messages=1, like=like) as fake:
        relay.wait_until_gone(relay.send([fake.port], via="cached"))
        message = relay.send([fake.port], via="cached")
        relay.wait_until_gone(message)

        assert outcomes(relay, message) == ["deferred", "sent"]
        assert text in why(relay, message)
        assert [m.envelope.connection for m in fake.messages] == [1, 2]
        fake.assert_expected(count=2)
        proves("smtp/messages-per-connection", "postfix")


def test_comes_back_to_a_connection_that_a_421_left_open(relay: Postfix) -> None:
    """Exim's 421 at this limit does not close, and neither does Postfix: it meets the same limit again."""
    with FakeSMTP("smtp/messages-per-connection", messages=1, like="exim") as fake:
        relay.wait_until_gone(relay.send([fake.port], via="cached"))
        message = relay.send([fake.port], via="cached")
        fake.wait_for(lambda journal: sum(x.refused for x in journal) >= 2, timeout=10)

        assert fake.journal.count("connect") == 1
        fake.play("smtp/healthy")
        relay.wait_until_gone(message)
        fake.assert_delivered(times=1, count=2)


# ---- time -------------------------------------------------------------------------------------------


def test_does_not_wait_for_a_greeting_for_ever(relay: Postfix, proves: Proves) -> None:
    with FakeSMTP("smtp/stalled-greeting", clock=ManualClock()) as fake:
        message = relay.send([fake.port], via="hasty")
        relay.wait_until_deferred(message)
        fake.clock.advance(LATER)
        relay.wait_until_gone(message)

        assert outcomes(relay, message) == ["deferred", "sent"]
        assert "timed out while receiving the initial server greeting" in why(relay, message)
        fake.assert_expected()
        proves("smtp/stalled-greeting", "postfix")


def test_outlasts_an_outage_with_nobody_to_help(relay: Postfix) -> None:
    """The same as above with a clock that runs by itself, ten times as fast: an outage of 20 s takes 2."""
    with FakeSMTP("smtp/overload", outage="20s", clock=RealClock(speed=10)) as fake:
        message = relay.send([fake.port])
        relay.wait_until_gone(message)

        assert outcomes(relay, message) == ["deferred", "sent"]
        fake.assert_retried(times=1)
        fake.assert_expected()
