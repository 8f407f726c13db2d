"""Assertions about the mail of an SMTP server: this message, to this recipient."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NoReturn, Protocol

from notnow.conduct import arguments
from notnow.conduct.assertions import Assertions, fail, why_nothing
from notnow.conduct.reading import attempts
from notnow.errors import nearest
from notnow.journal import Exchange
from notnow.units import times as _often


class Sent(Protocol):
    """What SMTP said of a message."""

    @property
    def recipients(self) -> tuple[str, ...]: ...
    @property
    def content(self) -> bytes: ...


class Mail(Protocol):
    """An accepted message."""

    @property
    def envelope(self) -> Sent: ...
    def __getitem__(self, name: str) -> object: ...


class MessageAssertions(Assertions):
    """What a fake that stores mail can say of its clients beyond the rest."""

    @property
    def messages(self) -> Sequence[Mail]:
        """The accepted mail, in the order in which it came."""
        raise NotImplementedError

    def assert_delivered(self, times: int = 1, *, to: str | None = None, subject: str | None = None) -> None:
        """`Assertions.assert_delivered`; of one message where `to` or `subject` names one.

        `to` is an envelope recipient, in whatever case, and `subject` the whole text of that header. Each message that
        they fit was stored exactly `times` times, and there was one; what became of others does not matter.
        """
        __tracebackhide__ = True
        arguments.whole("times", times)
        _check(to, subject)
        if to is None and subject is None:
            super().assert_delivered(times)
        elif times == 0:
            self.assert_not_delivered(to=to, subject=subject)
        else:
            _delivered(self, times, to, subject)

    def assert_not_delivered(self, *, to: str | None = None, subject: str | None = None) -> None:
        """No message was stored; none that `to` and `subject` fit, where they are given.

        It holds, too, where no client came: with `wait_for` a test makes sure that one did.
        """
        __tracebackhide__ = True
        _check(to, subject)
        if to is None and subject is None:
            super().assert_not_delivered()
        elif found := _fitting(self.messages, to, subject):
            seen = f"{_often(len(found))} such a message was stored"
            fail(self.journal, f"no {_named(to, subject)} to be delivered", seen, _stored(self, found))


def one(fake: MessageAssertions, to: str | None, subject: str | None) -> Mail:
    """The one message that fits. Raises AssertionError where there is none, or more than one."""
    __tracebackhide__ = True
    _check(to, subject)
    found = _fitting(fake.messages, to, subject)
    expected = f"one {_named(to, subject)}"
    if not found:
        _fail_for_none(fake, expected, to, subject)
    if len(found) > 1:
        fail(fake.journal, expected, f"there are {len(found)}; `messages` has them all", _stored(fake, found))
    return found[0]


def _check(to: object, subject: object) -> None:
    if to is not None:
        arguments.text("to", to, 'the address of a recipient, such as "b@x.test"')
    if subject is not None:
        arguments.a_type("subject", subject, "the text of the header", str)


def _fitting(messages: Sequence[Mail], to: str | None, subject: str | None) -> list[Mail]:
    return [
        message
        for message in messages
        if (to is None or to.lower() in map(str.lower, message.envelope.recipients))
        and (subject is None or str(message["Subject"] or "") == subject)
    ]


def _named(to: str | None, subject: str | None) -> str:
    return (
        "message"
        + (f" to {to}" if to is not None else "")
        + (f" with the subject {subject!r}" if subject is not None else "")
    )


def _delivered(fake: MessageAssertions, times: int, to: str | None, subject: str | None) -> None:
    __tracebackhide__ = True
    found = _fitting(fake.messages, to, subject)
    expected = f"every {_named(to, subject)} to be delivered {_often(times)}"
    if not found:
        _fail_for_none(fake, expected, to, subject)
    copies: dict[str, list[Mail]] = {}
    for message in found:
        copies.setdefault(str(message["Message-ID"] or _hash(message)), []).append(message)
    for name, same in copies.items():
        if len(same) != times:
            fail(fake.journal, expected, f"{name} was stored {_often(len(same))}", _stored(fake, same))


def _fail_for_none(fake: MessageAssertions, expected: str, to: str | None, subject: str | None) -> NoReturn:
    __tracebackhide__ = True
    refused = attempts.refusals(fake.journal.exchanges)
    about = [x for x in refused if to is not None and to.lower() in x.request.lower()] or refused
    if not fake.messages:
        fail(fake.journal, expected, f"none was delivered: {why_nothing(fake.journal.exchanges, about)}", about[-1:])
    named = bool(about) and to is not None and to.lower() in about[-1].request.lower()
    told = f", and {to} was refused with {about[-1].told!r}" if named else ""
    fail(
        fake.journal,
        expected,
        f"there was none{_nearest(fake.messages, to, subject)}{told}",
        about[-1:] if named else (),
    )


def _nearest(messages: Sequence[Mail], to: str | None, subject: str | None) -> str:
    """What there is in place of it."""
    parts = []
    if to is not None and not _fitting(messages, to, None):
        there = list(dict.fromkeys(one for message in messages for one in message.envelope.recipients))
        parts.append(f"mail came for {_some(there, to)}")
    if subject is not None and not _fitting(messages, None, subject):
        there = list(dict.fromkeys(repr(str(message["Subject"] or "")) for message in messages))
        parts.append(f"the subjects were {_some(there, repr(subject))}")
    return f": {', and '.join(parts)}" if parts else ""


def _some(there: list[str], wanted: str) -> str:
    near = nearest(wanted, there)
    first = [near, *(one for one in there if one != near)] if near else there
    return ", ".join(first[:3]) + (f" and {len(there) - 3} more" if len(there) > 3 else "")


def _hash(message: Mail) -> str:
    return hashlib.sha256(message.envelope.content).hexdigest()


def _stored(fake: MessageAssertions, messages: Sequence[Mail]) -> list[Exchange]:
    """The exchanges that stored these messages."""
    hashes = set(map(_hash, messages))
    return [x for x in fake.journal.exchanges if x.facts and x.facts.get("stored") and x.facts.get("sha256") in hashes]
