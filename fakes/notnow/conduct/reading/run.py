"""A run: what clients did, as the journals of one or several fakes show it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from notnow import protocols
from notnow.conduct.reading.ledger import Ledger, joined
from notnow.garbage import uncollected
from notnow.journal import CertificateRejected, Connection, Exchange, Journal

if TYPE_CHECKING:
    from notnow.language.scenario import Scenario

T = TypeVar("T")


class Run:
    """What clients did at one fake, or at several fakes that share a clock, since a scenario was last played.

    `whole`: what they did before that counts as well. `proxy`: the client is an intermediary, which acts for clients of
    its own. `count` is how many items the client was given, if known. Results that several rules need are computed once, so that the time of a rule grows no faster than the
    journal.
    """

    def __init__(
        self,
        journals: Sequence[Journal],
        scenarios: Sequence[Scenario] = (),
        *,
        whole: bool = False,
        proxy: bool = False,
        count: int | None = None,
    ) -> None:
        self.journals, self.scenarios, self.whole, self.proxy = tuple(journals), tuple(scenarios), whole, proxy
        self.count = count
        self._worked_out: dict[Callable[[Run], Any], Any] = {}
        self._parts: dict[str, Run] = {}

    def of(self, protocol: str) -> Run:
        """The part of the run that the fakes of one protocol saw."""
        if all(journal.protocol == protocol for journal in self.journals):
            return self
        if protocol not in self._parts:
            journals = [j for j in self.journals if j.protocol == protocol]
            self._parts[protocol] = Run(journals, self.scenarios, whole=self.whole, proxy=self.proxy, count=self.count)
        return self._parts[protocol]

    @cached_property
    def ledger(self) -> Ledger:
        """The items of the run and the tries of each; empty for a protocol without a reader."""
        names = dict.fromkeys(journal.protocol for journal in self.journals)
        readers = [(name, path) for name in names if (path := protocols.get(name).ledger) is not None]
        with uncollected():
            return joined(import_module(path).ledger(self.of(name)) for name, path in readers)

    @cached_property
    def exchanges(self) -> tuple[Exchange, ...]:
        """All exchanges, in order, on all servers."""
        found = [x for journal in self.journals for x in (journal.exchanges if self.whole else journal.since_play())]
        return tuple(sorted(found, key=lambda x: x.index)) if len(self.journals) > 1 else tuple(found)

    @property
    def dropped(self) -> int:
        """How many of these exchanges are gone, because a journal was full."""
        return sum(journal.dropped if self.whole else journal.dropped_since_play for journal in self.journals)

    @cached_property
    def by_connection(self) -> dict[Connection, list[Exchange]]:
        """The exchanges of each connection; connections in the order in which they opened."""
        found: dict[Connection, list[Exchange]] = {}
        for exchange in self.exchanges:
            own = found.get(exchange.connection)
            if own is None:
                found[exchange.connection] = [exchange]
            else:
                own.append(exchange)
        return found

    @property
    def connections(self) -> list[Connection]:
        return list(self.by_connection)

    @cached_property
    def distrusted(self) -> str:
        """The reason why a client asked for nothing: it lacks the CA, and so it rejected every certificate.

        Empty for any other run.
        """
        ends = [(connection.failure, connection.tls) for connection in self.by_connection]
        rejected = [end.alert for end, tls in ends if isinstance(end, CertificateRejected) and tls and tls.trusted]
        if not ends or len(rejected) < len(ends):
            return ""
        return (
            f"the client rejected the certificate (TLS alert {rejected[0]}), because it does not have the CA that signed it: "
            "pass {ca_file} in its command, as in curl --cacert {ca_file}, or let it read NOTNOW_CA_FILE from its environment"
        )

    @cached_property
    def untested(self) -> str:
        """The reason why the run has tested nothing: the scenarios have faults, and none fired. Empty if one did."""
        faulty = [(scenario.name, scenario.faulty) for scenario in self.scenarios if scenario.faulty]
        if not (faulty or any(map(len, self.journals))):
            return ""
        if self.distrusted:
            return self.distrusted
        if not faulty or any(x.fault is not None and not x.stopped for x in self.exchanges):
            return ""
        moments = {name: ", ".join(dict.fromkeys(m for rule in rules for m in rule.on)) for name, rules in faulty}
        return " and ".join(f"{name} has faults at {at}" for name, at in moments.items()) + ", and none of them fired"

    def once(self, work: Callable[[Run], T]) -> T:
        """The result of `work` on this run, computed once for all rules that ask."""
        if work not in self._worked_out:
            self._worked_out[work] = work(self)
        found: T = self._worked_out[work]
        return found

    @cached_property
    def requests(self) -> list[Exchange]:
        """The HTTP requests, in order."""
        return [x for x in self.exchanges if x.http is not None]


def burst(exchanges: Iterable[Exchange], most: int, within: float) -> list[Exchange]:
    """The first exchanges, of these in order, that are more than `most` within `within` seconds; empty if there are none."""
    recent: deque[Exchange] = deque()
    for exchange in exchanges:
        recent.append(exchange)
        while exchange.at - recent[0].at > within:
            recent.popleft()
        if len(recent) > most:
            return list(recent)
    return []
