"""What an HTTP connection needs of its fake."""

from __future__ import annotations

from typing import Any, Protocol

from notnow.servers.base.session import Host


class AppHost(Host, Protocol):
    """A host with an app, at an origin."""

    @property
    def app(self) -> Any:
        """The ASGI app that answers requests."""

    @property
    def state(self) -> dict[str, Any]:
        """The state of the app's lifespan; each request gets a copy."""

    @property
    def scheme(self) -> str:
        """The scheme of its URLs: "http" or "https"."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: host and port."""

    @property
    def max_streams(self) -> int:
        """How many requests at a time one connection may carry."""

    def guest_failed(self, error: BaseException) -> None:
        """The app has raised an error that nobody handles: `stop` will raise it."""
