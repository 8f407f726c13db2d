"""Helpers that several FTP rules share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from notnow.conduct.reading.run import Run
from notnow.journal import Connection, Exchange, Journal

Client = tuple[Journal, str]

TRANSFERS = frozenset({"retr", "stor", "appe", "stou", "list", "nlst", "mlsd"})
ANNOUNCES = frozenset({"pasv", "epsv", "port", "eprt"})
IN_THE_FILES = TRANSFERS | {
    "cwd",
    "cdup",
    "pwd",
    "mkd",
    "rmd",
    "dele",
    "rnfr",
    "rnto",
    "size",
    "mdtm",
    "mfmt",
    "mlst",
}


def client_of(exchange: Exchange) -> Client:
    """The server and the client of an exchange; a client is an address."""
    return exchange.connection.journal, exchange.connection.client


def verb_of(line: str) -> str:
    return (
        re.sub(r"^[^A-Za-z]+", "", line).partition(" ")[0].upper()
    )  # an urgent ABOR follows Telnet's IP and DM (RFC 959 §4.1.3)


def last_word(exchanges: list[Exchange]) -> Exchange | None:
    """The exchange in which a rule closed the connection."""
    return next((x for x in reversed(exchanges) if x.closed and x.rule), None)


def said_after(connection: Connection) -> list[str]:
    """The verbs that the client sent after the fake had closed, without QUIT and ABOR."""
    verbs = [verb_of(line) for line in connection.after.splitlines()]
    return [verb for verb in verbs if verb not in ("", "QUIT", "ABOR")]


def commands(exchanges: Iterable[Exchange]) -> Iterator[Exchange]:
    """The commands of the client: no unasked replies, and nothing from the middle of a transfer."""
    return (x for x in exchanges if x.request and x.moment != "transfer")


def out_of_order(exchange: Exchange) -> bool:
    """True where the fake, behaving, had to refuse a command because one that has to come before it was missing.

    What only looks into the server's abilities (FEAT, OPTS) may be tried before the login.
    """
    if exchange.fault is not None or exchange.moment not in IN_THE_FILES | ANNOUNCES | {"type"}:
        return False
    asked = exchange.transfer
    return exchange.code in (503, 530) or (exchange.code == 425 and asked is not None and asked.mode is None)


def named(request: str) -> str:
    """The last component of the path in a command."""
    return request.strip().partition(" ")[2].rstrip("/").rpartition("/")[2]


def cut_by_the_fake(run: Run) -> set[int]:
    """The transfers (by `id`) that the fake cut, or that were in progress when it closed."""
    cut = set()
    for connection, exchanges in run.by_connection.items():
        last: Exchange | None = None
        for x in exchanges:
            if x.transfer is not None:
                last = x
            if last is not None and x.rule and (x is last or x.moment == "transfer"):
                cut.add(id(last))
        if last is not None and connection.ended_by == "fake":
            cut.add(id(last))
    return cut
