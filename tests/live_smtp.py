"""What it takes for the faults of the scenarios for SMTP to be met."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from live import Case, Knobs, Live, waiting
from notnow import FakeSMTP
from smtp_client import CarefulSender, Raw, plain, trusting

Held = Callable[[FakeSMTP], contextlib.AbstractContextManager[list[str]]]


def _connections(n: int) -> Held:
    @contextlib.contextmanager
    def hold(fake: FakeSMTP) -> Iterator[list[str]]:
        with contextlib.ExitStack() as stack:
            for _ in range(n):
                assert stack.enter_context(Raw(fake)).reply().startswith("220")
            yield []

    return hold


@contextlib.contextmanager
def _a_message_in_progress(fake: FakeSMTP) -> Iterator[list[str]]:
    with Raw(fake).hello() as raw:
        assert raw.say(f"AUTH PLAIN {plain('ann', 'word')}").startswith("235")
        assert raw.say("MAIL FROM:<a@client.test>").startswith("250")
        yield []


def _says(*lines: str) -> Callable[[FakeSMTP], list[str]]:
    """A client that says these lines whatever it hears, and reads to the end."""

    def witness(fake: FakeSMTP) -> list[str]:
        with Raw(fake).hello() as raw:
            raw.send("".join(f"{line}\r\n" for line in lines))
            raw.sock.shutdown(1)
            return raw.until_end().replace("\r\n", "\n").splitlines()

    return witness


def _denied_to_the_end(fake: FakeSMTP) -> list[str]:
    with Raw(fake) as raw:
        heard = [raw.reply(), raw.say("EHLO x"), raw.say("MAIL FROM:<a@b.test>"), raw.say("NOOP")]
        assert heard == ["421 Come back later"] * 4
        assert raw.say("QUIT").startswith("221")
        return heard


def _sends_unsigned(fake: FakeSMTP) -> list[str]:
    with Raw(fake).hello() as raw:
        return [raw.deliver(b"Subject: unsigned\r\n\r\n")]


def _accepted_and_closed(fake: FakeSMTP) -> list[str]:
    with Raw(fake).hello() as raw:
        heard = [raw.deliver(mail(7), "a@client.test", "accepted-then-421@server.test"), raw.reply()]
        assert raw.ended
        return heard


IN_CLEAR = _says("AUTH PLAIN AGEAYg==", "MAIL FROM:<a@client.test>", "RCPT TO:<b@server.test>", "QUIT")
SECOND_OF_A_USER = Case({"messages": 1}, {"user": "ann"}, work=2)
BAD_CERTIFICATE = Case(tls=True)

CASES = {
    "smtp/at-stage": Case(client={"user": "ann", "chatty": True}),
    "smtp/bare-close": Case(client={"user": "ann", "chatty": True}),
    "smtp/busy": Case(fast=True),
    "smtp/by-address": Case(witness=_accepted_and_closed),
    "smtp/connection-rate": Case({"connections": 1}, {"per_connection": 1}, work=2),
    "smtp/expired-certificate": BAD_CERTIFICATE,
    "smtp/gmail-daily-limit": SECOND_OF_A_USER,
    "smtp/gmail-unusual-rate": Case({"messages": 1}, work=2),
    "smtp/haraka-deny": Case(witness=_denied_to_the_end),
    "smtp/idle-timeout": Case(dawdle="30s"),
    "smtp/maintenance": Case(dawdle="10s"),
    "smtp/messages-per-connection": Case({"messages": 2}, work=5),
    "smtp/microsoft-concurrency": Case({"cap": 1}, {"user": "ann"}, holding=_a_message_in_progress),
    "smtp/microsoft-daily-limit": SECOND_OF_A_USER,
    "smtp/no-dkim": Case(witness=_sends_unsigned),
    "smtp/plain-on-tls-port": Case(tls=True),
    "smtp/slow-replies": Case(fast=True),
    "smtp/stalled-greeting": Case(fast=True),
    "smtp/starttls-refused": Case(tls=True),
    "smtp/tls-required": Case(tls=True, witness=IN_CLEAR),
    "smtp/too-many-connections": Case({"cap": 1}, holding=_connections(1)),
    "smtp/too-many-errors": Case(
        {"errors": 3}, witness=_says("RCPT TO:<x@y>", "MAIL FROM:<a@b>", "RCPT TO:<unknown@y>", "BOGUS")
    ),
    "smtp/too-many-per-client": Case({"cap": 2}, holding=_connections(2)),
    "smtp/untrusted-certificate": BAD_CERTIFICATE,
    "smtp/weather": Case({"late": "0%"}),  # nothing moves the clock while the client waits for an answer
    "smtp/workspace-daily-limit": SECOND_OF_A_USER,
    "smtp/wrong-certificate": BAD_CERTIFICATE,
}
_EVERYWHERE = ["connect", "ehlo", "auth", "mail", "rcpt", "data", "body", "message", "rset", "noop", "quit"]
STAGES = {
    "smtp/at-stage": _EVERYWHERE,
    "smtp/bare-close": _EVERYWHERE,
    "smtp/ip-blocked": ["connect", "ehlo", "mail", "rcpt"],
    "smtp/yahoo-tss04": ["connect", "mail"],
    "smtp/tls-required": ["mail", "rcpt"],
}


def mail(n: int) -> bytes:
    return b"Subject: %d\r\nMessage-ID: <%d@client.test>\r\nDKIM-Signature: v=1\r\n\r\nhello\r\n" % (n, n)


def careful(fake: FakeSMTP, case: Case, knobs: Knobs, **options: Any) -> CarefulSender:
    dawdle = (lambda: fake.clock.advance(case.dawdle)) if case.dawdle else None
    tls = trusting(fake) if case.tls else None
    return CarefulSender(fake, waiting(fake.clock), tls=tls, dawdle=dawdle, **{**case.client, **options})


def deliver(sender: CarefulSender, case: Case) -> bool:
    return sender.deliver(*map(mail, range(case.work or 1)))


SMTP = Live(
    fake=FakeSMTP,
    cases=CASES,
    silent=frozenset({"smtp/bare-close"}),
    stages=STAGES,
    more={"smtp/no-dkim": [{"code": "4.7.30"}]},
    careless=[
        "smtp/overload",
        "smtp/busy",
        "smtp/at-stage",
        "smtp/bare-close",
        "smtp/greylisting",
        "smtp/outlook-rp-001",
        "smtp/shutdown",
    ],
    client=careful,
    deliver=deliver,
    items=lambda case: case.work or 1,
)
