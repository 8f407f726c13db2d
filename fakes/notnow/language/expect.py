"""The table `[expect]`: what a well-behaved client achieves."""

from __future__ import annotations

from typing import TypeVar

from notnow.language import limits
from notnow.language.tables import Kind, Table, a_table, key, read, refuse, required
from notnow.language.values import Count, Duration, Flag, one_of

SHAPES = ("constant", "linear", "exponential")  # how the waits of a back-off grow


def _code(value: object) -> int:
    low, high = limits.CODES
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise refuse(f"the code of a reply that refuses, from {low} to {high}, such as 421")


_LOWEST, _HIGHEST = limits.CODES
RefusalCode = Kind(_code, {"type": "integer", "minimum": _LOWEST, "maximum": _HIGHEST})


class Entry(Table):
    """Something that the scenario expects. A client that does otherwise fails at this level and the stricter ones."""

    level: str = key(
        one_of("must", "should", "advice"), about="How strictly it is asked, as of a rule of conduct.", default="must"
    )


EntryT = TypeVar("EntryT", bound=Entry)


def _short(table: type[EntryT], name: str) -> Kind[EntryT]:
    """A table, or the value of its key `name` alone."""
    kind = table.KEYS[name].kind

    def read_either(value: object) -> EntryT:
        return read(table, value) if isinstance(value, dict) else table(**{name: kind.read(value)})

    whole = a_table(table)
    return Kind(read_either, {"anyOf": [kind.schema, whole.schema]}, (*kind.tables, *whole.tables))


class Asked(Entry):
    """Something that a client does, or does not do."""

    asked: bool = key(Flag, about="False asks for nothing.", default=True)


class Delivered(Entry):
    """Each message is stored, and each file comes through whole, no more and no less often."""

    times: int = key(Count, about="The number of copies of each item.", default=1)


class Retried(Entry):
    """The client comes back after a refusal."""

    times: int | None = key(Count, about="At least so many times.")
    within: float | None = key(Duration, about="The client comes back within this time of the first refusal.")
    first_delay: float | None = key(Duration, about="The client waits at least this long before its first retry.")
    backoff: str | None = key(one_of(*SHAPES), about="How the waits between retries grow, jitter aside.")


class Exceeded(Entry):
    """A cap that the client does not exceed."""

    connections: int = required(Count, about="The most connections at a time; refused ones count.")


class NewConnection(Entry):
    """A new connection after a refusal."""

    code: int = required(RefusalCode, about="The code of the refusal.")


class GaveUp(Entry):
    """The client gives up in the end."""

    after: float = required(Duration, about="For how long it tries.")


_ASKED = _short(Asked, "asked")


class Expect(Table):
    """What a well-behaved client achieves: the assertions, without `assert_`."""

    delivered: Delivered | None = key(
        a_table(Delivered),
        about="Each message is stored, each file comes through whole, or each request is answered with success, this number of times.",
    )
    retried: Retried | None = key(
        a_table(Retried), about="The client retries, with this number of tries and these delays."
    )
    no_duplicates: Asked | None = key(_ASKED, about="No message or file is stored twice.")
    no_partial_files: Asked | None = key(_ASKED, about="Every file that was uploaded is whole in the end. FTP only.")
    new_connection_after: NewConnection | None = key(
        _short(NewConnection, "code"), about="After a reply with this code the client retries on another connection."
    )
    sni_matches_authority: Asked | None = key(
        _ASKED, about="Every request is for the host that its connection was made for. HTTP only."
    )
    not_coalesced: Asked | None = key(_ASKED, about="No connection carries requests for more than one host. HTTP only.")
    retry_after_honoured: Asked | None = key(
        _ASKED, about="The client repeats no request before the time in Retry-After. HTTP only."
    )
    body_replayed: Asked | None = key(
        _ASKED, about="A request that the client repeats has its whole body again. HTTP only."
    )
    never_exceeded: Exceeded | None = key(
        a_table(Exceeded), about="The client never has more connections than this at a time; refused ones count."
    )
    gave_up: GaveUp | None = key(
        _short(GaveUp, "after"),
        about="The client retries for this long after its first refusal, give or take one interval, and then stops.",
    )
