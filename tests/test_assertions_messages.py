"""Assertions about messages by recipient and subject, over journals and mail that are written by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from conduct_playbook import Play
from notnow.conduct.messages import MessageAssertions, one

TO_B = ("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA")


@dataclass
class Envelope:
    recipients: tuple[str, ...]
    content: bytes


class Mail(dict[str, str]):
    """A message: its headers, and its envelope."""

    def __init__(self, subject: str | None, *recipients: str, id: str | None = None, content: bytes = b"") -> None:
        super().__init__()
        if subject is not None:
            self["Subject"] = subject
        if id is not None:
            self["Message-ID"] = id
        self.envelope = Envelope(recipients, content)

    def __getitem__(self, name: str) -> Any:
        return self.get(name)


class Fake(MessageAssertions):
    """What is judged of a fake: a journal, and the mail that it has stored."""

    def __init__(self, *mail: Mail, play: Play | None = None) -> None:
        self.play = play or Play("smtp")
        self.mail = list(mail)
        for message in mail:
            sha256 = hashlib.sha256(message.envelope.content).hexdigest()
            self.play.connect(*TO_B, f". {message['Message-ID'] or ''} {{sha256={sha256}}}")
        self.journal = self.play.journals[0]

    @property
    def messages(self) -> list[Mail]:
        return self.mail


def why(check: Callable[[], object]) -> str:
    with pytest.raises(AssertionError) as caught:
        check()
    return str(caught.value).partition("\n\n")[0]


def arrows(check: Callable[[], object]) -> list[str]:
    """The connections that the timeline of the failure marks."""
    with pytest.raises(AssertionError) as caught:
        check()
    timeline = str(caught.value).split("\n\n")[1]
    return [line.split()[2] for line in timeline.splitlines() if line.startswith("->")]


HI = Mail("hi", "b@y", id="<1@x>", content=b"1")
BYE = Mail("bye", "B@Y", "c@y", id="<2@x>", content=b"2")
AGAIN = Mail("hi", "b@y", id="<1@x>", content=b"3")


class TestDelivered:
    def test_by_recipient_and_subject(self) -> None:
        fake = Fake(HI, BYE)
        fake.assert_delivered(to="b@y")
        fake.assert_delivered(to="C@Y")
        fake.assert_delivered(subject="hi")
        fake.assert_delivered(to="c@y", subject="bye")
        fake.assert_delivered()

    def test_times(self) -> None:
        fake = Fake(HI, BYE, AGAIN)
        fake.assert_delivered(2, to="b@y", subject="hi")
        said = "expected every message to b@y with the subject 'hi' to be delivered once, but <1@x> to b@y was stored twice"
        assert why(lambda: fake.assert_delivered(to="b@y", subject="hi")) == said
        assert arrows(lambda: fake.assert_delivered(to="b@y", subject="hi")) == ["#1", "#3"]
        said = "expected every message with the subject 'bye' to be delivered twice, but <2@x> to b@y was stored once"
        assert why(lambda: fake.assert_delivered(2, subject="bye")) == said

    def test_without_an_id_the_content_tells(self) -> None:
        fake = Fake(Mail("a", "b@y", content=b"1"), Mail("a", "b@y", content=b"2"))
        fake.assert_delivered(to="b@y")
        twice = Fake(Mail("a", "b@y", content=b"1"), Mail("a", "b@y", content=b"1"))
        name = hashlib.sha256(b"1").hexdigest()
        said = f"expected every message to b@y to be delivered once, but {name} to b@y was stored twice"
        assert why(lambda: twice.assert_delivered(to="b@y")) == said

    def test_zero_times(self) -> None:
        fake = Fake(HI)
        fake.assert_delivered(0, to="c@y")
        said = "expected no message with the subject 'hi' to be delivered, but once such a message was stored"
        assert why(lambda: fake.assert_delivered(0, subject="hi")) == said
        assert arrows(lambda: fake.assert_delivered(0, subject="hi")) == ["#1"]
        assert (
            why(lambda: fake.assert_delivered(0)) == "expected no message to be delivered, but <1@x> to b@y was stored"
        )


class TestNotDelivered:
    def test_none_that_fits(self) -> None:
        Fake().assert_not_delivered()
        Fake(HI).assert_not_delivered(to="c@y")
        Fake(HI).assert_not_delivered(to="b@y", subject="bye")

    def test_some(self) -> None:
        fake = Fake(HI, BYE)
        said = "expected no message to b@y to be delivered, but twice such a message was stored"
        assert why(lambda: fake.assert_not_delivered(to="b@y")) == said
        said = "expected no message to be delivered, but <1@x> to b@y was stored, and 1 more came through"
        assert why(fake.assert_not_delivered) == said


class TestNoneFits:
    def test_nobody_came(self) -> None:
        said = "expected every message to b@y to be delivered once, but none was delivered: nobody connected"
        assert why(lambda: Fake().assert_delivered(to="b@y")) == said

    def test_the_refusal_of_this_recipient_says_why(self) -> None:
        play = Play("smtp")
        play.connect("MAIL FROM:<a@x>", "RCPT TO:<B@y> -> !550 unknown", "RCPT TO:<c@y> -> !450 later")
        fake = Fake(play=play)
        said = "none was delivered: the client was told '550 unknown' at rcpt and did not come back"
        assert why(lambda: fake.assert_delivered(to="b@Y")).endswith(said)
        said = "none was delivered: the client was told '450 later' at rcpt and did not come back"
        assert why(lambda: fake.assert_delivered(to="d@y")).endswith(said)
        assert why(lambda: fake.assert_delivered(subject="x")).endswith(said)
        assert arrows(lambda: fake.assert_delivered(subject="x")) == ["#1"]

    def test_other_mail_came(self) -> None:
        play = Play("smtp")
        play.connect("MAIL FROM:<a@x>", "RCPT TO:<d@y> -> !550 unknown")
        fake = Fake(HI, BYE, play=play)
        said = "expected every message to d@y to be delivered once, but there was none: mail came for c@y, b@y, B@Y, and d@y was refused with '550 unknown'"
        assert why(lambda: fake.assert_delivered(to="d@y")) == said
        assert arrows(lambda: fake.assert_delivered(to="d@y")) == ["#1"]
        assert arrows(lambda: fake.assert_delivered(to="e@z")) == []

    def test_the_nearest_comes_first(self) -> None:
        many = [Mail(f"{n} letters", f"{n}@y.test", id=f"<{n}>") for n in ("one", "two", "four", "five")]
        fake = Fake(*many)
        said = "there was none: mail came for four@y.test, one@y.test, two@y.test and 1 more"
        assert why(lambda: fake.assert_delivered(to="fuor@y.test")).endswith(said)
        said = "there was none: the subjects were 'five letters', 'one letters', 'two letters' and 1 more"
        assert why(lambda: fake.assert_delivered(subject="fve letters")).endswith(said)
        said = "there was none: mail came for one@y.test, two@y.test, four@y.test and 1 more, and the subjects were "
        assert said in why(lambda: fake.assert_delivered(to="#", subject="#"))

    def test_each_fits_another(self) -> None:
        said = "expected every message to c@y with the subject 'hi' to be delivered once, but there was none"
        assert why(lambda: Fake(HI, BYE).assert_delivered(to="c@y", subject="hi")) == said

    def test_no_subject(self) -> None:
        fake = Fake(Mail(None, "b@y"))
        fake.assert_delivered(subject="")
        assert why(lambda: fake.assert_delivered(subject="hi")).endswith("there was none: the subjects were ''")


class TestOne:
    def test_the_one_that_fits(self) -> None:
        fake = Fake(HI, BYE)
        assert one(fake, "c@y", None) is BYE
        assert one(fake, None, "hi") is HI

    def test_none(self) -> None:
        assert (
            why(lambda: one(Fake(HI), "c@y", None))
            == "expected one message to c@y, but there was none: mail came for b@y"
        )

    def test_several(self) -> None:
        said = "expected one message to b@y, but there are 2; `messages` has them all"
        assert why(lambda: one(Fake(HI, BYE), "b@y", None)) == said
        assert arrows(lambda: one(Fake(HI, BYE), "b@y", None)) == ["#1", "#2"]
