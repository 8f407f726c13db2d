import smtplib
from email.message import EmailMessage

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, rule

from notnow.chaos import Nemesis


class Outbox:
    """A queue of mail: what the server does not take now stays in it."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.waiting: list[EmailMessage] = []

    def put(self, message: EmailMessage) -> None:
        self.waiting.append(message)

    def flush(self) -> None:
        """Send what is waiting, over one connection, until the server refuses."""
        try:
            with smtplib.SMTP(self.host, self.port, timeout=30) as client:
                while self.waiting:
                    client.send_message(self.waiting[0])
                    del self.waiting[0]
        except OSError:
            pass  # the next flush will try again


class OutboxMachine(Nemesis, RuleBasedStateMachine):
    protocol = "smtp"

    def __init__(self):
        super().__init__()
        self.outbox = Outbox(self.fake.host, self.fake.port)
        self.written = 0

    @rule()
    def write(self):
        self.written += 1
        message = EmailMessage()
        message["From"], message["To"] = "shop@x.test", "ann@y.test"
        message["Message-ID"] = f"<{self.written}@x.test>"
        self.outbox.put(message)

    @rule()
    def flush(self):
        self.outbox.flush()

    def afterwards(self):  # the server is healthy again
        self.outbox.flush()
        assert not self.outbox.waiting
        if self.written:
            self.fake.assert_delivered(count=self.written)
            self.fake.assert_no_duplicates()


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(max_examples=25, stateful_step_count=10, deadline=None)
