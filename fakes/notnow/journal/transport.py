"""A journal as plain data without a loss, and back: for those who read the journal of a fake in another process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, get_args, get_type_hints

from msgspec import Struct, ValidationError, convert, defstruct, structs, to_builtins
from msgspec.structs import force_setattr

from notnow import protocols
from notnow.clock import Clock
from notnow.journal.journal import Connection, Exchange, Journal, Mark
from notnow.journal.values import Facts

VERSION = 1
PIECE = 200  # records that are written in one go
KINDS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in get_args(Facts)}


class Packed(Struct):
    """A journal; `version` is that of this form."""

    version: int
    server: str
    protocol: str
    limit: int
    dropped: int
    dropped_since_play: int
    played: int
    counts: dict[str, int]
    marks: list[Mark]
    connections: list[dict[str, Any]]
    exchanges: list[dict[str, Any]]


def _plain(record: type[Struct], *left_out: str) -> type[Struct]:
    """The fields of a record that can be told without the others, as a struct of their own."""
    hints = get_type_hints(record)
    kept = [f for f in structs.fields(record) if f.name not in left_out]
    return defstruct(f"Packed{record.__name__}", [(f.name, hints[f.name]) for f in kept])


_Connection = _plain(Connection, "journal", "_log")
_Exchange = _plain(Exchange, "connection", "facts")


def pack(journal: Journal) -> Iterator[str]:
    """The journal as JSON, in pieces: no other thread runs while one is made."""
    head = _builtins(
        Packed(
            version=VERSION,
            server=journal.server,
            protocol=journal.protocol,
            limit=journal.limit,
            dropped=journal.dropped,
            dropped_since_play=journal.dropped_since_play,
            played=journal._played,
            counts=dict(journal._counts),
            marks=list(journal.marks),
            connections=[],
            exchanges=[],
        )
    )
    records = {
        "connections": map(packed_connection, journal.connections),
        "exchanges": map(packed_exchange, journal.exchanges),
    }
    yield json.dumps({name: value for name, value in head.items() if name not in records})[:-1]
    for name, found in records.items():
        yield f', "{name}": ['
        separator = ""
        while piece := list(islice(found, PIECE)):
            yield separator + json.dumps(piece)[1:-1]
            separator = ", "
        yield "]"
    yield "}"


def _builtins(record: object) -> dict[str, Any]:
    found: dict[str, Any] = to_builtins(record, enc_hook=dict)
    return found


def packed_mark(mark: Mark) -> dict[str, Any]:
    return _builtins(mark)


def packed_connection(connection: Connection) -> dict[str, Any]:
    return _builtins(_fields(connection, _Connection))


def _fields(record: Struct, plain: type[Struct]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in plain.__struct_fields__}


def packed_exchange(exchange: Exchange) -> dict[str, Any]:
    facts = exchange.facts
    told = {
        **_fields(exchange, _Exchange),
        "connection": exchange.connection.number,
        "facts": None if facts is None else {type(facts).__name__: facts},
    }
    return _builtins(told)


def unpack(data: object, clock: Clock) -> Journal:
    """The journal of this plain data, under a clock. Raises ValueError for what is no journal of this version."""
    try:
        packed = convert(data, Packed)
        if packed.version != VERSION:
            raise ValueError(f"the journal is of version {packed.version}; allowed: {VERSION}, that of this notnow")
        return _unpacked(packed, clock)
    except (ValidationError, KeyError) as error:
        raise ValueError(f"this is no journal: {error}") from None


def _unpacked(packed: Packed, clock: Clock) -> Journal:
    protocols.get(packed.protocol)  # KeyError where there is none
    journal = Journal(clock, server=packed.server, protocol=packed.protocol, limit=packed.limit)
    for told in packed.connections:
        known = structs.asdict(convert(told, _Connection))
        connection = Connection(journal=journal, **known)
        journal._connections[connection.number] = connection
    for told in packed.exchanges:
        connection = journal._connections[convert(told.pop("connection"), int)]
        facts = convert(told.pop("facts"), dict[str, Any] | None)
        exchange = Exchange(connection=connection, **structs.asdict(convert(told, _Exchange)))
        for kind, value in (facts or {}).items():  # one, or none
            force_setattr(exchange, "facts", convert(value, KINDS[kind]))
        connection._log.append(exchange)
        journal._order.append(exchange)
    journal._marks.extend(packed.marks)
    journal._counts.update(packed.counts)
    journal._dropped, journal._dropped_since_play = packed.dropped, packed.dropped_since_play
    journal._played = packed.played
    return journal
