"""What the clients have seen beside what the journals say, line by line."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.soak.wire import Passed, Wire

from notnow import FakeFTP, FakeHTTP, FakeSMTP
from notnow.journal import Connection, Exchange, Journal, Request

if TYPE_CHECKING:
    from tests.soak.clients import Seen


@dataclass
class Line:
    """One count, on both sides."""

    clients: int = 0
    server: int = 0


@dataclass
class Ledger:
    """All counts of a soak, and the `differences`: connections or items on which the sides do not agree."""

    lines: dict[str, Line] = field(default_factory=lambda: defaultdict(Line))
    differences: list[str] = field(default_factory=list)

    def count(self, what: str, clients: int, server: int) -> None:
        self.lines[what].clients += clients
        self.lines[what].server += server

    def compare(self, what: str, clients: Counter[Any], server: Counter[Any], errors: Mapping[str, str]) -> None:
        """Compare items one by one, not only their number. `errors`: what the clients had last, by the names of the items."""
        self.count(what, clients.total(), server.total())
        for item in clients.keys() | server.keys():
            if clients[item] != server[item]:
                error = f", whose error was {errors[item[0]]}" if item[0] in errors else ""
                self.differences.append(f"{what}: {item}: clients {clients[item]}{error}, server {server[item]}")

    def add(self, smtp: FakeSMTP, ftp: FakeFTP, http: FakeHTTP, wires: Iterable[Wire], seen: Seen) -> None:
        """A round is over: nobody is connected any more."""
        for fake, wire in zip((smtp, ftp, http), wires, strict=True):
            self._connections(fake.protocol, fake.journal, wire)
        self._mail(smtp.journal, seen)
        self._files(ftp.journal, seen)
        self._requests(http.journal, seen)

    def _connections(self, protocol: str, journal: Journal, wire: Wire) -> None:
        passed, known = _by_port(wire.passed), _by_port(journal.connections)
        self.count(f"{protocol} connections", len(wire.passed), len(journal.connections))
        for port in passed.keys() | known.keys():
            if len(passed[port]) != len(known[port]):
                self.differences.append(
                    f"{protocol}: port {port}: {len(passed[port])} and {len(known[port])} connections"
                )
            elif protocol != "http":
                for one, other in zip(passed[port], known[port], strict=True):
                    self._replies(protocol, one, other)

    def _replies(self, protocol: str, passed: Passed, known: Connection) -> None:
        heard, told = passed.codes(), Counter(code for x in known.exchanges for code in x.codes)
        for code in heard.keys() | told.keys():
            self.count(f"{protocol} replies {code}", heard[code], told[code])
        if heard != told:
            self.differences.append(f"{protocol} #{known.number}: heard {dict(heard)}, journal {dict(told)}")

    def _mail(self, journal: Journal, seen: Seen) -> None:
        taken = [x.message for x in journal if x.message is not None and x.code == 250]
        stored = Counter((str(m.message_id).partition("@")[0].strip("<"), m.size) for m in taken)
        self.compare("smtp messages accepted", seen.mail, stored, seen.errors)
        self.count("smtp bytes accepted", _bytes(seen.mail), _bytes(stored))

    def _files(self, journal: Journal, seen: Seen) -> None:
        done = [(x, x.transfer) for x in journal if x.transfer is not None and 226 in x.codes]
        for what, verb, heard in (("uploads", "STOR", seen.uploads), ("downloads", "RETR", seen.downloads)):
            told = Counter((t.path, t.bytes) for x, t in done if x.request.startswith(verb))
            self.compare(f"ftp {what}", heard, told, seen.errors)
            self.count(f"ftp bytes of {what}", _bytes(heard), _bytes(told))

    def _requests(self, journal: Journal, seen: Seen) -> None:
        whole = [(x, x.http) for x in journal if x.http is not None and x.http.whole and x.http.status is not None]
        told = Counter((h.path, h.body_bytes, h.status, h.sent) for _, h in whole)
        # httpx gives up all requests of a connection when a GOAWAY comes, also those that the GOAWAY promises to answer.
        behind = Counter((h.path, h.body_bytes, h.status, h.sent) for x, h in whole if x.connection.goaways)
        given_up = Counter({a: n for a, n in ((told - seen.answers) & behind).items() if n <= seen.broken_off[a[:2]]})
        self.count("http answers to requests that httpx gave up at a GOAWAY", given_up.total(), given_up.total())
        told -= given_up
        for exchange, request in whole:
            self._on_its_way(exchange, request, seen, told)
        self.compare("http answers", seen.answers, told, seen.errors)
        for status in {a[2] for a in seen.answers.keys() | told.keys()}:
            heard, said = (sum(n for a, n in side.items() if a[2] == status) for side in (seen.answers, told))
            self.count(f"http answers {status}", heard, said)
        for name, at in (("up", 1), ("down", 3)):
            heard, said = (sum(int(a[at]) * n for a, n in side.items()) for side in (seen.answers, told))
            self.count(f"http bytes {name}", heard, said)

    def _on_its_way(self, exchange: Exchange, request: Request, seen: Seen, told: Counter[Any]) -> None:
        """An early answer, and the fake closed before the end of the body came: the client may have sent all of it."""
        if exchange.connection.ended_by != "fake" or request.body_sha256 is not None:
            return
        came = (request.path, request.body_bytes, request.status, request.sent)
        for sent in seen.answers - told:
            path, size, *answer = sent
            if (path, answer) == (request.path, [request.status, request.sent]) and size > request.body_bytes:
                told[came] -= 1
                told[sent] += 1
                self.count("http uploads on their way when the fake closed", 1, 1)
                return

    def table(self) -> str:
        """The ledger as text, in the order of its names."""
        rows = [(what, f"{line.clients:,}", f"{line.server:,}") for what, line in sorted(self.lines.items())]
        rows.insert(0, ("what", "clients", "server"))
        wide = [max(len(row[i]) for row in rows) for i in range(3)]
        return "\n".join(f"{a:<{wide[0]}}  {b:>{wide[1]}}  {c:>{wide[2]}}" for a, b, c in rows)


def _by_port(connections: Iterable[Any]) -> dict[int, list[Any]]:
    """The connections that had each port of the clients' side, in the order in which they came."""
    found: dict[int, list[Any]] = defaultdict(list)
    for one in connections:
        found[one.port if isinstance(one, Passed) else one.peer_port].append(one)
    return found


def _bytes(items: Counter[tuple[str, int]]) -> int:
    return sum(size * times for (_, size), times in items.items())
