"""The journals of all replicas as one: each writes its entries to a stream in Redis, and readers put them together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import unquote

from msgspec.structs import replace

from notnow.bounds import EXCHANGES
from notnow.clock import Clock
from notnow.errors import StartError
from notnow.journal import Connection, Entry, Exchange, Journal, Mark, transport
from notnow.shared.address import Address
from notnow.shared.link import Link, Lost
from notnow.shared.replica import Replica

KEEP = 24 * 3600  # seconds after the last entry
TELL_AGAIN = 1000  # entries of a replica after which it says again what it plays: the stream may have lost that
PIECE = 1000  # entries that are read in one go


class Shipper:
    """The writer of one replica."""

    def __init__(self, replica: Replica) -> None:
        self._replica, self._stream = replica, f"{replica.address.prefix}journal"
        self._told: set[int] = set()  # connections that the stream has
        self._play: tuple[int, str, dict[str, Any]] | None = None  # the last mark of a play
        self._since_play = 0  # how many entries were told since that mark was

    def ship(self, entries: Sequence[tuple[int, Entry]]) -> None:
        """Append these entries, as they are now, each with its number. The stream keeps the last ones. Raises Lost."""
        told = [(number, *one) for number, entry in entries for one in self._packed(entry)]
        self._play = next((one for one in reversed(told) if _is_play(*one)), self._play)
        self._since_play += len(told)
        if self._since_play > TELL_AGAIN and self._play is not None:
            self._since_play = 0
            told.append(self._play)
        pipe = self._replica.link.redis.pipeline(transaction=False)
        for number, kind, data in told:
            fields: dict[Any, Any] = {**self._head(), "number": number, kind: json.dumps(data)}
            pipe.xadd(self._stream, fields, maxlen=EXCHANGES, approximate=True)
        pipe.expire(self._stream, KEEP)
        for answer in pipe.execute(raise_on_error=False):  # which would put the whole entry into its words
            if isinstance(answer, Exception):
                raise answer

    def _head(self) -> dict[str, Any]:
        replica = self._replica
        return {"member": replica.member, "play": replica.state.play, "speed": f"{replica.clock.speed:g}"}

    def _packed(self, entry: Entry) -> Iterator[tuple[str, dict[str, Any]]]:
        match entry:
            case Mark():
                yield "mark", transport.packed_mark(entry)
            case Connection():
                self._told.discard(entry.number)  # it is closed
                yield "connection", transport.packed_connection(entry)
            case Exchange(connection=connection):
                if connection.number not in self._told and connection.ended_by is None:
                    self._told.add(connection.number)
                    yield "connection", transport.packed_connection(connection)
                yield "exchange", transport.packed_exchange(entry)


def _is_play(_number: int, kind: str, data: Mapping[str, Any]) -> bool:
    return kind == "mark" and data["kind"] == "play"


class Gathered:
    """What the stream has of one server, on all its replicas."""

    def __init__(self, name: str) -> None:
        self.name, self.speed = name, 1.0
        self._connections: dict[tuple[str, int], dict[str, Any]] = {}
        self._exchanges: dict[tuple[str, int], dict[str, Any]] = {}
        self._marks: dict[tuple[str, int], dict[str, Any]] = {}
        self._numbers: dict[str, set[int]] = {}  # member -> those of its entries that are here
        self._plays: dict[int, tuple[int, str]] = {}  # number of a play -> where it began, and on which replica first

    def add(self, member: str, play: int, fields: Mapping[str, str]) -> None:
        """An entry of the stream; a later one of the same thing is the same thing, grown."""
        self.speed = float(fields["speed"])
        self._numbers.setdefault(member, set()).add(int(fields["number"]))
        for kind, known, number in (
            ("connection", self._connections, "number"),
            ("exchange", self._exchanges, "index"),
            ("mark", self._marks, "index"),
        ):
            if kind in fields:
                told = json.loads(fields[kind])
                known[member, told[number]] = told
                if kind == "mark" and told["kind"] == "play":
                    began = told["index"], member
                    self._plays[play] = min(began, self._plays.get(play, began))

    @property
    def entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All entries, each with its replica."""
        for kind in (self._connections, self._exchanges, self._marks):
            yield from ((member, told) for (member, _), told in kind.items())

    @property
    def played(self) -> Mapping[str, Any]:
        """What the last scenario that was played is: its `text` is the name; see `Mark` for `more`."""
        plays = (one for one in self._marks.values() if one["kind"] == "play")
        return max(plays, key=lambda one: one["index"])

    @property
    def lost(self) -> int:
        """How many entries never came, or came and are not kept any more. Each start of a replica has a name of its own, and numbers from 1."""
        return sum(max(numbers) - len(numbers) for numbers in self._numbers.values())

    def journal(self, clock: Clock) -> Journal:
        """One journal in the order of time; connections are numbered in it."""
        connections = sorted(self._connections.items(), key=lambda item: item[1]["index"])
        began, first = self._plays[max(self._plays)]
        numbers = {key: n for n, (key, _) in enumerate(connections, 1)}
        exchanges, dropped = [], self.lost
        for (member, _), one in sorted(self._exchanges.items(), key=lambda item: item[1]["index"]):
            number = numbers.get((member, one["connection"]))
            dropped += number is None  # the stream has lost its connection
            exchanges += [{**one, "connection": number}] if number is not None else []
        counts: dict[str, int] = {}
        for one in exchanges:
            counts[one["moment"]] = counts.get(one["moment"], 0) + 1
        return transport.unpack(
            {
                "version": transport.VERSION,
                "server": self.name,
                "protocol": self.played["more"]["protocol"],
                "limit": EXCHANGES,
                "dropped": dropped,
                "dropped_since_play": dropped,
                "played": self._marks[first, began]["index"],
                "counts": counts,
                "marks": sorted(self._marks.values(), key=lambda one: one["index"]),
                "connections": [{**one, "number": numbers[key]} for key, one in connections],
                "exchanges": exchanges,
            },
            clock,
        )


