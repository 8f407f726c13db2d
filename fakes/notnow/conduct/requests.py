"""Assertions about HTTP requests: their connections, hosts, delays and bodies."""

from __future__ import annotations

from notnow.conduct.assertions import Assertions, require_of_whole
from notnow.conduct.expectations import requests
from notnow.conduct.reading.run import Run


class RequestAssertions(Assertions):
    """The assertions of a fake that answers requests."""

    def assert_sni_matches_authority(self) -> None:
        """Each request over TLS came on a connection that was made for its host: its SNI is the request's authority.

        A client that reaches the server by its address sends no SNI (RFC 6066 §3), and passes.
        """
        __tracebackhide__ = True
        require_of_whole(requests.sni_matches_authority(self.journal.exchanges), self.journal)

    def assert_not_coalesced(self) -> None:
        """No connection carried requests for more than one host (RFC 9113 §9.1.1)."""
        __tracebackhide__ = True
        require_of_whole(requests.not_coalesced(self.journal.exchanges), self.journal)

    def assert_retry_after_honoured(self) -> None:
        """Requests refused with a Retry-After came back, and no sooner than that (RFC 9110 §10.2.3)."""
        __tracebackhide__ = True
        require_of_whole(requests.retry_after_honoured(Run([self.journal], whole=True)), self.journal)

    def assert_body_replayed(self) -> None:
        """A request with a body that came back had the same body again, all of it."""
        __tracebackhide__ = True
        require_of_whole(requests.body_replayed(Run([self.journal], whole=True)), self.journal)
