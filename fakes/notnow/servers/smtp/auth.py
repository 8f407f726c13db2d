"""AUTH PLAIN and LOGIN (RFC 4954, RFC 4616) without I/O: what to ask a client for, and what its answers mean.

A mechanism is a generator. It yields the next challenge, is sent the client's answer as it came (base64), and
returns the name and the password. It raises `Refusal` with the reply to an answer that is none.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Generator

Dialogue = Generator[str, str, tuple[str, str]]


class Refusal(Exception):  # noqa: N818 (a reply, and no error of ours)
    """The answer is none; `str()` is the reply."""


def plain(initial: str) -> Dialogue:
    """RFC 4616: one answer, which holds whom to act as, the name and the password."""
    answer = decoded(initial or (yield ""))
    parts = answer.split("\0")
    if len(parts) != 3:
        raise Refusal("501 5.5.2 Error: cannot split the credentials")
    return parts[1], parts[2]


def login(initial: str) -> Dialogue:
    """The name and the password, each asked for; documented nowhere, and spoken by everybody."""
    user = decoded(initial or (yield "Username:"))
    return user, decoded((yield "Password:"))


MECHANISMS: dict[str, Callable[[str], Dialogue]] = {"PLAIN": plain, "LOGIN": login}


def challenge(text: str) -> str:
    """The reply that asks for the next answer."""
    return f"334 {base64.b64encode(text.encode()).decode()}"


def decoded(answer: str) -> str:
    """The text of an answer: "=" is an empty one, "*" calls everything off (RFC 4954 §4)."""
    if answer == "*":
        raise Refusal("501 5.7.0 Authentication cancelled")
    try:
        return base64.b64decode("" if answer == "=" else answer, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        raise Refusal("501 5.5.2 Error: cannot decode base64") from None
