"""What happens on all servers, in one order, for those who watch."""

from __future__ import annotations

import itertools
import json
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from notnow.journal import Entry, Exchange

REMEMBERED = 10_000  # events


class Event(NamedTuple):
    """An event and its number. `what` is an entry of a journal, or what became of a server."""

    number: int
    server: str
    what: Entry | Mapping[str, Any]

    def as_dict(self) -> Mapping[str, Any]:
        """As `serve --json` prints it."""
        return self.what if isinstance(self.what, Mapping) else self.what.as_dict()

    def as_json(self) -> str:
        return json.dumps(self.as_dict())


class Feed:
    """The last events. Putting one in costs a fake next to nothing, whether anyone watches or not."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()
        self.last = 0  # the number of the last event

    def put(self, entry: Entry) -> None:
        """A journal has this entry, or it has changed."""
        server = entry.connection.server if isinstance(entry, Exchange) else entry.server
        self._put(server, entry)

    def put_server(self, server: str, event: str, more: Mapping[str, Any]) -> None:
        """Something became of a server."""
        self._put(server, {**more, "event": event, "name": server})

    def _put(self, server: str, what: Entry | Mapping[str, Any]) -> None:
        with self._lock:
            self.last += 1
            self._events.append(Event(self.last, server, what))

    def after(self, number: int, most: int) -> tuple[list[Event], int]:
        """At most `most` events after the one of this number, the latest, and how many are left out before them."""
        with self._lock:
            new = self.last - number
            found = list(itertools.islice(reversed(self._events), min(new, most)))
        found.reverse()
        return found, new - len(found)
