"""What happens on all servers, in one order, for those who watch."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from notnow.journal import Entry, Exchange

REMEMBERED = 10_000  # events


What = Entry | Mapping[str, Any]


class Event(NamedTuple):
    """An event and its number. `what` is an entry of a journal, or what became of a server."""

    number: int
    what: What

    @property
    def server(self) -> str:
        """The name of the server on which it happened."""
        if isinstance(self.what, Mapping):
            return str(self.what["name"])
        return self.what.connection.server if isinstance(self.what, Exchange) else self.what.server

    def as_dict(self) -> Mapping[str, Any]:
        """As `serve --json` prints it."""
        return self.what if isinstance(self.what, Mapping) else self.what.as_dict()


class Feed:
    """The last events. Putting one in costs a fake next to nothing, whether anyone watches or not."""

    def __init__(self) -> None:
        self._events: deque[What] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()
        self.last = 0  # the number of the last event

    def put(self, what: What) -> None:
        """A journal has this entry, or it has changed; or something became of a server."""
        with self._lock:
            self.last += 1
            self._events.append(what)

    def put_server(self, server: str, event: str, more: Mapping[str, Any]) -> None:
        """Something became of a server."""
        self.put({**more, "event": event, "name": server})

    def after(self, number: int, most: int, servers: Collection[str] = ()) -> tuple[list[Event], int, int]:
        """The latest events after the one of this number, of these servers or of all, at most `most`.

        With them comes how many are left out before them, and the number of the last event that there is.
        """
        with self._lock:
            last = self.last
            new = min(last - number, len(self._events))
            whats = list(itertools.islice(reversed(self._events), new if servers else min(new, most)))
        found = [Event(last - i, what) for i, what in enumerate(whats)]
        forgotten = last - number - len(found)
        if servers:
            found = [event for event in found if event.server in servers]
        return found[:most][::-1], forgotten + max(0, len(found) - most), last
