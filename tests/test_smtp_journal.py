"""What the journal of an SMTP fake tells a judge: when commands arrived, and what became of each message."""

from __future__ import annotations

import pytest

from notnow import FakeSMTP, ManualClock
from notnow.journal import Exchange, Message
from smtp_client import Raw, one, rules

pytestmark = pytest.mark.usefixtures("each_loop")

HEAD = "MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\n"
CONTENT = "Message-ID: <1@x>\r\nSubject: hi\r\n\r\nhello\r\n"


def begun(raw: Raw) -> Raw:
    """The client has sent the envelope, and may send the message."""
    raw.hello().send(HEAD)
    for _ in range(3):
        raw.reply()
    return raw


def said(fake: FakeSMTP, moment: str) -> Exchange:
    (found,) = (x for x in fake.journal if x.moment == moment)
    return found


class TestArrivals:
    def test_a_command_that_waits_for_no_reply_arrives_when_it_is_read(self):
        with FakeSMTP() as fake, Raw(fake) as raw:
            begun(raw)
            raw.say("RSET")
            for exchange in fake.journal:
                assert (exchange.moment in ("rcpt",)) is (exchange.arrival is not None), exchange
            (first, second) = (x for x in fake.journal if x.moment == "rcpt")
            assert first.arrived_index == second.arrived_index == said(fake, "mail").index  # a group (RFC 2920)

    def test_a_command_while_a_reply_is_late(self):
        scenario = rules(one("message", delay="3s"))
        with FakeSMTP(scenario, clock=ManualClock()) as fake, begun(Raw(fake)) as raw:
            raw.say("DATA")
            raw.send(f"{CONTENT}.\r\n")
            fake.wait_for(lambda j: j.count("message"))
            fake.clock.advance(1)
            raw.send("RSET\r\n")
            raw.send("NOOP\r\n")
            fake.wait_for(lambda _: next(iter(fake._bridge.sessions.values())).arrivals.next(12))
            fake.clock.advance(2)
            assert [raw.reply()[:3] for _ in range(3)] == ["250"] * 3
            late, early = said(fake, "message"), said(fake, "rset")
            assert (late.answered_at, early.arrived_at, early.at) == (3, 1, 3)
            assert late.index < early.arrived_index < early.index

    def test_commands_in_one_piece_that_came_early_have_one_arrival(self):
        with FakeSMTP(rules(one("mail", delay="3s")), clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            raw.send("MAIL FROM:<a@x>\r\n")
            fake.wait_for(lambda j: j.count("mail"))
            raw.send("RCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\n")
            fake.wait_for(lambda _: next(iter(fake._bridge.sessions.values())).arrivals.next(30))
            fake.clock.advance(3)
            assert [raw.reply()[:3] for _ in range(3)] == ["250"] * 3
            first, second = (x for x in fake.journal if x.moment == "rcpt")
            assert first.arrived_index == second.arrived_index
            assert said(fake, "mail").index < first.arrived_index < first.index

    def test_a_client_that_talks_before_its_greeting(self):
        with FakeSMTP(rules(one("connect", delay="3s")), clock=ManualClock()) as fake, Raw(fake) as raw:
            raw.send("EHLO x\r\n")
            fake.wait_for(lambda _: next(iter(fake._bridge.sessions.values())).arrivals.count)
            fake.clock.advance(3)
            raw.reply(), raw.reply()
            assert (said(fake, "ehlo").arrived_at, said(fake, "connect").answered_at) == (0, 3)

    def test_what_a_client_says_to_a_fake_that_stalls(self):
        with FakeSMTP(rules(one("rcpt", stall=True)), clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            raw.send("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n")
            fake.wait_for(lambda j: j.connections[0].unread)
            fake.clock.advance(5)
            raw.send("AUTH PLAIN AGEAYg==\r\n")
            fake.wait_for(lambda j: "AUTH" in j.connections[0].unread)
            connection = fake.journal.connections[0]
            assert connection.unread == "DATA\r\nAUTH PLAIN ********\r\n"
            assert connection.unread_arrival.at == 0
            assert connection.unread_arrival.index == said(fake, "mail").index  # in one piece with it

    def test_what_a_client_had_said_before_a_close_and_after_it(self):
        with (
            FakeSMTP(rules(one("mail", reply="421 no", delay="3s")), clock=ManualClock()) as fake,
            Raw(fake).hello() as raw,
        ):
            raw.send("MAIL FROM:<a@x>\r\n")
            fake.wait_for(lambda j: j.count("mail"))
            fake.clock.advance(1)
            raw.send("RCPT TO:<b@y>\r\n")
            fake.wait_for(lambda _: next(iter(fake._bridge.sessions.values())).arrivals.next(15))
            fake.clock.advance(2)
            assert raw.reply()[:3] == "421"
            raw.send("QUIT\r\n")
            fake.wait_for(lambda j: "QUIT" in j.connections[0].after)
            connection = fake.journal.connections[0]
            assert (connection.after, connection.after_arrival.at) == ("RCPT TO:<b@y>\r\nQUIT\r\n", 1)
            assert connection.after_arrival.index < connection.closed_index


class TestMessages:
    FACTS = (("b@y", "c@y"), "a@x", "<1@x>")

    def known(self, message: Message | None):
        assert message is not None
        return message.recipients, message.sender, message.message_id

    @pytest.mark.parametrize(
        ("fault", "stored"),
        [({}, True), ({"reply": "451 no"}, False), ({"reply": "550 no"}, False), ({"reply": "451 no", "keep": True}, True),
         ({"reply": "250 ok", "keep": False}, False), ({"close": True}, False)],
    )  # fmt: skip
    def test_a_message_is_known_whatever_the_reply(self, fault, stored):
        with FakeSMTP(rules(one("message", **fault)) if fault else "smtp/healthy") as fake, begun(Raw(fake)) as raw:
            raw.say("DATA")
            raw.send(f"{CONTENT}.\r\n")
            raw.until_end() if "close" in fault else raw.reply()
            exchange = said(fake, "message")
            assert self.known(exchange.message) == self.FACTS
            assert (exchange.message.whole, exchange.message.size) == (True, len(CONTENT))
            assert (exchange.stored, len(fake.messages)) == (stored, int(stored))

    def test_a_message_that_is_refused_and_sent_again_has_one_hash(self):
        content = b"Subject: no name\r\n\r\nhello\r\n"
        with FakeSMTP(rules(one("message", reply="451 no", times=1))) as fake, Raw(fake).hello() as raw:
            for _ in range(2):
                raw.deliver(content)
            first, second = (x.message for x in fake.journal if x.moment == "message")
            assert (first.sha256, first.name) == (second.sha256, second.name)
            assert (first.stored, second.stored, first.message_id) == (False, True, None)

    @pytest.mark.parametrize("reply", ["421 no", "451 no"])
    def test_a_message_that_is_answered_in_the_middle(self, reply):
        with FakeSMTP(rules(one("body", reply=reply, after_bytes=30))) as fake, begun(Raw(fake)) as raw:
            raw.say("DATA")
            raw.send(CONTENT)
            if reply == "451 no":
                raw.send(".\r\n")
            assert raw.reply()[:3] == reply[:3]
            raw.say("NOOP") if reply == "451 no" else raw.until_end()
            exchange = said(fake, "body")
            assert self.known(exchange.message) == self.FACTS
            assert exchange.message.whole is (reply == "451 no")
            assert (exchange.message.sha256 is None, exchange.stored) == (reply == "421 no", False)
            assert said(fake, "data").message is None

    def test_a_client_that_leaves_in_the_middle(self):
        with FakeSMTP() as fake:
            with begun(Raw(fake)) as raw:
                raw.say("DATA")
                raw.send(CONTENT)
            fake.wait_for(lambda j: j.connections[0].ended_by and said(fake, "data").message)
            message = said(fake, "data").message
            assert self.known(message) == self.FACTS
            assert (message.whole, message.stored, message.sha256, message.size) == (False, False, None, len(CONTENT))

    def test_chunks(self):
        with FakeSMTP() as fake, begun(Raw(fake)) as raw:
            raw.send(f"BDAT {len(CONTENT)}\r\n{CONTENT}")
            raw.reply()
            assert self.known(said(fake, "data").message) == self.FACTS
            assert not said(fake, "data").message.whole
            raw.send("BDAT 3 LAST\r\nbye")
            raw.reply()
            assert said(fake, "data").message is None
            assert self.known(said(fake, "message").message) == self.FACTS
