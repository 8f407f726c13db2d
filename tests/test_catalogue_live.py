"""Every scenario of the catalogue, played over real sockets: its faults are seen in the words of its file, and a
careful sender achieves what its [expect] says."""

from __future__ import annotations

import contextlib
import re
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from notnow import FakeSMTP, ManualClock, RealClock, catalogue
from smtp_client import CarefulSender, Raw, plain, trusting

SPEED = 200  # for scenarios in which the fake itself is slow: a sender's time-out is real
SEED = 7
Held = Callable[[FakeSMTP], contextlib.AbstractContextManager[Any]]


@dataclass
class Case:
    """What it takes for the faults of a scenario to be met.

    `knobs` make limits small. `sender` are options of the careful sender. `mails` is how many messages it has.
    `holding` is what others do meanwhile, until the sender waits for the first time. `dawdle` is for how long the
    sender is idle in its first session. `fast`: the fake takes its time, so the clock runs by itself. `witness` is
    a careless client, where a careful one never meets the fault; it tells what it heard.
    """

    knobs: dict[str, object] = field(default_factory=dict)
    sender: dict[str, Any] = field(default_factory=dict)
    mails: int = 1
    holding: Held | None = None
    dawdle: str | None = None
    fast: bool = False
    tls: bool = False
    witness: Callable[[FakeSMTP], list[str]] | None = None


def _connections(n: int) -> Held:
    @contextlib.contextmanager
    def hold(fake: FakeSMTP) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for _ in range(n):
                assert stack.enter_context(Raw(fake)).reply().startswith("220")
            yield

    return hold


@contextlib.contextmanager
def _a_message_in_progress(fake: FakeSMTP) -> Iterator[None]:
    with Raw(fake).hello() as raw:
        assert raw.say(f"AUTH PLAIN {plain('ann', 'word')}").startswith("235")
        assert raw.say("MAIL FROM:<a@client.test>").startswith("250")
        yield


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


IN_CLEAR = _says("AUTH PLAIN AGEAYg==", "MAIL FROM:<a@client.test>", "RCPT TO:<b@server.test>", "QUIT")
SECOND_OF_A_USER = Case({"messages": 1}, {"user": "ann"}, mails=2)
BAD_CERTIFICATE = Case(tls=True)

CASES: dict[str, Case] = {
    "smtp/at-stage": Case(sender={"user": "ann", "chatty": True}),
    "smtp/bare-close": Case(sender={"user": "ann", "chatty": True}),
    "smtp/connection-rate": Case({"connections": 1}, {"per_connection": 1}, mails=2),
    "smtp/expired-certificate": BAD_CERTIFICATE,
    "smtp/gmail-daily-limit": SECOND_OF_A_USER,
    "smtp/gmail-unusual-rate": Case({"messages": 1}, mails=2),
    "smtp/haraka-deny": Case(witness=_denied_to_the_end),
    "smtp/idle-timeout": Case(dawdle="30s"),
    "smtp/maintenance": Case(dawdle="10s"),
    "smtp/messages-per-connection": Case({"messages": 2}, mails=5),
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
    "smtp/workspace-daily-limit": SECOND_OF_A_USER,
    "smtp/wrong-certificate": BAD_CERTIFICATE,
}
# Where a careful sender meets no fault at all, since it does nothing wrong.
UNSEEN_BY_THE_CAREFUL = {
    "smtp/healthy": "there is no fault in it",
    "smtp/plain-on-tls-port": "the fault would be the client's; tests/test_tls.py speaks plain text to it",
    "smtp/slow-replies": "every reply is right, only late: that is asserted of the time it took",
    "smtp/stalled-greeting": "nothing is said, or a good greeting late: that is asserted of the lost connection, or the time",
    "smtp/expired-certificate": "TLS says it: asserted of the handshake that failed",
    "smtp/untrusted-certificate": "TLS says it: asserted of the handshake that failed",
    "smtp/wrong-certificate": "TLS says it: asserted of the handshake that failed",
}
STAGES = {
    "smtp/at-stage": ["connect", "ehlo", "auth", "mail", "rcpt", "data", "body", "message", "rset", "noop", "quit"],
    "smtp/bare-close": ["connect", "ehlo", "auth", "mail", "rcpt", "data", "body", "message", "rset", "noop", "quit"],
    "smtp/ip-blocked": ["connect", "ehlo", "mail", "rcpt"],
    "smtp/yahoo-tss04": ["connect", "mail"],
    "smtp/tls-required": ["mail", "rcpt"],
}
MODES = ["starttls", "implicit"]


def variants() -> Iterator[Any]:
    """Each scenario, with each of its named faults, at each of its stages."""
    for name in catalogue.names("smtp/*"):
        scenario = catalogue.scenario(name)
        choice = next((knob for knob, value in scenario.params.items() if value in scenario.faults), None)
        found: list[dict[str, object]] = [{choice: fault} for fault in scenario.faults] if choice else [{}]
        found += [{"stage": stage} for stage in STAGES.get(name, [])]
        found += [{"mode": mode} for mode in MODES] if "mode" in scenario.params else []
        if name == "smtp/no-dkim":
            found.append({"code": "4.7.30"})
        for knobs in found:
            yield pytest.param(name, knobs, id="-".join([name.removeprefix("smtp/"), *map(str, knobs.values())]))


