"""When the requests of a connection arrived, where they had to wait for their turn.

Clients may say more while a reply is due: in a group of commands (RFC 2920), because they lost patience, or because they
are out of step. The fake reads on, as far as its bounds allow, and answers in order.
"""

from __future__ import annotations

from collections import deque

from notnow.bounds import PIECES
from notnow.journal import Arrival, Exchange, Recorder


class _Piece:
    """Bytes that arrived together, up to `end`; `arrival` is None until the first request in them is read."""

    __slots__ = ("arrival", "end")

    def __init__(self, end: int, arrival: Arrival | None) -> None:
        self.end, self.arrival = end, arrival


class Arrivals:
    """The pieces of input that still wait, and the number of all bytes."""

    __slots__ = ("_pieces", "_recorder", "count")

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._pieces: deque[_Piece] | None = None  # most connections never need it
        self.count = 0

    def came(self, data: bytes, due: bool) -> None:
        """These bytes arrive; `due`: a reply to something before them is due."""
        self.count += len(data)
        pieces = self._pieces
        if not due:
            if data.find(b"\n", 0, -1) >= 0:  # several requests
                self._pieces = deque([_Piece(self.count, None)])
            elif pieces:
                pieces.clear()
            return
        if pieces is None:
            pieces = self._pieces = deque()
        if len(pieces) < PIECES:
            pieces.append(_Piece(self.count, self._recorder.now()))
        else:
            pieces[-1].end = self.count

    def stamp(self, exchange: Exchange, left: int) -> None:
        """A request has been read, and `left` bytes behind it have not: note when it arrived."""
        if not self._pieces or (piece := self._at(self.count - left)) is None:
            return
        if piece.arrival is None:
            piece.arrival = Arrival(exchange.index, exchange.at)
        else:
            self._recorder.arrived(exchange, piece.arrival)

    def next(self, left: int) -> Arrival | None:
        """When the first of the `left` bytes that were not read arrived; None if it did not wait."""
        piece = self._at(self.count - left + 1)
        return piece.arrival if piece is not None else None

    def _at(self, position: int) -> _Piece | None:
        """The piece with the byte at this position, counted from 1; those before it are forgotten."""
        pieces = self._pieces
        while pieces and pieces[0].end < position:
            pieces.popleft()
        return pieces[0] if pieces else None
