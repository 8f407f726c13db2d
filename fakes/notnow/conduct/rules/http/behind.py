"""What the rules of HTTP say of the clients behind a proxy."""

from __future__ import annotations

from notnow.conduct.rules.rule import ForProxy

OTHER_CLIENTS = ForProxy("or the proxy forwarded the request of another client of its own", others=True)