def promised(name: str, knobs: dict[str, object]) -> list[str]:
    """The replies that the file of a scenario has under these knobs, as patterns; its first fault is the first."""
    text = catalogue.locate(name).read_text("utf-8")
    document = tomllib.loads(text)
    values = {**document.get("params", {}), **knobs}
    chosen = {str(v) for v in values.values()} & set(document.get("fault", {}))
    tables = [document["fault"][c] for c in chosen]
    tables += [rule for phase in document["phase"] for rule in phase.get("rule", []) if "reply" in rule]
    found = []
    for table in tables:
        lines = table.get("reply", [])
        found.append([_pattern(line, values) for line in ([lines] if isinstance(lines, str) else lines)])
    return ["\n".join(lines) for lines in found if lines]


def _pattern(line: str, values: dict[str, object]) -> str:
    """A line of the file as a pattern, written down here once more rather than asked of the code under test."""
    live = {"host": r"fake\.notnow\.test", "client": r"127\.0\.0\.1", "left.seconds": r"[0-9]+"}
    pieces = re.split(r"\{([a-z_.]+)\}", line)
    return "".join(live.get(p) or re.escape(str(values[p])) if i % 2 else re.escape(p) for i, p in enumerate(pieces))


def mail(n: int) -> bytes:
    return b"Subject: %d\r\nMessage-ID: <%d@client.test>\r\nDKIM-Signature: v=1\r\n\r\nhello\r\n" % (n, n)


@pytest.mark.parametrize(("name", "knobs"), list(variants()))
def test_its_faults_are_met_and_a_careful_sender_achieves_what_is_expected(name, knobs):
    case = CASES.get(name, Case())
    knobs = {**case.knobs, **knobs}
    clock = RealClock(SPEED) if case.fast else ManualClock()
    with FakeSMTP(name, clock=clock, seed=SEED, **knobs) as fake:
        heard = case.witness(fake) if case.witness else []
        sender = careful(fake, case)
        if knobs.get("how") == "stall":
            sender.patience = 0.25
        with contextlib.ExitStack() as stack:
            if case.holding:
                stack.enter_context(case.holding(fake))
                waits = sender.wait
                sender.wait = lambda span: (stack.close(), waits(span))
            assert sender.deliver(*map(mail, range(case.mails))), sender.heard
        fake.settle()
        fake.assert_expected()
        said = "\n".join([*heard, *sender.heard])
        assert_met(fake, name, knobs, sender, said)


def careful(fake: FakeSMTP, case: Case) -> CarefulSender:
    clock = fake.clock
    if isinstance(clock, ManualClock):
        wait: Callable[[float], object] = clock.advance
    else:
        wait = lambda span: time.sleep(span / SPEED)  # noqa: E731 (what a sender does between its tries)
    dawdle = (lambda: clock.advance(case.dawdle)) if case.dawdle else None
    return CarefulSender(fake, wait, tls=trusting(fake) if case.tls else None, dawdle=dawdle, **case.sender)


def assert_met(fake: FakeSMTP, name: str, knobs: dict[str, object], sender: CarefulSender, said: str) -> None:
    """The scenario has shown what it is about."""
    fired = [x for x in fake.journal if x.rule is not None]
    if name == "smtp/healthy" or name == "smtp/plain-on-tls-port":
        assert not fired
        assert not sender.lost
        return
    assert fired, "no rule has fired"
    patterns = promised(name, knobs)
    if name.endswith("-certificate"):
        reason = {
            "expired": "has expired",
            "untrusted": "unable to get local issuer|self-signed",
            "wrong": "Hostname mismatch",
        }
        assert re.search(reason[name.removeprefix("smtp/").partition("-")[0]], str(sender.lost[0]))
    elif name == "smtp/slow-replies":
        a_tick = 0.001 * SPEED  # uvloop's timers are good to a millisecond
        assert all(x.answered_at - x.at >= 2 - a_tick for x in fired)
    elif name == "smtp/stalled-greeting":
        assert (
            isinstance(sender.lost[0], TimeoutError)
            if knobs["how"] == "stall"
            else fired[0].answered_at - fired[0].at >= 20
        )
    elif patterns:
        for pattern in patterns:
            assert re.search(rf"(?m)^{pattern}$", said), f"{pattern!r} is not in\n{said}"
    else:  # a close without a word
        assert any(x.closed and x.reply is None for x in fired)
        assert sender.lost


def test_what_is_unseen_is_explained_and_nothing_else():
    """The list above is kept true: these have no words of a refusal, and all others have."""
    for name in catalogue.names("smtp/*"):
        if name in UNSEEN_BY_THE_CAREFUL:
            assert not promised(name, {}), name
        elif name != "smtp/bare-close":
            assert promised(name, {}), name
    assert set(CASES) | set(UNSEEN_BY_THE_CAREFUL) | set(STAGES) <= set(catalogue.names("smtp/*"))


def test_a_careless_sender_fails_where_a_careful_one_passes():
    """What is expected can be missed: who does not come back has delivered nothing."""
    careless = {"most": 1}
    for name in (
        "smtp/overload",
        "smtp/at-stage",
        "smtp/bare-close",
        "smtp/greylisting",
        "smtp/outlook-rp-001",
        "smtp/shutdown",
    ):
        with FakeSMTP(name, clock=ManualClock()) as fake:
            assert not CarefulSender(fake, fake.clock.advance, **careless).deliver(mail(1))
            fake.settle()
            with pytest.raises(AssertionError, match="none was delivered"):
                fake.assert_expected()
