"""The tables `[server]` and `[certificate.NAME]`: how the fake is set up."""

from __future__ import annotations

import re

from notnow import protocols, units
from notnow.language import limits
from notnow.language.tables import Kind, Table, a_table, by_name, key, refuse
from notnow.language.values import (
    Count,
    Flag,
    Names,
    Percent,
    Rate,
    Size,
    Text,
    names_of,
    one_of,
    one_or_more,
    whole_number,
)

TLS_MODES = tuple(dict.fromkeys(mode for protocol in protocols.every() for mode in protocol.tls_modes))
MOST_QUEUED = 10_000_000  # units of work
UDP = ("closed", "silent")  # the UDP port, for QUIC


def _certified(value: object) -> tuple[str, ...]:
    names = names_of()(value)
    if len(names) > limits.NAMES:
        raise refuse(f"at most {limits.NAMES} names")
    for name in names:
        if not limits.is_certifiable(name):
            allowed = 'host names ("a.test", "*.a.test") and IP addresses that a certificate can carry'
            raise refuse(f"{allowed}, not {name!r:.80}", name, [_bare(name)])
    return names


def _bare(name: str) -> str:
    """The host without scheme, path, port and mailbox, if a certificate can carry it; else ""."""
    host = re.sub(r"^\w+://|[/:].*$", "", name.rpartition("@")[2])
    return host if limits.is_certifiable(host) else ""


def _files(value: object) -> dict[str, str]:
    """Names and contents of files: text, or a size."""
    files = _Texts.read(value)
    if found := next(limits.tree_faults(files), None):
        raise refuse(f"names that one tree of files can have; {found[1]}")
    for name, content in files.items():
        size = units.parse_size(content)
        if size is not None and size > limits.FILE:
            raise refuse(f"files of up to {limits.FILE // 1000**3}GB, not {name} = {content!r:.80}")
    return files


def _users(value: object) -> dict[str, str]:
    users = _Texts.read(value)
    for one in [text for pair in users.items() for text in pair]:
        if re.search(r"[\0\r\n]", one):
            raise refuse(f"names and passwords on one line, which a client can say, not {one!r:.80}")
    if "" in users:
        raise refuse("names of users; one of them is empty")
    return users


_Texts = by_name(Text, propertyNames={"minLength": 1})
Certified = Kind(_certified, one_or_more({"type": "string", "minLength": 1}))
Users = Kind(_users, _Texts.schema)
Files = Kind(_files, _Texts.schema)
Streams = whole_number(1, limits.SETTING)


class Limits(Table):
    """The limits of an SMTP connection: the server announces them with LIMITS (RFC 9422), and enforces them with 452."""

    mailmax: int | None = key(Count, about="The most messages.")
    rcptmax: int | None = key(Count, about="The most recipients of one message.")
    rcptdomainmax: int | None = key(Count, about="The most domains among the recipients of one message.")


class Server(Table):
    """How the fake is set up."""

    tls: str = key(one_of(*TLS_MODES), about="Whether and how the server speaks TLS.", default="none")
    users: dict[str, str] | None = key(
        Users, about="Names and passwords. Without it, the server accepts any login, and requires none."
    )
    files: dict[str, str] | None = key(
        Files,
        about='The tree of an FTP server: a path, and a text or a size such as "3MB" (up to "1GB"). Without it there are big.bin (3 MB) and small.txt.',
    )
    max_streams: int | None = key(
        Streams,
        about="The most streams at a time that an HTTP/2 server announces; `over` at `request` refuses further ones.",
    )
    h3: str | None = key(
        one_of(*UDP),
        about="The UDP port of an HTTP server, for an Alt-Svc that names h3 on `{port}`: silent (the fake counts QUIC's Initials and answers none) or closed.",
    )
    limits: Limits | None = key(
        a_table(Limits),
        about="What an SMTP server announces with LIMITS (RFC 9422) and keeps to, such as { rcptmax = 50 }. A limit with a 421 is a rule with `over` or `nth`.",
    )
    quota: int | None = key(Size, about='The space of an FTP server for files, such as "10MB".')
    capacity: float | None = key(
        Rate,
        about='How much work the server can do: "200/s" is 200 units a second, in the order in which they come. Each answer waits until its work is done.',
    )
    work: tuple[str, ...] | None = key(
        Names,
        about="The moments that take a unit of work, if they are let through. Without it that is `connect`, or `request` on HTTP.",
    )
    queue: int | None = key(
        whole_number(0, MOST_QUEUED),
        about="The units of work that may wait behind the one that is being done; with more the server is `busy`, which a rule can answer. Where no rule does, the queue grows.",
    )
    refusal_cost: float = key(
        Percent,
        about="The work of a refusal at such a moment, as a share of a unit. It joins the queue, if there is a place.",
        default=0.0,
    )


class Certificate(Table):
    """A certificate that the server can show."""

    names: tuple[str, ...] = key(
        Certified, about="The host names and addresses that it covers.", default=("localhost",)
    )
    expired: bool = key(Flag, about="It has expired.", default=False)
    untrusted: bool = key(Flag, about="It is signed by another CA than the one in `ca_file`.", default=False)
    incomplete: bool = key(Flag, about="The server does not send the intermediate certificate.", default=False)
