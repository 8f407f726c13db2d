"""FakeHTTP: a server for HTTP/2 and HTTP/1.1 that says 421 on cue (RFC 9110 §15.5.20), on hypercorn's protocols."""

from __future__ import annotations

import ssl
from contextlib import AbstractContextManager
from typing import ClassVar

from notnow import hosts as names
from notnow.conduct.requests import RequestAssertions
from notnow.language.scenario import Scenario
from notnow.servers.base.fake import Fake
from notnow.servers.http.bridge import HTTPBridge


class FakeHTTP(RequestAssertions, Fake):
    """A fake HTTP server.

        with FakeHTTP("http/coalesced") as http, http.resolving():
            fetch(http.url_for("a.site.test", "/"), http.ssl_context())
            http.assert_new_connection_after(421)

    It listens when the block begins, and runs in its own thread. It speaks HTTP/2 (over TLS, or with prior
    knowledge, or after an upgrade) and HTTP/1.1. `app` is your own ASGI app, which then answers behind the
    faults, and `upstream` the URL of your own server on this machine, such as "http://127.0.0.1:8000", that does; without
    either, the fake echoes each request as JSON.
    """

    protocol: ClassVar[str] = "http"
    _option_names: ClassVar[frozenset[str]] = (Fake._option_names | {"app", "upstream"}) - {"users"}
    _bridge: HTTPBridge

    def _new_bridge(self, scenario: Scenario) -> HTTPBridge:
        return HTTPBridge(self._options, scenario, type(self).__name__, self.name)

    # ---- where it is -----------------------------------------------------------------------------

    def url_for(self, host: str, path: str = "/") -> str:
        """The URL of a path on one of its hosts; `resolving()` makes the name known in this process."""
        return f"{self._url_of(host)}/{path.removeprefix('/')}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names of its certificates, or else its own."""
        return self.scenario.hosts or ("localhost",)

    def resolving(self) -> AbstractContextManager[None]:
        """Make its hosts resolve to its address, in this process and within a `with` block."""
        return names.resolving(self.hosts, self.host)

    def ssl_context(self) -> ssl.SSLContext:
        """A context for clients that trust its CA."""
        return ssl.create_default_context(cafile=self.ca_file)
