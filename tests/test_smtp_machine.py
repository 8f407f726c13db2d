"""An SMTP client that says anything in any order, beside a model of what a server must answer and remember."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.machines import run

from notnow import FakeSMTP
from smtp_client import Raw, plain, trusting

USERS = {"ann": "word"}
NAMES = st.sampled_from(["a@client.test", "b@server.test", ""])
LINES = st.lists(st.sampled_from([b"hello", b".", b"..", b".dot", b"", b"x" * 2000]), max_size=4)


class Model:
    """What the server knows of its client."""

    def __init__(self) -> None:
        self.hello = ""  # EHLO or HELO, once it was said
        self.user = self.tls = False
        self.forget()

    def forget(self) -> None:
        """The transaction is over (RFC 5321 §4.1.1.5)."""
        self.sender: str | None = None
        self.recipients: list[str] = []
        self.chunks: bytes | None = None  # of BDAT


class Client(RuleBasedStateMachine):
    """A connection; after QUIT, the next one."""

    fake: FakeSMTP

    def __init__(self) -> None:
        super().__init__()
        self.kept = len(self.fake.messages)
        self.connect()

    def connect(self) -> None:
        self.raw, self.model, self.heard = Raw(self.fake), Model(), list[int]()
        self.number = -1
        assert self.took(self.raw.reply()) == 220
        self.number = self.fake.journal.connections[-1].number

    def took(self, reply: str) -> int:
        """The code of a reply, whose lines all have it (RFC 5321 §4.2.1)."""
        lines = reply.split("\n")
        assert {line[:3] for line in lines} == {reply[:3]}
        assert all(line[3:4] == "-" for line in lines[:-1])
        self.heard.append(int(reply[:3]))
        return self.heard[-1]

    def say(self, line: str) -> int:
        return self.took(self.raw.say(line))

    def teardown(self) -> None:
        self.raw.close()

    # ---- the session -----------------------------------------------------------------------------

    @rule(verb=st.sampled_from(["EHLO", "HELO"]))
    def greet(self, verb: str) -> None:
        assert self.say(f"{verb} client.test") == 250
        self.model.hello = verb
        self.model.forget()  # RFC 5321 §4.1.4

    @rule(line=st.sampled_from(["NOOP", "NOOP x", "HELP", "VRFY x"]))
    def ask(self, line: str) -> None:
        assert self.say(line) in (250, 214, 252)

    @rule(
        line=st.sampled_from(["WHAT", "", "MAIL", "MAIL FROM:a b", "RCPT TO:<", "DATA x", "BDAT x", "AUTH", "QUIT x"])
    )
    def err(self, line: str) -> None:
        assert 500 <= self.say(line) < 560

    @rule()
    def reset(self) -> None:
        assert self.say("RSET") == 250
        self.model.forget()

    @rule()
    def quit(self) -> None:
        assert self.say("QUIT") == 221
        with contextlib.suppress(ConnectionError):
            assert self.raw.until_end() == ""
        self.raw.close()
        self.agrees()
        self.connect()

    @rule(right=st.booleans())
    def log_in(self, right: bool) -> None:
        model = self.model
        code = self.say(f"AUTH PLAIN {plain('ann', 'word' if right else 'no')}")
        if model.hello != "EHLO" or model.user or model.sender is not None:  # RFC 4954 §4
            assert code in (503, 500)
        else:
            assert code == (235 if right else 535)
            model.user = right

    @precondition(lambda self: not self.model.tls)
    @rule()
    def start_tls(self) -> None:
        """It begins anew (RFC 3207 §4.2)."""
        assert self.say("STARTTLS") == 220
        self.raw.wrap(trusting(self.fake))
        self.model = Model()
        self.model.tls = True

    @precondition(lambda self: self.model.tls)
    @rule()
    def start_tls_again(self) -> None:
        assert self.say("STARTTLS") == 503

    # ---- a transaction ---------------------------------------------------------------------------

    @rule(sender=NAMES, more=st.sampled_from(["", " SIZE=100", " BODY=8BITMIME"]))
    def mail(self, sender: str, more: str) -> None:
        model = self.model
        code = self.say(f"MAIL FROM:<{sender}>{more}")
        faults = {
            503: not model.hello or model.sender is not None,
            530: not model.user,
            501: more and model.hello == "HELO",
        }
        self.judge(code, faults)
        if code == 250:
            model.sender = sender

    @rule(recipient=st.sampled_from(["b@server.test", "c@server.test"]))
    def rcpt(self, recipient: str) -> None:
        model, code = self.model, self.say(f"RCPT TO:<{recipient}>")
        self.judge(code, {503: model.sender is None or model.chunks is not None, 530: not model.user})
        if code == 250:
            model.recipients.append(recipient)

    @rule(lines=LINES)
    def data(self, lines: list[bytes]) -> None:
        model, code = self.model, self.say("DATA")
        self.judge(code, {503: not model.recipients or model.chunks is not None, 530: not model.user}, good=354)
        if code != 354:
            return
        content = b"".join(line + b"\r\n" for line in lines)
        self.raw.send(b"".join((b"." + line if line[:1] == b"." else line) + b"\r\n" for line in lines) + b".\r\n")
        assert self.took(self.raw.reply()) == 250
        self.delivered(content)

    @rule(chunk=st.binary(max_size=30), last=st.booleans())
    def bdat(self, chunk: bytes, last: bool) -> None:
        """The chunk is read whatever the answer is (RFC 3030 §2)."""
        model = self.model
        self.raw.send(b"BDAT %d%s\r\n" % (len(chunk), b" LAST" * last) + chunk)
        code = self.took(self.raw.reply())
        self.judge(code, {503: not model.recipients, 530: not model.user})
        if code != 250:
            return
        model.chunks = (model.chunks or b"") + chunk
        if last:
            self.delivered(model.chunks)

    def judge(self, code: int, faults: dict[int, object], good: int = 250) -> None:
        """The reply is that of a fault of the client, or the good one if there is none."""
        assert code in ([one for one, true in faults.items() if true] or [good])

    def delivered(self, content: bytes) -> None:
        """The message is there, byte for byte, for those who were named."""
        self.kept += 1
        message = self.fake.messages[-1]
        assert message.envelope.content == content
        assert message.envelope.sender == self.model.sender
        assert list(message.envelope.recipients) == self.model.recipients
        self.model.forget()

    # ---- always ----------------------------------------------------------------------------------

    @invariant()
    def agrees(self) -> None:
        """The journal has what the client heard, and the mailbox what was accepted."""
        (record,) = [one for one in self.fake.journal.connections if one.number == self.number]
        assert [code for x in record.exchanges for code in x.codes] == self.heard
        assert (record.tls is not None) == self.model.tls
        assert len(self.fake.messages) == self.kept


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeSMTP]:
    with FakeSMTP(tls="starttls", users=USERS) as fake:
        yield fake


def test_any_order_of_commands(fake: FakeSMTP) -> None:
    Client.fake = fake
    run(Client, examples=80)
