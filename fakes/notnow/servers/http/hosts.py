"""The hosts of an HTTP server, for clients in this process: a local fake has them, and one that runs elsewhere."""

from __future__ import annotations

import ssl
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from notnow import hosts as names
from notnow.hosts import bracketed

if TYPE_CHECKING:
    from notnow.language.scenario import Scenario


class Hosts:
    """The URLs of a server's hosts, and what clients need to get there. It is mixed into a class that has the address."""

    if TYPE_CHECKING:  # at run time, a property here would stand in the way of an attribute there
        host: str

        @property
        def port(self) -> int: ...
        @property
        def url(self) -> str: ...
        @property
        def ca_file(self) -> str: ...
        @property
        def scenario(self) -> Scenario: ...

    def url_for(self, host: str, path: str = "/") -> str:
        """The URL of a path on one of its hosts; `resolving()` makes the name known in this process."""
        scheme = self.url.partition("://")[0]
        return f"{scheme}://{bracketed(host)}:{self.port}/{path.removeprefix('/')}"

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
