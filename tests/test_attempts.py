"""What a client did, read from journals that are written here by hand; and how they look."""

from __future__ import annotations

import pytest

from notnow import ManualClock
from notnow.conduct.pictures.timeline import render
from notnow.conduct.reading.attempts import peak, refusals, retries
from notnow.journal import Connection, Exchange, Message, Recorder


class Story:
    """A journal that is told line by line."""

    def __init__(self, server: str = "smtp", clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.recorder = Recorder(self.clock, server=server)
        self.journal = self.recorder.journal

    def connect(self, reply: str = "220 hello", client: str = "127.0.0.1", fault: str | None = None) -> Connection:
        connection = self.recorder.open(f"id-{self.clock.stamp()}", client, 40000)
        self.say(connection, "connect", "", reply, fault)
        return connection

    def say(
        self, connection: Connection, moment: str, request: str, reply: str | None, fault: str | None = None
    ) -> Exchange:
        exchange = self.recorder.ask(connection, moment, request, "one")
        if fault:
            self.recorder.refused(exchange, fault, "phase[0].rule[0]")
        if reply is not None:
            self.recorder.answer(exchange, reply)
        if fault and (reply is None or reply.startswith("421")):
            self.recorder.end(exchange)
            self.recorder.close(connection, "fake")
        return exchange

    def refuse(self, client: str = "127.0.0.1") -> Connection:
        return self.connect("421 not now", client, "busy")

    def store(self, connection: Connection, message_id: str | None, sha256: str = "0" * 64) -> None:
        exchange = self.say(connection, "message", "(9 bytes)", "250 Ok")
        self.recorder.facts(exchange, Message(message_id, sha256, "", ()))


@pytest.fixture
def story() -> Story:
    return Story()


def test_delays_run_from_a_refusal_to_the_next_attempt(story: Story) -> None:
    for wait in (60, 120):
        story.refuse()
        story.clock.advance(wait)
    story.connect()
    assert [retry.delay for retry in retries(story.journal)] == [60, 120]


def test_a_delay_runs_from_when_the_refusal_was_said(story: Story) -> None:
    connection = story.connect()
    exchange = story.recorder.ask(connection, "ehlo", "EHLO x", "one")
    story.clock.advance(30)
    story.recorder.refused(exchange, "late")
    story.recorder.answer(exchange, "421 late")
    story.clock.advance(5)
    story.connect()
    assert [retry.delay for retry in retries(story.journal)] == [5]


def test_clients_are_told_apart_by_their_address(story: Story) -> None:
    story.refuse("10.0.0.1")
    story.clock.advance(5)
    story.connect(client="10.0.0.2")
    assert retries(story.journal) == []
    story.connect(client="10.0.0.1")
    assert [retry.delay for retry in retries(story.journal)] == [5]


def test_a_mail_of_the_same_sender_on_the_same_connection_is_an_attempt(story: Story) -> None:
    connection = story.connect()
    story.say(connection, "mail", "MAIL FROM:<a@x>", "250 OK")
    story.say(connection, "rcpt", "RCPT TO:<b@y>", "450 later", "greylisted")
    story.clock.advance(300)
    story.say(connection, "mail", "MAIL FROM:<other@x>", "250 OK")
    assert retries(story.journal) == []
    story.say(connection, "rcpt", "RCPT TO:<b@y>", "450 later", "greylisted")
    story.clock.advance(300)
    story.say(connection, "mail", "MAIL FROM:<other@x>", "250 OK")
    assert [retry.delay for retry in retries(story.journal)] == [300]


def test_refusals_are_what_a_rule_did(story: Story) -> None:
    connection = story.connect()
    story.say(connection, "unknown", "FOO", "500 what?")
    refused = story.say(connection, "mail", "MAIL", "450 later", "greylisted")
    silent = story.say(connection, "rcpt", "RCPT", None, "close")
    assert refusals(story.journal) == [refused, silent]


def test_the_peak_counts_refused_connections_as_they_come(story: Story) -> None:
    a, b = story.connect(), story.connect()
    refused = story.refuse()
    assert peak(story.journal.connections) == (3, refused)
    story.recorder.close(a, "client")
    story.recorder.close(b, "client")
    story.connect()
    assert peak(story.journal.connections)[0] == 3
    assert peak([]) == (0, None)


def test_the_picture(story: Story) -> None:
    story.refuse()
    story.clock.advance(90)
    good = story.connect()
    story.say(good, "mail", "MAIL FROM:<a@x>", "250 OK")
    story.store(good, "<1@x>")
    story.recorder.close(good, "client")
    assert render([story.journal]) == (
        "timeline (scenario time)\n"
        "          0s  #1    x connect: 421 not now; the fake closed\n"
        "      1m 30s  #2    + 1 message stored; the client left\n"
        "\n"
        "transcript\n"
        "   #1 from 127.0.0.1\n"
        "          0s  S  421 not now   (and closes)   [busy, phase[0].rule[0]]\n"
        "   #2 from 127.0.0.1\n"
        "      1m 30s  S  220 hello\n"
        "      1m 30s  C  MAIL FROM:<a@x>\n"
        "              S  250 OK\n"
        "      1m 30s  C  (9 bytes)\n"
        "              S  250 Ok"
    )


def test_what_is_marked_has_an_arrow_and_is_written_out_alone(story: Story) -> None:
    refused = story.refuse()
    story.connect()
    text = render([story.journal], refused.exchanges)
    assert "->        0s  #1    x connect: 421 not now; the fake closed" in text
    assert "->        0s  S  421 not now" in text
    assert "#2 from" not in text


def test_what_a_client_said_after_the_close_is_shown(story: Story) -> None:
    story.recorder.said_after(story.refuse(), b"HELO again\r\n")
    assert "C  HELO again  (after the fake had closed)" in render([story.journal])


def test_what_was_begun_and_closed_without_a_word_is_told_so(story: Story) -> None:
    refused = story.say(story.connect(), "stor", "STOR a", "150 go on", fault="silent")
    story.recorder.end(refused)
    assert refusals(story.journal) == [refused]
    assert "x stor: 150 go on, then a close without a word" in render([story.journal])


def test_two_fakes_are_one_picture_in_one_order() -> None:
    primary = Story("primary")
    backup = Story("backup", primary.clock)
    primary.refuse()
    primary.clock.advance(2)
    backup.connect()
    lines = render([primary.journal, backup.journal]).splitlines()
    assert lines[1].split()[:3] == ["0s", "primary", "#1"]
    assert lines[2].split()[:3] == ["2s", "backup", "#1"]


def test_nobody_and_too_many() -> None:
    story = Story()
    assert "nobody connected" in render([story.journal])
    for _ in range(100):
        story.refuse()
    text = render([story.journal])
    assert "of 100 connections, the first and last 20" in text
    assert len(text.splitlines()) < 150


def test_dropped_entries_are_said_so() -> None:
    story = Story()
    story.journal.limit = 3
    for _ in range(5):
        story.refuse()
    assert "2 older exchanges were dropped: journal_limit is 3" in render([story.journal])
