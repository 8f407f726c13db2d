"""Ways for clients to reach a fake by its host names, without a change to /etc/hosts."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Collection, Iterator
from typing import Any


def bracketed(host: str) -> str:
    """A host as it appears in a URL (RFC 3986 §3.2.2)."""
    return f"[{host}]" if ":" in host else host


def is_address(host: str) -> bool:
    """True for an IP address, which is never an SNI (RFC 6066 §3)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """True for an address of this machine that no other machine reaches, and for localhost (RFC 6761 §6.3)."""
    if host.rstrip(".").lower() == "localhost" or host.lower().rstrip(".").endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def resolving(hosts: Collection[str], address: str) -> Iterator[None]:
    """Make these names, and no others, resolve to an address in this process."""
    from unittest import mock

    real, known = socket.getaddrinfo, {host.lower() for host in hosts}

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if isinstance(name, str) and name.lower().rstrip(".") in known:
            return real(address, *args, **options)
        return real(host, *args, **options)

    with mock.patch.object(socket, "getaddrinfo", getaddrinfo):
        yield


def recipes(hosts: Collection[str], address: str, port: int | str) -> dict[str, str]:
    """For clients in other processes: the option of each that maps the hosts to an address."""
    curl = " ".join(f"--resolve {host}:{port}:{address}" for host in hosts)
    rules = ", ".join(f"MAP {host}:{port} {bracketed(address)}:{port}" for host in hosts)
    return {
        "curl": f"curl {curl}",
        "chromium": f'chromium --host-resolver-rules="{rules}"',
        "node": f"lookup: (host, options, done) => done(null, [{{ address: '{address}', family: {6 if ':' in address else 4} }}])",
        "java": f"-Djdk.net.hosts.file=FILE, with the line: {address} {' '.join(hosts)}",
    }
