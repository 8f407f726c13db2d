"""While `notnow try` runs a client: its progress, and why a rule fired at one of its exchanges."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from notnow.cli import _lines, _views
from notnow.conduct.pictures import verdict
from notnow.journal import Entry, Exchange
from notnow.terminal import safe
from notnow.units import show

if TYPE_CHECKING:
    from notnow.servers.base.fake import Fake

FIRST, RAREST = 3.0, 60.0  # real seconds before the first line of progress, and at most between two lines


class Progress:
    """On a terminal, prints a progress line now and then, between the client's own output."""

    def __init__(self, fakes: Sequence[Fake]) -> None:
        self._scores = {fake.name: _views.Score(fake) for fake in fakes}
        self._begun = time.monotonic()
        self._next = FIRST

    def __call__(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            server = entry.connection.server if isinstance(entry, Exchange) else entry.server
            self._scores[server].count(entry)
        passed = time.monotonic() - self._begun
        if passed >= self._next and sys.stderr.isatty():
            self._next += min(self._next, RAREST)
            for name, score in self._scores.items():
                said = _lines.text(_views.status(score)).strip()
                print(f"notnow: {show(round(passed))}: {name}: {said}", file=sys.stderr, flush=True)


def explanation(fakes: Sequence[Fake], index: int) -> list[str]:
    """Why each rule fired at this exchange, or did not: a heading, and a line for each."""
    for fake in fakes:
        for x in fake.journal.since_play():
            if x.index == index:
                head = f"exchange {index}, {verdict.proof(x)}"
                found = [f"  {one}" for one in fake.explain(x)]
                return list(map(safe, [head, *(found or [f"  no rule of the phase {x.phase!r} acts at {x.moment}"])]))
    return [f"there is no exchange {index}: --explain without a number lists them"]


def exchanges(fakes: Sequence[Fake]) -> list[str]:
    """All exchanges with their numbers, in order, and for each the rule that fired."""
    found = sorted((x for fake in fakes for x in fake.journal.since_play()), key=lambda x: x.index)
    lines = [f"{x.index:>6}  {verdict.proof(x)}{f'   [{x.rule}]' if x.rule else ''}" for x in found]
    return list(map(safe, ["exchanges (--explain N says why a rule fired at one of them, or did not)", *lines]))
