"""Assertions about the mail that an SMTP server stored, by recipient and subject."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from notnow.conduct import arguments
from notnow.conduct.assertions import Assertions, require
from notnow.conduct.expectations import unmet
from notnow.conduct.expectations.delivery import why_nothing
from notnow.conduct.finding import HELD, Finding
from notnow.conduct.reading import attempts
from notnow.errors import nearest
from notnow.journal import Exchange, Journal
from notnow.units import plural
from notnow.units import times as _often


class Envelope(Protocol):
    """The envelope of a message, with its content."""

    @property
    def recipients(self) -> tuple[str, ...]: ...
    @property
    def content(self) -> bytes: ...


class Mail(Protocol):
    """An accepted message."""

    @property
    def envelope(self) -> Envelope: ...
    def __getitem__(self, name: str) -> object: ...


class MessageAssertions(Assertions):
    """The assertions of a fake that stores mail."""

    @property
    def messages(self) -> Sequence[Mail]:
        """The accepted messages, in order of arrival."""
        raise NotImplementedError

    def assert_delivered(
        self, times: int = 1, count: int | None = None, *, to: str | None = None, subject: str | None = None
    ) -> None:
        """`Assertions.assert_delivered`; of the messages that `to` or `subject` select.

        `to` is an envelope recipient, in any case, and `subject` the whole text of that header. Each message that they
        select was stored exactly `times` times for each of its recipients, and there was at least one; other messages do
        not matter. `count`: how many items there must be, a message to a recipient each.
        """
        __tracebackhide__ = True
        arguments.whole("times", times)
        _check(to, subject)
        if to is None and subject is None:
            super().assert_delivered(times, count)
            return
        if times == 0:
            self.assert_not_delivered(to=to, subject=subject)
            return
        if count is not None:
            arguments.whole("count", count)
        require(_delivered(self.journal, self.messages, times, count, to, subject), self.journal)

    def assert_not_delivered(self, *, to: str | None = None, subject: str | None = None) -> None:
        """No message was stored, or none that `to` and `subject` select.

        It passes, too, if no client came: use `wait_for` to make sure that one did.
        """
        __tracebackhide__ = True
        _check(to, subject)
        if to is None and subject is None:
            super().assert_not_delivered()
        else:
            require(_not_delivered(self.journal, self.messages, to, subject), self.journal)


def one(fake: MessageAssertions, to: str | None, subject: str | None) -> Mail:
    """The one message that fits. Raises AssertionError if there is none, or more than one."""
    __tracebackhide__ = True
    _check(to, subject)
    found = _fitting(fake.messages, to, subject)
    require(_only_one(fake.journal, fake.messages, found, to, subject), fake.journal)
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


def _only_one(
    journal: Journal, messages: Sequence[Mail], found: Sequence[Mail], to: str | None, subject: str | None
) -> Finding:
    expected = f"one {_named(to, subject)}"
    if not found:
        return _none(journal, messages, expected, to, subject)
    if len(found) > 1:
        return unmet(expected, f"there are {len(found)}; `messages` has them all", _stored(journal, found))
    return HELD


def _not_delivered(journal: Journal, messages: Sequence[Mail], to: str | None, subject: str | None) -> Finding:
    found = _fitting(messages, to, subject)
    if not found:
        return HELD
    seen = f"{_often(len(found))} such a message was stored"
    return unmet(f"no {_named(to, subject)} to be delivered", seen, _stored(journal, found))


def _delivered(
    journal: Journal, messages: Sequence[Mail], times: int, count: int | None, to: str | None, subject: str | None
) -> Finding:
    expected = f"every {_named(to, subject)} to be delivered {_often(times)}"
    found = _fitting(messages, to, subject)
    if not found:
        return _none(journal, messages, expected, to, subject)
    copies: dict[tuple[str, str], list[Mail]] = {}
    for message in found:
        for recipient in dict.fromkeys(map(str.lower, message.envelope.recipients)):
            if to is None or recipient == to.lower():
                copies.setdefault((str(message["Message-ID"] or _hash(message)), recipient), []).append(message)
    for (name, recipient), same in copies.items():
        if len(same) != times:
            return unmet(expected, f"{name} to {recipient} was stored {_often(len(same))}", _stored(journal, same))
    if count is not None and len(copies) != count:
        return unmet(f"{plural(count, 'item')} of this kind", f"there were {len(copies)}", _stored(journal, found))
    return HELD


def _none(journal: Journal, messages: Sequence[Mail], expected: str, to: str | None, subject: str | None) -> Finding:
    """No message fits; a refusal of this recipient says why, or else any refusal."""
    refused = attempts.refusals(journal.exchanges)
    named = [x for x in refused if to is not None and to.lower() in x.request.lower()]
    about = named or refused
    if not messages:
        seen = f"none was delivered: {why_nothing(journal.protocol, journal.exchanges, about)}"
        return unmet(expected, seen, about[-1:])
    told = f", and {to} was refused with {named[-1].told!r}" if named else ""
    return unmet(expected, f"there was none{_nearest(messages, to, subject)}{told}", named[-1:])


def _nearest(messages: Sequence[Mail], to: str | None, subject: str | None) -> str:
    """The recipients and subjects that there are instead, the nearest first."""
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


def _stored(journal: Journal, messages: Sequence[Mail]) -> list[Exchange]:
    """The exchanges that stored these messages."""
    hashes = set(map(_hash, messages))
    return [x for x in journal.exchanges if x.message is not None and x.stored and x.message.sha256 in hashes]
