"""The life of a connection: a table for each of its two sides says what may follow what.

The fake's side:

    OPENING ──▶ OPEN ──▶ CONCLUDING ──▶ DRAINING ──▶ CLOSING ──▶ CLOSED
       │        ▲  │ ╲                                ▲
       ▼        │  ▼  ╲──▶ STALLED ───────────────────┤
    HANDSHAKING │ UPGRADING ──────────────────────────┘

CONCLUDING and DRAINING may be left out. A connection may be lost at any time: from each state an arrow leads to CLOSED. The client's side goes from TALKING over
LEAVING to ENDED, or straight to ENDED.
"""

from __future__ import annotations

from enum import Enum, auto

from msgspec import Struct


class State(Struct, frozen=True, eq=False):
    """A state of the fake's side. `alive`: there is a transport. `speaks`: a reply may be sent. `ending`: it is the last."""

    name: str
    alive: bool = False
    speaks: bool = False
    ending: bool = False


OPENING = State("OPENING")  # accepted; there is no transport yet
HANDSHAKING = State("HANDSHAKING")  # the same, and a TLS handshake comes first
OPEN = State("OPEN", alive=True, speaks=True)
UPGRADING = State("UPGRADING", alive=True, speaks=True)  # in the TLS handshake that a command asked for
STALLED = State("STALLED", alive=True, speaks=True)  # a rule lets the client wait; what it sends is dropped
CONCLUDING = State("CONCLUDING", alive=True, speaks=True, ending=True)  # an unasked script that closes is under way
DRAINING = State("DRAINING", alive=True, speaks=True, ending=True)  # it closes once the requests under way are answered
CLOSING = State("CLOSING", alive=True)  # the last reply is sent; what the client sends is only noted
CLOSED = State("CLOSED")  # no transport any more


class Event(Enum):
    """An event of the fake's side."""

    __hash__ = object.__hash__  # in C; that of an Enum is not

    SHAKE_HANDS = auto()
    MADE = auto()  # there is a transport, or the same one in TLS
    STALL = auto()
    CONCLUDE = auto()
    DRAIN = auto()
    FINISH = auto()
    LOSE = auto()


_FAKE: dict[State, dict[Event, State]] = {
    OPENING: {Event.SHAKE_HANDS: HANDSHAKING, Event.MADE: OPEN, Event.LOSE: CLOSED},
    HANDSHAKING: {Event.MADE: OPEN, Event.LOSE: CLOSED},
    OPEN: {
        Event.SHAKE_HANDS: UPGRADING,
        Event.STALL: STALLED,
        Event.CONCLUDE: CONCLUDING,
        Event.DRAIN: DRAINING,
        Event.FINISH: CLOSING,
        Event.LOSE: CLOSED,
    },
    UPGRADING: {Event.MADE: OPEN, Event.FINISH: CLOSING, Event.LOSE: CLOSED},
    STALLED: {Event.STALL: STALLED, Event.CONCLUDE: STALLED, Event.FINISH: CLOSING, Event.LOSE: CLOSED},
    CONCLUDING: {
        Event.SHAKE_HANDS: UPGRADING,
        Event.STALL: STALLED,
        Event.CONCLUDE: CONCLUDING,
        Event.DRAIN: DRAINING,
        Event.FINISH: CLOSING,
        Event.LOSE: CLOSED,
    },
    DRAINING: {
        Event.CONCLUDE: DRAINING,
        Event.DRAIN: DRAINING,
        Event.FINISH: CLOSING,
        Event.LOSE: CLOSED,
    },
    CLOSING: {Event.LOSE: CLOSED},
    CLOSED: {},
}


class Client(Enum):
    """A state of the client's side."""

    TALKING = auto()
    LEAVING = auto()  # it has said goodbye: its slots are free
    ENDED = auto()  # it has closed its sending side


class Over(Exception):  # noqa: N818 (no error)
    """The connection has ended: stop working for it."""


class WrongOrderError(RuntimeError):
    """A bug of ours: an event that cannot come in this state."""


class Life:
    """Where a connection is, on both sides."""

    __slots__ = ("client", "fake")

    def __init__(self) -> None:
        self.fake = OPENING
        self.client = Client.TALKING

    def advance(self, event: Event) -> None:
        """Raises WrongOrderError for an event that the table does not have in this state."""
        following = _FAKE[self.fake].get(event)
        if following is None:
            allowed = ", ".join(e.name for e in _FAKE[self.fake]) or "nothing"
            raise WrongOrderError(f"a connection that is {self.fake.name} cannot {event.name}; allowed: {allowed}")
        self.fake = following

    def leave(self) -> bool:
        """The client is going. True if that is news."""
        if self.client is not Client.TALKING:
            return False
        self.client = Client.LEAVING
        return True

    def end(self) -> None:
        """The client has closed its sending side."""
        self.client = Client.ENDED
