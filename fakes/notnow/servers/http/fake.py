"""FakeHTTP: a server for HTTP/2 and HTTP/1.1 that says 421 on cue (RFC 9110 §15.5.20), on hypercorn's protocols."""

from __future__ import annotations

from typing import ClassVar

from notnow.conduct.requests import RequestAssertions
from notnow.language.scenario import Scenario
from notnow.servers.base.fake import Fake
from notnow.servers.http.bridge import HTTPBridge
from notnow.servers.http.hosts import Hosts


class FakeHTTP(RequestAssertions, Fake, Hosts):
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
    _bridge_class: ClassVar[type[HTTPBridge]] = HTTPBridge
    _bridge: HTTPBridge

    def _new_bridge(self, scenario: Scenario) -> HTTPBridge:
        return self._bridge_class(self._options, scenario, type(self).__name__, self.name)
