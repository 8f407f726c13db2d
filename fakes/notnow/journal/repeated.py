"""Entries as lines of JSON, where many differ only in numbers and times: under load nearly all are of the same refusal.

The words of such a line are encoded once.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from msgspec.structs import replace

from notnow.journal.journal import LATE, Connection, Entry, Exchange, iso
from notnow.journal.lines import json_line, json_lines

MOST = 1000  # different lines that are remembered

Key = tuple[Any, ...]  # everything in a line that is not a number or a time
NOTHING = "", None, (), None, None, None, None, None, ()  # said by a client who is turned away, and known of it


class Lines:
    """Writes the lines of journal entries."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[str, ...]] = {}
        self._at, self._at_text = -1.0, ""  # the last time: what ends at once has the same one thrice
        self._wall_text = ""  # of all between these two
        self._wall_from = self._wall_to = 0.0
        self._refused: Key = ()  # of the last client who was turned away, with the words of both lines
        self._words: tuple[str, ...] = ()

    def of(self, entries: Iterable[Entry]) -> str:
        """The lines of these entries, each with its line end."""
        found: list[str] = []
        others: list[dict[str, Any]] = []
        told, is_done = list(entries), False
        for entry, following in zip_longest(told, told[1:]):
            if is_done:
                is_done = False
                continue
            line = None
            if isinstance(entry, Exchange):
                if following is entry.connection:
                    line = self._refusal(entry)
                    is_done = line is not None
                line = line or self._exchange(entry)
            elif isinstance(entry, Connection):
                line = self._connection(entry)
            if line is None:
                others.append(entry.as_dict())
                continue
            if others:
                found.append(json_lines(others))
                others = []
            found.append(line)
        if others:
            found.append(json_lines(others))
        return "".join(found)

    def _refusal(self, x: Exchange) -> str | None:
        """Both lines of a client who came, was turned away and had its end at one time; None for any other."""
        c, at = x.connection, x.at
        if c.opened_at != at or c.closed_at != at or c.closed_index is None or x.answered_at not in (None, at):
            return None
        told = (
            c.journal.server, x.moment, x.reply, x.fault, x.rule, x.phase, x.end, c.client, c.ended_by,
            x.request, x.facts, x.frames, x.arrival,
            c.after_arrival, c.unread_arrival, c.failure, c.tls, c.goaways,
        )  # fmt: skip
        if told != self._refused:
            if told[9:] != NOTHING:
                return None
            exchange, connection = told[:7], (told[0], *told[7:9])
            words = self._known.get(exchange) or self._learn_exchange(exchange, x)
            self._words = *words, *(self._known.get(connection) or self._learn_connection(connection, c))
            self._refused = told
        number, time = str(c.number), self._time(at)
        server, end, again, client, rest = self._words
        return (
            f'{{"event": "exchange", "index": {x.index}, "at": {time}, "wall": "{self._wall(x.wall)}", {server}{number}{end}'
            f'{{"event": "closed", "index": {c.closed_index}, "at": {time}, {again}{number}{client}{time}{rest}'
        )

    def _exchange(self, x: Exchange) -> str | None:
        """The line of an exchange without words of the client; None for any other."""
        connection = x.connection
        key = connection.journal.server, x.moment, x.reply, x.fault, x.rule, x.phase, x.end
        if x.request or x.facts is not None or x.frames or x.arrival is not None:
            return None
        if x.answered_at is not None and x.answered_at - x.at >= LATE:
            return None
        server, rest = self._known.get(key) or self._learn_exchange(key, x)
        return (
            f'{{"event": "exchange", "index": {x.index}, "at": {self._time(x.at)}, "wall": "{self._wall(x.wall)}", '
            f"{server}{connection.number}{rest}"
        )

    def _learn_exchange(self, key: Key, x: Exchange) -> tuple[str, ...]:
        """The words of all exchanges with this key. The exchange itself may change meanwhile, in the fake's thread."""
        _, _, reply, fault, rule, phase, end = key
        alike = replace(
            x, reply=reply, fault=fault, rule=rule, phase=phase, end=end,
            answered_at=None, facts=None, frames=(), arrival=None,
        )  # fmt: skip
        return self._learn(key, alike, f'"connection": {x.connection.number}')

    def _connection(self, c: Connection) -> str | None:
        """The line of the end of a connection of which nothing else is to be said; None for any other."""
        if c.after or c.after_arrival is not None or c.unread or c.unread_arrival is not None:
            return None
        if c.failure is not None or c.tls is not None or c.goaways:
            return None
        if c.closed_at is None or c.closed_index is None:
            return None
        key = c.journal.server, c.client, c.ended_by
        server, client, rest = self._known.get(key) or self._learn_connection(key, c)
        return (
            f'{{"event": "closed", "index": {c.closed_index}, "at": {self._time(c.closed_at)}, '
            f"{server}{c.number}{client}{self._time(c.opened_at)}{rest}"
        )

    def _learn_connection(self, key: Key, c: Connection) -> tuple[str, ...]:
        alike = replace(
            c, opened_at=0.5, ended_by=key[2], failure=None, tls=None,
            after="", after_arrival=None, unread="", unread_arrival=None, goaways=(),
        )  # fmt: skip
        return self._learn(key, alike, f'"connection": {c.number}', '"opened_at": 0.5')

    def _learn(self, key: Key, entry: Entry, *numbers: str) -> tuple[str, ...]:
        """The pieces of the line of an entry from its server on, without these numbers.

        In a line, no text within quotes can be taken for a field: its own quotes are escaped.
        """
        line = json_line(entry.as_dict()) + "\n"
        line = line[line.index('"server": ') :]
        pieces = []
        for field in numbers:
            before, _, line = line.partition(field)
            pieces.append(before + field[: field.index(" ") + 1])
        if len(self._known) >= MOST:
            self._known.clear()
        found = self._known[key] = (*pieces, line)
        return found

    def _time(self, at: float) -> str:
        """`round(at, 6)` as text: to round it and to write its shortest form each take thrice the time."""
        if at != self._at:
            text = f"{at:.6f}".rstrip("0")
            self._at, self._at_text = at, f"{text}0" if text[-1] == "." else text
        return self._at_text

    def _wall(self, wall: float) -> str:
        """`iso(wall)`: most are of the same millisecond as the one before."""
        if not self._wall_from < wall < self._wall_to:
            self._wall_text, begin = iso(wall), int(wall * 1000) / 1000
            first, last = begin + 2e-6, begin + 0.000998  # what is nearer to the next one is rounded, perhaps to it
            self._wall_from, self._wall_to = (first, last) if first < wall < last else (0.0, 0.0)
        return self._wall_text
