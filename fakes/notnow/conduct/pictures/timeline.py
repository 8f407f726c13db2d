"""A journal as text: the timeline (a line for each connection) and the transcript (every line sent)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from notnow import protocols
from notnow.journal import Connection, ConnectionClose, Exchange, Journal, Request, Transfer
from notnow.protocols.ftp import DataEnding
from notnow.terminal import safe
from notnow.units import show as show_time
from notnow.units import show_size

MOST = 40  # connections shown; of more, the middle ones are left out
WIDTH = 100
LANES = 4  # most HTTP connections that are shown side by side


def render(journals: Sequence[Journal], marked: Collection[Exchange | Connection] = ()) -> str:
    """The timeline and the transcript of these journals. An arrow points at what is `marked`, and the transcript has
    only the connections with a mark; without marks, it has all.
    """
    return "\n\n".join([timeline(journals, marked), transcript(journals, marked)])


def timeline(journals: Sequence[Journal], marked: Collection[Exchange | Connection] = ()) -> str:
    """A line for each connection: its time, its number, its outcome. A few HTTP connections are shown as lanes."""
    if lanes := _lanes(journals, marked):
        return lanes
    marks = {id(m) for m in marked}
    lines = ["timeline (scenario time)"]
    connections = sorted((c for j in journals for c in j.connections), key=lambda c: c.index)
    zero = connections[0].opened_at if connections else 0.0
    lines += [
        f"  … {journal.dropped} older exchanges were dropped: journal_limit is {journal.limit}"
        for journal in journals
        if journal.dropped
    ]
    named = len(journals) > 1
    width = max((len(f"{c.server} #{c.number}") for c in connections), default=0) if named else 5
    for connection in _middle_out(connections, lines):
        hit = id(connection) in marks or any(id(x) in marks for x in connection.exchanges)
        at = show_time(connection.opened_at - zero)
        who = f"{connection.server} #{connection.number}" if named else f"#{connection.number}"
        lines.append(f"{'->' if hit else '  '} {at:>9}  {safe(who):<{width}} {outcome(connection)}"[:WIDTH])
    if not connections:
        lines.append("   nobody connected")
    return "\n".join(lines)


def _lanes(journals: Sequence[Journal], marked: Collection[Exchange | Connection]) -> str:
    """A column for each connection: its SNI and certificate, and below them its requests in order of time."""
    connections = [c for j in journals for c in j.connections]
    fits = all(protocols.get(j.protocol).multiplexed and not j.dropped for j in journals)
    if not fits or not 1 <= len(connections) <= LANES:
        return ""
    named, marks, zero = len(journals) > 1, {id(m) for m in marked}, connections[0].opened_at
    width = min(60, (WIDTH - 14) // len(connections))
    heads = [_lane_head(c, named) for c in connections]
    rows = [" " * 14 + _cells(row, width) for row in zip(*heads, strict=True)]
    lines = [(i, x) for i, c in enumerate(connections) for x in c.exchanges]
    for i, exchange in sorted(lines, key=lambda line: line[1].index):
        if what := _in_lane(exchange):
            hit = id(exchange) in marks or (id(connections[i]) in marks and exchange.moment == "connect")
            cells = ["|"] * i + [what] + ["|"] * (len(connections) - i - 1)
            rows.append(f"{'->' if hit else '  '} {show_time(exchange.at - zero):>9}  {_cells(cells, width)}")
    ends = [f"({_ENDINGS[c.ended_by]})" for c in connections]
    errors = [c.error or "" for c in connections]
    rows += [" " * 14 + _cells(row, width) for row in (errors, ends) if any(row)]
    return "\n".join(["timeline (scenario time), a lane for each connection", *(row.rstrip() for row in rows)])


def _lane_head(connection: Connection, named: bool) -> tuple[str, str]:
    who = f"{connection.server} #{connection.number}" if named else f"#{connection.number}"
    tls = connection.tls
    if tls is None:
        return who, "no TLS"
    return f"{who} SNI {tls.sni or 'none'}", f"certificate {tls.certificate or 'none'}, {tls.alpn or 'no ALPN'}"


def _in_lane(exchange: Exchange) -> str:
    """A request with its answer, or an unasked reply; empty for a connection that the fake just accepted."""
    if (asked := exchange.http) is not None:
        tls = exchange.connection.tls
        whose = "" if tls is not None and tls.sni == asked.host else asked.host
        lines = exchange.lines
        answer = " ".join(line.partition(",")[0] if line[:1].isalpha() else line[:3] for line in lines)
        if not answer:
            answer = _closed(exchange) if exchange.closed else "no answer"
        wrong = f" ({', '.join(asked.misdirected)})" if asked.misdirected else ""
        return f"{asked.method} {whose}{asked.path} {answer}{wrong}"
    if exchange.fault is None:
        return ""
    said = "; ".join(exchange.lines)
    return f"{exchange.moment}: {said or (_closed(exchange) if exchange.closed else exchange.fault)}"


def _closed(exchange: Exchange) -> str:
    """How the fake closed: "closed", or a reset, an alert or a GOAWAY by name."""
    return "closed" if exchange.end == ConnectionClose("fin") or exchange.stopped else exchange.told


def _cells(cells: Iterable[str], width: int) -> str:
    shown = map(safe, cells)
    return " ".join(f"{cell if len(cell) < width else cell[: width - 2] + '…':<{width - 1}}" for cell in shown)


def _middle_out(connections: list[Connection], lines: list[str]) -> Iterable[Connection]:
    if len(connections) > MOST:
        lines.append(f"  … of {len(connections)} connections, the first and last {MOST // 2}")
        return [*connections[: MOST // 2], *connections[-MOST // 2 :]]
    return connections


def outcome(connection: Connection) -> str:
    """The outcome of a connection in a few words, safe to print."""
    exchanges = connection.exchanges
    messages = sum(x.message is not None and x.stored for x in exchanges)
    answered = sum(x.http is not None and x.http.whole and not x.refused for x in exchanges)
    said = [
        f"{n} {what}{'s' if n > 1 else ''} {done}"
        for n, what, done in ((messages, "message", "stored"), (answered, "request", "answered"))
        if n
    ]
    for x in exchanges:
        if moved := _moved(x):
            said.append(moved)
        if x.refused:
            reply = [x.told] if x.unanswered else x.lines
            said.append(f"{x.moment}: {reply[-1] if len(reply) < 3 else reply[0] + ' …'}")
    if connection.error:
        said.append(connection.error)
    done = messages or any(isinstance(x.facts, (Request, Transfer)) and x.facts.whole for x in exchanges)
    mark = "x" if any(x.refused for x in exchanges) or connection.error else "+" if done else "."
    nothing = protocols.get(connection.journal.protocol).words.nothing
    return safe(f"{mark} {'; '.join(said) or nothing}; {_ENDINGS[connection.ended_by]}")


_ENDINGS = {"fake": "the fake closed", "client": "the client left", None: "still open"}
_ARROWS = {"upload": "up", "download": "down", "listing": "listed"}


def _moved(exchange: Exchange) -> str:
    """The outcome of a transfer in a few words; empty if it moved no byte."""
    moved = exchange.transfer
    if moved is None or not (moved.bytes or moved.whole):
        return ""
    size = show_size(moved.bytes) + (f" from {moved.offset}" if moved.offset else "")
    return f"{moved.path} {_ARROWS[moved.direction]}: {size}{'' if moved.whole else ', cut'}"


def transcript(journals: Sequence[Journal], marked: Collection[Exchange | Connection] = ()) -> str:
    """Every line sent, connection by connection: C is the client, S the fake, D a data connection."""
    marks = {id(m) for m in marked}
    lines = ["transcript"]
    named = len(journals) > 1
    connections = sorted((c for j in journals for c in j.connections), key=lambda c: c.index)
    zero = connections[0].opened_at if connections else 0.0
    if marked:
        connections = [c for c in connections if id(c) in marks or any(id(x) in marks for x in c.exchanges)]
    for connection in _middle_out(connections, lines):
        said = talk(connection, named=named)
        lines.append(f"   {said.head}")
        for exchange, spoken in said.turns:
            arrow = "->" if id(exchange) in marks else "  "
            lines.extend(_said(spoken, arrow, show_time(exchange.at - zero)))
        if said.after:
            lines.append(f"{'':>12}  C  {said.after}")
    return "\n".join(map(safe, lines))


@dataclass(frozen=True, slots=True)
class Talk:
    """What was said on a connection: the lines of each exchange, each with its sender (C, S, D).

    `after` is what the client said after the close. `left_out` exchanges in the middle are not among the `turns`.
    """

    connection: Connection
    head: str
    turns: tuple[tuple[Exchange, tuple[tuple[str, str], ...]], ...]
    after: str
    left_out: int


def talk(connection: Connection, *, named: bool, most: int | None = None) -> Talk:
    """The transcript of a connection, of its first and last exchanges if there are more than `most`."""
    exchanges = connection.exchanges
    left_out = 0 if most is None else max(0, len(exchanges) - most)
    if most is not None and left_out:
        exchanges = (*exchanges[: most - most // 2], *exchanges[len(exchanges) - most // 2 :])
    server = f" on {connection.server}" if named else ""
    heard = connection.after.splitlines()
    return Talk(
        connection,
        f"#{connection.number} from {connection.client}{server}{_tls(connection)}",
        tuple((x, tuple(_lines(x))) for x in exchanges),
        f"{heard[0][:60]}{' …' if len(heard) > 1 else ''}  (after the fake had closed)" if heard else "",
        left_out,
    )


def _tls(connection: Connection) -> str:
    tls = connection.tls
    if tls is None:
        return ""
    how = f"failed: {tls.error}" if tls.error else f"{tls.version}, certificate {tls.certificate}"
    return f", TLS {how}, SNI {tls.sni or 'none'}"


def _said(spoken: Iterable[tuple[str, str]], arrow: str, at: str) -> Iterable[str]:
    for who, what in spoken:
        yield f"{arrow} {at:>9}  {who}  {what}"
        arrow, at = "  ", ""


def _lines(exchange: Exchange) -> Iterable[tuple[str, str]]:
    """Each line with its sender (C, S, D), in order: request, preliminary reply, transfer, final reply."""
    if exchange.moment == "connect" and exchange.reply is None and exchange.fault is None:
        return  # in this protocol the client speaks first
    if exchange.request:
        yield ("D" if exchange.moment == "transfer" else "C"), exchange.request
    why = (
        f"   [{exchange.fault}, {exchange.rule or ('the fake stops' if exchange.stopped else 'by hand')}]"
        if exchange.fault
        else ""
    )
    lines = exchange.lines
    data = _data(exchange)
    before = [line for line in lines if data and line.startswith("1")]
    yield from (("S", line) for line in before)
    if data:
        yield "D", data
    rest = lines[len(before) :]
    if not rest and not data and exchange.moment == "data" and exchange.fault is None and not exchange.closed:
        return  # a chunk that ends a message: its reply is the message's (RFC 3030 §2)
    if not rest and not data:
        rest = [f"({exchange.told})" if exchange.closed else "(says nothing)"]
    elif rest and exchange.closed:
        rest[-1] += "   (and closes)"
    yield from (("S", line + (why if i == len(rest) - 1 else "")) for i, line in enumerate(rest))


_ENDED: Mapping[DataEnding, str] = {
    "fin": "closed", "reset": "reset", "drain": "half-closed, the rest dropped", "drop": "let nobody through",
    "open": "left before its end", "ragged": "left before its end",
}  # fmt: skip


def _data(exchange: Exchange) -> str:
    """What the data connection carried, and how it ended."""
    moved = exchange.transfer
    if moved is None or (moved.data is None and not moved.whole):
        return ""
    offset = f" from byte {moved.offset}" if moved.offset else ""
    verb = "received" if moved.direction == "upload" else "sent"
    end = "all of it" if moved.data is None else f"then {_ENDED[moved.data]}"
    size = "1 byte" if moved.bytes == 1 else f"{moved.bytes} bytes"
    return f"({moved.mode}) {size} {verb}{offset}, {end}"
