"""Accepted mail that goes on to a server of the user's: as it came, in order, and after the client has its reply."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from notnow import FakeSMTP, ManualClock
from notnow.fast_forward import FastForward
from notnow.servers.smtp import bridge
from notnow.servers.smtp import forward as forwarding
from smtp_client import Raw, one, rules

pytestmark = pytest.mark.usefixtures("each_loop")


@pytest.fixture
def behind() -> Iterator[FakeSMTP]:
    with FakeSMTP(name="behind") as made:
        yield made


@contextmanager
def silent() -> Iterator[tuple[socket.socket, str]]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock, f"smtp://127.0.0.1:{sock.getsockname()[1]}"


def arrived(behind: FakeSMTP, count: int) -> list[tuple[str, tuple[str, ...], bytes]]:
    behind.wait_for(lambda _: len(behind.messages) >= count, timeout=20)
    envelopes = [message.envelope for message in behind.messages]
    return [(envelope.sender, envelope.recipients, envelope.content) for envelope in envelopes]


def failures(fake: FakeSMTP, count: int) -> list[str]:
    told: Callable[[], list[str]] = lambda: [mark.text for mark in fake.journal.marks if mark.kind == "forward"]  # noqa: E731
    fake.wait_for(lambda _: len(told()) >= count, timeout=20)
    return told()


def test_a_message_goes_on_as_it_came(behind: FakeSMTP) -> None:
    body = "Subject: ü\r\n\r\n.dot\r\n..\r\nbare \r\n".encode() + b"\xff\r\n"
    with FakeSMTP(forward=behind.url) as fake, Raw(fake).hello() as raw:
        assert raw.say("MAIL FROM:<>").startswith("250")
        for recipient in ("a@x.test", "b@y.test"):
            assert raw.say(f"RCPT TO:<{recipient}>").startswith("250")
        assert raw.say("DATA").startswith("354")
        raw.send(body.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert raw.reply().startswith("250")
        assert arrived(behind, 1) == [("", ("a@x.test", "b@y.test"), body)]
        assert [message.envelope.content for message in fake.messages] == [body]
    parameters = behind.messages[0].envelope.parameters
    assert parameters["BODY"] == "8BITMIME"


def test_addresses_beyond_ascii(behind: FakeSMTP) -> None:
    with FakeSMTP(forward=behind.url) as fake, Raw(fake).hello() as raw:
        assert raw.say("MAIL FROM:<jürgen@x.test> SMTPUTF8").startswith("250")
        assert raw.say("RCPT TO:<你好@y.test>").startswith("250")
        assert raw.say("DATA").startswith("354")
        assert raw.say("Subject: a\r\n\r\nb\r\n.").startswith("250")
        assert arrived(behind, 1) == [("jürgen@x.test", ("你好@y.test",), b"Subject: a\r\n\r\nb\r\n")]


def test_messages_keep_their_order(behind: FakeSMTP) -> None:
    with FakeSMTP(forward=behind.url) as fake, Raw(fake).hello() as raw:
        for i in range(20):
            assert raw.deliver(b"Subject: %d\r\n\r\n" % i).startswith("250")
        found = [content for _, _, content in arrived(behind, 20)]
    assert found == [b"Subject: %d\r\n\r\n" % i for i in range(20)]


def test_a_fake_that_stops_passes_on_what_it_has(behind: FakeSMTP, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    with FakeSMTP(forward=behind.url) as fake, Raw(fake).hello() as raw:
        for _ in range(5):
            raw.deliver(b"Subject: a\r\n\r\n")
        monkeypatch.delattr(forwarding.Forwarder, "abort")  # there is no need of it
        fake.stop()
        assert threading.active_count() == before
        assert len(behind.messages) == 5
        fake.start()
        with Raw(fake).hello() as again:
            again.deliver(b"Subject: b\r\n\r\n")
        assert len(arrived(behind, 6)) == 6


def test_only_accepted_mail_goes_on(behind: FakeSMTP) -> None:
    """Kept, and answered 421: the server has it. Refused: it has not."""
    scenario = rules(
        one("message", where={"sender": "kept@*"}, reply="421 later", keep=True),
        one("message", where={"sender": "refused@*"}, reply="421 later"),
    )
    with FakeSMTP(scenario, forward=behind.url) as fake:
        for sender, code in (("refused", "421"), ("kept", "421"), ("fine", "250")):
            with Raw(fake).hello() as raw:
                raw.say(f"MAIL FROM:<{sender}@x.test>")
                raw.say("RCPT TO:<b@x.test>")
                raw.say("DATA")
                assert raw.say("Subject: a\r\n\r\n.").startswith(code)
        assert [sender for sender, _, _ in arrived(behind, 2)] == ["kept@x.test", "fine@x.test"]
    assert len(behind.messages) == 2


def test_the_client_has_its_reply_before(behind: FakeSMTP) -> None:
    slow = rules(one("message", reply="250 Ok", drip="1h"))
    with FakeSMTP(slow, clock=ManualClock(), forward=behind.url) as fake, Raw(fake).hello() as raw:
        raw.mail()
        raw.send("Subject: a\r\n\r\n.\r\n")
        fake.wait_for(lambda _: fake.messages)
        forwarder = fake._bridge._forwarder
        assert forwarder is not None
        assert forwarder.ended  # its thread has not begun
        fake.clock.advance("10h")
        assert raw.reply().startswith("250")
        assert len(arrived(behind, 1)) == 1


def test_a_client_that_left_has_its_mail_passed_on_all_the_same(behind: FakeSMTP) -> None:
    cut = rules(one("message", close="reset", keep=True))
    with FakeSMTP(cut, forward=behind.url) as fake, Raw(fake).hello() as raw:
        raw.say("MAIL FROM:<a@x.test>")
        raw.say("RCPT TO:<b@x.test>")
        raw.say("DATA")
        raw.send("Subject: a\r\n\r\n.\r\n")
        assert len(arrived(behind, 1)) == 1


# ---- a server that fails -------------------------------------------------------------------------


def test_a_server_that_is_not_running_is_told_to_the_journal_alone() -> None:
    with silent() as (_, url):
        url = url.replace("127.0.0.1", "localhost")
    with FakeSMTP(forward=url) as fake, Raw(fake).hello() as raw:
        assert raw.deliver(b"Subject: a\r\n\r\n").startswith("250")
        assert failures(fake, 1) == [f"<a@client.test> to b@server.test is not forwarded to {url}: Connection refused"]
        assert raw.deliver(b"Subject: a\r\n\r\n").startswith("250")
        assert len(failures(fake, 2)) == 2


def test_a_server_that_refuses_is_quoted() -> None:
    refusing = rules(
        one("mail", where={"sender": "no@*"}, reply="550 5.7.1 Not you"),
        one("rcpt", where={"recipient": "no@*"}, reply="550 5.1.1 Not there"),
    )
    with FakeSMTP(refusing, name="behind") as behind, FakeSMTP(forward=behind.url) as fake, Raw(fake).hello() as raw:
        for sender, recipients in (("no@x.test", ["b@x.test"]), ("a@x.test", ["no@y.test", "b@x.test"])):
            raw.say(f"MAIL FROM:<{sender}>")
            for recipient in recipients:
                raw.say(f"RCPT TO:<{recipient}>")
            raw.say("DATA")
            assert raw.say("Subject: a\r\n\r\n.").startswith("250")
        assert failures(fake, 2) == [
            f"<no@x.test> to b@x.test is not forwarded to {behind.url}: 550 5.7.1 Not you",
            f"<a@x.test> to no@y.test, b@x.test is not forwarded to {behind.url}: no@y.test: 550 5.1.1 Not there",
        ]
        assert [recipients for _, recipients, _ in arrived(behind, 1)] == [("b@x.test",)]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"421 4.3.2 busy\r\n", "421 4.3.2 busy"),
        (b"554 not you\r\n", "554 not you"),
        (b"SSH-2.0-x\r\n", "it does not speak SMTP"),
        (b"220 hello\r\n", "Connection unexpectedly closed"),
        (b"", "Connection unexpectedly closed"),
    ],
)
def test_a_server_that_ends_it_at_the_greeting(said: bytes, why: str) -> None:
    with silent() as (sock, url), FakeSMTP(forward=url) as fake, Raw(fake).hello() as raw:
        assert raw.deliver(b"Subject: a\r\n\r\n").startswith("250")
        connection, _ = sock.accept()
        with connection:
            connection.sendall(said)
        (text,) = failures(fake, 1)
    assert text.partition(f"{url}: ")[2].partition(": [Errno")[0] == why


def test_under_fast_forward_mail_goes_on_in_real_time(behind: FakeSMTP) -> None:
    """The client sleeps for minutes that do not pass; the thread that passes mail on is left alone."""
    with FastForward() as moved, FakeSMTP("smtp/greylisting", clock=moved.clock, forward=behind.url) as fake:
        while True:
            with Raw(fake).hello() as raw:
                raw.say("MAIL FROM:<a@x.test>")
                if raw.say("RCPT TO:<b@x.test>").startswith("250"):
                    raw.say("DATA")
                    assert raw.say("Subject: a\r\n\r\n.").startswith("250")
                    break
            time.sleep(60)
        assert moved.clock.now() >= 300
        assert [sender for sender, _, _ in arrived(behind, 1)] == ["a@x.test"]


def test_under_fast_forward_a_silent_server_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "PATIENCE", 0.1)
    with silent() as (_, url), FastForward() as moved, FakeSMTP(clock=moved.clock, forward=url) as fake:
        with Raw(fake).hello() as raw:
            assert raw.deliver(b"Subject: a\r\n\r\n").startswith("250")
        time.sleep(3600)
        assert moved.clock.now() >= 3600
        fake.stop()
        assert [mark.text.partition(f"{url}: ")[2] for mark in fake.journal.marks[1:]] == [forwarding.STOPPED]


def test_a_server_that_says_nothing_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "PATIENCE", 0.1)
    before = threading.active_count()
    with silent() as (_, url), FakeSMTP(forward=url) as fake, Raw(fake).hello() as raw:
        for _ in range(3):
            assert raw.deliver(b"Subject: a\r\n\r\n").startswith("250")
        fake.stop()
        assert threading.active_count() == before
        told = [mark.text.partition(f"{url}: ")[2] for mark in fake.journal.marks if mark.kind == "forward"]
        assert told == [forwarding.STOPPED] * 3


def test_what_waits_for_a_slow_server_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "PATIENCE", 0.1)
    monkeypatch.setattr(forwarding, "FORWARDING", 3_000)
    monkeypatch.setattr(forwarding, "MOST_TOLD", 2)
    with silent() as (_, url), FakeSMTP(forward=url) as fake, Raw(fake).hello() as raw:
        for _ in range(6):
            assert raw.deliver(b"Subject: a\r\n\r\n").startswith("250")
        told = [text.partition(f"{url}: ")[2] for text in failures(fake, 2)]
        fake.stop()
    assert told == [
        "too many messages wait for that server",
        "too many messages wait for that server; further failures are not told",
    ]
