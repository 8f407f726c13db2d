"""smtp/by-address: every word of its vocabulary, and nothing else, is met by the address that says it."""

from __future__ import annotations

import pytest

from notnow import FakeSMTP, ManualClock
from smtp_client import MESSAGE, Raw, plain

CODES, ONCE = ("421", "450", "451", "452", "550", "554"), ("421", "450", "451", "452")
STAGES = ("mail", "rcpt", "data", "message")
SCENARIO = "smtp/by-address"


class Sender:
    """One connection that says as much of a mail as it may; `at` is the stage of its last reply."""

    def __init__(self, raw: Raw, user: str = "") -> None:
        self.raw = raw
        raw.hello()
        self.at, self.reply = "auth", raw.say(f"AUTH PLAIN {plain(user, 'x')}") if user else "235"

    def send(self, sender: str, recipient: str) -> str:
        """The reply that settled it, with its stage. Raises EOFError or OSError where there is none."""
        steps = (("mail", f"MAIL FROM:<{sender}>"), ("rcpt", f"RCPT TO:<{recipient}>"), ("data", "DATA"))
        for self.at, line in steps:
            self.reply = self.raw.say(line)
            if self.reply[0] not in "23":
                return self.reply
        self.at = "message"
        self.raw.send(MESSAGE + b".\r\n")
        self.reply = self.raw.reply()
        return self.reply


def addressed(stage: str, word: str, tag: str = "") -> tuple[str, str]:
    """Sender and recipient that say a word at a stage."""
    steered = f"{word}{tag}@x.test"
    return (steered, "b@server.test") if stage == "mail" else ("a@client.test", steered)


@pytest.mark.parametrize("tag", ["", ".17", "+case"])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("code", CODES)
def test_a_code_at_a_stage_each_time(code: str, stage: str, tag: str) -> None:
    with FakeSMTP(SCENARIO) as fake:
        for _ in range(2):
            with Raw(fake) as raw:
                sender = Sender(raw)
                assert sender.send(*addressed(stage, f"{code}-at-{stage}", tag))[:4] == f"{code} "
                assert sender.at == stage
                if code == "421":
                    assert raw.ended
                else:
                    assert raw.say("RSET").startswith("250")
                    assert sender.send("a@client.test", "b@server.test").startswith("250")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("code", ONCE)
def test_a_code_once_for_each_address(code: str, stage: str) -> None:
    with FakeSMTP(SCENARIO) as fake:
        told = []
        for tag in ("+1", "+1", "+2", "+2", "+1"):
            with Raw(fake) as raw:
                told.append(Sender(raw).send(*addressed(stage, f"{code}-once-at-{stage}", tag))[:3])
        assert told == [code, "250", code, "250", "250"]


@pytest.mark.parametrize("how", ["close", "reset", "stall"])
@pytest.mark.parametrize("stage", STAGES)
def test_no_reply_at_a_stage(how: str, stage: str) -> None:
    error = {"close": EOFError, "reset": ConnectionResetError, "stall": TimeoutError}[how]
    with FakeSMTP(SCENARIO) as fake, Raw(fake, patience=5.0) as raw:
        sender = Sender(raw)
        raw.sock.settimeout(0.5 if how == "stall" else 30)
        with pytest.raises(error):
            sender.send(*addressed(stage, f"{how}-at-{stage}"))
        assert sender.at == stage


@pytest.mark.parametrize("stage", STAGES)
def test_a_reply_that_is_late(stage: str) -> None:
    from notnow import RealClock

    with FakeSMTP(SCENARIO, slow="20s", clock=RealClock(200)) as fake, Raw(fake) as raw:
        assert Sender(raw).send(*addressed(stage, f"slow-at-{stage}")).startswith("250")
        (late,) = [x for x in fake.journal if x.rule]
        assert late.moment == stage
        assert late.answered_at is not None
        assert late.answered_at - late.at >= 19.5


@pytest.mark.parametrize(
    ("word", "reply", "ends"),
    [
        ("421-at-body", "421", True),
        ("421-once-at-body", "421", True),
        ("close-at-body", "", True),
        ("reset-at-body", "", True),
    ],
)
def test_amid_the_message(word: str, reply: str, ends: bool) -> None:
    with FakeSMTP(SCENARIO) as fake, Raw(fake) as raw:
        raw.hello().mail("a@client.test", f"{word}@x.test")
        raw.send(b"Subject: half a mess")
        try:
            said = raw.until_end()
        except ConnectionResetError:
            said = ""
        assert (said[:3], ends) == (reply, True)
        assert not fake.messages


@pytest.mark.parametrize(
    ("word", "reply"),
    [
        ("kept-then-421", "421"), ("kept-then-451", "451"), ("kept-then-554", "554"), ("kept-then-close", ""),
        ("accepted-then-421", "250"),
    ],
)  # fmt: skip
def test_what_is_stored_whatever_is_said(word: str, reply: str) -> None:
    with FakeSMTP(SCENARIO) as fake, Raw(fake) as raw:
        raw.hello().mail("a@client.test", f"{word}@x.test")
        raw.send(MESSAGE + b".\r\n")
        try:
            assert raw.reply()[:3] == reply
            if word == "accepted-then-421":
                assert raw.reply()[:3] == "421"
                assert raw.ended
        except EOFError:
            assert not reply
        assert [m.envelope.recipients for m in fake.messages] == [(f"{word}@x.test",)]


@pytest.mark.parametrize("user", ["{}-at-auth", "{}-at-auth@x.test", "{}-at-auth+2@x.test"])
@pytest.mark.parametrize("word", ["421", "454", "535", "close"])
def test_at_auth_it_is_the_user(user: str, word: str) -> None:
    with FakeSMTP(SCENARIO) as fake, Raw(fake) as raw:
        if word == "close":
            with pytest.raises(EOFError):
                Sender(raw, user.format(word))
        else:
            assert Sender(raw, user.format(word)).reply.startswith(f"{word} ")


@pytest.mark.parametrize(
    "address", ["ann@x.test", "x421-at-rcpt@x.test", "421-at-rcptx@x.test", "421-at-mail@x.test", "421@x.test", "999-at-rcpt@x.test"]
)  # fmt: skip
def test_every_other_recipient_is_delivered_to(address: str) -> None:
    with FakeSMTP(SCENARIO, clock=ManualClock()) as fake, Raw(fake) as raw:
        assert Sender(raw).send("a@client.test", address).startswith("250")
        assert not [x for x in fake.journal if x.rule]


def test_one_recipient_of_several_steers_the_message() -> None:
    with FakeSMTP(SCENARIO) as fake, Raw(fake) as raw:
        raw.hello()
        raw.say("MAIL FROM:<a@client.test>")
        for recipient in ("b@server.test", "550-at-rcpt@x.test", "451-at-message@x.test"):
            raw.say(f"RCPT TO:<{recipient}>")
        assert raw.say("DATA").startswith("354")
        raw.send(MESSAGE + b".\r\n")
        assert raw.reply().startswith("451 ")
