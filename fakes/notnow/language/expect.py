"""The table `[expect]`: what a well-behaved client achieves."""

from __future__ import annotations

from notnow.language import limits
from notnow.language.tables import Kind, Table, a_table, key, refuse, required
from notnow.language.values import Count, Duration, Flag, one_of

SHAPES = ("constant", "linear", "exponential")  # how the waits of a back-off grow


def _code(value: object) -> int:
    low, high = limits.CODES
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise refuse(f"the code of a reply that refuses, from {low} to {high}, such as 421")


_LOWEST, _HIGHEST = limits.CODES
RefusalCode = Kind(_code, {"type": "integer", "minimum": _LOWEST, "maximum": _HIGHEST})


class Delivered(Table):
    """Each message is stored, and each file comes through whole, no more and no less often."""

    times: int = key(Count, about="The number of copies of each item.", default=1)


class Retried(Table):
    """The client comes back after a refusal."""

    times: int | None = key(Count, about="At least so many times.")
    within: float | None = key(Duration, about="The client comes back within this time of the first refusal.")
    first_delay: float | None = key(Duration, about="The client waits at least this long before its first retry.")
    backoff: str | None = key(one_of(*SHAPES), about="How the waits between retries grow, jitter aside.")


class Exceeded(Table):
    """A cap that the client does not exceed."""

    connections: int = required(Count, about="The most connections at a time; refused ones count.")


class Expect(Table):
    """What a well-behaved client achieves: the assertions, without `assert_`."""

    delivered: Delivered | None = key(
        a_table(Delivered),
        about="Each message is stored, each file comes through whole, or each request is answered with success, this number of times.",
    )
    retried: Retried | None = key(
        a_table(Retried), about="The client retries, with this number of tries and these delays."
    )
    no_duplicates: bool | None = key(Flag, about="No message or file is stored twice.")
    no_partial_files: bool | None = key(Flag, about="Every file that was uploaded is whole in the end. FTP only.")
    new_connection_after: int | None = key(
        RefusalCode, about="After a reply with this code the client retries on another connection."
    )
    sni_matches_authority: bool | None = key(
        Flag, about="Every request is for the host that its connection was made for. HTTP only."
    )
    not_coalesced: bool | None = key(Flag, about="No connection carries requests for more than one host. HTTP only.")
    retry_after_honoured: bool | None = key(
        Flag, about="The client repeats no request before the time in Retry-After. HTTP only."
    )
    body_replayed: bool | None = key(
        Flag, about="A request that the client repeats has its whole body again. HTTP only."
    )
    never_exceeded: Exceeded | None = key(
        a_table(Exceeded), about="The client never has more connections than this at a time; refused ones count."
    )
    gave_up: float | None = key(
        Duration,
        about="The client retries for this long after its first refusal, give or take one interval, and then stops.",
    )
