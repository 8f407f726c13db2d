"""Journal entries as lines: pieces of text, each with its style on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from notnow import protocols
from notnow.cli._news import New
from notnow.hosts import recipes
from notnow.journal import Connection, Entry, Exchange, Facts, Mark, Message, Request, Transfer
from notnow.servers.listening import try_line
from notnow.terminal import safe
from notnow.units import show, show_size

if TYPE_CHECKING:
    from rich.text import Text

    from notnow.servers.base.fake import Fake

Pieces = list[tuple[str, str]]
MARKS = {"phase": "phase", "play": "plays", "initial": "QUIC Initial", "forward": "forward:"}


def text(pieces: Pieces) -> str:
    """A line for a pipe: text from clients is harmless to a terminal."""
    return "".join(safe(piece) for piece, _ in pieces)


def styled(pieces: Pieces) -> Text:
    """The same line for a terminal, with its styles."""
    from rich.text import Text

    return Text.assemble(*((safe(piece), style) for piece, style in pieces))


def entry_line(entry: Entry, zero: float, width: int, new: New | None = None) -> Pieces:
    """A journal entry as a line. `zero` is the time of the first client, `width` that of the server names; `new` is the
    part of an exchange that has not been shown, by default all of it.
    """
    match entry:
        case Exchange():
            at = entry.at if new is None or new.first or entry.answered_at is None else entry.answered_at
            head = _head(at - zero, entry.connection.server, entry.connection.number, width)
            return [*head, *_exchange(entry, list(new.lines) if new else entry.lines)]
        case Connection():
            at = entry.closed_at if entry.closed_at is not None else entry.opened_at
            return [*_head(at - zero, entry.server, entry.number, width), (_ending(entry), "dim")]
        case Mark():
            what = MARKS.get(entry.kind, entry.kind)
            return [*_head(entry.at - zero, entry.server, None, width), (f"== {what} {entry.text} ==", "bold magenta")]


def _head(at: float, server: str, number: int | None, width: int) -> Pieces:
    who = "" if number is None else f"#{number}"
    return [(f"{show(max(0.0, at)):>8}  ", "dim"), (f"{server:<{width}} {who:<5} ", "cyan")]


def _exchange(exchange: Exchange, lines: list[str]) -> Pieces:
    asked = exchange.request or _UNASKED.get(exchange.moment, exchange.moment)
    if exchange.moment == "connect":
        asked = f"connect from {exchange.connection.client}"
    if exchange.moment == "tls":
        asked = f"ClientHello for {exchange.request or 'no name'}"
    pieces: Pieces = [(asked, ""), (" -> ", "dim"), (_reply(exchange, lines), _style(exchange))]
    if exchange.closed:
        pieces.append((", closes" if exchange.reply else "", "dim"))
    if not _goes_on(exchange, lines) and (moved := _moved(exchange.facts)):
        pieces.append((f", {moved}", "green" if _is_whole(exchange) else "yellow"))
    if exchange.rule:
        pieces.append((f"  [{exchange.phase}: {exchange.fault}]", "dim"))
    return pieces


def _goes_on(exchange: Exchange, lines: list[str]) -> bool:
    """True if the last shown reply is a 1yz: another reply will follow (RFC 959 §4.2.1) and report the transfer."""
    return bool(lines) and lines[-1].startswith("1") and not exchange.closed


def _is_whole(exchange: Exchange) -> bool:
    match exchange.facts:
        case Request(app_error=str()):
            return False
        case Request(whole=whole) | Transfer(whole=whole):
            return whole
    return True


def _moved(facts: Facts | None) -> str:
    """The message, file or part that an exchange delivered."""
    match facts:
        case Message(message_id=name, stored=True):
            return f"stored {name or ''}".rstrip()
        case Request(app_error=str(why)):
            return why
        case Request(stored=True):
            return "stored"
        case Transfer(whole=True, bytes=size, stored=stored):
            return f"{'stored' if stored else 'sent'} {show_size(size)}"
        case Transfer(bytes=size, data=data) if data is not None:
            return f"cut after {show_size(size)}"
    return ""


_UNASKED = {"enter": "(unasked)", "idle": "(silence)", "error": "(in addition)"}


def _reply(exchange: Exchange, lines: list[str]) -> str:
    """The replies: the first line of each, and the number of its further lines."""
    tls = exchange.connection.tls
    if exchange.moment == "tls" and tls is not None and tls.certificate is not None:
        return f"certificate {tls.certificate}"
    if not lines:
        return exchange.told if exchange.closed else exchange.fault or "no answer"
    return ", ".join(reply[0] + _more(len(reply) - 1) for reply in _replies(lines))


def _more(lines: int) -> str:
    return f" (+{lines} line{'s' if lines > 1 else ''})" if lines else ""


def _replies(lines: list[str]) -> list[list[str]]:
    """Reply lines grouped by reply: `250-` continues a reply, `250 ` ends it, and a line without a code belongs to it."""
    found: list[list[str]] = []
    code = ""
    for line in lines:
        if not code:
            found.append([])
            code = line[:3] if line[3:4] == "-" else ""
        elif line[:3] == code and line[3:4] != "-":
            code = ""
        found[-1].append(line)
    return found


def _style(exchange: Exchange) -> str:
    if 421 in exchange.codes:
        return "bold red"
    return "yellow" if exchange.refused else "green"


def _ending(connection: Connection) -> str:
    who = "the fake closed" if connection.ended_by == "fake" else "the client left"
    span = (connection.closed_at or connection.opened_at) - connection.opened_at
    return f"{who} after {show(span)}" + (f": {connection.error}" if connection.error else "")


# ---- servers -----------------------------------------------------------------------------------


def server_lines(fakes: Iterable[Fake]) -> Iterable[Pieces]:
    """Each server in two lines: its scenario and address, and a client command to try."""
    for fake in fakes:
        yield [(f"{fake.name}  ", "bold cyan"), (f"{fake.scenario.name}  ", ""), (fake.url, "bold underline")]
        if fake.service is not None:
            yield [("    one of  ", "dim"), (f"the replicas of {fake.service}", "")]
        yield [("    try  ", "dim"), (try_line(fake), "")]
        yield from _recipes(fake)


def _recipes(fake: Fake) -> Iterable[Pieces]:
    """Ways for a client to find the hosts of a fake with several hosts."""
    hosts = fake.scenario.hosts if protocols.get(fake.protocol).has_hosts else ()
    if hosts:
        yield [("    for  ", "dim"), (" and ".join(hosts), "")]
        for client, words in recipes(hosts, fake.host, fake.port).items():
            yield [(f"    {client:<9} ", "dim"), (words, "")]
