"""Your own servers, behind a fake: their addresses, which are on this machine alone."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from notnow.errors import Problem, ScenarioError

LOCALHOST = ("127.0.0.1", "::1")  # not looked up: the name has no other meaning (RFC 6761 §6.3)


class Loopback(Struct, frozen=True):
    """A server on this machine: its URL, the addresses to try in this order, and its port."""

    url: str
    addresses: tuple[str, ...]
    port: int


def loopback(option: str, url: str, scheme: str) -> Loopback:
    """Read the URL of an option, `SCHEME://HOST:PORT`. Raises ScenarioError if it is anything else, or another machine."""
    allowed = f"{scheme}://HOST:PORT, where HOST is 127.0.0.1 (or another address of 127.0.0.0/8), [::1] or localhost"
    found = f"{option} is {url!r}"
    parts, port = _split(url)
    if parts is None or port is None or parts.scheme != scheme or not parts.hostname:
        raise ScenarioError([Problem(found, allowed=allowed)])
    addresses = _addresses(parts.hostname)
    if not addresses:
        raise ScenarioError([Problem(f"{found}: a fake never relays to another machine", allowed=allowed)])
    if "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise ScenarioError([Problem(f"{found}: nothing may stand beside host and port", allowed=allowed)])
    return Loopback(url.rstrip("/"), addresses, port)


def _split(url: str) -> tuple[SplitResult | None, int | None]:
    """The parts of a URL and its port, or None for those that are invalid."""
    try:
        parts = urlsplit(url)
        return parts, parts.port or None
    except ValueError:
        return None, None


def _addresses(host: str) -> tuple[str, ...]:
    if host == "localhost":
        return LOCALHOST
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ()
    mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped
    return (str(address),) if address.is_loopback and not mapped else ()
