"""AUTH (RFC 4954) without I/O: the challenges for the client, and the meaning of its answers.

A mechanism is a generator. It yields a challenge, is sent the client's answer in base64, and returns the credentials. It
raises `Refusal` with the reply to an invalid answer.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Callable, Generator

from msgspec import Struct, json


class Credentials(Struct, frozen=True):
    """The credentials of a client. `proven(password)` is true if they prove that it knows the user's password or token.
    `trouble` is a challenge that explains a failure before the reply, in mechanisms that have one.
    """

    user: str
    proven: Callable[[str], bool]
    trouble: str | None = None


Challenges = Generator[str, str, Credentials]


class Refusal(Exception):  # noqa: N818 (a reply, and no error of ours)
    """The answer is invalid; `str()` is the reply."""


def plain(initial: str, host: str) -> Challenges:  # noqa: ARG001 (a mechanism is told our name)
    """RFC 4616: one answer with the identity to act as, the user name and the password."""
    answer = decoded(initial or (yield ""))
    parts = answer.split("\0")
    if len(parts) != 3:
        raise Refusal("501 5.5.2 Error: cannot split the credentials")
    return Credentials(parts[1], _is(parts[2]))


def login(initial: str, host: str) -> Challenges:  # noqa: ARG001
    """Asks for the user name, then for the password. It has no RFC, and every client has it."""
    user = decoded(initial or (yield "Username:"))
    return Credentials(user, _is(decoded((yield "Password:"))))


def cram_md5(initial: str, host: str) -> Challenges:
    """RFC 2195: the client returns the keyed digest of a text of ours, and never sends the password."""
    if initial:  # RFC 4954 §4: the server speaks first
        raise Refusal("501 5.7.0 Error: CRAM-MD5 has no initial response")
    challenge = f"<{secrets.randbelow(10**16)}.{secrets.randbelow(10**10)}@{host}>"
    user, space, digest = decoded((yield challenge)).rpartition(" ")
    if not space or not re.fullmatch("[0-9a-f]{32}", digest):
        raise Refusal("501 5.5.2 Error: cannot split the credentials")
    return Credentials(
        user,
        lambda password: hmac.compare_digest(digest, hmac.digest(password.encode(), challenge.encode(), "md5").hex()),
    )


_XOAUTH2 = re.compile("user=([^\1]*)\1auth=Bearer ([^\1]*)\1\1", re.IGNORECASE)


def xoauth2(initial: str, host: str) -> Challenges:  # noqa: ARG001
    """Google's and Microsoft's: a user name and a token. After a wrong token the server sends a challenge, the client an
    empty line, and the server 535 (developers.google.com/workspace/gmail/imap/xoauth2-protocol).
    """
    found = _XOAUTH2.fullmatch(decoded(initial or (yield "")))
    if found is None:
        raise Refusal("501 5.5.2 Error: cannot split the credentials")
    told = {"status": "401", "schemes": "bearer", "scope": "https://mail.google.com/"}
    return Credentials(found[1], _is(found[2]), trouble=json.encode(told).decode())


def _is(given: str) -> Callable[[str], bool]:
    return lambda password: hmac.compare_digest(given.encode("utf-8", "replace"), password.encode("utf-8", "replace"))


MECHANISMS: dict[str, Callable[[str, str], Challenges]] = {
    "PLAIN": plain, "LOGIN": login, "CRAM-MD5": cram_md5, "XOAUTH2": xoauth2,
}  # fmt: skip


def challenge(text: str) -> str:
    """The reply that asks for the next answer."""
    return f"334 {base64.b64encode(text.encode()).decode()}"


def decoded(answer: str) -> str:
    """The text of an answer. "=" is an empty answer, "*" cancels (RFC 4954 §4)."""
    if answer == "*":
        raise Refusal("501 5.7.0 Authentication cancelled")
    try:
        return base64.b64decode("" if answer == "=" else answer, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        raise Refusal("501 5.5.2 Error: cannot decode base64") from None
