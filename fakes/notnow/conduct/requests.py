"""Assertions about HTTP requests: on which connection, for which host, how soon again."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from notnow.conduct.assertions import Assertions, fail
from notnow.conduct.reading import attempts
from notnow.hosts import is_address
from notnow.journal import Exchange, Journal
from notnow.units import show


class RequestAssertions(Assertions):
    """What a fake that answers requests can say of its clients beyond the rest."""

    def assert_sni_matches_authority(self) -> None:
        """Each request in TLS came on a connection that was made for its host: its SNI is the request's authority.

        A client that reaches the server by its address names nobody (RFC 6066 §3), and that is well.
        """
        __tracebackhide__ = True
        _sni_matches(self.journal, self.journal.exchanges)

    def assert_not_coalesced(self) -> None:
        """No connection carried requests for more than one host (RFC 9113 §9.1.1)."""
        __tracebackhide__ = True
        _not_coalesced(self.journal, self.journal.exchanges)

    def assert_retry_after_honoured(self) -> None:
        """What was refused with a Retry-After came back, and no sooner than that (RFC 9110 §10.2.3)."""
        __tracebackhide__ = True
        _retry_after(self.journal, self.journal.exchanges)

    def assert_body_replayed(self) -> None:
        """A request with a body that came back had all of it again, the same as before."""
        __tracebackhide__ = True
        _body_replayed(self.journal, self.journal.exchanges)

    def assert_expected(self) -> None:
        __tracebackhide__ = True
        super().assert_expected()
        expect, exchanges = self.scenario.expect, self.journal.since_play()
        for wanted, judge in (
            (expect.sni_matches_authority, _sni_matches),
            (expect.not_coalesced, _not_coalesced),
            (expect.retry_after_honoured, _retry_after),
            (expect.body_replayed, _body_replayed),
        ):
            if wanted:
                judge(self.journal, exchanges)


def _requests(exchanges: Collection[Exchange]) -> list[Exchange]:
    return [x for x in exchanges if x.facts and "method" in x.facts]


def _facts(exchange: Exchange, name: str) -> object:
    return (exchange.facts or {}).get(name)


def _sni_matches(journal: Journal, exchanges: Sequence[Exchange]) -> None:
    __tracebackhide__ = True
    expected = "every request on a connection that was made for its host"
    secure = [x for x in _requests(exchanges) if x.connection.tls is not None]
    if not secure:
        fail(journal, expected, "no request came in TLS")
    for request in secure:
        host, sni = str(_facts(request, "host")), request.connection.tls.sni if request.connection.tls else None
        if sni is None and not is_address(host):
            fail(journal, expected, f"one for {host} came on a connection without an SNI", [request])
        if sni is not None and sni.lower() != host:
            fail(journal, expected, f"one for {host} came on a connection with the SNI {sni}", [request])


def _not_coalesced(journal: Journal, exchanges: Sequence[Exchange]) -> None:
    __tracebackhide__ = True
    hosts: dict[int, str] = {}
    for request in _requests(exchanges):
        host, number = str(_facts(request, "host")), request.connection.number
        first = hosts.setdefault(number, host)
        if host != first:
            seen = f"#{number} carried requests for {first} and for {host}"
            fail(journal, "a connection for each host", seen, [request])


def _retry_after(journal: Journal, exchanges: Sequence[Exchange]) -> None:
    __tracebackhide__ = True
    expected = "the client to come back when Retry-After has said"
    told = [x for x in attempts.refusals(exchanges) if attempts.asked_wait(x) is not None]
    if not told:
        fail(journal, expected, "nothing was refused with a Retry-After")
    found = [(r, asked) for r in attempts.retries(exchanges) if (asked := attempts.asked_wait(r.refusal)) is not None]
    if not found:
        fail(journal, expected, "it never came back", told[-1:])
    for retry, (wait, tolerance) in found:
        if retry.delay < wait - tolerance:
            said = _facts(retry.refusal, "retry-after")
            seen = f"it was told to wait {show(wait)} (Retry-After: {said}), and waited {show(retry.delay)}"
            fail(journal, expected, seen, [retry.refusal, retry.attempt])


def _body_replayed(journal: Journal, exchanges: Sequence[Exchange]) -> None:
    __tracebackhide__ = True
    expected = "each request that came back to have its whole body again"
    # Who is refused early may not have sent any of it yet.
    with_body = [
        (r, _facts(r.refusal, "body_bytes"), _facts(r.attempt, "body_bytes")) for r in attempts.retries(exchanges)
    ]
    found = [retry for retry, before, after in with_body if before or after]
    if not found:
        fail(journal, expected, "no request with a body came back", attempts.refusals(exchanges)[-1:])
    for retry in found:
        before, after = _facts(retry.refusal, "body_sha256"), _facts(retry.attempt, "body_sha256")
        size = _facts(retry.attempt, "body_bytes")
        if after is None:
            seen = f"only {size} bytes of it have come" if size else "it came without a body"
            fail(journal, expected, seen, [retry.refusal, retry.attempt])
        if before not in (None, after):
            seen = f"the body was another: {_facts(retry.refusal, 'body_bytes')} bytes before, {size} after"
            fail(journal, expected, seen, [retry.refusal, retry.attempt])