def gathered(entries: Iterable[Mapping[str, str]]) -> list[Gathered]:
    """The servers of a stream, by their names."""
    found: dict[str, Gathered] = {}
    for fields in entries:
        name = unquote(fields["member"].partition("/")[0])
        found.setdefault(name, Gathered(name)).add(fields["member"], int(fields["play"]), fields)
    _put_in_order(found.values())
    return [found[name] for name in sorted(found)]


def _put_in_order(servers: Iterable[Gathered]) -> None:
    """Number everything that happened, from 1: replicas have the same number for what they did in the same microsecond."""
    told = [
        ((holder[key], member), holder, key)
        for one in servers
        for member, entry in one.entries
        for holder, key in _places(entry)
    ]
    numbers = {place: n for n, place in enumerate(sorted({place for place, _, _ in told}), 1)}
    for place, holder, key in told:
        holder[key] = numbers[place]


def _places(told: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where an entry has a place in the order of events: in which part of it, under which key."""
    for key, value in told.items():
        if type(value) is int:
            if key in ("index", "closed_index", "left_index"):
                yield told, key
        elif type(value) is dict and key != "more":  # of a mark, with the knobs of a scenario
            yield from _places(value)
        elif type(value) is list:
            for part in value:
                if type(part) is dict:
                    yield from _places(part)


def read(address: Address) -> tuple[str, list[Gathered]]:
    """The name of a service, and what its stream has. Raises StartError if there is no Redis, or no such service."""
    link = Link(address, "")
    try:
        link.check()
        name = address.name or _only(link, address)
        stream, last = f"{address.named(name).prefix}journal", "-"
        entries: list[Mapping[str, str]] = []
        while found := cast("list[tuple[bytes, dict[bytes, bytes]]]", link.redis.xrange(stream, last, count=PIECE)):
            entries += [{key.decode(): value.decode() for key, value in fields.items()} for _, fields in found]
            last = f"({found[-1][0].decode()}"
    except Lost as error:
        raise StartError(f"shared: Redis at {address.shown} does not answer ({error})") from None
    finally:
        link.close()
    if not entries:
        raise StartError(f"shared: no service {name!r} has a journal in Redis at {address.shown}; {_SAY}")
    return name, gathered(entries)


_SAY = "name it as its replicas do: redis://HOST:PORT/0?name=NAME"


def _only(link: Link, address: Address) -> str:
    pattern = replace(address, name="*").prefix
    head, _, tail = pattern.partition("*")
    keys: list[bytes] = list(link.redis.scan_iter(f"{pattern}journal"))
    found = sorted(key.decode()[len(head) : -len(f"{tail}journal")] for key in keys)
    if len(found) == 1:
        return found[0]
    what = "no service has a journal" if not found else f"there are journals of {', '.join(found)}"
    raise StartError(f"shared: {what} in Redis at {address.shown}; {_SAY}")
