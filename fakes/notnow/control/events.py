"""The stream of everything that happens (server-sent events, WHATWG HTML §9.2): bounded, and resumable by Last-Event-ID."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

from notnow.control.calls import Stream, call
from notnow.control.feed import Event, Feed
from notnow.control.fleet import Fleet
from notnow.control.models import EventsQuery
from notnow.control.problems import RefusedError
from notnow.journal import Exchange
from notnow.journal.lines import json_line

STREAMS = 100  # at a time
PACE = 0.03  # real seconds between two looks for new events
MOST = 60  # events in one look; those that came before them are left out, and counted
HEARTBEAT = 15.0  # real seconds without an event
_streams = 0


@call("GET", "/v1/events", errors=(404, 503), media=("events",))
async def stream_events(fleet: Fleet, query: EventsQuery, headers: Mapping[str, str]) -> Stream:
    """Everything that happens, as it happens: server-sent events, each with the JSON object that `serve --json` prints.

    An event has an `id`. A client that connects again with `Last-Event-ID`, as browsers do, gets what it has missed. Where
    more happens than a reader can follow, an event `skipped` says how many were left out: the journal has them all. An
    exchange comes again when it goes on. The type of an event is that of its object: exchange, closed, phase, play,
    started, stopped.
    """
    for name in query.server:
        fleet.get(name)
    if _streams >= STREAMS:
        raise RefusedError(503, f"{STREAMS} streams of events are open, and there may be no more", retry_after="5")
    return Stream(_events(fleet.feed, _begin(fleet.feed, query, headers), frozenset(query.server)))


def _begin(feed: Feed, query: EventsQuery, headers: Mapping[str, str]) -> int:
    """The number of the last event that the reader knows; by default, all that were until now."""
    last = headers.get("last-event-id", "")
    if last.isascii() and last.isdigit() and len(last) < 16:
        return min(int(last), feed.last)
    return feed.last if query.after is None else min(query.after, feed.last)


async def _events(feed: Feed, last: int, servers: frozenset[str]) -> AsyncGenerator[str]:
    global _streams
    _streams += 1
    loop = asyncio.get_running_loop()
    try:
        yield "retry: 1000\n\n"
        spoke = loop.time()
        while True:
            events, skipped, last = feed.after(last, MOST, servers)
            if events or skipped:
                spoke = loop.time()
                yield _text(events, skipped, last)
            elif loop.time() - spoke > HEARTBEAT:
                spoke = loop.time()
                yield ": still here\n\n"
            await asyncio.sleep(PACE)
    finally:
        _streams -= 1


def _text(events: Sequence[Event], skipped: int, last: int) -> str:
    """The events; of an exchange that is there several times, only the last state."""
    newest = {id(event.what): event for event in events}
    told = [_one("skipped", last, {"event": "skipped", "count": skipped})] if skipped else []
    return "".join([*told, *(_of(event) for event in events if newest[id(event.what)] is event)])


def _of(event: Event) -> str:
    found = event.as_dict()
    if isinstance(event.what, Exchange):
        found = {**found, "refused": event.what.refused, "codes": event.what.codes}
    return _one(str(found["event"]), event.number, found)


def _one(kind: str, number: int, found: Mapping[str, object]) -> str:
    return f"id: {number}\nevent: {kind}\ndata: {json_line(found)}\n\n"
