"""Tables of what stock clients say: how test modules write them down, and play each row to each client."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from clients import Client


@dataclass(frozen=True)
class Row:
    """A line of a table: the scenario and its knobs, the way in which the client does its job, and what it says.

    `way` may name a second way after a `>`, for the second try. `at` is where and how the client is refused:
    a moment and a code, "close" for a close without a word; or "shown" and the certificate that it must not like.
    """

    protocol: str
    title: str
    way: str
    at: str
    says: dict[str, str]

    @property
    def scenario(self) -> str:
        return f"{self.protocol}/{self.title.split()[0]}"

    @property
    def knobs(self) -> dict[str, Any]:
        words = (word.split("=") for word in self.title.split()[1:])
        return {name: int(value) if value.isdigit() else value for name, value in words}

    def way_of(self, attempt: int) -> str:
        """The way in which it is done at the first attempt (0) and at those that follow."""
        ways = self.way.split(">")
        return ways[min(attempt, len(ways) - 1)]

    def plays(self, client: Client[Any]) -> bool:
        return self.says.get(client.name) != "-" and not client.cannot & set(self.way.replace(">", " ").split())


def read(protocol: str, table: str) -> list[Row]:
    """The rows of a table; a cell of digits is an exit code, `-` keeps a client out, an empty one says nothing."""
    (_, _, _, *clients), *lines = ([cell.strip() for cell in line.split("|")] for line in table.strip().splitlines())
    rows = []
    for title, way, at, *cells in lines:
        words = (f"exit {cell}" if cell.isdigit() else cell for cell in cells)
        says = {name: word for name, word in zip(clients, words, strict=True) if word}
        rows.append(Row(protocol, title, way, at, says))
    return rows


def pairs(rows: list[Row], clients: Iterable[Client[Any]]) -> list[Any]:
    """Every row with every client that it is played to."""
    clients = list(clients)
    return [
        pytest.param(row, client, id=f"{row.title} {row.way} {client.name}".replace(" ", "-"))
        for row in rows
        for client in clients
        if row.plays(client)
    ]
