"""The private seams of aiosmtpd that notnow stands on, each asked of the library itself.

When one of these fails after an upgrade, this is the seam that has moved; `notnow.servers.smtp.connection` names them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import aiosmtpd
import pytest
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SMTPState

from notnow.servers.smtp.session import SMTPSession

COMMANDS = {"AUTH", "DATA", "EHLO", "EXPN", "HELO", "HELP", "MAIL", "NOOP", "QUIT", "RCPT", "RSET", "STARTTLS", "VRFY"}


def stock(**options: Any) -> SMTP:
    return SMTP(object(), hostname="host.test", loop=asyncio.get_running_loop(), **options)


def run(test: Callable[[], Any]) -> None:
    asyncio.run(test())


def test_the_version_that_was_looked_into():
    assert aiosmtpd.__version__.startswith("1.4.")


def test_all_commands_are_ours() -> None:
    theirs = {name for name in dir(SMTP) if name.startswith("smtp_")}
    assert theirs == {f"smtp_{verb}" for verb in COMMANDS}
    assert {name for name in theirs if getattr(SMTPSession, name) is getattr(SMTP, name)} == {
        "smtp_AUTH"
    }  # see `_auth`


def test_the_states_are_reset_through_these_methods():
    """HELO and STARTTLS reset by `_set_rset_state`; it makes a new envelope, through `_set_post_data_state`."""
    called = []

    class Spy(SMTP):
        def _set_rset_state(self) -> None:
            called.append("rset")
            super()._set_rset_state()

        def _set_post_data_state(self) -> None:
            called.append("post")
            super()._set_post_data_state()

        async def push(self, status: Any) -> None:
            pass

    async def test() -> None:
        smtp = Spy(object(), hostname="x")
        smtp.session = smtp._create_session()
        await smtp.smtp_HELO("x")
        assert called == ["rset", "post"]
        assert isinstance(smtp.envelope, Envelope)
        assert (smtp.envelope.mail_from, smtp.envelope.rcpt_tos) == (None, [])

    run(test)


def test_create_session_makes_what_connection_made_uses():
    async def test() -> None:
        state = stock()._create_session()
        assert isinstance(state, SMTPState)
        assert (state.extended_smtp, state.host_name, state.authenticated, state.ssl) == (False, None, None, None)

    run(test)


@pytest.mark.parametrize(
    ("argument", "rest"), [("FROM:<a@b>", "<a@b>"), ("from: <a@b> X=1", "<a@b> X=1"), ("TO:<a@b>", None), ("", None)]
)
def test_strip_command_keyword(argument, rest):
    async def test() -> None:
        assert stock()._strip_command_keyword("FROM:", argument) == rest

    run(test)


@pytest.mark.parametrize(
    ("argument", "address"),
    [
        ("<a@b.test> SIZE=1", ("a@b.test", "SIZE=1")),
        ("<>", ("<>", "")),
        ('<"a b"@c.test>', ('"a b"@c.test', "")),
        ("<ü@b.test>", ("ü@b.test", "")),
    ],
)
def test_getaddr_parses_paths(argument, address):
    """Ours first tries the plain ones; both must say the same."""

    async def test() -> None:
        for smtp in (stock(), object.__new__(SMTPSession)):
            found = smtp._getaddr(argument)
            assert (found[0], found[1] and found[1].strip()) == address, smtp

    run(test)


@pytest.mark.parametrize("garbage", ["<", "<a@", "<@", "<a@[", '<"', "<" + "(" * 5000])
def test_getaddr_trips_over_garbage(garbage):
    """In many ways: IndexError, AttributeError, RecursionError, each from the standard library's parser.

    Each Python trips over other garbage: 3.14 mends an address without its `>` where older ones fail.
    """

    async def test() -> None:
        address: tuple[str | None, str | None] = (None, None)
        with contextlib.suppress(Exception):
            address = stock()._getaddr(garbage)
        assert object.__new__(SMTPSession)._getaddr(garbage) == address

    run(test)


def test_every_reply_goes_through_push():
    said: list[str] = []

    class Spy(SMTP):
        async def push(self, status: Any) -> None:
            said.append(status)

    async def test() -> None:
        smtp = Spy(object(), hostname="host.test", enable_SMTPUTF8=True, data_size_limit=1000)
        smtp.session, smtp.envelope = smtp._create_session(), Envelope()
        await smtp.smtp_MAIL("FROM:<a@b>")
        await smtp.smtp_HELO("x")
        smtp.session.extended_smtp = True
        await smtp.smtp_MAIL("FROM:<a@b> SIZE=1001")
        await smtp.smtp_MAIL("FROM:<a@b> SIZE=1000 BODY=8BITMIME SMTPUTF8")
        await smtp.smtp_RCPT("TO:<c@d>")
        await smtp.smtp_NOOP("")
        await smtp.smtp_VRFY("x@y")
        await smtp.smtp_EXPN("x")
        assert [text[:3] for text in said] == ["503", "250", "552", "250", "250", "250", "252", "502"]
        assert (smtp.envelope.mail_from, smtp.envelope.rcpt_tos) == ("a@b", ["c@d"])

    run(test)


def test_what_we_override_is_what_we_mean_to():
    """No method of ours stands in the way of one of theirs by accident."""
    mine = SMTPSession.__mro__[: SMTPSession.__mro__.index(SMTP)]
    ours = {name for cls in mine for name in vars(cls) if hasattr(SMTP, name) and not name.startswith("__")}
    assert {name for name in ours if not name.startswith("smtp_")} == {
        "_create_session", "_getaddr", "_set_post_data_state", "_set_rset_state", "connection_lost", "connection_made",
        "data_received", "eof_received", "pause_writing", "push", "resume_writing",
    }  # fmt: skip
