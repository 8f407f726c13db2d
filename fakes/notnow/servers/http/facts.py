"""The facts of a request: those that rules may test, and its record in the journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from notnow.journal import Connection, Request, brief
from notnow.servers.base import tls
from notnow.servers.http.interfaces import Head


class Secured(Protocol):
    """The connection of a request, and the names that its TLS has shown."""

    record: Connection
    names: tuple[str, ...]  # of the certificate
    secure: bool


def known(head: Head, connection: Secured) -> dict[str, Any]:
    """The facts of a request that rules may test; see the moments of `notnow.protocols`."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.headers}
    host = hostname(head.authority)
    length = headers.get("content-length", "")
    path, mark, query = head.target.partition(b"?")
    return {
        "command": head.method,
        "method": head.method,
        "authority": host,
        "host": host,
        "path": path.decode("latin-1"),
        "query": query.decode("latin-1") if mark else None,
        "size": int(length) if length.isdecimal() else None,
        "header": headers,
        "misdirected": misdirected(host, connection),
    }


def misdirected(host: str, connection: Secured) -> tuple[str | bool, ...]:
    """Why a request is on the wrong connection (RFC 9110 §7.4): "sni", "certificate", and True for either or no SNI."""
    if not connection.secure:
        return ()
    sni = connection.record.tls.sni if connection.record.tls is not None else None
    found: list[str | bool] = []
    if sni is not None and sni.lower() != host:
        found.append("sni")
    if not tls.covers(connection.names, host):
        found.append("certificate")
    return (*found, True) if found or sni is None else ()


def hostname(authority: str) -> str:
    """The host of an authority, without its port, in lower case."""
    host = authority.rpartition("@")[2].lower()
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0].rstrip(".")


def recorded(number: int, head: Head, target: str, known: Mapping[str, Any]) -> Request:
    """The request for the journal, without an answer so far."""
    header = known["header"]
    alternative, host = header.get("alt-used"), header.get("host")  # RFC 7838 §5
    key = header.get("idempotency-key")
    differs = head.version == "2" and host != head.authority  # :authority counts (RFC 9113 §8.3.1)
    return Request(
        number,  # with more than 15 keywords, Python makes a call the slow way
        head.version,
        head.method,
        authority=brief(head.authority),
        host=known["host"],
        path=brief(target),
        misdirected=tuple(why for why in known["misdirected"] if isinstance(why, str)),
        status=None,
        body_bytes=0,
        body_sha256=None,
        sent=0,
        whole=False,
        stored=False,
        alt_used=brief(alternative) if alternative else None,
        host_header=host if differs else None,
        idempotency_key=brief(key) if key else None,
    )
