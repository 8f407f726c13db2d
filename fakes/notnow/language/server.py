"""The tables `[server]` and `[certificate.NAME]`: how the fake is set up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from notnow import protocols, units
from notnow.language import limits
from notnow.language.values import Count, Size, Table, choice_of, names_of, one_or_more, refuse

TLS_MODES = tuple(dict.fromkeys(mode for protocol in protocols.every() for mode in protocol.tls_modes))
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


def _files(value: object) -> object:
    """Names and contents of files: text, or a size."""
    if not isinstance(value, Mapping):
        return value
    if found := next(limits.tree_faults(value), None):
        raise refuse(f"names that one tree of files can have; {found[1]}")
    for name, content in value.items():
        size = units.parse_size(content)
        if size is not None and size > limits.FILE:
            raise refuse(f"files of up to {limits.FILE // 1000**3}GB, not {name} = {content!r}")
    return value


def _users(value: object) -> object:
    for one in [text for pair in value.items() for text in pair] if isinstance(value, Mapping) else ():
        if isinstance(one, str) and re.search(r"[\0\r\n]", one):
            raise refuse(f"names and passwords on one line, which a client can say, not {one!r}")
    if isinstance(value, Mapping) and "" in value:
        raise refuse("names of users; one of them is empty")
    return value


Certified = Annotated[tuple[str, ...], BeforeValidator(_certified), one_or_more({"type": "string", "minLength": 1})]
_NAMED = {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"minLength": 1}}
Users = Annotated[dict[str, str], BeforeValidator(_users), WithJsonSchema(_NAMED)]
Files = Annotated[dict[str, str], BeforeValidator(_files), WithJsonSchema(_NAMED)]
Streams = Annotated[int, Field(ge=1, le=limits.SETTING)]


class Limits(Table):
    """The limits of an SMTP connection: the server announces them with LIMITS (RFC 9422), and enforces them with 452."""

    mailmax: Count | None = Field(default=None, description="The most messages.")
    rcptmax: Count | None = Field(default=None, description="The most recipients of one message.")
    rcptdomainmax: Count | None = Field(
        default=None, description="The most domains among the recipients of one message."
    )


class Server(Table):
    """How the fake is set up."""

    tls: Annotated[str, BeforeValidator(choice_of(*TLS_MODES)), WithJsonSchema({"enum": list(TLS_MODES)})] = Field(
        default="none", description="Whether and how the server speaks TLS."
    )
    users: Users | None = Field(
        default=None, description="Names and passwords. Without it, the server accepts any login, and requires none."
    )
    files: Files | None = Field(
        default=None,
        description='The tree of an FTP server: a path, and a text or a size such as "3MB" (up to "1GB"). Without it there are big.bin (3 MB) and small.txt.',
    )
    max_streams: Streams | None = Field(
        default=None,
        description="The most streams at a time that an HTTP/2 server announces; `over` at `request` refuses further ones.",
    )
    h3: Annotated[str, BeforeValidator(choice_of(*UDP)), WithJsonSchema({"enum": list(UDP)})] | None = Field(
        default=None,
        description="The UDP port of an HTTP server, for an Alt-Svc that names h3 on `{port}`: silent (the fake counts QUIC's Initials and answers none) or closed.",
    )
    limits: Limits | None = Field(
        default=None,
        description="What an SMTP server announces with LIMITS (RFC 9422) and keeps to, such as { rcptmax = 50 }. A limit with a 421 is a rule with `over` or `nth`.",
    )
    quota: Size | None = Field(default=None, description='The space of an FTP server for files, such as "10MB".')


class Certificate(Table):
    """A certificate that the server can show."""

    names: Certified = Field(default=("localhost",), description="The host names and addresses that it covers.")
    expired: bool = Field(default=False, description="It has expired.")
    untrusted: bool = Field(default=False, description="It is signed by another CA than the one in `ca_file`.")
    incomplete: bool = Field(default=False, description="The server does not send the intermediate certificate.")
