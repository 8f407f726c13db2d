"""Checks of a server of finite capacity: the keys of `[server]` about it, and the condition `busy`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from notnow import protocols
from notnow.errors import Problem
from notnow.language.advice import unknown
from notnow.language.grammar import Document
from notnow.language.scenario import Phase
from notnow.language.toml_lines import Path
from notnow.protocols.moment import Moment

_OF_CAPACITY = ("work", "queue", "refusal_cost")


def problems(document: Document, phases: Sequence[Phase]) -> Iterator[tuple[Path, Problem]]:
    """What is wrong, and where."""
    server = document.server
    if server.capacity is None:
        for key in _OF_CAPACITY:
            if getattr(server, key):
                yield ("server", key), Problem(f"{key!r} goes with 'capacity'", allowed='capacity = "200/s" beside it')
    if server.refusal_cost and server.queue is None:
        found = "nothing bounds the work of refusals"
        yield ("server", "refusal_cost"), Problem(found, allowed="queue = N beside it")
    yield from _work(document)
    if server.queue is None:
        yield from _never_busy(phases)


def _work(document: Document) -> Iterator[tuple[Path, Problem]]:
    moments = protocols.get(document.protocol).moments
    allowed = [name for name, moment in moments.items() if can_wait(moment)]
    for name in document.server.work or ():
        if name not in moments:
            yield ("server", "work"), unknown("moment", name, allowed)
        elif name not in allowed:
            yield ("server", "work"), Problem(f"no answer can wait at {name!r}", allowed=", ".join(allowed))


def can_wait(moment: Moment) -> bool:
    """True if the client waits there for an answer that may come later."""
    return "delay" in moment.faults and not moment.unasked and not moment.body


def _never_busy(phases: Sequence[Phase]) -> Iterator[tuple[Path, Problem]]:
    for i, phase in enumerate(phases):
        for j, rule in enumerate(phase.rules):
            if rule.busy is not None:
                found = "this server is never busy: its queue has no bound"
                yield ("phase", i, "rule", j, "busy"), Problem(found, allowed="capacity and queue = N in [server]")
