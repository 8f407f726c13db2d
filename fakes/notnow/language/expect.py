"""The table `[expect]`: what a well-behaved client achieves."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from notnow.language import limits
from notnow.language.values import Count, Duration, Table, choice_of, refuse

SHAPES = ("constant", "linear", "exponential")  # how the waits of a back-off grow


def _code(value: object) -> int:
    low, high = limits.CODES
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise refuse(f"the code of a reply that refuses, from {low} to {high}, such as 421")


RefusalCode = Annotated[
    int,
    BeforeValidator(_code),
    WithJsonSchema({"type": "integer", "minimum": limits.CODES[0], "maximum": limits.CODES[1]}),
]


class Delivered(Table):
    """Each message is stored, and each file comes through whole, no more and no less often."""

    times: Count = Field(default=1, description="The number of copies of each item.")


class Retried(Table):
    """The client comes back after a refusal."""

    times: Count | None = Field(default=None, description="At least so many times.")
    within: Duration | None = Field(
        default=None, description="The client comes back within this time of the first refusal."
    )
    first_delay: Duration | None = Field(
        default=None, description="The client waits at least this long before its first retry."
    )
    backoff: Annotated[str, BeforeValidator(choice_of(*SHAPES)), WithJsonSchema({"enum": list(SHAPES)})] | None = Field(
        default=None, description="How the waits between retries grow."
    )


class Exceeded(Table):
    """A cap that the client does not exceed."""

    connections: Count = Field(description="The most connections at a time; refused ones count.")


class Expect(Table):
    """What a well-behaved client achieves: the assertions, without `assert_`."""

    delivered: Delivered | None = Field(
        default=None,
        description="Each message is stored, each file comes through whole, or each request is answered with success, this number of times.",
    )
    retried: Retried | None = Field(
        default=None, description="The client retries, with this number of tries and these delays."
    )
    no_duplicates: bool | None = Field(default=None, description="No message or file is stored twice.")
    no_partial_files: bool | None = Field(
        default=None, description="Every file that was uploaded is whole in the end. FTP only."
    )
    new_connection_after: RefusalCode | None = Field(
        default=None, description="After a reply with this code the client retries on another connection."
    )
    sni_matches_authority: bool | None = Field(
        default=None, description="Every request is for the host that its connection was made for. HTTP only."
    )
    not_coalesced: bool | None = Field(
        default=None, description="No connection carries requests for more than one host. HTTP only."
    )
    retry_after_honoured: bool | None = Field(
        default=None, description="The client repeats no request before the time in Retry-After. HTTP only."
    )
    body_replayed: bool | None = Field(
        default=None, description="A request that the client repeats has its whole body again. HTTP only."
    )
    never_exceeded: Exceeded | None = Field(
        default=None, description="The client never has more connections than this at a time; refused ones count."
    )
    gave_up: Duration | None = Field(
        default=None,
        description="The client retries for this long after its first refusal, give or take one interval, and then stops.",
    )
