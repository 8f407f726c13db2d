"""The facts of a request: those that rules may test, and its record in the journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec.structs import replace

from notnow.journal import Connection, Request
from notnow.servers.base import tls
from notnow.servers.http.head import Head


class Secured(Protocol):
    """The connection of a request, and the names that its TLS has shown."""

    record: Connection
    names: tuple[str, ...]  # of the certificate
    secure: bool


def known(head: Head, connection: Secured) -> Mapping[str, Any]:
    """The facts of a request that rules may test; see the moments of `notnow.protocols`."""
    why = misdirected(head.facts["host"], connection)
    return {**head.facts, "misdirected": why} if why else head.facts


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


def recorded(number: int, request: Request, known: Mapping[str, Any]) -> Request:
    """The request for the journal, on its stream and its connection."""
    if why := known["misdirected"]:
        return replace(request, stream=number, misdirected=tuple(one for one in why if isinstance(one, str)))
    return replace(request, stream=number)
