"""FakeSMTP: an SMTP server that says 421 on cue (RFC 5321), on aiosmtpd."""

from __future__ import annotations

from typing import ClassVar

from notnow.conduct import messages
from notnow.conduct.messages import MessageAssertions
from notnow.language.scenario import Scenario
from notnow.servers.base.fake import Fake
from notnow.servers.smtp.bridge import MailBridge
from notnow.servers.smtp.message import Message


class FakeSMTP(MessageAssertions, Fake):
    """A fake SMTP server.

        with FakeSMTP("smtp/overload", outage="5s") as smtp:
            send_mail(host=smtp.host, port=smtp.port)
            smtp.assert_delivered(times=1)

    It listens when the block begins, and it lives in a thread of its own. `forward` is the URL of an SMTP server on this
    machine that gets accepted mail, too, such as "smtp://127.0.0.1:1025".
    """

    protocol: ClassVar[str] = "smtp"
    _option_names: ClassVar[frozenset[str]] = Fake._option_names | {"forward"}
    _bridge_class: ClassVar[type[MailBridge]] = MailBridge
    _bridge: MailBridge

    def _new_bridge(self, scenario: Scenario) -> MailBridge:
        return self._bridge_class(self._options, scenario, type(self).__name__, self.name)

    @property
    def messages(self) -> list[Message]:
        """The accepted mail, in the order in which it came."""
        return self._bridge.mailbox.messages

    def message(self, *, to: str | None = None, subject: str | None = None) -> Message:
        """The one accepted message that is for the recipient `to` and has this `subject`.

        Raises AssertionError, with a picture of what happened, where there is none or more than one.
        """
        __tracebackhide__ = True
        found = messages.one(self, to, subject)
        assert isinstance(found, Message)
        return found
