"""Journals that were exported as JSON Lines, to be read again.

The lines say less than the journal did: a reply has left at once unless they say when, and a client has left where its
connection ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct, ValidationError, convert, field, structs

from notnow.clock import Clock
from notnow.journal import transport
from notnow.journal.journal import DEFAULT_LIMIT, Journal

MOST = 500_000  # entries of a journal
Entry = dict[str, Any]


class _Read(Struct):
    """The types of what is read here. `transport` checks the rest."""

    index: int
    at: float
    connection: int | None = None
    client: str = ""
    wall: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    after: str | None = None
    unread: str | None = None


class Exported(Struct):
    """The entries of one server, each as it was told last: an exchange is told again when it has grown."""

    protocol: str = ""
    dropped: int = 0
    exchanges: dict[int, Entry] = field(default_factory=dict)
    closed: dict[int, Entry] = field(default_factory=dict)
    played: int = 0

    def add(self, entry: Entry) -> None:
        """Raises KeyError or ValidationError for an impossible entry."""
        convert(entry, _Read)
        match entry["event"]:
            case "play":
                self.protocol, self.played = entry.get("protocol", self.protocol), entry["index"]
            case "exchange":
                self.exchanges[entry["index"]] = entry
            case "closed":
                self.closed[entry["connection"]] = entry
        if len(self.exchanges) + len(self.closed) > MOST:
            raise ValueError(f"it has more than {MOST} entries")

    def journal(self, server: str, clock: Clock) -> Journal:
        if not self.protocol:
            raise ValueError(f"it lacks the line that says what {server} speaks, with the event 'play'")
        exchanges = sorted(self.exchanges.values(), key=lambda one: one["index"])
        told = {
            "version": transport.VERSION,
            "server": server,
            "protocol": self.protocol,
            "limit": DEFAULT_LIMIT,
            "dropped": self.dropped,
            "dropped_since_play": self.dropped,
            "played": self.played,
            "counts": {},
            "marks": [],
            "connections": self._connections(exchanges),
            "exchanges": [_exchange(one) for one in exchanges],
        }
        return transport.unpack(told, clock)

    def _connections(self, exchanges: Iterable[Entry]) -> list[Entry]:
        """The connections, in the order of their first exchanges. One that was still open has no line that names its client."""
        clients = {one["client"] for one in self.closed.values()}
        client = clients.pop() if len(clients) == 1 else ""
        first = {one["connection"]: one for one in self.closed.values()}
        first |= {one["connection"]: one for one in reversed(list(exchanges))}
        return [
            _connection(number, one, self.closed.get(number, {"client": client}))
            for number, one in sorted(first.items(), key=lambda item: item[1]["index"])
        ]


def journals(lines: Iterable[str], clock: Clock) -> list[Journal]:
    """The journals of these lines, one for each server; other lines are left out. Raises ValueError for an impossible entry."""
    servers: dict[str, Exported] = {}
    dropped = 0
    for line in lines:
        entry = _entry(line)
        try:
            match entry.get("event"):
                case "listening":
                    servers.setdefault(entry["name"], Exported()).protocol = entry["protocol"]
                case "dropped":
                    dropped += entry["count"]
                case "exchange" | "closed" | "play":
                    servers.setdefault(entry["server"], Exported()).add(entry)
        except (KeyError, TypeError, ValidationError) as error:
            raise ValueError(f"this is no entry of a journal ({error}): {line[:60]}") from None
    for one in servers.values():
        one.dropped = dropped
    try:
        return [one.journal(name, clock) for name, one in servers.items()]
    except KeyError as error:
        raise ValueError(f"an entry of the journal lacks {error}") from None


def _entry(line: str) -> Entry:
    try:
        found = json.loads(line) if line.startswith("{") else None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _exchange(one: Entry) -> Entry:
    known = {name: one.get(name) for name in ("index", "at", "moment", "request", "phase", "connection", "reply")}
    more = {name: one.get(name) for name in ("fault", "rule", "end")}
    at_once = None if one.get("reply") is None else one["at"]
    arrived = {"at": one["arrived_at"], "index": one["arrived_index"]} if "arrived_at" in one else None
    return {
        **known,
        **more,
        "answered_at": one.get("answered_at", at_once),
        "wall": datetime.fromisoformat(one["wall"]).timestamp(),
        "frames": one.get("frames", ()),
        "facts": {_kind(one["facts"]): one["facts"]} if "facts" in one else None,
        "arrival": arrived,
        "_decision": 0,
    }


def _kind(facts: Mapping[str, Any]) -> str:
    """Which facts these are: the class that has all of these fields, and whose other fields may be left out."""
    for name, kind in transport.KINDS.items():
        fields = {one.encode_name: one.required for one in structs.fields(kind)}
        if facts.keys() <= fields.keys() and {one for one, needed in fields.items() if needed} <= facts.keys():
            return name
    raise ValueError(f"this notnow knows no exchange with {', '.join(facts)}")


def _connection(number: int, first: Entry, closed: Entry) -> Entry:
    after, unread = closed.get("after") or "", closed.get("unread") or ""
    end = closed.get("index")
    return {
        "number": number,
        "id": str(number),
        "client": closed["client"],
        "peer_port": 0,
        "index": first["index"],
        "opened_at": closed.get("opened_at", first["at"]),
        "closed_at": closed.get("at"),
        "closed_index": end,
        "left_index": None,
        "left_at": None,
        "ended_by": closed.get("ended_by"),
        "failure": closed.get("failure"),
        "tls": closed.get("tls"),
        "after": after,
        "after_bytes": len(after),
        "after_arrival": {"at": closed["after_at"], "index": end} if "after_at" in closed else None,
        "unread": unread,
        "unread_arrival": {"at": closed["unread_at"], "index": end} if "unread_at" in closed else None,
        "goaways": closed.get("goaways", ()),
    }
